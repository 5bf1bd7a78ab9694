//! What the answers alone prove about sessions and claims: until when they certainly lasted.
//!
//! All bounds are on the safe side. A renewal counts from when it was sent, since it cannot have been received
//! earlier, and a release from when it was sent, since it cannot have been applied earlier.

use std::collections::BTreeMap;

use crate::history::{Answer, Call, ClaimName, History, LockName, Outcome, Refusal, SessionName};

const NS_PER_MS: u64 = 1_000_000;

/// What is known of one session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Session {
    ttl_ms: Option<u64>,
    /// The last moment from which a full TTL certainly runs.
    last_renewal_sent_ns: u64,
    pub(super) last_renewal: Option<usize>,
    /// When a client first knew that the session was over, and from which operation.
    pub(super) known_over: Option<(u64, usize)>,
    /// Calls that may have ended it on purpose, with when they were sent.
    pub(super) deletions: Vec<(u64, usize)>,
    /// When a deletion was first answered.
    pub(super) deleted_ns: Option<(u64, usize)>,
}

impl Session {
    /// The earliest moment at which the session may have expired. Without a TTL nothing can be said.
    pub(super) fn earliest_expiry_ns(&self) -> u64 {
        match self.ttl_ms {
            Some(ttl_ms) => self.last_renewal_sent_ns.saturating_add(ttl_ms.saturating_mul(NS_PER_MS)),
            None => 0,
        }
    }

    /// The earliest moment at which the session may have ended for any reason.
    pub(super) fn earliest_end_ns(&self) -> u64 {
        let deletion = self.deletions.iter().map(|(sent_ns, _)| *sent_ns).min();
        self.earliest_expiry_ns().min(deletion.unwrap_or(u64::MAX))
    }
}

/// All sessions of a history.
pub(super) struct Sessions {
    sessions: BTreeMap<SessionName, Session>,
}

impl Sessions {
    /// Collects what the operations tell.
    pub(super) fn of(history: &History) -> Self {
        let mut sessions: BTreeMap<SessionName, Session> = BTreeMap::new();
        for (index, op) in history.operations.iter().enumerate() {
            match &op.call {
                Call::OpenSession { session, ttl_ms } => {
                    let known = sessions.entry(session.clone()).or_default();
                    // A replay does not promise to renew, so only the first call counts, whatever came of it:
                    // the session did not exist before.
                    let is_first = known.ttl_ms.is_none() || op.invoked_ns < known.last_renewal_sent_ns;
                    if known.last_renewal.is_none() && is_first {
                        known.last_renewal_sent_ns = op.invoked_ns;
                    }
                    known.ttl_ms = Some(*ttl_ms);
                }
                Call::KeepAlive { session } => {
                    let known = sessions.entry(session.clone()).or_default();
                    let later = known.last_renewal.is_none() || known.last_renewal_sent_ns < op.invoked_ns;
                    if op.answer().is_some() && later {
                        known.last_renewal_sent_ns = known.last_renewal_sent_ns.max(op.invoked_ns);
                        known.last_renewal = Some(index);
                    }
                }
                Call::EndSession { session } if op.may_have_happened() => {
                    let known = sessions.entry(session.clone()).or_default();
                    known.deletions.push((op.invoked_ns, index));
                    if let Some(at_ns) = op.completed_ns() {
                        known.deleted_ns = Some(earliest(known.deleted_ns, (at_ns, index)));
                    }
                }
                Call::Acquire { session, .. } => {
                    sessions.entry(session.clone()).or_default();
                }
                Call::EndSession { .. }
                | Call::Read { .. }
                | Call::Write { .. }
                | Call::Delete { .. }
                | Call::Release { .. }
                | Call::LookAtLock { .. } => {}
            }
            if let (Some(session), Outcome::Refused { at_ns, refusal: Refusal::SessionExpired }) =
                (session_of(&op.call), &op.outcome)
            {
                let known = sessions.entry(session.clone()).or_default();
                known.known_over = Some(earliest(known.known_over, (*at_ns, index)));
            }
        }
        Self { sessions }
    }

    /// All sessions, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&SessionName, &Session)> {
        self.sessions.iter()
    }

    /// What is known of `session`.
    pub(super) fn session(&self, session: &SessionName) -> Option<&Session> {
        self.sessions.get(session)
    }

    /// When an expiry of `session` may have happened, and by when it must have, if it must.
    pub(super) fn expiry_window_ns(&self, session: &SessionName) -> (u64, Option<u64>) {
        let Some(known) = self.sessions.get(session) else { return (0, None) };
        let earliest_ns = known.earliest_expiry_ns();
        match known.known_over {
            Some((over_ns, _)) if known.deletions.is_empty() => (earliest_ns.min(over_ns), Some(over_ns)),
            Some(_) | None => (earliest_ns, None),
        }
    }
}

fn earliest(known: Option<(u64, usize)>, other: (u64, usize)) -> (u64, usize) {
    known.map_or(other, |known| known.min(other))
}

fn session_of(call: &Call) -> Option<&SessionName> {
    match call {
        Call::OpenSession { session, .. }
        | Call::KeepAlive { session }
        | Call::EndSession { session }
        | Call::Acquire { session, .. } => Some(session),
        Call::Read { .. }
        | Call::Write { .. }
        | Call::Delete { .. }
        | Call::Release { .. }
        | Call::LookAtLock { .. } => None,
    }
}

/// A claim that a client was told it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hold {
    pub(super) lock: LockName,
    pub(super) claim: ClaimName,
    pub(super) session: SessionName,
    pub(super) token: u64,
    /// The operation whose answer told it first.
    pub(super) operation: usize,
    /// When that operation was sent; the grant is not older unless the call was a replay.
    pub(super) asked_ns: u64,
    /// When the answer was complete.
    pub(super) told_ns: u64,
    /// Calls that may have released this claim.
    pub(super) releases: Vec<usize>,
    /// The earliest moment at which the claim may have ended by right.
    pub(super) earliest_end_ns: u64,
}

/// The first answer for each held claim, in order of tokens.
pub(super) fn holds(history: &History, sessions: &Sessions) -> Vec<Hold> {
    let mut holds: BTreeMap<(&LockName, &ClaimName), Hold> = BTreeMap::new();
    for (index, op) in history.operations.iter().enumerate() {
        let (
            Call::Acquire { lock, claim, session, .. },
            Outcome::Ok { at_ns, answer: Answer::Held { token } },
        ) = (&op.call, &op.outcome)
        else {
            continue;
        };
        let session_end_ns = sessions.session(session).map_or(0, Session::earliest_end_ns);
        let hold = Hold {
            lock: lock.clone(),
            claim: claim.clone(),
            session: session.clone(),
            token: *token,
            operation: index,
            asked_ns: op.invoked_ns,
            told_ns: *at_ns,
            releases: Vec::new(),
            earliest_end_ns: session_end_ns,
        };
        let first = holds.entry((lock, claim)).or_insert_with(|| hold.clone());
        if hold.told_ns < first.told_ns {
            *first = hold;
        }
    }
    for (index, op) in history.operations.iter().enumerate() {
        let Call::Release { lock, claim } = &op.call else { continue };
        if let Some(hold) = holds.get_mut(&(lock, claim))
            && op.may_have_happened()
        {
            hold.releases.push(index);
            hold.earliest_end_ns = hold.earliest_end_ns.min(op.invoked_ns);
        }
    }
    let mut holds: Vec<Hold> = holds.into_values().collect();
    holds.sort_by_key(|hold| hold.token);
    holds
}
