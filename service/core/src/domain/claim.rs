//! Claims: what a client says it wants of a lock, and what becomes of that.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::domain::entry::Entry;
use crate::domain::key::KeyRange;
use crate::domain::lock::{Lock, Place, holders_of, position_of};
use crate::domain::session::Session;
use crate::domain::{
    Acquire, Change, ClaimOwner, ClaimRef, EndReason, Fault, IfHeld, LockMode, LockRef, Outcome, Rejection,
    Success, Table, Tables, WaitRef, key, record,
};
use crate::limits::{HOLDERS_SHOWN_MAX, SESSION_OWNED_MAX};
use crate::{FencingToken, LockName, LogTime, Revision, SessionId};

/// A live claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    /// Its session.
    pub(crate) session: SessionId,
    /// The time to live that it asked for when it made its session itself.
    pub(crate) own_ttl_ms: Option<u64>,
    /// What it takes.
    pub(crate) takes: Takes,
    /// A text for people.
    pub(crate) label: String,
    /// Where it stands.
    pub(crate) standing: Standing,
}

/// What a claim takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Takes {
    /// Its lock.
    Lock(LockMode),
    /// Its lock, as a part of the set of the same id. It begins, is granted and ends with the set.
    Part(LockMode),
    /// Several locks: it has a part for each, and no place of its own.
    Set(BTreeMap<LockName, LockMode>),
}

impl Takes {
    /// How it takes its lock. A set's own claim has no lock; whoever comes to it by a lock's places never meets one.
    pub(crate) const fn mode(&self) -> LockMode {
        match self {
            Self::Lock(mode) | Self::Part(mode) => *mode,
            Self::Set(_) => LockMode::Exclusive,
        }
    }

    pub(crate) const fn is_part(&self) -> bool {
        matches!(self, Self::Part(_))
    }
}

/// Where a live claim stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Standing {
    /// It holds its lock.
    Held {
        /// The grant's token.
        token: FencingToken,
        /// When it was granted.
        since: LogTime,
    },
    /// It waits.
    Queued {
        /// The revision that queued it.
        enqueued: Revision,
        /// When it was queued.
        since: LogTime,
        /// How long a request waits for it, in milliseconds.
        wait_ms: u64,
        /// Whether it waits on without a request.
        keep_waiting: bool,
    },
}

impl Claim {
    fn is_asked_by(&self, acquire: &Acquire) -> bool {
        let same_owner = match &acquire.owner {
            ClaimOwner::Session(id) => self.own_ttl_ms.is_none() && self.session == *id,
            ClaimOwner::OwnSession { ttl_ms } => self.own_ttl_ms == Some(*ttl_ms),
        };
        same_owner && self.takes == Takes::Lock(acquire.mode)
    }
}

impl<T: Tables> Entry<'_, '_, T> {
    pub(crate) fn claim(&self, claim: &ClaimRef) -> Result<Option<Claim>, Fault> {
        self.rows.read(Table::Claim, &key::claim(claim))
    }

    /// Takes a lock, queues for it, or answers where the claim of that id stands.
    pub(crate) fn acquire(&mut self, acquire: &Acquire) -> Result<Outcome, Fault> {
        let Acquire { claim: claim_ref, owner, mode, if_held, label: _ } = acquire;
        if self.namespace(&claim_ref.lock.namespace)?.is_none() {
            return Ok(Err(Rejection::NamespaceNotFound));
        }
        if let Some(refusal) = refuse_permits(*mode) {
            return Ok(Err(refusal));
        }
        if let Some(claim) = self.claim(claim_ref)? {
            let asked = claim.is_asked_by(acquire);
            return if asked {
                self.standing(claim_ref, claim).map(Ok)
            } else {
                Ok(Err(Rejection::ClaimConflict))
            };
        }
        if let Some(tombstone) = self.claim_tombstone(claim_ref)? {
            return Ok(Err(Rejection::ClaimEnded { reason: tombstone.reason, token: tombstone.token }));
        }
        if let Some(refusal) = self.refuse_owner(owner)? {
            return Ok(Err(refusal));
        }
        if let Some(refusal) = self.refuse_ids()? {
            return Ok(Err(refusal));
        }
        let lock = self.lock(&claim_ref.lock)?.unwrap_or_default();
        if let Some(refusal) = refuse_kind(&claim_ref.lock.lock, &lock, *mode) {
            return Ok(Err(refusal));
        }
        let at_once = lock.admits_at_once(*mode);
        #[cfg(feature = "seeded-bugs")]
        let at_once = at_once || self.bugs.queue_passed && lock.admits(*mode);
        let wait = match if_held {
            IfHeld::Refuse if !at_once => {
                let holders = holders_of(self.rows, &claim_ref.lock, self.meta.time, HOLDERS_SHOWN_MAX)?;
                let (queued, delay_remaining_ms) = (lock.queued, lock.delay_remaining_ms(self.meta.time));
                return Ok(Err(Rejection::LockHeld { holders, queued, delay_remaining_ms }));
            }
            IfHeld::Refuse => (0, false),
            IfHeld::Queue { wait_ms, keep_waiting } => (*wait_ms, *keep_waiting),
        };
        if let Some(refusal) = self.refuse_queue(&lock) {
            return Ok(Err(refusal));
        }
        if at_once {
            return self.begin_held(acquire, lock).map(Ok);
        }
        if let ClaimOwner::Session(session) = owner {
            let wanted = BTreeMap::from([(claim_ref.lock.lock.clone(), *mode)]);
            if let Some(refusal) = self.refuse_deadlock(session, &claim_ref.lock.namespace, &wanted)? {
                return Ok(Err(refusal));
            }
        }
        self.begin_queued(acquire, lock, wait).map(Ok)
    }

    /// Why a lock takes no further claim at all, if so.
    pub(crate) fn refuse_queue(&self, lock: &Lock) -> Option<Rejection> {
        let max = self.meta.settings.queue_max;
        (max.max(1) <= lock.claims()).then_some(Rejection::QueueFull { max })
    }

    /// Why nobody may take a further claim for this owner, if so.
    fn refuse_owner(&self, owner: &ClaimOwner) -> Result<Option<Rejection>, Fault> {
        match owner {
            ClaimOwner::OwnSession { ttl_ms: _ } => Ok(self.refuse_session()),
            ClaimOwner::Session(id) => self.refuse_owned(id, 1),
        }
    }

    /// Why a session may not own so much more, if so.
    pub(crate) fn refuse_owned(&self, id: &SessionId, more: u64) -> Result<Option<Rejection>, Fault> {
        if let Some(session) = self.session(id)? {
            let max = SESSION_OWNED_MAX;
            return Ok((max < session.owned + more).then_some(Rejection::SessionOwnsTooMuch { max }));
        }
        #[cfg(feature = "seeded-bugs")]
        if self.bugs.session_check_dropped {
            return Ok(None);
        }
        self.refuse_dead_session(id).map(Some)
    }

    /// A claim that takes a free lock. It shares its revision with the session that it makes.
    fn begin_held(&mut self, acquire: &Acquire, mut lock: Lock) -> Result<Success, Fault> {
        let revision = self.take_revision();
        let token = FencingToken::of_grant(revision);
        self.wake(&acquire.claim.lock, &mut lock);
        self.hold(&acquire.claim, &mut lock, acquire.mode, token);
        let standing = Standing::Held { token, since: self.meta.time };
        let session = self.begin(acquire, &lock, standing, revision)?;
        let (claim, mode) = (acquire.claim.clone(), acquire.mode);
        let granted = Change::ClaimGranted { claim, session: session.clone(), mode, token };
        self.tell(revision, granted);
        Ok(Success::Held { token, session, granted: true })
    }

    fn begin_queued(
        &mut self,
        acquire: &Acquire,
        mut lock: Lock,
        (wait_ms, keep_waiting): (u64, bool),
    ) -> Result<Success, Fault> {
        let enqueued = self.take_revision();
        let holders = holders_of(self.rows, &acquire.claim.lock, self.meta.time, HOLDERS_SHOWN_MAX)?;
        let position = lock.queued;
        self.enqueue(&acquire.claim, &mut lock, acquire.mode, enqueued);
        let standing = Standing::Queued { enqueued, since: self.meta.time, wait_ms, keep_waiting };
        let session = self.begin(acquire, &lock, standing, enqueued)?;
        let (claim, mode) = (acquire.claim.clone(), acquire.mode);
        let queued = Change::ClaimQueued { claim, session: session.clone(), mode, wait_ms, keep_waiting };
        self.tell(enqueued, queued);
        Ok(Success::Queued { enqueued, session, position, holders, queued: true })
    }

    /// Writes what a claim that begins has besides its place: its row, its lock's, and what its session owns.
    fn begin(
        &mut self,
        acquire: &Acquire,
        lock: &Lock,
        standing: Standing,
        revision: Revision,
    ) -> Result<SessionId, Fault> {
        let Acquire { claim: claim_ref, owner, mode, if_held: _, label } = acquire;
        let takes = Takes::Lock(*mode);
        let (id, session, own_ttl_ms) = match owner {
            ClaimOwner::Session(id) => (id.clone(), self.session(id)?, None),
            ClaimOwner::OwnSession { ttl_ms } => {
                let (id, session) = self.add_own_session(claim_ref, *ttl_ms, revision);
                (id, Some(session), Some(*ttl_ms))
            }
        };
        if let Some(mut session) = session {
            session.owned += 1;
            self.put_session(&id, &session);
        }
        let claim = Claim { session: id, own_ttl_ms, takes, label: label.clone(), standing };
        self.add_claim(claim_ref, &claim)?;
        self.put_lock(&claim_ref.lock, lock);
        Ok(claim.session)
    }

    /// Writes the row of a claim that begins; the caller writes those of its session, its lock and its place.
    pub(crate) fn add_claim(&mut self, claim_ref: &ClaimRef, claim: &Claim) -> Result<(), Fault> {
        self.rows.put(Table::Claim, key::claim(claim_ref), claim);
        self.rows.put(Table::SessionClaim, key::session_claim(&claim.session, claim_ref), &());
        self.update_namespace(&claim_ref.lock.namespace, |namespace| namespace.claims += 1)?;
        self.meta.counters.claims += 1;
        Ok(())
    }

    /// Where a live claim stands, for whoever asks again.
    fn standing(&self, claim_ref: &ClaimRef, claim: Claim) -> Result<Success, Fault> {
        if let Takes::Set(locks) = &claim.takes {
            return self.standing_of_set(claim_ref, &claim, locks);
        }
        let session = claim.session;
        match claim.standing {
            Standing::Held { token, since: _ } => Ok(Success::Held { token, session, granted: false }),
            Standing::Queued { enqueued, .. } => {
                let position = position_of(self.rows, &claim_ref.lock, enqueued)?;
                let holders = holders_of(self.rows, &claim_ref.lock, self.meta.time, HOLDERS_SHOWN_MAX)?;
                Ok(Success::Queued { enqueued, session, position, holders, queued: false })
            }
        }
    }

    /// Ends a wait whose time is over, unless the claim has its lock.
    pub(crate) fn cancel_wait(&mut self, wait: &WaitRef) -> Result<Outcome, Fault> {
        if self.namespace(&wait.claim.lock.namespace)?.is_none() {
            return Ok(Err(Rejection::NamespaceNotFound));
        }
        let Some(claim) = self.claim(&wait.claim)? else {
            return Ok(Err(match self.claim_tombstone(&wait.claim)? {
                Some(tombstone) => Rejection::ClaimEnded { reason: tombstone.reason, token: tombstone.token },
                None => Rejection::ClaimNotFound,
            }));
        };
        if !claim.waits_since(wait.enqueued) {
            return self.standing(&wait.claim, claim).map(Ok);
        }
        let revision = self.take_revision();
        self.end_claim(&wait.claim, &claim, EndReason::TimedOut, revision)?;
        Ok(Ok(Success::WaitTimedOut))
    }

    /// Releases a held claim or takes a queued one out of its queue. One that was never seen is remembered as ended, so
    /// that a delayed request cannot begin it afterwards.
    pub(crate) fn release(&mut self, claim_ref: &ClaimRef) -> Result<Outcome, Fault> {
        if self.namespace(&claim_ref.lock.namespace)?.is_none() {
            return Ok(Err(Rejection::NamespaceNotFound));
        }
        #[cfg(feature = "seeded-bugs")]
        if self.bugs.release_by_lock_name
            && let Some((holder, claim)) = self.first_holder(&claim_ref.lock)?
        {
            let revision = self.take_revision();
            self.end_claim(&holder, &claim, EndReason::Released, revision)?;
            return Ok(Ok(Success::Released));
        }
        if let Some(claim) = self.claim(claim_ref)? {
            let reason = match claim.standing {
                Standing::Held { .. } => EndReason::Released,
                Standing::Queued { .. } => EndReason::LeftQueue,
            };
            let revision = self.take_revision();
            self.end_claim(claim_ref, &claim, reason, revision)?;
            return Ok(Ok(Success::Released));
        }
        if self.claim_tombstone(claim_ref)?.is_some() {
            return Ok(Ok(Success::Released));
        }
        if let Some(refusal) = self.refuse_ids()? {
            return Ok(Err(refusal));
        }
        let revision = self.take_revision();
        let reason = EndReason::DeletedUnseen;
        self.bury_claim(claim_ref, None, (reason, None), revision);
        let claim = claim_ref.clone();
        self.tell(revision, Change::ClaimEnded { claim, session: None, reason, token: None });
        Ok(Ok(Success::Released))
    }

    /// Ends the claim that holds a lock with this token.
    pub(crate) fn force_release(&mut self, lock: &LockRef, token: FencingToken) -> Result<Outcome, Fault> {
        if self.namespace(&lock.namespace)?.is_none() {
            return Ok(Err(Rejection::NamespaceNotFound));
        }
        let place: Option<Place> = self.rows.read(Table::Holder, &key::holder(lock, token))?;
        let Some(Place { claim }) = place else {
            let held = self.tokens_of(lock)?;
            return Ok(Err(Rejection::TokenMismatch { held }));
        };
        let claim_ref = ClaimRef { lock: lock.clone(), claim };
        let Some(claim) = self.claim(&claim_ref)? else {
            let key = key::claim(&claim_ref);
            return Err(Fault::damaged(Table::Claim, &key, "it is missing while it holds a lock"));
        };
        let revision = self.take_revision();
        self.end_claim(&claim_ref, &claim, EndReason::Forced, revision)?;
        Ok(Ok(Success::ForceReleased { session: claim.session, claim: claim_ref, revision }))
    }

    /// The tokens of the first holders of a lock.
    pub(crate) fn tokens_of(&self, lock: &LockRef) -> Result<Vec<FencingToken>, Fault> {
        let range = KeyRange::prefix(key::lock_prefix(lock));
        let rows = record::rows(self.rows, Table::Holder, &range, HOLDERS_SHOWN_MAX)?;
        rows.iter()
            .map(|(key, _)| {
                let mut reader = key::KeyReader::new(Table::Holder, key);
                reader.lock()?;
                let token = FencingToken::of_grant(reader.revision()?);
                reader.end()?;
                Ok(token)
            })
            .collect()
    }

    #[cfg(feature = "seeded-bugs")]
    fn first_holder(&self, lock: &LockRef) -> Result<Option<(ClaimRef, Claim)>, Fault> {
        let range = KeyRange::prefix(key::lock_prefix(lock));
        let Some((key, value)) = record::rows(self.rows, Table::Holder, &range, 1)?.pop() else {
            return Ok(None);
        };
        let Place { claim } = record::open(Table::Holder, &key, &value)?;
        let claim_ref = ClaimRef { lock: lock.clone(), claim };
        Ok(self.claim(&claim_ref)?.map(|claim| (claim_ref, claim)))
    }

    /// Ends a claim, and with it the session that it made, or the set that it is a part of. The lock is settled by the
    /// entry.
    pub(crate) fn end_claim(
        &mut self,
        claim_ref: &ClaimRef,
        claim: &Claim,
        reason: EndReason,
        revision: Revision,
    ) -> Result<(), Fault> {
        if claim.takes.is_part() {
            let (set_ref, set) = self.set_of(claim_ref)?;
            return self.end_claim(&set_ref, &set, reason, revision);
        }
        let mut session = self.session(&claim.session)?;
        self.remove_claim(claim_ref, claim, session.as_mut(), reason, revision)?;
        match session {
            Some(session) if claim.own_ttl_ms.is_some() => {
                self.close_session(&claim.session, session, reason, revision)
            }
            Some(session) => {
                self.put_session(&claim.session, &session);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Takes a claim out of its lock and its session and remembers it, a set with all its parts; the caller writes the
    /// session.
    pub(crate) fn remove_claim(
        &mut self,
        claim_ref: &ClaimRef,
        claim: &Claim,
        mut session: Option<&mut Session>,
        reason: EndReason,
        revision: Revision,
    ) -> Result<(), Fault> {
        if let Takes::Set(locks) = &claim.takes {
            for lock in locks.keys() {
                let part_ref = claim_ref.of_lock(lock);
                let part = self.part(&part_ref)?;
                self.remove_one(&part_ref, &part, session.as_deref_mut(), reason, revision)?;
            }
        }
        self.remove_one(claim_ref, claim, session, reason, revision)
    }

    fn remove_one(
        &mut self,
        claim_ref: &ClaimRef,
        claim: &Claim,
        mut session: Option<&mut Session>,
        reason: EndReason,
        revision: Revision,
    ) -> Result<(), Fault> {
        let delay_ms = session.as_ref().map_or(0, |session| session.spec.lock_delay_ms);
        let token = match claim.takes {
            Takes::Lock(mode) | Takes::Part(mode) => {
                let delay_ms = if reason.is_loss() { delay_ms } else { 0 };
                self.leave_lock(claim_ref, mode, &claim.standing, delay_ms)?
            }
            Takes::Set(_) => None,
        };
        self.rows.delete(Table::Claim, key::claim(claim_ref));
        self.rows.delete(Table::SessionClaim, key::session_claim(&claim.session, claim_ref));
        self.update_namespace(&claim_ref.lock.namespace, |namespace| namespace.claims -= 1)?;
        self.meta.counters.claims -= 1;
        if let Some(session) = session.as_mut() {
            session.owned -= 1;
        }
        match session {
            Some(session) if claim.own_ttl_ms.is_none() => {
                self.bury_claim_of_session(claim_ref, (&claim.session, session), (reason, token), revision)?;
            }
            Some(_) | None => self.bury_claim(claim_ref, Some(&claim.session), (reason, token), revision),
        }
        let (claim, session) = (claim_ref.clone(), Some(claim.session.clone()));
        self.tell(revision, Change::ClaimEnded { claim, session, reason, token });
        Ok(())
    }

    /// Takes a claim out of the holders or the queue of its lock, which is settled by the entry. Returns the token that it
    /// had.
    fn leave_lock(
        &mut self,
        claim_ref: &ClaimRef,
        mode: LockMode,
        standing: &Standing,
        delay_ms: u64,
    ) -> Result<Option<FencingToken>, Fault> {
        let ClaimRef { lock: lock_ref, .. } = claim_ref;
        let mut lock = self.used_lock(lock_ref)?;
        let token = match *standing {
            Standing::Held { token, since: _ } => {
                self.rows.delete(Table::Holder, key::holder(lock_ref, token));
                lock.holders -= 1;
                lock.taken -= mode.units();
                if 0 < delay_ms {
                    self.close_lock(lock_ref, &mut lock, delay_ms)?;
                }
                self.forget_value(lock_ref, token)?;
                Some(token)
            }
            Standing::Queued { enqueued, .. } => {
                self.rows.delete(Table::Queue, key::queue(lock_ref, enqueued));
                lock.queued -= 1;
                None
            }
        };
        lock.forget_kind();
        self.put_lock(lock_ref, &lock);
        self.unsettled.insert(lock_ref.clone());
        Ok(token)
    }
}

/// Why nobody could ever be granted so many permits, if so.
pub(crate) fn refuse_permits(mode: LockMode) -> Option<Rejection> {
    match mode {
        LockMode::Permits { permits, of } if !mode.is_possible() => {
            Some(Rejection::ImpossiblePermits { permits, of })
        }
        LockMode::Exclusive | LockMode::Shared | LockMode::Permits { .. } => None,
    }
}

/// Why a lock takes no claim of this mode now, held or queued, if so.
pub(crate) fn refuse_kind(name: &LockName, lock: &Lock, mode: LockMode) -> Option<Rejection> {
    let other = lock.is_of_another_kind(mode);
    other.then(|| Rejection::LockModeConflict { lock: name.clone(), kind: lock.kind })
}

impl Claim {
    /// Whether this is the wait that this revision began.
    pub(crate) fn waits_since(&self, revision: Revision) -> bool {
        match self.standing {
            Standing::Queued { enqueued, .. } => enqueued == revision,
            Standing::Held { .. } => false,
        }
    }
}

impl EndReason {
    /// Whether a holder that ends so may not know it yet, so that its session's lock delay applies.
    pub(crate) const fn is_loss(self) -> bool {
        match self {
            Self::Expired | Self::Forced => true,
            Self::Released | Self::TimedOut | Self::LeftQueue | Self::DeletedUnseen => false,
        }
    }
}
