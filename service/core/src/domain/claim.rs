//! Claims: what a client says it wants of a lock, and what becomes of that.

use serde::{Deserialize, Serialize};

use crate::domain::entry::Entry;
use crate::domain::key::KeyRange;
use crate::domain::lock::{Lock, Place, holders_of, position_of};
use crate::domain::session::Session;
use crate::domain::{
    Acquire, Change, ClaimOwner, ClaimRef, EndReason, Fault, IfHeld, LockMode, LockRef, Outcome, Rejection,
    Success, Table, Tables, WaitRef, key, record,
};
use crate::limits::{HOLDERS_SHOWN_MAX, SESSION_OWNED_MAX};
use crate::{FencingToken, LogTime, Revision, SessionId};

/// A live claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    /// Its session.
    pub(crate) session: SessionId,
    /// The time to live that it asked for when it made its session itself.
    pub(crate) own_ttl_ms: Option<u64>,
    /// How it takes the lock.
    pub(crate) mode: LockMode,
    /// A text for people.
    pub(crate) label: String,
    /// Where it stands.
    pub(crate) standing: Standing,
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
        same_owner && self.mode == acquire.mode
    }
}

impl<T: Tables> Entry<'_, '_, T> {
    pub(crate) fn claim(&self, claim: &ClaimRef) -> Result<Option<Claim>, Fault> {
        self.rows.read(Table::Claim, &key::claim(claim))
    }

    /// Takes a lock, queues for it, or answers where the claim of that id stands.
    pub(crate) fn acquire(&mut self, acquire: &Acquire) -> Result<Outcome, Fault> {
        let Acquire { claim: claim_ref, owner, mode: _, if_held, label: _ } = acquire;
        if self.namespace(&claim_ref.lock.namespace)?.is_none() {
            return Ok(Err(Rejection::NamespaceNotFound));
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
        if lock.is_idle() {
            return self.begin_held(acquire, lock).map(Ok);
        }
        match if_held {
            IfHeld::Refuse => {
                let holders = holders_of(self.rows, &claim_ref.lock, self.meta.time, HOLDERS_SHOWN_MAX)?;
                let delay_remaining_ms = lock.delay_remaining_ms(self.meta.time);
                Ok(Err(Rejection::LockHeld { holders, delay_remaining_ms }))
            }
            IfHeld::Queue { wait_ms, keep_waiting } => {
                let max = self.meta.settings.queue_max;
                if max <= lock.claims() {
                    return Ok(Err(Rejection::QueueFull { max }));
                }
                self.begin_queued(acquire, lock, (*wait_ms, *keep_waiting)).map(Ok)
            }
        }
    }

    /// Why nobody may take a further claim for this owner, if so.
    fn refuse_owner(&self, owner: &ClaimOwner) -> Result<Option<Rejection>, Fault> {
        let id = match owner {
            ClaimOwner::OwnSession { ttl_ms: _ } => return Ok(self.refuse_session()),
            ClaimOwner::Session(id) => id,
        };
        if let Some(session) = self.session(id)? {
            let max = SESSION_OWNED_MAX;
            return Ok((max <= session.owned).then_some(Rejection::SessionOwnsTooMuch { max }));
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
        self.hold(&acquire.claim, &mut lock, token);
        let standing = Standing::Held { token, since: self.meta.time };
        let session = self.begin(acquire, &lock, standing, revision)?;
        let granted = Change::ClaimGranted { claim: acquire.claim.clone(), session: session.clone(), token };
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
        lock.queued += 1;
        let place = Place { claim: acquire.claim.claim.clone() };
        self.rows.put(Table::Queue, key::queue(&acquire.claim.lock, enqueued), &place);
        let standing = Standing::Queued { enqueued, since: self.meta.time, wait_ms, keep_waiting };
        let session = self.begin(acquire, &lock, standing, enqueued)?;
        let claim = acquire.claim.clone();
        self.tell(enqueued, Change::ClaimQueued { claim, session: session.clone(), wait_ms, keep_waiting });
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
        let claim = Claim { session: id, own_ttl_ms, mode: *mode, label: label.clone(), standing };
        self.rows.put(Table::Claim, key::claim(claim_ref), &claim);
        self.rows.put(Table::SessionClaim, key::session_claim(&claim.session, claim_ref), &());
        self.put_lock(&claim_ref.lock, lock);
        self.update_namespace(&claim_ref.lock.namespace, |namespace| namespace.claims += 1)?;
        self.meta.counters.claims += 1;
        Ok(claim.session)
    }

    /// Where a live claim stands, for whoever asks again.
    fn standing(&self, claim_ref: &ClaimRef, claim: Claim) -> Result<Success, Fault> {
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

    /// Ends a claim, and with it the session that it made. The lock is settled by the entry.
    pub(crate) fn end_claim(
        &mut self,
        claim_ref: &ClaimRef,
        claim: &Claim,
        reason: EndReason,
        revision: Revision,
    ) -> Result<(), Fault> {
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

    /// Takes a claim out of its lock and its session and remembers it; the caller writes the session.
    pub(crate) fn remove_claim(
        &mut self,
        claim_ref: &ClaimRef,
        claim: &Claim,
        mut session: Option<&mut Session>,
        reason: EndReason,
        revision: Revision,
    ) -> Result<(), Fault> {
        let ClaimRef { lock: lock_ref, .. } = claim_ref;
        let mut lock = self.used_lock(lock_ref)?;
        let token = match claim.standing {
            Standing::Held { token, since: _ } => {
                self.rows.delete(Table::Holder, key::holder(lock_ref, token));
                lock.holders -= 1;
                let delay_ms = session.as_ref().map_or(0, |session| session.spec.lock_delay_ms);
                if reason.is_loss() && 0 < delay_ms {
                    self.close_lock(lock_ref, &mut lock, delay_ms)?;
                }
                Some(token)
            }
            Standing::Queued { enqueued, .. } => {
                self.rows.delete(Table::Queue, key::queue(lock_ref, enqueued));
                lock.queued -= 1;
                None
            }
        };
        self.put_lock(lock_ref, &lock);
        self.unsettled.insert(lock_ref.clone());
        self.rows.delete(Table::Claim, key::claim(claim_ref));
        self.rows.delete(Table::SessionClaim, key::session_claim(&claim.session, claim_ref));
        self.update_namespace(&lock_ref.namespace, |namespace| namespace.claims -= 1)?;
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
