//! Lock sets, and what leaders of elections publish.

use std::collections::BTreeMap;

use crate::domain::{AcquireSet, Change, ClaimRef, Event, IfHeld, Outcome, Proclaim, Rejection, Success};
use crate::{FencingToken, limits};

use super::claims::check_permits;
use super::{Model, ModelClaim, ModelClaimState, ModelSet, ModelValue};

impl Model {
    pub(super) fn acquire_set(&mut self, acquire: &AcquireSet, events: &mut Vec<Event>) -> Outcome {
        let AcquireSet { namespace, claim, session, locks, if_held, label } = acquire;
        self.check_namespace(namespace)?;
        let max = limits::LOCK_SET_MAX;
        if locks.is_empty() || max < locks.len() as u64 {
            return Err(Rejection::LockSetSize { max });
        }
        locks.values().try_for_each(|mode| check_permits(*mode))?;
        let set_ref = ClaimRef::lock_set(namespace.clone(), claim.clone());
        if let Some(live) = self.set(&set_ref) {
            return if live.session == *session && live.locks == *locks {
                Ok(self.set_state_now(live))
            } else {
                Err(Rejection::ClaimConflict)
            };
        }
        self.refuse_ended(&set_ref)?;
        for lock in locks.keys() {
            if self.claim(&set_ref.of_lock(lock)).is_some() {
                return Err(Rejection::ClaimConflict);
            }
            self.refuse_ended(&set_ref.of_lock(lock))?;
        }
        self.check_room_in_session(session, locks.len() as u64 + 1)?;
        self.check_room_for_tombstone()?;

        let mut at_once = true;
        for (name, mode) in locks {
            let lock = set_ref.of_lock(name).lock;
            self.check_kind(&lock, *mode)?;
            if !self.fits_now(&lock, *mode) {
                at_once = false;
                if matches!(if_held, IfHeld::Refuse) {
                    return Err(Rejection::SetHeld {
                        lock: name.clone(),
                        holders: self.holders_shown(&lock),
                        queued: self.holders_and_queue(&lock).1.len() as u64,
                        delay_remaining_ms: self.delay_remaining_ms(&lock),
                    });
                }
            }
            self.check_room_in_queue(&lock)?;
        }
        if !at_once {
            let wanted = locks.iter().map(|(name, mode)| (set_ref.of_lock(name).lock, *mode)).collect();
            self.check_deadlock(session, &wanted)?;
        }

        let enqueued = if at_once { self.revision.next() } else { self.take_revision() };
        for (name, mode) in locks {
            let claim = set_ref.of_lock(name);
            self.use_lock(&claim.lock);
            self.claims.push(ModelClaim {
                claim,
                session: session.clone(),
                mode: *mode,
                in_set: true,
                if_held: IfHeld::Queue { wait_ms: 0, keep_waiting: true },
                label: label.clone(),
                state: ModelClaimState::Queued { enqueued, since: self.clock },
            });
        }
        self.sets.push(ModelSet {
            claim: set_ref.clone(),
            session: session.clone(),
            locks: locks.clone(),
            if_held: *if_held,
            label: label.clone(),
            enqueued: Some(enqueued),
        });
        if at_once {
            let tokens = self.grant_set(&set_ref, events);
            return Ok(Success::SetHeld { tokens, session: session.clone(), granted: true });
        }
        for (name, mode) in locks {
            let (claim, session, mode) = (set_ref.of_lock(name), session.clone(), *mode);
            let change = Change::ClaimQueued { claim, session, mode, wait_ms: 0, keep_waiting: true };
            events.push(Event { revision: enqueued, change });
        }
        if let IfHeld::Queue { wait_ms, keep_waiting } = *if_held {
            let (claim, session) = (set_ref.clone(), session.clone());
            let change = Change::SetQueued { claim, session, wait_ms, keep_waiting };
            events.push(Event { revision: enqueued, change });
        }
        let positions = locks.keys().map(|name| (name.clone(), self.position(&set_ref.of_lock(name))));
        let positions = positions.collect();
        Ok(Success::SetQueued { enqueued, session: session.clone(), positions, queued: true })
    }

    /// Grants the set that a claim is a part of.
    pub(super) fn grant_set_of(&mut self, part: &ClaimRef, events: &mut Vec<Event>) {
        let set_ref = ClaimRef::lock_set(part.lock.namespace.clone(), part.claim.clone());
        let _tokens = self.grant_set(&set_ref, events);
    }

    fn grant_set(
        &mut self,
        set_ref: &ClaimRef,
        events: &mut Vec<Event>,
    ) -> BTreeMap<crate::LockName, FencingToken> {
        let mut tokens = BTreeMap::new();
        let Some(set) = self.set(set_ref).cloned() else { return tokens };
        for name in set.locks.keys() {
            let revision = self.take_revision();
            self.grant(&set_ref.of_lock(name), revision, events);
            tokens.insert(name.clone(), FencingToken::of_grant(revision));
        }
        for granted in self.sets.iter_mut().filter(|s| s.claim == *set_ref) {
            granted.enqueued = None;
        }
        let change = Change::SetGranted { claim: set_ref.clone(), session: set.session };
        events.push(Event { revision: self.revision, change });
        tokens
    }

    /// Where a live set stands, as an answer that repeats no effect.
    #[must_use]
    pub fn set_state_now(&self, set: &ModelSet) -> Success {
        let session = set.session.clone();
        let parts = set.locks.keys().map(|name| (name.clone(), set.claim.of_lock(name)));
        match set.enqueued {
            Some(enqueued) => {
                let positions = parts.map(|(name, part)| (name, self.position(&part))).collect();
                Success::SetQueued { enqueued, session, positions, queued: false }
            }
            None => {
                let token = |part: &ClaimRef| self.claim(part).and_then(ModelClaim::token);
                let tokens = parts.filter_map(|(name, part)| Some((name, token(&part)?))).collect();
                Success::SetHeld { tokens, session, granted: false }
            }
        }
    }

    pub(super) fn proclaim(&mut self, proclaim: &Proclaim, events: &mut Vec<Event>) -> Outcome {
        let Proclaim { election, token, value, content_type } = proclaim;
        self.check_namespace(&election.namespace)?;
        let (holders, _) = self.holders_and_queue(election);
        let held = holders.first().and_then(|c| c.token());
        let leader = holders.iter().find(|c| c.token() == Some(*token));
        let Some((claim, session)) = leader.map(|c| (c.claim.clone(), c.session.clone())) else {
            return Err(Rejection::StaleToken { held });
        };
        let revision = self.take_revision();
        self.values.retain(|v| v.election != *election);
        self.values.push(ModelValue {
            election: election.clone(),
            token: *token,
            value: value.clone(),
            content_type: content_type.clone(),
            revision,
        });
        let (value, content_type, token) = (value.clone(), content_type.clone(), *token);
        let change = Change::Proclaimed { claim, session, token, value, content_type };
        events.push(Event { revision, change });
        Ok(Success::Proclaimed { revision })
    }
}
