//! Transactions, the naive way: look at the config before it, then do the list.

use std::cmp::Ordering;

use crate::domain::{
    Compare, Comparison, Event, KeyTest, LockRef, Outcome, Rejection, Success, Txn, TxnOp, TxnResult,
};
use crate::{ConfigKey, NamespaceName, Revision, limits};

use super::config::next_item;
use super::{Model, ModelItem};

impl Model {
    pub(super) fn txn(&mut self, txn: &Txn, events: &mut Vec<Event>) -> Outcome {
        self.check_namespace(&txn.namespace)?;
        self.check_guard(&txn.namespace, txn.guard.as_ref())?;
        let succeeded = txn.compare.iter().all(|condition| self.holds(&txn.namespace, condition));
        let ops = if succeeded { &txn.success } else { &txn.failure };
        self.check_ops(&txn.namespace, ops)?;
        let writes = ops.iter().any(|op| match op {
            TxnOp::Put { .. } => true,
            TxnOp::Delete { key } => self.item(&txn.namespace, key).is_some(),
            TxnOp::Get { .. } => false,
        });
        let revision = writes.then(|| self.take_revision());
        let results = ops.iter().map(|op| self.run_op(&txn.namespace, op, revision, events)).collect();
        Ok(Success::Txn { succeeded, revision, results })
    }

    fn item(&self, namespace: &NamespaceName, key: &ConfigKey) -> Option<ModelItem> {
        self.config_now().remove(&(namespace.clone(), key.clone()))
    }

    fn holds(&self, namespace: &NamespaceName, condition: &Compare) -> bool {
        match condition {
            Compare::Lock { lock, claim, token } => {
                let lock = LockRef { namespace: namespace.clone(), lock: lock.clone() };
                self.claims.iter().any(|c| {
                    c.claim.lock == lock
                        && c.token() == Some(*token)
                        && claim.as_ref().is_none_or(|id| *id == c.claim.claim)
                })
            }
            Compare::Key { key, test } => {
                let item = self.item(namespace, key);
                let number = |of: fn(&ModelItem) -> u64| item.as_ref().map_or(0, of);
                match test {
                    KeyTest::ModRevision(how, given) => {
                        fits(*how, number(|item| item.mod_revision.as_u64()).cmp(given))
                    }
                    KeyTest::CreateRevision(how, given) => {
                        fits(*how, number(|item| item.create_revision.as_u64()).cmp(given))
                    }
                    KeyTest::Version(how, given) => fits(*how, number(|item| item.version).cmp(given)),
                    KeyTest::Value(how, given) => {
                        item.is_some_and(|item| fits(*how, item.value.as_ref().cmp(given.as_ref())))
                    }
                    KeyTest::Exists(given) => item.is_some() == *given,
                }
            }
        }
    }

    fn check_ops(&self, namespace: &NamespaceName, ops: &[TxnOp]) -> Result<(), Rejection> {
        let mut sessions: Vec<_> = ops
            .iter()
            .filter_map(|op| match op {
                TxnOp::Put { session, .. } => session.clone(),
                TxnOp::Delete { .. } | TxnOp::Get { .. } => None,
            })
            .collect();
        sessions.sort();
        sessions.dedup();
        for id in sessions {
            let more = ops.iter().filter(|op| match op {
                TxnOp::Put { key, session: Some(session), .. } => {
                    let owner = self.item(namespace, key).and_then(|item| item.session);
                    *session == id && owner.as_ref() != Some(&id)
                }
                TxnOp::Put { session: None, .. } | TxnOp::Delete { .. } | TxnOp::Get { .. } => false,
            });
            self.check_key_owner(&id, more.count() as u64)?;
        }
        let read = ops.iter().filter_map(|op| match op {
            TxnOp::Get { key } => self.item(namespace, key),
            TxnOp::Put { .. } | TxnOp::Delete { .. } => None,
        });
        let bytes_max = limits::TXN_ANSWER_BYTES_MAX as u64;
        if bytes_max < read.map(|item| item.value.len() as u64).sum() {
            return Err(Rejection::TxnAnswerTooLarge { bytes_max });
        }
        Ok(())
    }

    fn run_op(
        &mut self,
        namespace: &NamespaceName,
        op: &TxnOp,
        revision: Option<Revision>,
        events: &mut Vec<Event>,
    ) -> TxnResult {
        let before = self.item(namespace, op.key());
        let key = op.key().clone();
        match op {
            TxnOp::Put { key: _, value, content_type, session, managed_by } => {
                let revision = revision.expect("a transaction that puts takes a revision");
                let owner = (session.clone(), managed_by.as_str());
                let item = next_item(before.as_ref(), revision, (value, content_type), owner);
                let ModelItem { create_revision, mod_revision, version, .. } = item;
                self.write_key(namespace, &key, item, events);
                TxnResult::Put { key, create_revision, mod_revision, version }
            }
            TxnOp::Delete { .. } => {
                if let (Some(_), Some(revision)) = (&before, revision) {
                    self.remove_key(namespace, &key, revision, false, events);
                }
                TxnResult::Deleted { key, deleted: before.is_some() }
            }
            TxnOp::Get { .. } => {
                let item = before.map(|item| item.to_item(&key));
                TxnResult::Got { key, item }
            }
        }
    }
}

fn fits(how: Comparison, order: Ordering) -> bool {
    match how {
        Comparison::Equal => order.is_eq(),
        Comparison::NotEqual => order.is_ne(),
        Comparison::Less => order.is_lt(),
        Comparison::Greater => order.is_gt(),
    }
}
