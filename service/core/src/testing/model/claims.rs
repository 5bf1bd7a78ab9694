//! Claims: taking, queueing, granting, losing.

use crate::domain::{
    Acquire, Change, ClaimOwner, ClaimRef, EndReason, Event, Holder, IfHeld, LockKind, LockMode, LockRef,
    Outcome, Rejection, SessionSpec, Success, WaitRef,
};
use crate::{FencingToken, NamespaceName, Revision, SessionId, limits};
use std::collections::BTreeMap;

use super::sessions::SessionEnd;
use super::{Model, ModelClaim, ModelClaimState, ModelClaimTombstone, ModelLock};

impl Model {
    pub(super) fn check_namespace(&self, namespace: &NamespaceName) -> Result<(), Rejection> {
        if self.namespaces.contains_key(namespace) { Ok(()) } else { Err(Rejection::NamespaceNotFound) }
    }

    pub(super) fn acquire(&mut self, acquire: &Acquire, events: &mut Vec<Event>) -> Outcome {
        self.check_namespace(&acquire.claim.lock.namespace)?;
        check_permits(acquire.mode)?;
        if let Some(live) = self.claim(&acquire.claim) {
            return if self.has_same_body(live, acquire) {
                Ok(self.state_now(live))
            } else {
                Err(Rejection::ClaimConflict)
            };
        }
        self.refuse_ended(&acquire.claim)?;
        self.check_owner(&acquire.owner)?;
        self.check_room_for_tombstone()?;

        let (lock, mode) = (&acquire.claim.lock, acquire.mode);
        self.check_kind(lock, mode)?;
        let at_once = self.fits_now(lock, mode);
        if !at_once && matches!(acquire.if_held, IfHeld::Refuse) {
            return Err(Rejection::LockHeld {
                holders: self.holders_shown(lock),
                queued: self.holders_and_queue(lock).1.len() as u64,
                delay_remaining_ms: self.delay_remaining_ms(lock),
            });
        }
        self.check_room_in_queue(lock)?;
        if let (false, ClaimOwner::Session(session)) = (at_once, &acquire.owner) {
            self.check_deadlock(session, &BTreeMap::from([(lock.clone(), mode)]))?;
        }
        let revision = self.take_revision();
        let session = self.owner_session(acquire, revision, events);
        self.claims.push(ModelClaim {
            claim: acquire.claim.clone(),
            session: session.clone(),
            mode,
            in_set: false,
            if_held: acquire.if_held,
            label: acquire.label.clone(),
            state: ModelClaimState::Queued { enqueued: revision, since: self.clock },
        });
        if at_once {
            self.grant(&acquire.claim, revision, events);
            return Ok(Success::Held { token: FencingToken::of_grant(revision), session, granted: true });
        }
        if let IfHeld::Queue { wait_ms, keep_waiting } = acquire.if_held {
            let claim = acquire.claim.clone();
            let session = session.clone();
            let change = Change::ClaimQueued { claim, session, mode, wait_ms, keep_waiting };
            events.push(Event { revision, change });
        }
        Ok(Success::Queued {
            enqueued: revision,
            session,
            position: self.position(&acquire.claim),
            holders: self.holders_shown(&acquire.claim.lock),
            queued: true,
        })
    }

    /// What a lock is used as while it has holders or waiters: nothing, or permits of some number, or the other thing.
    fn kind_now(&self, lock: &LockRef) -> Option<LockKind> {
        let of_lock = self.claims.iter().find(|c| c.claim.lock == *lock);
        of_lock.map(|c| match c.mode {
            LockMode::Exclusive | LockMode::Shared => LockKind::Exclusion,
            LockMode::Permits { of, .. } => LockKind::Permits { of },
        })
    }

    pub(super) fn check_kind(&self, lock: &LockRef, mode: LockMode) -> Result<(), Rejection> {
        let needed = match mode {
            LockMode::Exclusive | LockMode::Shared => LockKind::Exclusion,
            LockMode::Permits { of, .. } => LockKind::Permits { of },
        };
        match self.kind_now(lock) {
            Some(kind) if kind != needed => {
                Err(Rejection::LockModeConflict { lock: lock.lock.clone(), kind })
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn check_room_in_queue(&self, lock: &LockRef) -> Result<(), Rejection> {
        let max = self.settings.queue_max;
        let claims = self.claims.iter().filter(|c| c.claim.lock == *lock).count() as u64;
        if max.max(1) <= claims { Err(Rejection::QueueFull { max }) } else { Ok(()) }
    }

    /// Whether a claim may hold a lock beside those who hold it: an exclusive one beside nobody, a shared one beside
    /// shared ones, one for permits while enough are left.
    fn fits_beside_holders(&self, lock: &LockRef, mode: LockMode) -> bool {
        let (holders, _) = self.holders_and_queue(lock);
        let delayed = self.locks.iter().any(|l| l.lock == *lock && l.delay_until.is_some());
        !delayed && fits_beside(&holders.iter().map(|c| c.mode).collect::<Vec<_>>(), mode)
    }

    /// Whether a claim that comes now is let in at once: nobody waits, and it fits.
    pub(super) fn fits_now(&self, lock: &LockRef, mode: LockMode) -> bool {
        self.holders_and_queue(lock).1.is_empty() && self.fits_beside_holders(lock, mode)
    }

    fn has_same_body(&self, live: &ModelClaim, acquire: &Acquire) -> bool {
        let made = self
            .session(&live.session)
            .filter(|s| s.made_by.as_ref() == Some(&live.claim))
            .map(|s| s.spec.ttl_ms);
        let same_owner = match &acquire.owner {
            ClaimOwner::Session(id) => made.is_none() && live.session == *id,
            ClaimOwner::OwnSession { ttl_ms } => made == Some(*ttl_ms),
        };
        same_owner && live.mode == acquire.mode && !live.in_set
    }

    /// What a live claim is, as an answer that repeats no effect.
    pub(super) fn state_now(&self, live: &ModelClaim) -> Success {
        let session = live.session.clone();
        match live.state {
            ModelClaimState::Held { token, .. } => Success::Held { token, session, granted: false },
            ModelClaimState::Queued { enqueued, .. } => Success::Queued {
                enqueued,
                session,
                position: self.position(&live.claim),
                holders: self.holders_shown(&live.claim.lock),
                queued: false,
            },
        }
    }

    pub(super) fn refuse_ended(&self, claim: &ClaimRef) -> Result<(), Rejection> {
        match self.claim_tombstone(claim) {
            Some(ended) => Err(Rejection::ClaimEnded { reason: ended.reason, token: ended.token }),
            None => Ok(()),
        }
    }

    fn check_owner(&self, owner: &ClaimOwner) -> Result<(), Rejection> {
        let ClaimOwner::Session(id) = owner else { return self.check_room_for_session() };
        self.check_room_in_session(id, 1)
    }

    pub(super) fn check_room_in_session(&self, id: &SessionId, more: u64) -> Result<(), Rejection> {
        if self.session(id).is_none() {
            return Err(match self.session_tombstone(id) {
                Some(ended) => Rejection::SessionExpired { reason: ended.reason },
                None => Rejection::SessionNotFound,
            });
        }
        let max = limits::SESSION_OWNED_MAX;
        if max < self.owned(id) + more {
            return Err(Rejection::SessionOwnsTooMuch { max });
        }
        Ok(())
    }

    fn owner_session(&mut self, acquire: &Acquire, revision: Revision, events: &mut Vec<Event>) -> SessionId {
        match &acquire.owner {
            ClaimOwner::Session(id) => id.clone(),
            ClaimOwner::OwnSession { ttl_ms } => {
                let id = SessionId::claim_made(revision);
                let spec = SessionSpec {
                    ttl_ms: *ttl_ms,
                    name: String::new(),
                    labels: BTreeMap::new(),
                    lock_delay_ms: 0,
                };
                self.begin_session(id.clone(), spec, Some(acquire.claim.clone()), revision, events);
                id
            }
        }
    }

    /// How many claims wait before this one.
    #[must_use]
    pub fn position(&self, claim: &ClaimRef) -> u64 {
        let (_, queue) = self.holders_and_queue(&claim.lock);
        queue.iter().take_while(|c| c.claim != *claim).count() as u64
    }

    /// The holders of a lock as a refusal tells them.
    #[must_use]
    pub fn holders_shown(&self, lock: &LockRef) -> Vec<Holder> {
        let (holders, _) = self.holders_and_queue(lock);
        let shown = holders.into_iter().take(limits::HOLDERS_SHOWN_MAX).filter_map(|c| match c.state {
            ModelClaimState::Held { token, since } => Some(Holder {
                claim: c.id().to_string(),
                session: c.session.clone(),
                session_name: self.session(&c.session).map(|s| s.spec.name.clone()).unwrap_or_default(),
                mode: c.mode,
                label: c.label.clone(),
                token,
                held_ms: self.clock.ms_since(since),
            }),
            ModelClaimState::Queued { .. } => None,
        });
        shown.collect()
    }

    /// How long a lock delay still keeps a lock closed.
    #[must_use]
    pub fn delay_remaining_ms(&self, lock: &LockRef) -> u64 {
        let until = self.locks.iter().find(|l| l.lock == *lock).and_then(|l| l.delay_until);
        until.map_or(0, |until| until.ms_since(self.clock))
    }

    /// The session and the revision of a wait: of a claim, or of a lock set as a whole.
    #[must_use]
    pub fn waiting(&self, claim: &ClaimRef) -> Option<(SessionId, Revision)> {
        if let Some(set) = self.set(claim) {
            return Some((set.session.clone(), set.enqueued?));
        }
        self.claim(claim).and_then(|c| Some((c.session.clone(), c.enqueued()?)))
    }

    /// Where a live claim or set stands, as an answer that repeats no effect.
    fn stands(&self, claim: &ClaimRef) -> Option<Success> {
        let of_set = self.set(claim).map(|set| self.set_state_now(set));
        of_set.or_else(|| self.claim(claim).map(|live| self.state_now(live)))
    }

    pub(super) fn cancel_wait(&mut self, wait: &WaitRef, events: &mut Vec<Event>) -> Outcome {
        self.check_namespace(&wait.claim.lock.namespace)?;
        let Some(stands) = self.stands(&wait.claim) else {
            self.refuse_ended(&wait.claim)?;
            return Err(Rejection::ClaimNotFound);
        };
        if self.waiting(&wait.claim).map(|(_, enqueued)| enqueued) != Some(wait.enqueued) {
            return Ok(stands);
        }
        let revision = self.take_revision();
        self.end_claim(&wait.claim, EndReason::TimedOut, revision, events);
        self.grant_what_fits(events);
        Ok(Success::WaitTimedOut)
    }

    pub(super) fn release(&mut self, claim: &ClaimRef, events: &mut Vec<Event>) -> Outcome {
        self.check_namespace(&claim.lock.namespace)?;
        let held = self.stands(claim).map(|_| self.waiting(claim).is_none());
        match held {
            Some(held) => {
                let revision = self.take_revision();
                let reason = if held { EndReason::Released } else { EndReason::LeftQueue };
                self.end_claim(claim, reason, revision, events);
                self.grant_what_fits(events);
            }
            None if self.claim_tombstone(claim).is_some() => {}
            None => {
                self.check_room_for_tombstone()?;
                let revision = self.take_revision();
                let reason = EndReason::DeletedUnseen;
                let ended = Change::ClaimEnded { claim: claim.clone(), session: None, reason, token: None };
                events.push(Event { revision, change: ended });
                self.claim_tombstones.push(ModelClaimTombstone {
                    claim: claim.clone(),
                    reason,
                    token: None,
                    revision,
                    at: self.clock,
                    session: None,
                    kept_with: None,
                });
            }
        }
        Ok(Success::Released)
    }

    pub(super) fn force_release(
        &mut self,
        lock: &LockRef,
        token: FencingToken,
        events: &mut Vec<Event>,
    ) -> Outcome {
        self.check_namespace(&lock.namespace)?;
        let (holders, _) = self.holders_and_queue(lock);
        let held: Vec<_> = holders.iter().filter_map(|c| c.token()).collect();
        let held_by = holders.iter().find(|c| c.token() == Some(token));
        let held_by = held_by.map(|c| (c.claim.clone(), c.session.clone()));
        let Some((claim, session)) = held_by else { return Err(Rejection::TokenMismatch { held }) };
        let revision = self.take_revision();
        self.end_claim(&claim, EndReason::Forced, revision, events);
        self.grant_what_fits(events);
        Ok(Success::ForceReleased { claim, session, revision })
    }

    /// Ends a live claim, and the session that it made, or the whole set that it is a part of; grants nothing.
    pub(super) fn end_claim(
        &mut self,
        claim: &ClaimRef,
        reason: EndReason,
        revision: Revision,
        events: &mut Vec<Event>,
    ) {
        let made = self.sessions.iter().find(|s| s.made_by.as_ref() == Some(claim)).map(|s| s.id.clone());
        let in_set = self.claim(claim).is_some_and(|c| c.in_set);
        let whole = if in_set {
            ClaimRef::lock_set(claim.lock.namespace.clone(), claim.claim.clone())
        } else {
            claim.clone()
        };
        self.remove_claim(&whole, reason, revision, events);
        if let Some(session) = made {
            self.end_live_session(&session, SessionEnd::of(reason), revision, events);
        }
    }

    /// Takes a live claim out of its lock and remembers it, a set with all its parts; its session goes on.
    pub(super) fn remove_claim(
        &mut self,
        claim: &ClaimRef,
        reason: EndReason,
        revision: Revision,
        events: &mut Vec<Event>,
    ) {
        if let Some(at) = self.sets.iter().position(|s| s.claim == *claim) {
            let set = self.sets.remove(at);
            for lock in set.locks.keys() {
                self.remove_one(&claim.of_lock(lock), reason, revision, events);
            }
            self.remember_claim(claim, &set.session, (reason, None), revision, events);
        } else {
            self.remove_one(claim, reason, revision, events);
        }
    }

    fn remove_one(
        &mut self,
        claim: &ClaimRef,
        reason: EndReason,
        revision: Revision,
        events: &mut Vec<Event>,
    ) {
        let Some(at) = self.claims.iter().position(|c| c.claim == *claim) else { return };
        let ended = self.claims.remove(at);
        let token = ended.token();
        let lost = matches!(reason, EndReason::Expired | EndReason::Forced) && token.is_some();
        let delay_ms = self.session(&ended.session).map_or(0, |s| s.spec.lock_delay_ms);
        if lost && 0 < delay_ms {
            let until = self.clock.after_ms(delay_ms);
            for memory in self.locks.iter_mut().filter(|l| l.lock == claim.lock) {
                memory.delay_until = memory.delay_until.max(Some(until));
            }
        }
        self.values.retain(|v| v.election != claim.lock || Some(v.token) != token);
        self.remember_claim(claim, &ended.session, (reason, token), revision, events);
    }

    fn remember_claim(
        &mut self,
        claim: &ClaimRef,
        session: &SessionId,
        (reason, token): (EndReason, Option<FencingToken>),
        revision: Revision,
        events: &mut Vec<Event>,
    ) {
        let owner = self.session(session).cloned();
        let kept_with = owner.filter(|s| s.made_by.as_ref() != Some(claim)).map(|s| s.id);
        self.claim_tombstones.push(ModelClaimTombstone {
            claim: claim.clone(),
            reason,
            token,
            revision,
            at: self.clock,
            session: Some(session.clone()),
            kept_with: kept_with.clone(),
        });
        if let Some(session) = kept_with {
            self.drop_surplus_of_session(&session);
        }
        let session = Some(session.clone());
        let change = Change::ClaimEnded { claim: claim.clone(), session, reason, token };
        events.push(Event { revision, change });
    }

    /// Lets in whoever can be let in, each with the next revision: always the head of the first lock, in the order of
    /// (namespace, lock), whose head fits.
    pub(super) fn grant_what_fits(&mut self, events: &mut Vec<Event>) {
        while let Some(head) = self.known_locks().iter().find_map(|lock| self.head_to_let_in(lock)) {
            if head.in_set {
                self.grant_set_of(&head.claim, events);
            } else {
                let revision = self.take_revision();
                self.grant(&head.claim, revision, events);
            }
        }
    }

    /// The head of a queue, if it fits; if it is a part of a set, only if all other parts are heads and fit, too.
    fn head_to_let_in(&self, lock: &LockRef) -> Option<ModelClaim> {
        let head = (*self.holders_and_queue(lock).1.first()?).clone();
        let fits = |part: &ClaimRef| {
            let (_, queue) = self.holders_and_queue(&part.lock);
            queue
                .first()
                .is_some_and(|first| first.claim == *part && self.fits_beside_holders(&part.lock, first.mode))
        };
        let set = ClaimRef::lock_set(lock.namespace.clone(), head.claim.claim.clone());
        let all_fit = match self.set(&set).filter(|_| head.in_set) {
            Some(set) => set.locks.keys().all(|name| fits(&head.claim.of_lock(name))),
            None => fits(&head.claim),
        };
        all_fit.then_some(head)
    }

    /// Remembers that a lock is used.
    pub(super) fn use_lock(&mut self, lock: &LockRef) {
        if !self.locks.iter().any(|l| l.lock == *lock) {
            self.locks.push(ModelLock {
                lock: lock.clone(),
                last_token: FencingToken::default(),
                delay_until: None,
                idle: None,
            });
        }
    }

    pub(super) fn grant(&mut self, claim: &ClaimRef, revision: Revision, events: &mut Vec<Event>) {
        let token = FencingToken::of_grant(revision);
        let since = self.clock;
        for granted in self.claims.iter_mut().filter(|c| c.claim == *claim) {
            granted.state = ModelClaimState::Held { token, since };
            let session = granted.session.clone();
            let mode = granted.mode;
            let change = Change::ClaimGranted { claim: claim.clone(), session, mode, token };
            events.push(Event { revision, change });
        }
        self.use_lock(&claim.lock);
        for memory in self.locks.iter_mut().filter(|l| l.lock == claim.lock) {
            memory.last_token = token;
        }
    }
}

/// Whether a claim may hold a lock beside holders of these modes.
pub(super) fn fits_beside(holders: &[LockMode], mode: LockMode) -> bool {
    match mode {
        LockMode::Exclusive => holders.is_empty(),
        LockMode::Shared => holders.iter().all(|held| *held == LockMode::Shared),
        LockMode::Permits { permits, of } => {
            let taken: u32 = holders
                .iter()
                .map(|held| match held {
                    LockMode::Permits { permits, .. } => *permits,
                    LockMode::Exclusive | LockMode::Shared => of,
                })
                .sum();
            taken + permits <= of
        }
    }
}

pub(super) fn check_permits(mode: LockMode) -> Result<(), Rejection> {
    match mode {
        LockMode::Permits { permits, of } if permits == 0 || of < permits => {
            Err(Rejection::ImpossiblePermits { permits, of })
        }
        LockMode::Exclusive | LockMode::Shared | LockMode::Permits { .. } => Ok(()),
    }
}
