//! What passes with time: lock delays, tombstones, idle locks and idempotency records.

use crate::domain::{ClaimRef, Event, LockRef, Outcome, Rejection, ReplayKey};
use crate::{LogTime, Revision, SessionId, limits};

use super::{Model, ModelReplay};

/// What grows old, in the order in which equally old ones are dropped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Aged {
    /// All tombstones of the claims of an explicit session that ended.
    SessionClaims(SessionId),
    Claim(ClaimRef),
    Session(SessionId),
}

impl Model {
    /// The idempotency record that still answers for this scope.
    #[must_use]
    pub fn replay_record(&self, scope: &[u8; 32]) -> Option<ModelReplay> {
        let young = |r: &&ModelReplay| self.clock.ms_since(r.at) < self.settings.replay_ms;
        self.replays.iter().find(|r| r.scope == *scope).filter(young).cloned()
    }

    pub(super) fn keep_answer(&mut self, key: ReplayKey, outcome: &Outcome) {
        let small = encoded_bytes(outcome) <= limits::REPLAY_ANSWER_BYTES_MAX as u64;
        self.replays.retain(|r| r.scope != key.scope);
        self.replays.push(ModelReplay {
            scope: key.scope,
            fingerprint: key.fingerprint,
            answer: small.then(|| outcome.clone()),
            at: self.clock,
        });
    }

    /// Ends the lock delays whose time has come, the earliest first, and lets in who waited for them.
    pub(super) fn end_due_delays(&mut self, events: &mut Vec<Event>) {
        let mut due: Vec<(LogTime, LockRef)> = self
            .locks
            .iter()
            .filter_map(|l| l.delay_until.map(|until| (until, l.lock.clone())))
            .filter(|(until, _)| *until <= self.clock)
            .collect();
        due.sort();
        for (_, lock) in due.into_iter().take(limits::DUE_DELAYS_PER_ENTRY_MAX) {
            for memory in self.locks.iter_mut().filter(|l| l.lock == lock) {
                memory.delay_until = None;
            }
            self.grant_what_fits(events);
        }
        self.note_idle_locks();
    }

    /// Marks the locks that nobody uses any more, and unmarks those that someone does.
    fn note_idle_locks(&mut self) {
        for memory in &mut self.locks {
            let used = self.claims.iter().any(|c| c.claim.lock == memory.lock);
            if used || memory.delay_until.is_some() {
                memory.idle = None;
            } else if memory.idle.is_none() {
                memory.idle = Some((self.clock, self.revision));
            }
        }
    }

    fn aged_tombstones(&self) -> Vec<(LogTime, Revision, Aged)> {
        let sessions =
            self.session_tombstones.iter().map(|t| (t.at, t.revision, Aged::Session(t.id.clone())));
        let claims = self.claim_tombstones.iter().filter(|t| t.kept_with.is_none());
        let claims = claims.map(|t| (t.at, t.revision, Aged::Claim(t.claim.clone())));
        let ended = self.ended_with_tombstones.iter();
        let ended = ended.map(|(at, revision, id)| (*at, *revision, Aged::SessionClaims(id.clone())));
        let mut aged: Vec<_> = sessions.chain(claims).chain(ended).collect();
        aged.sort();
        aged
    }

    /// The tombstones that `tombstones_max` bounds: all but those that a live session keeps.
    #[must_use]
    pub fn tombstones(&self) -> u64 {
        let claims = self.claim_tombstones.iter();
        let of_claims = claims.filter(|t| t.kept_with.as_ref().is_none_or(|id| self.session(id).is_none()));
        (self.session_tombstones.len() + of_claims.count()) as u64
    }

    pub(super) fn check_room_for_tombstone(&self) -> Result<(), Rejection> {
        let max = self.settings.tombstones_max;
        let aged = self.aged_tombstones();
        let none_droppable =
            aged.first().is_some_and(|(at, ..)| self.clock.ms_since(*at) < self.settings.tombstone_ms_min);
        if max <= self.tombstones() && none_droppable {
            return Err(Rejection::TooManyTombstones { max });
        }
        Ok(())
    }

    /// Keeps the newest tombstones of a live session's claims, as many as one may have.
    pub(super) fn drop_surplus_of_session(&mut self, session: &SessionId) {
        let kept = self.claims_kept_with(session).len();
        let max = usize::try_from(self.settings.session_tombstones_max).unwrap_or(usize::MAX);
        self.drop_claims_of(session, kept.saturating_sub(max));
    }

    /// The tombstones of a session's claims grow old from the end of their session.
    pub(super) fn age_claims_with_session(&mut self, id: &SessionId, revision: Revision) {
        if self.claim_tombstones.iter().any(|t| t.kept_with.as_ref() == Some(id)) {
            self.ended_with_tombstones.push((self.clock, revision, id.clone()));
        }
    }

    /// Drops what is too old, or too much and old enough: the oldest first, and a bounded number per entry.
    pub(super) fn drop_old(&mut self) {
        self.note_idle_locks();
        self.drop_old_answers();
        self.drop_old_tombstones();
        self.drop_idle_locks();
        self.drop_old_changes();
    }

    fn is_droppable(&self, at: LogTime, count: u64) -> bool {
        let age_ms = self.clock.ms_since(at);
        let old = self.settings.tombstone_ms <= age_ms;
        let crowded = self.settings.tombstones_max < count;
        self.settings.tombstone_ms_min <= age_ms && (old || crowded)
    }

    fn drop_old_tombstones(&mut self) {
        let mut left = limits::DROPPED_PER_ENTRY_MAX;
        while 0 < left {
            let oldest = self.aged_tombstones().into_iter().next();
            let Some((at, _, what)) = oldest else { return };
            if !self.is_droppable(at, self.tombstones()) {
                return;
            }
            match what {
                Aged::SessionClaims(id) => {
                    let dropped = self.drop_claims_of(&id, left);
                    // A whole allowance spent leaves the question whether there are more to the next entry.
                    if dropped < left {
                        self.ended_with_tombstones.retain(|(.., ended)| *ended != id);
                    }
                    left -= dropped.max(1);
                }
                Aged::Claim(claim) => {
                    self.claim_tombstones.retain(|t| t.claim != claim);
                    left -= 1;
                }
                Aged::Session(id) => {
                    self.session_tombstones.retain(|t| t.id != id);
                    left -= 1;
                }
            }
        }
    }

    fn claims_kept_with(&self, session: &SessionId) -> Vec<ClaimRef> {
        let of_session = self.claim_tombstones.iter().filter(|t| t.kept_with.as_ref() == Some(session));
        let mut kept: Vec<_> = of_session.map(|t| (t.revision, t.claim.clone())).collect();
        kept.sort();
        kept.into_iter().map(|(_, claim)| claim).collect()
    }

    fn drop_claims_of(&mut self, session: &SessionId, limit: usize) -> usize {
        let dropped: Vec<_> = self.claims_kept_with(session).into_iter().take(limit).collect();
        self.claim_tombstones.retain(|t| !dropped.contains(&t.claim));
        dropped.len()
    }

    fn drop_idle_locks(&mut self) {
        let idle = self.locks.iter().filter_map(|l| l.idle.map(|(at, taken)| (at, taken, l.lock.clone())));
        let mut idle: Vec<_> = idle.collect();
        idle.sort();
        let mut count = idle.len() as u64;
        for (at, _, lock) in idle.into_iter().take(limits::DROPPED_PER_ENTRY_MAX) {
            if !self.is_droppable(at, count) {
                return;
            }
            self.locks.retain(|l| l.lock != lock);
            count -= 1;
        }
    }

    /// Bytes of all answers that are kept.
    #[must_use]
    pub fn replay_bytes(&self) -> u64 {
        self.replays.iter().map(|r| r.answer.as_ref().map_or(0, encoded_bytes)).sum()
    }

    fn drop_old_answers(&mut self) {
        for _ in 0..limits::DROPPED_PER_ENTRY_MAX {
            let Some(oldest) = self.replays.first() else { return };
            let bytes = self.replay_bytes();
            let old = self.settings.replay_ms <= self.clock.ms_since(oldest.at);
            let many = self.settings.replay_records_max < self.replays.len() as u64;
            if !old && !many && bytes <= self.settings.replay_bytes_max {
                return;
            }
            self.replays.remove(0);
        }
    }
}

fn encoded_bytes(outcome: &Outcome) -> u64 {
    postcard::to_stdvec(outcome).expect("an outcome holds only plain data").len() as u64
}
