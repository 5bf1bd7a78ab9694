//! The lock contract, rule by rule, from the clients' answers and, where there is one, the store's ledger.
//!
//! Answers show what clients could tell apart: a hold certainly lasts from the answer that told of it until the
//! earliest moment at which a release, a deletion or an expiry may have ended it. The ledger shows the order of
//! revisions itself. Each rule reads whichever evidence can break it.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::holds::{Hold, Sessions, holds};
use crate::history::{
    Answer, Call, EndCause, Grant, Guard, History, Ledger, LockName, Outcome, Refusal, Rule, Violation,
};

/// Checks L1–L8 and L10.
pub fn check_contract(history: &History, ledger: &Ledger) -> Vec<Violation> {
    let sessions = Sessions::of(history);
    let evidence = Evidence { history, ledger, holds: holds(history, &sessions), sessions };
    let mut violations = Vec::new();
    evidence.one_holder_at_a_time(&mut violations);
    evidence.tokens_increase(&mut violations);
    evidence.only_live_sessions_are_granted(&mut violations);
    evidence.no_early_expiry(&mut violations);
    evidence.expiry_before_regrant(&mut violations);
    evidence.first_come_first_served(&mut violations);
    evidence.releases_end_their_own_claim(&mut violations);
    evidence.replays_repeat_the_answer(&mut violations);
    evidence.guarded_writes_hold_the_lock(&mut violations);
    evidence.no_hold_is_lost_early(&mut violations);
    violations
}

struct Evidence<'h> {
    history: &'h History,
    ledger: &'h Ledger,
    /// In order of tokens.
    holds: Vec<Hold>,
    sessions: Sessions,
}

fn violation(rule: Rule, operations: Vec<usize>, why: String) -> Violation {
    Violation { rule, operations, why }
}

impl<'h> Evidence<'h> {
    /// The ledger's grants of each lock, by token.
    fn grants_by_lock(&self) -> BTreeMap<&'h LockName, Vec<&'h Grant>> {
        let mut by_lock: BTreeMap<&LockName, Vec<&Grant>> = BTreeMap::new();
        for grant in &self.ledger.grants {
            by_lock.entry(&grant.lock).or_default().push(grant);
        }
        for grants in by_lock.values_mut() {
            grants.sort_by_key(|grant| grant.token);
        }
        by_lock
    }

    /// L1 in revision order.
    fn one_holder_at_a_time(&self, violations: &mut Vec<Violation>) {
        for (lock, grants) in self.grants_by_lock() {
            for pair in grants.windows(2) {
                let (earlier, later) = (pair[0], pair[1]);
                let is_over = earlier.ended.as_ref().is_some_and(|end| end.revision < later.token);
                if !is_over {
                    violations.push(violation(
                        Rule::L1,
                        Vec::new(),
                        format!(
                            "lock {lock}: claim {} (token {}) was granted while claim {} (token {}) was held",
                            later.claim, later.token, earlier.claim, earlier.token
                        ),
                    ));
                }
            }
        }
    }

    /// L2: in log order and in real time, tokens of different grants increase.
    fn tokens_increase(&self, violations: &mut Vec<Violation>) {
        for pair in self.ledger.grants.windows(2) {
            if pair[1].token <= pair[0].token {
                violations.push(violation(
                    Rule::L2,
                    Vec::new(),
                    format!("token {} was granted after token {}", pair[1].token, pair[0].token),
                ));
            }
        }
        for pair in self.holds.windows(2) {
            if pair[0].token == pair[1].token {
                violations.push(violation(
                    Rule::L2,
                    vec![pair[0].operation, pair[1].operation],
                    format!(
                        "claims {}/{} and {}/{} share token {}",
                        pair[0].lock, pair[0].claim, pair[1].lock, pair[1].claim, pair[0].token
                    ),
                ));
            }
        }
        let mut told: Vec<&Hold> = self.holds.iter().collect();
        told.sort_by_key(|hold| hold.told_ns);
        let mut asked: Vec<&Hold> = self.holds.iter().filter(|hold| self.is_first_request(hold)).collect();
        asked.sort_by_key(|hold| hold.asked_ns);
        let mut told = told.into_iter().peekable();
        let mut highest: Option<&Hold> = None;
        for hold in asked {
            while let Some(earlier) = told.next_if(|earlier| earlier.told_ns < hold.asked_ns) {
                highest = highest.filter(|highest| earlier.token < highest.token).or(Some(earlier));
            }
            if let Some(highest) = highest.filter(|highest| hold.token < highest.token) {
                violations.push(violation(
                    Rule::L2,
                    vec![highest.operation, hold.operation],
                    format!("token {} was asked for after token {} was told", hold.token, highest.token),
                ));
            }
        }
    }

    /// Whether no earlier request could have made the grant that this answer told of.
    fn is_first_request(&self, hold: &Hold) -> bool {
        !self.history.operations.iter().enumerate().any(|(index, op)| {
            index != hold.operation
                && op.invoked_ns <= hold.asked_ns
                && matches!(&op.call, Call::Acquire { lock, claim, .. } if *lock == hold.lock && *claim == hold.claim)
        })
    }

    /// L3: by revisions, and by requests sent after the session was known to be over.
    fn only_live_sessions_are_granted(&self, violations: &mut Vec<Violation>) {
        for grant in &self.ledger.grants {
            let ended = self.ledger.session_ends.iter().find(|end| end.session == grant.session);
            if let Some(end) = ended.filter(|end| end.revision < grant.token) {
                violations.push(violation(
                    Rule::L3,
                    Vec::new(),
                    format!(
                        "claim {} got token {} for session {}, which ended at revision {}",
                        grant.claim, grant.token, grant.session, end.revision
                    ),
                ));
            }
        }
        for (index, op) in self.history.operations.iter().enumerate() {
            let (Call::Acquire { session, claim, .. }, Some(Answer::Held { token })) =
                (&op.call, op.answer())
            else {
                continue;
            };
            let Some(known) = self.sessions.session(session) else { continue };
            let over = known.known_over.into_iter().chain(known.deleted_ns).min();
            if let Some((_, evidence)) = over.filter(|(over_ns, _)| *over_ns < op.invoked_ns) {
                violations.push(violation(
                    Rule::L3,
                    vec![evidence, index],
                    format!("claim {claim} got token {token} for session {session}, which was over"),
                ));
            }
        }
    }

    /// L4: a session that nobody deleted is over only when its TTL has passed since its last answered renewal
    /// was sent, which is the earliest that it can have been received.
    fn no_early_expiry(&self, violations: &mut Vec<Violation>) {
        for (name, session) in self.sessions.iter() {
            let Some((over_ns, evidence)) = session.known_over else { continue };
            let was_deleted = session.deletions.iter().any(|(sent_ns, _)| *sent_ns <= over_ns);
            let earliest_ns = session.earliest_expiry_ns();
            if !was_deleted && over_ns < earliest_ns {
                violations.push(violation(
                    Rule::L4,
                    session.last_renewal.into_iter().chain([evidence]).collect(),
                    format!("session {name} was over {} ns before its TTL had passed", earliest_ns - over_ns),
                ));
            }
        }
    }

    /// L5 in revision order: an expired claim ends with its session, and the lock moves on only after that.
    fn expiry_before_regrant(&self, violations: &mut Vec<Violation>) {
        for grant in &self.ledger.grants {
            let Some(end) = grant.ended.as_ref().filter(|end| end.cause == EndCause::Expired) else {
                continue;
            };
            let expiry = self.ledger.session_ends.iter().find(|ended| ended.session == grant.session);
            let problem = match expiry {
                None => format!("session {} never expired", grant.session),
                Some(expiry) if end.revision < expiry.revision => {
                    format!("session {} expired only at revision {}", grant.session, expiry.revision)
                }
                Some(_) => continue,
            };
            violations.push(violation(
                Rule::L5,
                Vec::new(),
                format!(
                    "claim {} was freed as expired at revision {}, but {problem}",
                    grant.claim, end.revision
                ),
            ));
        }
    }

    /// L6: of two claims on a lock, the one that queued first is granted first, unless it left before.
    fn first_come_first_served(&self, violations: &mut Vec<Violation>) {
        for (lock, mut grants) in self.grants_by_lock() {
            grants.sort_by_key(|grant| grant.enqueued_revision);
            let mut highest: Option<&Grant> = None;
            for grant in &grants {
                if let Some(ahead) = highest.filter(|ahead| grant.token < ahead.token) {
                    violations.push(violation(
                        Rule::L6,
                        Vec::new(),
                        format!(
                            "lock {lock}: claim {} queued at {} and got token {}, after claim {} which queued at {}",
                            ahead.claim, ahead.enqueued_revision, ahead.token, grant.claim, grant.enqueued_revision
                        ),
                    ));
                }
                highest = highest.filter(|ahead| grant.token < ahead.token).or(Some(grant));
            }
            for wait in self.ledger.waits.iter().filter(|wait| wait.lock == *lock) {
                let overtaker = grants.iter().find(|grant| {
                    grant.enqueued_revision > wait.enqueued_revision
                        && wait.left_revision.is_none_or(|left| grant.token < left)
                });
                if let Some(grant) = overtaker {
                    violations.push(violation(
                        Rule::L6,
                        Vec::new(),
                        format!(
                            "lock {lock}: claim {} got token {} ahead of claim {}, which waited since {}",
                            grant.claim, grant.token, wait.claim, wait.enqueued_revision
                        ),
                    ));
                }
            }
        }
    }

    /// L7 in the ledger: the release that ended a grant named it.
    fn releases_end_their_own_claim(&self, violations: &mut Vec<Violation>) {
        for grant in &self.ledger.grants {
            let Some(EndCause::Released { claim }) = grant.ended.as_ref().map(|end| &end.cause) else {
                continue;
            };
            if *claim != grant.claim {
                violations.push(violation(
                    Rule::L7,
                    Vec::new(),
                    format!("lock {}: the release of {claim} ended {}", grant.lock, grant.claim),
                ));
            }
        }
    }

    /// L8: a claim has one token for ever, and none once it is over.
    fn replays_repeat_the_answer(&self, violations: &mut Vec<Violation>) {
        let mut granted = BTreeMap::new();
        for grant in &self.ledger.grants {
            if let Some(first) = granted.insert((&grant.lock, &grant.claim), grant.token) {
                violations.push(violation(
                    Rule::L8,
                    Vec::new(),
                    format!("claim {} was granted twice, as {first} and {}", grant.claim, grant.token),
                ));
            }
        }
        let mut first_answers: BTreeMap<_, (usize, u64)> = BTreeMap::new();
        for (index, op) in self.history.operations.iter().enumerate() {
            let (Call::Acquire { lock, claim, .. }, Some(Answer::Held { token })) = (&op.call, op.answer())
            else {
                continue;
            };
            let (first, first_token) = *first_answers.entry((lock, claim)).or_insert((index, *token));
            if first_token != *token {
                violations.push(violation(
                    Rule::L8,
                    vec![first, index],
                    format!("claim {claim} was answered token {first_token} and token {token}"),
                ));
            }
            let released = self.history.operations.iter().position(|other| {
                matches!(&other.call, Call::Release { lock: l, claim: c } if l == lock && c == claim)
                    && matches!(&other.outcome, Outcome::Ok { at_ns, .. } if *at_ns < op.invoked_ns)
            });
            if let Some(released) = released {
                violations.push(violation(
                    Rule::L8,
                    vec![released, index],
                    format!("claim {claim} was answered token {token} after it had been released"),
                ));
            }
        }
    }

    /// L10: a guarded write lies, in revision order, within the grant of its token.
    fn guarded_writes_hold_the_lock(&self, violations: &mut Vec<Violation>) {
        for (index, op) in self.history.operations.iter().enumerate() {
            let (Call::Write { guard: Some(guard), .. }, Some(Answer::Written { mod_revision })) =
                (&op.call, op.answer())
            else {
                continue;
            };
            if let Some((other, why)) = self.unfenced(guard, *mod_revision, op.invoked_ns) {
                let operations = other.into_iter().chain([index]).collect();
                violations.push(violation(Rule::L10, operations, why));
            }
        }
    }

    /// Why a write at `revision`, sent at `sent_ns`, cannot have been covered by `guard`.
    fn unfenced(&self, guard: &Guard, revision: u64, sent_ns: u64) -> Option<(Option<usize>, String)> {
        let Guard { lock, token } = guard;
        if revision <= *token {
            return Some((None, format!("revision {revision} was written under the later token {token}")));
        }
        if !self.ledger.is_empty() {
            let grant = self.ledger.grants.iter().find(|grant| grant.lock == *lock && grant.token == *token);
            let Some(grant) = grant else {
                return Some((None, format!("token {token} of lock {lock} was never granted")));
            };
            if let Some(end) = grant.ended.as_ref().filter(|end| end.revision < revision) {
                let why =
                    format!("revision {revision} was written after token {token} ended at {}", end.revision);
                return Some((None, why));
            }
        }
        let on_lock = || self.holds.iter().filter(|hold| hold.lock == *lock);
        if let Some(next) = on_lock().find(|hold| *token < hold.token && hold.token < revision) {
            let why =
                format!("revision {revision} was written under token {token} after token {}", next.token);
            return Some((Some(next.operation), why));
        }
        let hold = on_lock().find(|hold| hold.token == *token)?;
        let over = hold.releases.iter().copied().chain(self.deletion_of(hold)).find(|index| {
            let end = &self.history.operations[*index];
            end.answer().is_some() && end.completed_ns().is_some_and(|at_ns| at_ns < sent_ns)
        })?;
        Some((Some(over), format!("token {token} was given back before the write was sent")))
    }

    fn deletion_of(&self, hold: &Hold) -> Option<usize> {
        self.sessions.session(&hold.session)?.deleted_ns.map(|(_, index)| index)
    }

    /// L1, L5 and L7 from answers: something showed that a claim did not hold its lock while it certainly
    /// should have. Which rule is broken depends on what else was seen.
    fn no_hold_is_lost_early(&self, violations: &mut Vec<Violation>) {
        for hold in &self.holds {
            let Some((evidence, seen_ns, is_grant)) = self.first_sign_of_loss(hold) else { continue };
            let foreign_release = self.history.operations.iter().position(|op| {
                matches!(&op.call, Call::Release { lock, claim } if *lock == hold.lock && *claim != hold.claim)
                    && op.may_have_happened()
                    && hold.asked_ns <= op.invoked_ns
                    && op.invoked_ns <= seen_ns
            });
            let confirmation = self.sign_of_holding_since(hold, seen_ns).filter(|_| is_grant);
            let (rule, other, what) = match (confirmation, foreign_release) {
                (Some(index), _) => (Rule::L1, Some(index), "and both were treated as holders"),
                (None, Some(index)) => (Rule::L7, Some(index), "after another claim was released"),
                (None, None) => (Rule::L5, None, "though nothing can have ended it"),
            };
            let operations: BTreeSet<usize> = [hold.operation, evidence].into_iter().chain(other).collect();
            violations.push(violation(
                rule,
                operations.into_iter().collect(),
                format!(
                    "lock {}: claim {} (token {}) lost its hold, {what}",
                    hold.lock, hold.claim, hold.token
                ),
            ));
        }
    }

    /// The first answer that shows the lock without `hold` within its certain time: the operation, when it was
    /// complete, and whether it was the grant of another claim.
    fn first_sign_of_loss(&self, hold: &Hold) -> Option<(usize, u64, bool)> {
        let later_grants = self
            .holds
            .iter()
            // With tokens that went back, the other may have been first; that is L2's to report.
            .filter(|other| hold.asked_ns <= other.told_ns)
            .filter(|other| other.lock == hold.lock && hold.token < other.token)
            .map(|other| (other.operation, other.told_ns, true));
        let others = self.history.operations.iter().enumerate().filter_map(|(index, op)| {
            let at_ns = op.completed_ns()?;
            let shows_loss = match (&op.call, op.answer(), op.refusal()) {
                (Call::LookAtLock { lock }, Some(Answer::Lock { holders }), _) => {
                    *lock == hold.lock && holders.iter().all(|holder| holder.claim != hold.claim)
                }
                (Call::Write { guard: Some(guard), .. }, _, Some(Refusal::StaleToken)) => {
                    guard.lock == hold.lock && guard.token == hold.token
                }
                _ => false,
            };
            (shows_loss && hold.told_ns < op.invoked_ns).then_some((index, at_ns, false))
        });
        later_grants
            .chain(others)
            .filter(|(_, at_ns, _)| *at_ns < hold.earliest_end_ns)
            .min_by_key(|(_, at_ns, _)| *at_ns)
    }

    /// An answer to a request sent after `since_ns` that treats `hold` as the holder.
    fn sign_of_holding_since(&self, hold: &Hold, since_ns: u64) -> Option<usize> {
        self.history.operations.iter().position(|op| {
            since_ns < op.invoked_ns
                && match (&op.call, op.answer()) {
                    (Call::LookAtLock { lock }, Some(Answer::Lock { holders })) => {
                        *lock == hold.lock && holders.iter().any(|holder| holder.claim == hold.claim)
                    }
                    (Call::Write { guard: Some(guard), .. }, Some(_)) => {
                        guard.lock == hold.lock && guard.token == hold.token
                    }
                    _ => false,
                }
        })
    }
}
