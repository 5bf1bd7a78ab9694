//! The sequential specification of one exclusive lock: an owner-aware mutex with fencing tokens.
//!
//! Claims and sessions are used once: what ended never holds the lock again. An expiry is nobody's call, so each
//! session contributes a step of its own that becomes possible at the earliest moment its deadline may pass.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::holds::Sessions;
use crate::history::search::{Model, Step};
use crate::history::{
    Answer, Call, ClaimName, HeldClaim, History, LockName, Operation, Refusal, SessionName,
};

/// What one operation did to the lock, or saw of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LockEvent {
    /// The claim holds the lock; the token is `None` when no answer told it.
    Granted { claim: ClaimName, session: SessionName, token: Option<u64> },
    /// A try found another holder.
    Busy { claim: ClaimName },
    /// The claim is over: released, timed out or known to have ended.
    Over { claim: ClaimName },
    /// The claim was refused because it had ended before.
    WasOver { claim: ClaimName },
    /// The session is over, and with it all that it holds.
    SessionOver { session: SessionName },
    /// The lock was seen free, or held by one claim.
    Saw(Option<HeldClaim>),
    /// The lock was seen with two holders or more, which no state explains.
    SawSeveral,
    /// A guarded write found the lock held with this token.
    TokenIsCurrent { token: u64 },
    /// A guarded write found that this token is not the holder's.
    TokenIsStale { token: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Holder {
    claim: ClaimName,
    session: SessionName,
    token: Option<u64>,
}

/// The holder and what can never hold again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct LockState {
    holder: Option<Holder>,
    token_floor: u64,
    claims_over: BTreeSet<ClaimName>,
    sessions_over: BTreeSet<SessionName>,
}

impl LockState {
    /// The same state after learning that the holder's token is `token`; `None` if it cannot be.
    fn with_token(&self, token: u64) -> Option<Self> {
        let holder = self.holder.as_ref()?;
        match holder.token {
            Some(known) => (known == token).then(|| self.clone()),
            None if token <= self.token_floor => None,
            None => {
                let mut next = self.clone();
                next.holder = Some(Holder { token: Some(token), ..holder.clone() });
                next.token_floor = token;
                Some(next)
            }
        }
    }

    fn granted(&self, claim: &ClaimName, session: &SessionName, token: Option<u64>) -> Option<Self> {
        if let Some(holder) = &self.holder {
            // Only a replay finds the lock held by its own claim, and it never repeats the grant.
            return match token {
                _ if holder.claim != *claim => None,
                Some(token) => self.with_token(token),
                None => Some(self.clone()),
            };
        }
        if self.claims_over.contains(claim) || self.sessions_over.contains(session) {
            return None;
        }
        if token.is_some_and(|token| token <= self.token_floor) {
            return None;
        }
        let mut next = self.clone();
        next.holder = Some(Holder { claim: claim.clone(), session: session.clone(), token });
        next.token_floor = token.unwrap_or(self.token_floor);
        Some(next)
    }

    fn is_held_by(&self, claim: &ClaimName) -> bool {
        self.holder.as_ref().is_some_and(|holder| holder.claim == *claim)
    }
}

/// The lock. Claims are remembered when they end only if a request for them may come after that.
pub(super) struct Mutex {
    claims_that_may_return: BTreeSet<ClaimName>,
    sessions_of_claims: BTreeSet<SessionName>,
}

impl Mutex {
    fn claim_over(&self, state: &LockState, claim: &ClaimName) -> LockState {
        let mut next = state.clone();
        if next.is_held_by(claim) {
            next.holder = None;
        }
        if self.claims_that_may_return.contains(claim) {
            next.claims_over.insert(claim.clone());
        }
        next
    }
}

impl Model for Mutex {
    type State = LockState;
    type Event = LockEvent;

    fn initial(&self) -> LockState {
        LockState::default()
    }

    fn apply(&self, state: &LockState, event: &LockEvent) -> Option<LockState> {
        match event {
            LockEvent::Granted { claim, session, token } => state.granted(claim, session, *token),
            LockEvent::Busy { claim } => {
                (state.holder.is_some() && !state.is_held_by(claim)).then(|| state.clone())
            }
            LockEvent::Over { claim } => Some(self.claim_over(state, claim)),
            LockEvent::WasOver { claim } => (!state.is_held_by(claim)).then(|| self.claim_over(state, claim)),
            LockEvent::SessionOver { session } => {
                let mut next = state.clone();
                next.holder = next.holder.filter(|holder| holder.session != *session);
                if self.sessions_of_claims.contains(session) {
                    next.sessions_over.insert(session.clone());
                }
                Some(next)
            }
            LockEvent::Saw(None) => state.holder.is_none().then(|| state.clone()),
            LockEvent::Saw(Some(held)) if state.is_held_by(&held.claim) => state.with_token(held.token),
            LockEvent::Saw(Some(_)) | LockEvent::SawSeveral => None,
            LockEvent::TokenIsCurrent { token } => state.with_token(*token),
            LockEvent::TokenIsStale { token } => {
                let is_current = state.holder.as_ref().is_some_and(|holder| holder.token == Some(*token));
                (!is_current).then(|| state.clone())
            }
        }
    }

    fn only_observes(&self, event: &LockEvent) -> bool {
        match event {
            LockEvent::Busy { .. }
            | LockEvent::Saw(_)
            | LockEvent::SawSeveral
            | LockEvent::TokenIsCurrent { .. }
            | LockEvent::TokenIsStale { .. } => true,
            LockEvent::Granted { .. }
            | LockEvent::Over { .. }
            | LockEvent::WasOver { .. }
            | LockEvent::SessionOver { .. } => false,
        }
    }
}

/// The specification and the steps of `lock`.
pub(super) fn steps(history: &History, lock: &LockName) -> (Mutex, Vec<Step<LockEvent>>) {
    let mut sessions_of_claims = BTreeSet::new();
    let mut last_asked_ns: BTreeMap<&ClaimName, u64> = BTreeMap::new();
    let mut first_over_ns: BTreeMap<&ClaimName, u64> = BTreeMap::new();
    for op in history.operations.iter().filter(|op| op.call.lock() == Some(lock)) {
        if let Call::Acquire { claim, session, .. } = &op.call {
            sessions_of_claims.insert(session.clone());
            let asked_ns = last_asked_ns.entry(claim).or_default();
            *asked_ns = op.completed_ns().unwrap_or(u64::MAX).max(*asked_ns);
        }
        if let Call::Release { claim, .. } | Call::Acquire { claim, .. } = &op.call
            && (matches!(op.call, Call::Release { .. }) || op.refusal().is_some())
        {
            let over_ns = first_over_ns.entry(claim).or_insert(u64::MAX);
            *over_ns = op.invoked_ns.min(*over_ns);
        }
    }
    // A claim may also be released before its own request arrives; then it is over before it was ever seen.
    let may_return =
        |claim: &&ClaimName| first_over_ns.get(claim).is_some_and(|over_ns| *over_ns <= last_asked_ns[claim]);
    let claims_that_may_return = last_asked_ns.keys().copied().filter(may_return).cloned().collect();
    let mut steps: Vec<_> = history
        .operations
        .iter()
        .enumerate()
        .filter_map(|(index, op)| {
            let event = event(op, lock, &sessions_of_claims)?;
            let (invoked_ns, completed_ns) = (op.invoked_ns, op.completed_ns());
            let rank = token_of(&event);
            Some(Step { operation: Some(index), invoked_ns, completed_ns, event, twins: None, rank })
        })
        .collect();
    let sessions = Sessions::of(history);
    steps.extend(sessions_of_claims.iter().map(|session| {
        let (invoked_ns, completed_ns) = sessions.expiry_window_ns(session);
        let event = LockEvent::SessionOver { session: session.clone() };
        Step { operation: None, invoked_ns, completed_ns, event, twins: None, rank: None }
    }));
    (Mutex { claims_that_may_return, sessions_of_claims }, steps)
}

/// The token that the event shows as the holder's; it never decreases.
fn token_of(event: &LockEvent) -> Option<u64> {
    match event {
        LockEvent::Granted { token, .. } => *token,
        LockEvent::Saw(held) => held.as_ref().map(|held| held.token),
        LockEvent::TokenIsCurrent { token } => Some(*token),
        LockEvent::Busy { .. }
        | LockEvent::Over { .. }
        | LockEvent::WasOver { .. }
        | LockEvent::SessionOver { .. }
        | LockEvent::SawSeveral
        | LockEvent::TokenIsStale { .. } => None,
    }
}

fn event(op: &Operation, lock: &LockName, sessions: &BTreeSet<SessionName>) -> Option<LockEvent> {
    if let Call::EndSession { session } = &op.call {
        let ends = op.may_have_happened() && sessions.contains(session);
        return ends.then(|| LockEvent::SessionOver { session: session.clone() });
    }
    if op.call.lock() != Some(lock) {
        return None;
    }
    match &op.call {
        Call::Acquire { claim, session, .. } => match (op.refusal(), op.answer()) {
            (None, answer) => {
                let token = match answer {
                    Some(Answer::Held { token }) => Some(*token),
                    Some(_) | None => None,
                };
                Some(LockEvent::Granted { claim: claim.clone(), session: session.clone(), token })
            }
            (Some(Refusal::LockHeld), _) => Some(LockEvent::Busy { claim: claim.clone() }),
            (Some(Refusal::WaitTimeout | Refusal::ClaimEnded | Refusal::SessionExpired), _) => {
                Some(LockEvent::WasOver { claim: claim.clone() })
            }
            (Some(Refusal::RevisionMismatch | Refusal::StaleToken | Refusal::NotServed { .. }), _) => None,
        },
        Call::Release { claim, .. } => {
            op.may_have_happened().then(|| LockEvent::Over { claim: claim.clone() })
        }
        Call::LookAtLock { .. } => match op.answer()? {
            Answer::Lock { holders } => match holders.as_slice() {
                [] => Some(LockEvent::Saw(None)),
                [held] => Some(LockEvent::Saw(Some(held.clone()))),
                [_, _, ..] => Some(LockEvent::SawSeveral),
            },
            Answer::Item { .. }
            | Answer::NoItem
            | Answer::Written { .. }
            | Answer::Deleted
            | Answer::SessionOpen
            | Answer::Renewed
            | Answer::SessionEnded
            | Answer::Held { .. }
            | Answer::Released => None,
        },
        Call::Write { guard, .. } => {
            let token = guard.as_ref()?.token;
            match (op.answer(), op.refusal()) {
                (Some(_), _) => Some(LockEvent::TokenIsCurrent { token }),
                (None, Some(Refusal::StaleToken)) => Some(LockEvent::TokenIsStale { token }),
                (None, _) => None,
            }
        }
        Call::Read { .. }
        | Call::Delete { .. }
        | Call::OpenSession { .. }
        | Call::KeepAlive { .. }
        | Call::EndSession { .. } => None,
    }
}
