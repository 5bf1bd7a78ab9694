//! Sessions: how they begin, how they end, and that everything they own ends with them.

use crate::domain::{Change, ClaimRef, EndReason, Event, Expire, Outcome, Rejection, SessionSpec, Success};
use crate::{LeaderId, Revision, SessionId, limits};

use super::{Model, ModelSession, ModelSessionTombstone};

/// Why the parts of an ending session end.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionEnd {
    pub(super) session: EndReason,
    pub(super) held: EndReason,
    pub(super) queued: EndReason,
}

impl SessionEnd {
    /// Everything ends for the session's reason, but whoever lets go of a session leaves the queues it waits in.
    pub(super) const fn of(reason: EndReason) -> Self {
        let queued = if matches!(reason, EndReason::Released) { EndReason::LeftQueue } else { reason };
        Self { session: reason, held: reason, queued }
    }
}

impl Model {
    pub(super) fn create_session(
        &mut self,
        id: &SessionId,
        spec: &SessionSpec,
        events: &mut Vec<Event>,
    ) -> Outcome {
        if id.is_reserved() {
            return Err(Rejection::SessionExists);
        }
        if let Some(live) = self.session(id) {
            let same = live.spec == *spec;
            let replay = Success::Session {
                create_revision: live.create_revision,
                spec: spec.clone(),
                created: false,
            };
            return if same { Ok(replay) } else { Err(Rejection::SessionExists) };
        }
        if let Some(tombstone) = self.session_tombstone(id) {
            return Err(Rejection::SessionExpired { reason: tombstone.reason });
        }
        self.check_room_for_session()?;
        self.check_room_for_tombstone()?;
        let revision = self.take_revision();
        self.begin_session(id.clone(), spec.clone(), None, revision, events);
        Ok(Success::Session { create_revision: revision, spec: spec.clone(), created: true })
    }

    pub(super) fn check_room_for_session(&self) -> Result<(), Rejection> {
        let max = self.settings.sessions_max;
        if max <= self.sessions.len() as u64 { Err(Rejection::TooManySessions { max }) } else { Ok(()) }
    }

    pub(super) fn begin_session(
        &mut self,
        id: SessionId,
        spec: SessionSpec,
        made_by: Option<ClaimRef>,
        revision: Revision,
        events: &mut Vec<Event>,
    ) {
        let change = Change::SessionCreated { id: id.clone(), ttl_ms: spec.ttl_ms, made_by: made_by.clone() };
        events.push(Event { revision, change });
        let at = self.clock;
        self.sessions.push(ModelSession { id, create_revision: revision, spec, at, made_by });
    }

    pub(super) fn end_session(&mut self, id: &SessionId, events: &mut Vec<Event>) -> Outcome {
        if self.session(id).is_some() {
            let revision = self.take_revision();
            let how = SessionEnd::of(EndReason::Released);
            self.end_live_session(id, how, revision, events);
            self.grant_what_fits(events);
        } else if self.session_tombstone(id).is_none() && !id.is_reserved() {
            self.check_room_for_tombstone()?;
            let revision = self.take_revision();
            let reason = EndReason::DeletedUnseen;
            self.remember_session(id, reason, revision);
            events.push(Event { revision, change: Change::SessionEnded { id: id.clone(), reason } });
        }
        Ok(Success::SessionEnded)
    }

    /// Ends a live session and all its claims, without granting anything to anyone.
    pub(super) fn end_live_session(
        &mut self,
        id: &SessionId,
        how: SessionEnd,
        revision: Revision,
        events: &mut Vec<Event>,
    ) {
        let claims = self.claims.iter().filter(|c| c.session == *id && !c.in_set);
        let claims = claims.map(|c| (c.claim.clone(), c.token().is_some()));
        let sets = self.sets.iter().filter(|s| s.session == *id);
        let mut owned: Vec<_> = sets.map(|s| (s.claim.clone(), s.enqueued.is_none())).chain(claims).collect();
        owned.sort();
        for (claim, held) in owned {
            let reason = if held { how.held } else { how.queued };
            self.remove_claim(&claim, reason, revision, events);
        }
        for (namespace, key) in self.keys_of(id) {
            self.remove_key(&namespace, &key, revision, true, events);
        }
        self.sessions.retain(|s| s.id != *id);
        self.remember_session(id, how.session, revision);
        self.age_claims_with_session(id, revision);
        events.push(Event { revision, change: Change::SessionEnded { id: id.clone(), reason: how.session } });
    }

    fn remember_session(&mut self, id: &SessionId, reason: EndReason, revision: Revision) {
        let at = self.clock;
        self.session_tombstones.push(ModelSessionTombstone { id: id.clone(), reason, revision, at });
    }

    pub(super) fn expire(&mut self, leader: LeaderId, expire: &Expire, events: &mut Vec<Event>) -> Success {
        if expire.leader != leader {
            return Success::ExpireVoid;
        }
        let sessions = self.sessions_to_expire(expire);
        // What ends needs its revision before anything is removed, and nothing at all takes none.
        let waits_end = expire.waits.iter().take(2_000).any(|w| {
            self.waiting(&w.claim)
                .is_some_and(|(session, enqueued)| enqueued == w.enqueued && !sessions.contains(&session))
        });
        if sessions.is_empty() && !waits_end {
            return Success::Expired { sessions: 0, waits: 0 };
        }
        let revision = self.take_revision();
        for id in &sessions {
            self.end_live_session(id, SessionEnd::of(EndReason::Expired), revision, events);
        }
        let mut waits = 0;
        for wait in expire.waits.iter().take(2_000) {
            if self.waiting(&wait.claim).is_some_and(|(_, enqueued)| enqueued == wait.enqueued) {
                self.end_claim(&wait.claim, EndReason::TimedOut, revision, events);
                waits += 1;
            }
        }
        self.grant_what_fits(events);
        Success::Expired { sessions: sessions.len() as u64, waits }
    }

    fn sessions_to_expire(&self, expire: &Expire) -> Vec<SessionId> {
        let mut chosen: Vec<SessionId> = Vec::new();
        let mut owned = 0;
        for named in &expire.sessions {
            let due = self.session(&named.id).is_some_and(|s| s.create_revision == named.create_revision);
            if !due || chosen.contains(&named.id) {
                continue;
            }
            owned += self.owned(&named.id);
            let full = chosen.len() == limits::EXPIRE_SESSIONS_MAX || limits::EXPIRE_OWNED_MAX < owned;
            if full && !chosen.is_empty() {
                break;
            }
            chosen.push(named.id.clone());
        }
        chosen
    }
}
