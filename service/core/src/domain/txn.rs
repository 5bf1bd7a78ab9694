//! Transactions: compare, and then one of two lists of operations as a whole.

use std::collections::BTreeMap;

use crate::domain::config::{ConfigHead, NewValue, Written};
use crate::domain::entry::Entry;
use crate::domain::lock::Place;
use crate::domain::{
    Compare, ConfigItem, Fault, KeyTest, LockRef, Outcome, Rejection, Success, Table, Tables, Txn, TxnOp,
    TxnResult, View, key,
};
use crate::limits::TXN_ANSWER_BYTES_MAX;
use crate::{ConfigKey, NamespaceName, Revision, SessionId};

impl<T: Tables> Entry<'_, '_, T> {
    /// Compares, and then does one list. All of its writes share one revision, taken with the first that changes anything.
    pub(crate) fn txn(&mut self, txn: &Txn) -> Result<Outcome, Fault> {
        let Txn { namespace, guard, compare, success, failure } = txn;
        if self.namespace(namespace)?.is_none() {
            return Ok(Err(Rejection::NamespaceNotFound));
        }
        if let Some(refusal) = self.refuse_guard(namespace, guard.as_ref())? {
            return Ok(Err(refusal));
        }
        let mut succeeded = true;
        for condition in compare {
            succeeded = succeeded && self.compare(namespace, condition)?;
        }
        let ops = if succeeded { success } else { failure };
        if let Some(refusal) = self.refuse_ops(namespace, ops)? {
            return Ok(Err(refusal));
        }
        let mut revision = None;
        let mut results = Vec::with_capacity(ops.len());
        for op in ops {
            results.push(self.run_op(namespace, op, &mut revision)?);
        }
        Ok(Ok(Success::Txn { succeeded, revision, results }))
    }

    fn compare(&self, namespace: &NamespaceName, condition: &Compare) -> Result<bool, Fault> {
        match condition {
            Compare::Lock { lock, claim, token } => {
                let lock = LockRef { namespace: namespace.clone(), lock: lock.clone() };
                let place: Option<Place> = self.rows.read(Table::Holder, &key::holder(&lock, *token))?;
                Ok(place.is_some_and(|place| claim.as_ref().is_none_or(|claim| *claim == place.claim)))
            }
            Compare::Key { key, test } => {
                let head = self.config_head(namespace, key)?;
                self.test(namespace, key, head.as_ref(), test)
            }
        }
    }

    fn test(
        &self,
        namespace: &NamespaceName,
        key: &ConfigKey,
        head: Option<&ConfigHead>,
        test: &KeyTest,
    ) -> Result<bool, Fault> {
        let number = |of: fn(&ConfigHead) -> u64| head.map_or(0, of);
        Ok(match test {
            KeyTest::ModRevision(how, given) => how.holds(&number(|head| head.mod_revision.as_u64()), given),
            KeyTest::CreateRevision(how, given) => {
                how.holds(&number(|head| head.create_revision.as_u64()), given)
            }
            KeyTest::Version(how, given) => how.holds(&number(|head| head.version), given),
            KeyTest::Exists(given) => head.is_some() == *given,
            KeyTest::Value(how, given) => {
                let item = self.newest(namespace, key)?;
                item.is_some_and(|item| how.holds(&*item.value, &**given))
            }
        })
    }

    fn newest(&self, namespace: &NamespaceName, key: &ConfigKey) -> Result<Option<ConfigItem>, Fault> {
        View::new(&*self.rows).config_get(namespace, key)
    }

    /// Why a list of operations is not done at all, if so.
    fn refuse_ops(&self, namespace: &NamespaceName, ops: &[TxnOp]) -> Result<Option<Rejection>, Fault> {
        let mut owners: BTreeMap<&SessionId, u64> = BTreeMap::new();
        let mut read_bytes = 0;
        for op in ops {
            let head = self.config_head(namespace, op.key())?;
            match op {
                TxnOp::Put { session: Some(session), .. } => {
                    let keeps = head.is_some_and(|head| head.session.as_ref() == Some(session));
                    *owners.entry(session).or_default() += u64::from(!keeps);
                }
                TxnOp::Put { session: None, .. } | TxnOp::Delete { .. } => {}
                TxnOp::Get { .. } => read_bytes += head.map_or(0, |head| head.value_bytes),
            }
        }
        for (session, more) in owners {
            if let Some(refusal) = self.refuse_key_owner(session, more)? {
                return Ok(Some(refusal));
            }
        }
        let bytes_max = TXN_ANSWER_BYTES_MAX as u64;
        Ok((bytes_max < read_bytes).then_some(Rejection::TxnAnswerTooLarge { bytes_max }))
    }

    fn run_op(
        &mut self,
        namespace: &NamespaceName,
        op: &TxnOp,
        revision: &mut Option<Revision>,
    ) -> Result<TxnResult, Fault> {
        let head = self.config_head(namespace, op.key())?;
        match op {
            TxnOp::Put { key, value, content_type, session, managed_by } => {
                let revision = self.revision_of(revision);
                let session = session.as_ref();
                let new = NewValue { value, content_type, session, managed_by };
                let Written { create_revision, mod_revision, version } =
                    self.write_value(namespace, key, head, &new, revision)?;
                Ok(TxnResult::Put { key: key.clone(), create_revision, mod_revision, version })
            }
            TxnOp::Delete { key } => {
                let deleted = head.is_some();
                if let Some(head) = head {
                    let revision = self.revision_of(revision);
                    self.change_owner(namespace, key, head.session.as_ref(), None)?;
                    self.remove_value(namespace, key, &head, revision, false)?;
                }
                Ok(TxnResult::Deleted { key: key.clone(), deleted })
            }
            TxnOp::Get { key } => Ok(TxnResult::Got { key: key.clone(), item: self.newest(namespace, key)? }),
        }
    }

    fn revision_of(&mut self, shared: &mut Option<Revision>) -> Revision {
        #[cfg(feature = "seeded-bugs")]
        if self.bugs.txn_revision_each {
            return *shared.insert(self.take_revision());
        }
        *shared.get_or_insert_with(|| self.take_revision())
    }
}
