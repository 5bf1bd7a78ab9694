//! Claims: taking, queueing, granting, losing.

use crate::domain::{
    Acquire, Change, ClaimOwner, ClaimRef, EndReason, Event, Holder, IfHeld, LockRef, Outcome, Rejection,
    SessionSpec, Success, WaitRef,
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

        let lock = &acquire.claim.lock;
        let (holders, queue) = self.holders_and_queue(lock);
        let free = holders.is_empty() && queue.is_empty() && self.delay_remaining_ms(lock) == 0;
        if !free {
            let max = self.settings.queue_max;
            match acquire.if_held {
                IfHeld::Refuse => {
                    let holders = self.holders_shown(lock);
                    let delay_remaining_ms = self.delay_remaining_ms(lock);
                    return Err(Rejection::LockHeld { holders, delay_remaining_ms });
                }
                IfHeld::Queue { .. } if max <= (holders.len() + queue.len()) as u64 => {
                    return Err(Rejection::QueueFull { max });
                }
                IfHeld::Queue { .. } => {}
            }
        }
        let revision = self.take_revision();
        let session = self.owner_session(acquire, revision, events);
        self.claims.push(ModelClaim {
            claim: acquire.claim.clone(),
            session: session.clone(),
            mode: acquire.mode,
            if_held: acquire.if_held,
            label: acquire.label.clone(),
            state: ModelClaimState::Queued { enqueued: revision, since: self.clock },
        });
        if free {
            self.grant(&acquire.claim, revision, events);
            return Ok(Success::Held { token: FencingToken::of_grant(revision), session, granted: true });
        }
        if let IfHeld::Queue { wait_ms, keep_waiting } = acquire.if_held {
            let claim = acquire.claim.clone();
            let change = Change::ClaimQueued { claim, session: session.clone(), wait_ms, keep_waiting };
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

    fn has_same_body(&self, live: &ModelClaim, acquire: &Acquire) -> bool {
        let made = self
            .session(&live.session)
            .filter(|s| s.made_by.as_ref() == Some(&live.claim))
            .map(|s| s.spec.ttl_ms);
        let same_owner = match &acquire.owner {
            ClaimOwner::Session(id) => made.is_none() && live.session == *id,
            ClaimOwner::OwnSession { ttl_ms } => made == Some(*ttl_ms),
        };
        same_owner && live.mode == acquire.mode
    }

    /// What a live claim is, as an answer that repeats no effect.
    fn state_now(&self, live: &ModelClaim) -> Success {
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

    fn refuse_ended(&self, claim: &ClaimRef) -> Result<(), Rejection> {
        match self.claim_tombstone(claim) {
            Some(ended) => Err(Rejection::ClaimEnded { reason: ended.reason, token: ended.token }),
            None => Ok(()),
        }
    }

    fn check_owner(&self, owner: &ClaimOwner) -> Result<(), Rejection> {
        let ClaimOwner::Session(id) = owner else { return self.check_room_for_session() };
        if self.session(id).is_none() {
            return Err(match self.session_tombstone(id) {
                Some(ended) => Rejection::SessionExpired { reason: ended.reason },
                None => Rejection::SessionNotFound,
            });
        }
        let max = limits::SESSION_OWNED_MAX;
        if max <= self.owned(id) {
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

    pub(super) fn cancel_wait(&mut self, wait: &WaitRef, events: &mut Vec<Event>) -> Outcome {
        self.check_namespace(&wait.claim.lock.namespace)?;
        let Some(live) = self.claim(&wait.claim) else {
            self.refuse_ended(&wait.claim)?;
            return Err(Rejection::ClaimNotFound);
        };
        if live.enqueued() != Some(wait.enqueued) {
            return Ok(self.state_now(live));
        }
        let revision = self.take_revision();
        self.end_claim(&wait.claim, EndReason::TimedOut, revision, events);
        self.grant_what_is_free(events);
        Ok(Success::WaitTimedOut)
    }

    pub(super) fn release(&mut self, claim: &ClaimRef, events: &mut Vec<Event>) -> Outcome {
        self.check_namespace(&claim.lock.namespace)?;
        let held = self.claim(claim).map(|live| live.token().is_some());
        match held {
            Some(held) => {
                let revision = self.take_revision();
                let reason = if held { EndReason::Released } else { EndReason::LeftQueue };
                self.end_claim(claim, reason, revision, events);
                self.grant_what_is_free(events);
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
        self.grant_what_is_free(events);
        Ok(Success::ForceReleased { claim, session, revision })
    }

    /// Ends a live claim, and the session that it made; grants nothing.
    pub(super) fn end_claim(
        &mut self,
        claim: &ClaimRef,
        reason: EndReason,
        revision: Revision,
        events: &mut Vec<Event>,
    ) {
        let made = self.sessions.iter().find(|s| s.made_by.as_ref() == Some(claim)).map(|s| s.id.clone());
        self.remove_claim(claim, reason, revision, events);
        if let Some(session) = made {
            self.end_live_session(&session, SessionEnd::of(reason), revision, events);
        }
    }

    /// Takes a live claim out of its lock and remembers it; its session goes on.
    pub(super) fn remove_claim(
        &mut self,
        claim: &ClaimRef,
        reason: EndReason,
        revision: Revision,
        events: &mut Vec<Event>,
    ) {
        let Some(at) = self.claims.iter().position(|c| c.claim == *claim) else { return };
        let ended = self.claims.remove(at);
        let token = ended.token();
        let owner = self.session(&ended.session).cloned();
        let lost = matches!(reason, EndReason::Expired | EndReason::Forced) && token.is_some();
        let delay_ms = owner.as_ref().map_or(0, |s| s.spec.lock_delay_ms);
        if lost && 0 < delay_ms {
            let until = self.clock.after_ms(delay_ms);
            for memory in self.locks.iter_mut().filter(|l| l.lock == claim.lock) {
                memory.delay_until = memory.delay_until.max(Some(until));
            }
        }
        let kept_with = owner.filter(|s| s.made_by.as_ref() != Some(claim)).map(|s| s.id);
        self.claim_tombstones.push(ModelClaimTombstone {
            claim: claim.clone(),
            reason,
            token,
            revision,
            at: self.clock,
            session: Some(ended.session.clone()),
            kept_with: kept_with.clone(),
        });
        if let Some(session) = kept_with {
            self.drop_surplus_of_session(&session);
        }
        let session = Some(ended.session);
        let change = Change::ClaimEnded { claim: claim.clone(), session, reason, token };
        events.push(Event { revision, change });
    }

    /// Grants every lock that is free and waited for, in the order of (namespace, lock), each with the next revision.
    pub(super) fn grant_what_is_free(&mut self, events: &mut Vec<Event>) {
        for lock in self.known_locks() {
            self.grant_head(&lock, events);
        }
    }

    /// Grants a lock to the head of its queue, if it is free and someone waits.
    pub(super) fn grant_head(&mut self, lock: &LockRef, events: &mut Vec<Event>) {
        let (holders, queue) = self.holders_and_queue(lock);
        let delayed = self.locks.iter().any(|l| l.lock == *lock && l.delay_until.is_some());
        let Some(head) = queue.first().filter(|_| holders.is_empty() && !delayed) else { return };
        let head = head.claim.clone();
        let revision = self.take_revision();
        self.grant(&head, revision, events);
    }

    fn grant(&mut self, claim: &ClaimRef, revision: Revision, events: &mut Vec<Event>) {
        let token = FencingToken::of_grant(revision);
        let since = self.clock;
        for granted in self.claims.iter_mut().filter(|c| c.claim == *claim) {
            granted.state = ModelClaimState::Held { token, since };
            let session = granted.session.clone();
            let change = Change::ClaimGranted { claim: claim.clone(), session, token };
            events.push(Event { revision, change });
        }
        match self.locks.iter_mut().find(|l| l.lock == claim.lock) {
            Some(memory) => memory.last_token = token,
            None => self.locks.push(ModelLock {
                lock: claim.lock.clone(),
                last_token: token,
                delay_until: None,
                idle: None,
            }),
        }
    }
}
