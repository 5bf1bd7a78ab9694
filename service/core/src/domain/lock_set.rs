//! Lock sets: several locks, all or none.
//!
//! A set is a claim of its own (`ClaimRef::lock_set`) that has a part for each of its locks: a claim of the same id. It waits
//! in all of their queues with one revision, holds nothing until it is the first of all that do not fit, and then gets all
//! in one apply. Its parts end together: whatever ends one ends the set.

use std::collections::BTreeMap;

use crate::domain::claim::{Claim, Standing, Takes, refuse_kind, refuse_permits};
use crate::domain::entry::Entry;
use crate::domain::lock::{Head, holders_of, position_of};
use crate::domain::{
    AcquireSet, Change, ClaimRef, Fault, IfHeld, LockMode, Outcome, Rejection, Success, Table, Tables, key,
};
use crate::limits::{HOLDERS_SHOWN_MAX, LOCK_SET_MAX};
use crate::{FencingToken, LockName, Revision};

impl<T: Tables> Entry<'_, '_, T> {
    /// Takes all locks of a set, queues for all of them, or answers where the set of that id stands.
    pub(crate) fn acquire_set(&mut self, acquire: &AcquireSet) -> Result<Outcome, Fault> {
        let AcquireSet { namespace, claim, session, locks, if_held, label: _ } = acquire;
        if self.namespace(namespace)?.is_none() {
            return Ok(Err(Rejection::NamespaceNotFound));
        }
        if locks.is_empty() || LOCK_SET_MAX < locks.len() as u64 {
            return Ok(Err(Rejection::LockSetSize { max: LOCK_SET_MAX }));
        }
        if let Some(refusal) = locks.values().find_map(|mode| refuse_permits(*mode)) {
            return Ok(Err(refusal));
        }
        let set_ref = ClaimRef::lock_set(namespace.clone(), claim.clone());
        if let Some(set) = self.claim(&set_ref)? {
            return if set.session == *session && set.takes == Takes::Set(locks.clone()) {
                self.standing_of_set(&set_ref, &set, locks).map(Ok)
            } else {
                Ok(Err(Rejection::ClaimConflict))
            };
        }
        if let Some(refusal) = self.refuse_ids_of_set(&set_ref, locks)? {
            return Ok(Err(refusal));
        }
        if let Some(refusal) = self.refuse_owned(session, locks.len() as u64 + 1)? {
            return Ok(Err(refusal));
        }
        if let Some(refusal) = self.refuse_ids()? {
            return Ok(Err(refusal));
        }
        let mut at_once = true;
        for (name, mode) in locks {
            let lock_ref = set_ref.of_lock(name).lock;
            let lock = self.lock(&lock_ref)?.unwrap_or_default();
            if let Some(refusal) = refuse_kind(name, &lock, *mode) {
                return Ok(Err(refusal));
            }
            if !lock.admits_at_once(*mode) {
                at_once = false;
                if matches!(if_held, IfHeld::Refuse) {
                    let holders = holders_of(self.rows, &lock_ref, self.meta.time, HOLDERS_SHOWN_MAX)?;
                    let (queued, delay_remaining_ms) = (lock.queued, lock.delay_remaining_ms(self.meta.time));
                    let lock = name.clone();
                    return Ok(Err(Rejection::SetHeld { lock, holders, queued, delay_remaining_ms }));
                }
            }
            if let Some(refusal) = self.refuse_queue(&lock) {
                return Ok(Err(refusal));
            }
        }
        if at_once {
            return self.begin_set_held(acquire, &set_ref).map(Ok);
        }
        if let Some(refusal) = self.refuse_deadlock(session, namespace, locks)? {
            return Ok(Err(refusal));
        }
        self.begin_set_queued(acquire, &set_ref).map(Ok)
    }

    /// Why the id of a set, or the same id of one of its locks, is used up or taken, if so.
    fn refuse_ids_of_set(
        &self,
        set_ref: &ClaimRef,
        locks: &BTreeMap<LockName, LockMode>,
    ) -> Result<Option<Rejection>, Fault> {
        if let Some(ended) = self.claim_tombstone(set_ref)? {
            return Ok(Some(Rejection::ClaimEnded { reason: ended.reason, token: ended.token }));
        }
        for lock in locks.keys() {
            let part_ref = set_ref.of_lock(lock);
            if self.claim(&part_ref)?.is_some() {
                return Ok(Some(Rejection::ClaimConflict));
            }
            if let Some(ended) = self.claim_tombstone(&part_ref)? {
                return Ok(Some(Rejection::ClaimEnded { reason: ended.reason, token: ended.token }));
            }
        }
        Ok(None)
    }

    fn begin_set_held(&mut self, acquire: &AcquireSet, set_ref: &ClaimRef) -> Result<Success, Fault> {
        let since = self.meta.time;
        let mut tokens = BTreeMap::new();
        let mut last = FencingToken::default();
        for (name, mode) in &acquire.locks {
            let part_ref = set_ref.of_lock(name);
            let token = FencingToken::of_grant(self.take_next_revision());
            let mut lock = self.lock(&part_ref.lock)?.unwrap_or_default();
            self.wake(&part_ref.lock, &mut lock);
            self.hold(&part_ref, &mut lock, *mode, token);
            self.put_lock(&part_ref.lock, &lock);
            self.begin_of_set(acquire, &part_ref, Takes::Part(*mode), Standing::Held { token, since })?;
            let session = acquire.session.clone();
            let granted = Change::ClaimGranted { claim: part_ref, session, mode: *mode, token };
            self.tell(token.revision(), granted);
            tokens.insert(name.clone(), token);
            last = token;
        }
        let standing = Standing::Held { token: last, since };
        self.begin_of_set(acquire, set_ref, Takes::Set(acquire.locks.clone()), standing)?;
        self.own_set(acquire)?;
        let session = acquire.session.clone();
        let granted = Change::SetGranted { claim: set_ref.clone(), session: session.clone() };
        self.tell(last.revision(), granted);
        Ok(Success::SetHeld { tokens, session, granted: true })
    }

    fn begin_set_queued(&mut self, acquire: &AcquireSet, set_ref: &ClaimRef) -> Result<Success, Fault> {
        let (enqueued, since) = (self.take_revision(), self.meta.time);
        let (wait_ms, keep_waiting) = match acquire.if_held {
            IfHeld::Queue { wait_ms, keep_waiting } => (wait_ms, keep_waiting),
            IfHeld::Refuse => (0, false),
        };
        let mut positions = BTreeMap::new();
        for (name, mode) in &acquire.locks {
            let part_ref = set_ref.of_lock(name);
            let mut lock = self.lock(&part_ref.lock)?.unwrap_or_default();
            self.wake(&part_ref.lock, &mut lock);
            positions.insert(name.clone(), lock.queued);
            self.enqueue(&part_ref, &mut lock, *mode, enqueued);
            self.put_lock(&part_ref.lock, &lock);
            // A part waits for as long as its set does.
            let (wait_ms, keep_waiting) = (0, true);
            let standing = Standing::Queued { enqueued, since, wait_ms, keep_waiting };
            self.begin_of_set(acquire, &part_ref, Takes::Part(*mode), standing)?;
            let session = acquire.session.clone();
            let claim = part_ref;
            let queued = Change::ClaimQueued { claim, session, mode: *mode, wait_ms, keep_waiting };
            self.tell(enqueued, queued);
        }
        let standing = Standing::Queued { enqueued, since, wait_ms, keep_waiting };
        self.begin_of_set(acquire, set_ref, Takes::Set(acquire.locks.clone()), standing)?;
        self.own_set(acquire)?;
        let (claim, session) = (set_ref.clone(), acquire.session.clone());
        self.tell(enqueued, Change::SetQueued { claim, session: session.clone(), wait_ms, keep_waiting });
        Ok(Success::SetQueued { enqueued, session, positions, queued: true })
    }

    fn begin_of_set(
        &mut self,
        acquire: &AcquireSet,
        claim_ref: &ClaimRef,
        takes: Takes,
        standing: Standing,
    ) -> Result<(), Fault> {
        let (session, label) = (acquire.session.clone(), acquire.label.clone());
        self.add_claim(claim_ref, &Claim { session, own_ttl_ms: None, takes, label, standing })
    }

    fn own_set(&mut self, acquire: &AcquireSet) -> Result<(), Fault> {
        if let Some(mut session) = self.session(&acquire.session)? {
            session.owned += acquire.locks.len() as u64 + 1;
            self.put_session(&acquire.session, &session);
        }
        Ok(())
    }

    /// Grants all locks of a set, each at a revision of its own, if each of its parts is the head of its queue and fits.
    /// The head is one of its parts. Returns whether it did; then all its locks are to be looked at again.
    pub(crate) fn grant_set(&mut self, head: &Head) -> Result<bool, Fault> {
        let (set_ref, mut set) = self.set_of(&head.claim_ref)?;
        let Takes::Set(locks) = set.takes.clone() else {
            return Err(Fault::damaged(Table::Claim, &key::claim(&set_ref), "it is no set"));
        };
        let mut heads = Vec::new();
        for (name, mode) in &locks {
            let lock_ref = set_ref.of_lock(name).lock;
            let lock = self.used_lock(&lock_ref)?;
            let first = self.head(&lock_ref)?;
            if first.claim_ref.claim != set_ref.claim || !first.claim.takes.is_part() || !lock.admits(*mode) {
                return Ok(false);
            }
            heads.push((lock, first));
        }
        let mut last = FencingToken::default();
        for (mut lock, part) in heads {
            let lock_ref = part.claim_ref.lock.clone();
            last = self.grant_head(&mut lock, part);
            self.put_lock(&lock_ref, &lock);
            self.unsettled.insert(lock_ref);
        }
        set.standing = Standing::Held { token: last, since: self.meta.time };
        self.rows.put(Table::Claim, key::claim(&set_ref), &set);
        self.tell(last.revision(), Change::SetGranted { claim: set_ref, session: set.session });
        Ok(true)
    }

    /// The set that a claim is a part of.
    pub(crate) fn set_of(&self, part_ref: &ClaimRef) -> Result<(ClaimRef, Claim), Fault> {
        let set_ref = part_ref.of_lock(&LockName::lock_sets());
        match self.claim(&set_ref)? {
            Some(set) => Ok((set_ref, set)),
            None => {
                Err(Fault::damaged(Table::Claim, &key::claim(&set_ref), "it is missing while it has a part"))
            }
        }
    }

    /// A part of a set that is live.
    pub(crate) fn part(&self, part_ref: &ClaimRef) -> Result<Claim, Fault> {
        let missing =
            || Fault::damaged(Table::Claim, &key::claim(part_ref), "it is missing while its set is live");
        self.claim(part_ref)?.ok_or_else(missing)
    }

    /// Where a live set stands, for whoever asks again.
    pub(crate) fn standing_of_set(
        &self,
        set_ref: &ClaimRef,
        set: &Claim,
        locks: &BTreeMap<LockName, LockMode>,
    ) -> Result<Success, Fault> {
        let session = set.session.clone();
        match set.standing {
            Standing::Held { .. } => {
                let mut tokens = BTreeMap::new();
                for name in locks.keys() {
                    let part_ref = set_ref.of_lock(name);
                    let Standing::Held { token, since: _ } = self.part(&part_ref)?.standing else {
                        let key = key::claim(&part_ref);
                        return Err(Fault::damaged(Table::Claim, &key, "it waits while its set holds"));
                    };
                    tokens.insert(name.clone(), token);
                }
                Ok(Success::SetHeld { tokens, session, granted: false })
            }
            Standing::Queued { enqueued, .. } => {
                let positions = self.positions_of_set(set_ref, enqueued, locks)?;
                Ok(Success::SetQueued { enqueued, session, positions, queued: false })
            }
        }
    }

    fn positions_of_set(
        &self,
        set_ref: &ClaimRef,
        enqueued: Revision,
        locks: &BTreeMap<LockName, LockMode>,
    ) -> Result<BTreeMap<LockName, u64>, Fault> {
        let position = |name: &LockName| position_of(self.rows, &set_ref.of_lock(name).lock, enqueued);
        locks.keys().map(|name| Ok((name.clone(), position(name)?))).collect()
    }
}
