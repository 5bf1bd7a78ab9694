//! Reads of locks and claims.

use bytes::Bytes;
use std::collections::BTreeMap;

use super::{Page, View};
use crate::domain::claim::{Claim, Standing, Takes};
use crate::domain::election::ElectionValue;
use crate::domain::key::{KeyRange, KeyReader};
use crate::domain::lock::{Lock, Place, holders_of, position_of};
use crate::domain::session::Session;
use crate::domain::tombstone::ClaimTombstone;
use crate::domain::{
    ClaimRef, EndReason, Fault, Holder, LockMode, LockRef, Meta, Table, Tables, key, record,
};
use crate::limits::{HOLDERS_SHOWN_MAX, PAGE_ROWS_MAX};
use crate::{ClaimId, FencingToken, LockName, NamespaceName, Revision, SessionId};

/// What is known of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimState {
    /// It holds its lock.
    Held {
        /// Its session.
        session: SessionId,
        /// How it takes the lock.
        mode: LockMode,
        /// Its label, for people.
        label: String,
        /// The grant's token.
        token: FencingToken,
        /// How long it holds, in replicated milliseconds.
        held_ms: u64,
    },
    /// It waits.
    Queued {
        /// Its session.
        session: SessionId,
        /// How it takes the lock.
        mode: LockMode,
        /// Its label, for people.
        label: String,
        /// The revision that queued it.
        enqueued: Revision,
        /// Claims before it in the queue, not counting holders.
        position: u64,
        /// Who holds the lock, the first few.
        holders: Vec<Holder>,
        /// How long it waits, in replicated milliseconds.
        waited_ms: u64,
        /// How long a request waits for it, in milliseconds.
        wait_ms: u64,
        /// Whether it waits on without a request.
        keep_waiting: bool,
    },
    /// It is over.
    Ended {
        /// Its session; none when it was never seen.
        session: Option<SessionId>,
        /// Why.
        reason: EndReason,
        /// The token it had, if it was ever held.
        token: Option<FencingToken>,
        /// The revision that ended it.
        revision: Revision,
    },
}

/// What is known of a lock set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockSetState {
    /// It holds all its locks.
    Held {
        /// Its session.
        session: SessionId,
        /// Its label, for people.
        label: String,
        /// Its locks, and how it takes each.
        locks: BTreeMap<LockName, LockMode>,
        /// The token of each lock's grant.
        tokens: BTreeMap<LockName, FencingToken>,
    },
    /// It waits.
    Queued {
        /// Its session.
        session: SessionId,
        /// Its label, for people.
        label: String,
        /// Its locks, and how it takes each.
        locks: BTreeMap<LockName, LockMode>,
        /// The revision that queued it.
        enqueued: Revision,
        /// Claims before it in the queue of each lock, not counting holders.
        positions: BTreeMap<LockName, u64>,
    },
    /// It is over.
    Ended {
        /// Why.
        reason: EndReason,
    },
}

/// What the leader of an election published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElectionValueView {
    /// The leader's token.
    pub token: FencingToken,
    /// The bytes.
    pub value: Bytes,
    /// Their media type.
    pub content_type: String,
    /// The revision that published it.
    pub revision: Revision,
}

/// A lock with those who use it. A lock that was never used is free, with nobody in it and a token of 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LockView {
    /// How it is held, with the permits of all holders together; none while nobody holds it.
    pub mode: Option<LockMode>,
    /// Who holds it.
    pub holders: Vec<Holder>,
    /// How many wait.
    pub queued: u64,
    /// The first who wait.
    pub queue: Vec<Waiter>,
    /// The newest grant since the namespace was created; 0 when it was never granted or is forgotten.
    pub last_token: FencingToken,
    /// How long a lock delay keeps it closed, in replicated milliseconds; 0 when none does.
    pub delay_remaining_ms: u64,
}

/// A claim in a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiter {
    /// The claim.
    pub claim: ClaimId,
    /// Its session.
    pub session: SessionId,
    /// The session's name, for people.
    pub session_name: String,
    /// How it takes the lock.
    pub mode: LockMode,
    /// The claim's label, for people.
    pub label: String,
    /// The revision that queued it.
    pub enqueued: Revision,
    /// How long it waits, in replicated milliseconds.
    pub waited_ms: u64,
}

/// A lock in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockSummary {
    /// Its name.
    pub lock: LockName,
    /// How many hold it.
    pub holders: u64,
    /// How many wait.
    pub queued: u64,
    /// The newest grant; 0 when there was none.
    pub last_token: FencingToken,
    /// How long a lock delay keeps it closed, in replicated milliseconds; 0 when none does.
    pub delay_remaining_ms: u64,
}

impl<T: Tables> View<'_, T> {
    /// What is known of a claim. What ended is known longer than its namespace.
    ///
    /// # Errors
    /// As [`View::meta`].
    pub fn claim(&self, claim_ref: &ClaimRef) -> Result<Option<ClaimState>, Fault> {
        let key = key::claim(claim_ref);
        let Some(claim) = record::read::<Claim>(self.0, Table::Claim, &key)? else {
            let tombstone: Option<ClaimTombstone> = record::read(self.0, Table::ClaimTombstone, &key)?;
            return Ok(tombstone.map(|tombstone| {
                let ClaimTombstone { reason, token, session, revision, .. } = tombstone;
                ClaimState::Ended { session, reason, token, revision }
            }));
        };
        let now = self.meta()?.time;
        let Claim { session, own_ttl_ms: _, takes, label, standing } = claim;
        let mode = takes.mode();
        Ok(Some(match standing {
            Standing::Held { token, since } => {
                ClaimState::Held { session, mode, label, token, held_ms: now.ms_since(since) }
            }
            Standing::Queued { enqueued, since, wait_ms, keep_waiting } => ClaimState::Queued {
                session,
                mode,
                label,
                enqueued,
                position: position_of(self.0, &claim_ref.lock, enqueued)?,
                holders: holders_of(self.0, &claim_ref.lock, now, HOLDERS_SHOWN_MAX)?,
                waited_ms: now.ms_since(since),
                wait_ms,
                keep_waiting,
            },
        }))
    }

    /// What is known of a lock set.
    ///
    /// # Errors
    /// As [`View::meta`].
    pub fn lock_set(
        &self,
        namespace: &NamespaceName,
        claim: &ClaimId,
    ) -> Result<Option<LockSetState>, Fault> {
        let set_ref = ClaimRef::lock_set(namespace.clone(), claim.clone());
        let key = key::claim(&set_ref);
        let Some(set) = record::read::<Claim>(self.0, Table::Claim, &key)? else {
            let tombstone: Option<ClaimTombstone> = record::read(self.0, Table::ClaimTombstone, &key)?;
            return Ok(tombstone.map(|tombstone| LockSetState::Ended { reason: tombstone.reason }));
        };
        let Claim { session, own_ttl_ms: _, takes: Takes::Set(locks), label, standing } = set else {
            return Err(Fault::damaged(Table::Claim, &key, "it is no set"));
        };
        Ok(Some(match standing {
            Standing::Held { .. } => {
                let mut tokens = BTreeMap::new();
                for name in locks.keys() {
                    let part_ref = set_ref.of_lock(name);
                    let Standing::Held { token, since: _ } = self.claim_row(&part_ref)?.standing else {
                        let key = key::claim(&part_ref);
                        return Err(Fault::damaged(Table::Claim, &key, "it waits while its set holds"));
                    };
                    tokens.insert(name.clone(), token);
                }
                LockSetState::Held { session, label, locks, tokens }
            }
            Standing::Queued { enqueued, .. } => {
                let mut positions = BTreeMap::new();
                for name in locks.keys() {
                    let position = position_of(self.0, &set_ref.of_lock(name).lock, enqueued)?;
                    positions.insert(name.clone(), position);
                }
                LockSetState::Queued { session, label, locks, enqueued, positions }
            }
        }))
    }

    /// What the leader of an election published; none when nobody leads it, or its leader published nothing.
    ///
    /// # Errors
    /// As [`View::meta`].
    pub fn election_value(&self, election: &LockRef) -> Result<Option<ElectionValueView>, Fault> {
        let value: Option<ElectionValue> = record::read(self.0, Table::ElectionValue, &key::lock(election))?;
        Ok(value.map(|ElectionValue { token, value, content_type, revision }| ElectionValueView {
            token,
            value,
            content_type,
            revision,
        }))
    }

    /// A lock, with up to `queue_limit` of those who wait.
    ///
    /// # Errors
    /// As [`View::meta`].
    pub fn lock(&self, lock_ref: &LockRef, queue_limit: usize) -> Result<LockView, Fault> {
        let lock: Option<Lock> = record::read(self.0, Table::Lock, &key::lock(lock_ref))?;
        let create_revision = self.namespace(&lock_ref.namespace)?.map(|namespace| namespace.create_revision);
        let (Some(lock), Some(create_revision)) = (lock, create_revision) else {
            return Ok(LockView::default());
        };
        let meta = self.meta()?;
        let holders = holders_of(self.0, lock_ref, meta.time, PAGE_ROWS_MAX)?;
        Ok(LockView {
            mode: lock.mode_of(&holders),
            holders,
            queued: lock.queued,
            queue: self.queue(lock_ref, queue_limit.min(PAGE_ROWS_MAX), &meta)?,
            last_token: visible(lock.last_token, create_revision),
            delay_remaining_ms: lock.delay_remaining_ms(meta.time),
        })
    }

    fn queue(&self, lock_ref: &LockRef, limit: usize, meta: &Meta) -> Result<Vec<Waiter>, Fault> {
        let range = KeyRange::prefix(key::lock_prefix(lock_ref));
        let mut queue = Vec::new();
        for (key, value) in record::rows(self.0, Table::Queue, &range, limit)? {
            let Place { claim } = record::open(Table::Queue, &key, &value)?;
            let claim_ref = ClaimRef { lock: lock_ref.clone(), claim };
            let Claim { session, own_ttl_ms: _, takes, label, standing } = self.claim_row(&claim_ref)?;
            let Standing::Queued { enqueued, since, .. } = standing else {
                let key = key::claim(&claim_ref);
                return Err(Fault::damaged(Table::Claim, &key, "it holds while it is queued"));
            };
            let row: Option<Session> = record::read(self.0, Table::Session, &key::session(&session))?;
            queue.push(Waiter {
                claim: claim_ref.claim,
                session,
                session_name: row.map(|row| row.spec.name).unwrap_or_default(),
                mode: takes.mode(),
                label,
                enqueued,
                waited_ms: meta.time.ms_since(since),
            });
        }
        Ok(queue)
    }

    /// The locks of a namespace that are used or were recently, by name, those that begin with `prefix`. Elections are not
    /// among them.
    ///
    /// # Errors
    /// As [`View::meta`].
    pub fn locks(
        &self,
        namespace: &NamespaceName,
        prefix: &str,
        after: Option<&LockName>,
        limit: usize,
    ) -> Result<Page<LockSummary, LockName>, Fault> {
        let Some(create_revision) = self.namespace(namespace)?.map(|namespace| namespace.create_revision)
        else {
            return Ok(Page { items: Vec::new(), next: None });
        };
        let now = self.meta()?.time;
        let mut range = KeyRange::prefix(key::text_prefix(namespace, prefix));
        if *prefix < *LockName::after_elections() {
            range = range.starting_at(key::text_prefix(namespace, &LockName::after_elections()));
        }
        if let Some(after) = after {
            range = range.after(key::text_prefix(namespace, after.as_str()));
        }
        let page = self.page(Table::Lock, &range, limit, |key, value| {
            let LockRef { namespace: _, lock: name } = KeyReader::new(Table::Lock, key).last_lock()?;
            let lock: Lock = record::open(Table::Lock, key, value)?;
            Ok(LockSummary {
                lock: name,
                holders: lock.holders,
                queued: lock.queued,
                last_token: visible(lock.last_token, create_revision),
                delay_remaining_ms: lock.delay_remaining_ms(now),
            })
        })?;
        let mut page = page.continued(|last| last.lock.clone());
        // An idle lock from before the namespace was created again was never granted in this one.
        page.items.retain(|lock| {
            let LockSummary { lock: _, holders, queued, last_token, delay_remaining_ms: _ } = lock;
            *holders != 0 || *queued != 0 || *last_token != FencingToken::default()
        });
        Ok(page)
    }
}

/// A token as it is shown: grants from before the namespace was created belong to another namespace of that name.
fn visible(token: FencingToken, create_revision: Revision) -> FencingToken {
    if token.revision() < create_revision { FencingToken::default() } else { token }
}
