//! Locks: who holds, who waits, and what happens when a holder is gone.
//!
//! ```text
//!            grant                     removal                settle
//!   free ───────────────▶ held ───────────────────▶ free ───────────────▶ held by the head of the queue
//!    ▲                     │  lost, session has                         or idle: remembered, then dropped
//!    │ due                 ▼  a lock delay
//!    └────────────────── closed (nobody is let in)
//! ```
//!
//! A lock has units, and every claim takes some (`LockKind::units`): an exclusive one all, a shared one one of very many, a
//! permit one of few. The queue is first in, first out whatever the units: nobody passes a claim that does not fit yet, so
//! that a stream of small claims never starves a large one. The head of a queue that is a part of a lock set is granted only
//! when each part of the set is the head of its queue and fits.

use serde::{Deserialize, Serialize};

#[cfg(feature = "seeded-bugs")]
use crate::domain::claim::Takes;
use crate::domain::claim::{Claim, Standing};
use crate::domain::entry::Entry;
use crate::domain::key::{KeyRange, KeyReader};
use crate::domain::machine::Oldest;
use crate::domain::session::Session;
use crate::domain::tombstone::{Age, Aged};
use crate::domain::{
    Change, ClaimRef, Fault, Holder, LockKind, LockMode, LockRef, Table, Tables, key, record,
};
use crate::limits::{DUE_DELAYS_PER_ENTRY_MAX, PAGE_ROWS_MAX};
use crate::{ClaimId, FencingToken, LogTime, Revision};

/// A lock that is in use, or was a short while ago. A lock without a row is simply free.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lock {
    /// The newest grant. Invariant: at least every holder's token.
    pub(crate) last_token: FencingToken,
    /// What it is used as. Invariant: of this kind are all its claims; the default one when it has none.
    pub(crate) kind: LockKind,
    /// Claims that hold it. Invariant: as many as it has holder rows.
    pub(crate) holders: u64,
    /// Units that they take. Invariant: the sum of theirs, at most those of its kind.
    pub(crate) taken: u64,
    /// Claims that wait. Invariant: as many as it has queue rows; the first of them cannot be let in.
    pub(crate) queued: u64,
    /// Until when nobody is let in. Invariant: set exactly while the lock has a row among the running delays.
    pub(crate) delay_until: Option<LogTime>,
    /// Since when it is idle. Invariant: set exactly while nobody holds or waits and no delay runs, and then the lock has
    /// a row in the index by age.
    pub(crate) idle: Option<Idle>,
}

/// Where an idle lock stands in the index by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Idle {
    /// When it fell idle.
    pub(crate) time: LogTime,
    /// The store's revision then.
    pub(crate) revision: Revision,
}

/// A row of holders or of a queue: whose it is. The key has the lock and the place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The claim.
    pub(crate) claim: ClaimId,
}

impl Lock {
    /// Whether a claim fits beside the holders.
    pub(crate) const fn admits(&self, mode: LockMode) -> bool {
        self.delay_until.is_none() && self.taken.saturating_add(mode.units()) <= mode.kind().units()
    }

    /// Whether a claim that comes now is let in at once.
    pub(crate) const fn admits_at_once(&self, mode: LockMode) -> bool {
        self.queued == 0 && self.admits(mode)
    }

    /// Whether a claim can neither hold it nor wait for it, because of what it is used as.
    pub(crate) fn is_of_another_kind(&self, mode: LockMode) -> bool {
        self.claims() != 0 && self.kind != mode.kind()
    }

    /// Whether nothing keeps it.
    pub(crate) const fn is_idle(&self) -> bool {
        self.claims() == 0 && self.delay_until.is_none()
    }

    /// Forgets what it was used as with its last claim.
    pub(crate) const fn forget_kind(&mut self) {
        if self.claims() == 0 {
            self.kind = LockKind::Exclusion;
        }
    }

    /// Claims that it has.
    pub(crate) const fn claims(&self) -> u64 {
        self.holders + self.queued
    }

    /// How it is held, with the permits of all holders together; none when these are none.
    pub(crate) fn mode_of(&self, holders: &[Holder]) -> Option<LockMode> {
        let first = holders.first()?;
        Some(match first.mode {
            LockMode::Permits { permits: _, of } => {
                LockMode::Permits { permits: u32::try_from(self.taken).unwrap_or(of), of }
            }
            mode @ (LockMode::Exclusive | LockMode::Shared) => mode,
        })
    }

    /// How long a delay keeps it closed.
    pub(crate) fn delay_remaining_ms(&self, now: LogTime) -> u64 {
        self.delay_until.map_or(0, |due| due.ms_since(now))
    }
}

/// Who holds a lock, the first `limit`.
pub(crate) fn holders_of(
    tables: &impl Tables,
    lock: &LockRef,
    now: LogTime,
    limit: usize,
) -> Result<Vec<Holder>, Fault> {
    let mut holders = Vec::new();
    let range = KeyRange::prefix(key::lock_prefix(lock));
    for (key, value) in record::rows(tables, Table::Holder, &range, limit)? {
        let Place { claim } = record::open(Table::Holder, &key, &value)?;
        let claim_key = key::claim(&ClaimRef { lock: lock.clone(), claim: claim.clone() });
        let Some(held) = record::read::<Claim>(tables, Table::Claim, &claim_key)? else {
            return Err(Fault::damaged(Table::Claim, &claim_key, "it is missing while it holds a lock"));
        };
        let Standing::Held { token, since } = held.standing else {
            return Err(Fault::damaged(Table::Claim, &claim_key, "it is queued while it holds a lock"));
        };
        let session = record::read::<Session>(tables, Table::Session, &key::session(&held.session))?;
        holders.push(Holder {
            claim: claim.into(),
            session: held.session,
            session_name: session.map(|session| session.spec.name).unwrap_or_default(),
            mode: held.takes.mode(),
            label: held.label,
            token,
            held_ms: now.ms_since(since),
        });
    }
    Ok(holders)
}

/// How many wait before the claim that this revision queued.
pub(crate) fn position_of(tables: &impl Tables, lock: &LockRef, enqueued: Revision) -> Result<u64, Fault> {
    let own = key::queue(lock, enqueued);
    let mut range = KeyRange::prefix(key::lock_prefix(lock)).up_to(own.clone());
    let mut before = 0;
    loop {
        let rows = record::rows(tables, Table::Queue, &range, PAGE_ROWS_MAX)?;
        before += rows.iter().filter(|(key, _)| *key != own).count() as u64;
        match rows.last() {
            Some((key, _)) if *key != own => range = range.after(key.clone()),
            Some(_) | None => return Ok(before),
        }
    }
}

impl<T: Tables> Entry<'_, '_, T> {
    pub(crate) fn lock(&self, lock: &LockRef) -> Result<Option<Lock>, Fault> {
        self.rows.read(Table::Lock, &key::lock(lock))
    }

    /// The lock of a claim that exists, or of a running delay.
    pub(crate) fn used_lock(&self, lock: &LockRef) -> Result<Lock, Fault> {
        let missing = || Fault::damaged(Table::Lock, &key::lock(lock), "it is missing while it is in use");
        self.lock(lock)?.ok_or_else(missing)
    }

    pub(crate) fn put_lock(&mut self, lock_ref: &LockRef, lock: &Lock) {
        self.rows.put(Table::Lock, key::lock(lock_ref), lock);
    }

    /// Takes a lock out of the index by age, because somebody uses it.
    pub(crate) fn wake(&mut self, lock_ref: &LockRef, lock: &mut Lock) {
        if let Some(Idle { time, revision }) = lock.idle.take() {
            let aged = Aged::Lock(lock_ref.clone());
            self.rows.delete(Table::Age, Age { time, revision, aged }.key());
            self.meta.counters.idle_locks -= 1;
        }
    }

    /// Closes a lock for as long as the session that lost it asked.
    pub(crate) fn close_lock(
        &mut self,
        lock_ref: &LockRef,
        lock: &mut Lock,
        delay_ms: u64,
    ) -> Result<(), Fault> {
        let due = self.meta.time.after_ms(delay_ms);
        match lock.delay_until {
            Some(running) if due <= running => return Ok(()),
            Some(running) => self.rows.delete(Table::LockDelay, key::lock_delay(running, lock_ref)),
            None => {
                self.update_namespace(&lock_ref.namespace, |namespace| namespace.lock_delays += 1)?;
                self.meta.counters.lock_delays += 1;
            }
        }
        lock.delay_until = Some(due);
        self.rows.put(Table::LockDelay, key::lock_delay(due, lock_ref), &());
        self.oldest.lock_delay = self.oldest.lock_delay.min(due);
        Ok(())
    }

    /// Opens the locks whose delay is over, the longest due first.
    pub(crate) fn end_due_lock_delays(&mut self) -> Result<(), Fault> {
        if self.meta.counters.lock_delays == 0 || self.meta.time < self.oldest.lock_delay {
            return Ok(());
        }
        // One row more tells when the next delay is due.
        let limit = DUE_DELAYS_PER_ENTRY_MAX + 1;
        let rows = record::rows(self.rows, Table::LockDelay, &KeyRange::all(), limit)?;
        for (at, (key, value)) in rows.into_iter().enumerate() {
            record::open::<()>(Table::LockDelay, &key, &value)?;
            let mut reader = KeyReader::new(Table::LockDelay, &key);
            let (due, lock_ref) = (reader.time()?, reader.last_lock()?);
            self.oldest.lock_delay = due;
            if self.meta.time < due || DUE_DELAYS_PER_ENTRY_MAX <= at {
                return Ok(());
            }
            self.rows.delete(Table::LockDelay, key);
            self.meta.counters.lock_delays -= 1;
            self.update_namespace(&lock_ref.namespace, |namespace| namespace.lock_delays -= 1)?;
            let mut lock = self.used_lock(&lock_ref)?;
            lock.delay_until = None;
            self.put_lock(&lock_ref, &lock);
            self.unsettled.insert(lock_ref);
            self.settle_locks()?;
        }
        self.oldest.lock_delay = Oldest::NEVER;
        Ok(())
    }

    /// Lets in whoever waits for the locks that changed, in the order of (namespace, lock), each as far as it goes. A set
    /// that is let in may leave others first in the queues of its locks, so these are looked at again.
    pub(crate) fn settle_locks(&mut self) -> Result<(), Fault> {
        while let Some(lock_ref) = self.unsettled.pop_first() {
            let mut lock = self.used_lock(&lock_ref)?;
            let mut look_again = false;
            while let Some(head) = self.head_that_fits(&lock_ref, &lock)? {
                #[cfg(feature = "seeded-bugs")]
                let head = if self.bugs.set_piecemeal { head.alone() } else { head };
                if head.claim.takes.is_part() {
                    // The set reads all its locks.
                    self.put_lock(&lock_ref, &lock);
                    look_again = self.grant_set(&head)?;
                    break;
                }
                self.grant_head(&mut lock, head);
            }
            if look_again {
                continue;
            }
            if lock.is_idle() && lock.idle.is_none() {
                let (time, revision) = (self.meta.time, self.meta.revision);
                lock.idle = Some(Idle { time, revision });
                self.age(revision, Aged::Lock(lock_ref.clone()));
                self.meta.counters.idle_locks += 1;
            }
            self.put_lock(&lock_ref, &lock);
        }
        Ok(())
    }

    /// The head of a queue, if it fits beside the holders.
    fn head_that_fits(&self, lock_ref: &LockRef, lock: &Lock) -> Result<Option<Head>, Fault> {
        if lock.queued == 0 || lock.delay_until.is_some() {
            return Ok(None);
        }
        let head = self.head(lock_ref)?;
        Ok(Some(head).filter(|head| lock.admits(head.claim.takes.mode())))
    }

    /// The head of a queue that is not empty.
    pub(crate) fn head(&self, lock_ref: &LockRef) -> Result<Head, Fault> {
        let range = KeyRange::prefix(key::lock_prefix(lock_ref));
        let first = record::rows(self.rows, Table::Queue, &range, 1)?;
        #[cfg(feature = "seeded-bugs")]
        let first = if self.bugs.fifo_by_arrival {
            self.rows.range_back(Table::Queue, range.from(), range.to(), 1)?
        } else {
            first
        };
        let Some((place, value)) = first.into_iter().next() else {
            return Err(Fault::damaged(
                Table::Lock,
                &key::lock(lock_ref),
                "it counts waits that are missing",
            ));
        };
        let Place { claim } = record::open(Table::Queue, &place, &value)?;
        let claim_ref = ClaimRef { lock: lock_ref.clone(), claim };
        let Some(claim) = self.claim(&claim_ref)? else {
            let key = key::claim(&claim_ref);
            return Err(Fault::damaged(Table::Claim, &key, "it is missing while it waits"));
        };
        Ok(Head { claim_ref, claim, place })
    }

    /// Grants the head of a queue, at a revision of its own; the caller puts the lock's row.
    pub(crate) fn grant_head(&mut self, lock: &mut Lock, head: Head) -> FencingToken {
        let Head { claim_ref, mut claim, place } = head;
        let token = FencingToken::of_grant(self.take_next_revision());
        self.rows.delete(Table::Queue, place);
        lock.queued -= 1;
        let mode = claim.takes.mode();
        self.hold(&claim_ref, lock, mode, token);
        claim.standing = Standing::Held { token, since: self.meta.time };
        self.rows.put(Table::Claim, key::claim(&claim_ref), &claim);
        let granted = Change::ClaimGranted { claim: claim_ref, session: claim.session, mode, token };
        self.tell(token.revision(), granted);
        token
    }

    /// Makes a claim a holder; the caller puts the lock's and the claim's rows.
    pub(crate) fn hold(&mut self, claim: &ClaimRef, lock: &mut Lock, mode: LockMode, token: FencingToken) {
        lock.kind = mode.kind();
        lock.holders += 1;
        lock.taken += mode.units();
        lock.last_token = token;
        let place = Place { claim: claim.claim.clone() };
        self.rows.put(Table::Holder, key::holder(&claim.lock, token), &place);
    }

    /// Puts a claim at the end of a queue; the caller puts the lock's and the claim's rows.
    pub(crate) fn enqueue(&mut self, claim: &ClaimRef, lock: &mut Lock, mode: LockMode, enqueued: Revision) {
        lock.kind = mode.kind();
        lock.queued += 1;
        let place = Place { claim: claim.claim.clone() };
        self.rows.put(Table::Queue, key::queue(&claim.lock, enqueued), &place);
    }
}

/// The first claim of a queue.
#[derive(Debug)]
pub(crate) struct Head {
    /// Which claim.
    pub(crate) claim_ref: ClaimRef,
    /// Its row.
    pub(crate) claim: Claim,
    /// The key of its place.
    pub(crate) place: Vec<u8>,
}

#[cfg(feature = "seeded-bugs")]
impl Head {
    /// The same as a claim of its own.
    fn alone(mut self) -> Self {
        self.claim.takes = Takes::Lock(self.claim.takes.mode());
        self
    }
}
