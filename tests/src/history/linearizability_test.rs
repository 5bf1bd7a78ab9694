//! The search against an exhaustive one that shares no code with it, and against its budget.
//!
//! The exhaustive checker tries every order and, for effects whose revision no answer told, every revision that
//! the history mentions and one that it does not.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the naive specifications name only what is generated here"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::history::{
    Answer, Budget, Call, ClaimName, ClientId, Condition, HeldClaim, History, Key, LockName, Operation,
    Outcome, Refusal, SessionName, ValueId, Verdict, check_key, check_lock,
};

/// A revision that no answer mentions.
const UNTOLD: u64 = 1_000;
const MS: u64 = 1_000_000;

fn operation(invoked_ns: u64, call: Call, outcome: Outcome) -> Operation {
    Operation { client: ClientId(0), invoked_ns, call, outcome }
}

/// Tries every order. `apply` gives all states that an operation can lead to.
fn has_order<S: Clone>(ops: &[Operation], state: &S, apply: &impl Fn(&S, &Operation) -> Vec<S>) -> bool {
    let Some(first_end) = ops.iter().filter_map(Operation::completed_ns).min() else { return true };
    (0..ops.len()).filter(|index| ops[*index].invoked_ns <= first_end).any(|index| {
        let mut rest = ops.to_vec();
        let op = rest.remove(index);
        apply(state, &op).iter().any(|next| has_order(&rest, next, apply))
    })
}

// === Keys ===

#[derive(Clone, Default)]
struct NaiveKey {
    item: Option<(ValueId, u64)>,
    last: u64,
}

fn naive_key(revisions: &BTreeSet<u64>, key: &NaiveKey, op: &Operation) -> Vec<NaiveKey> {
    let (condition, value) = match &op.call {
        Call::Read { .. } => {
            let found = match op.answer() {
                Some(Answer::Item { value, mod_revision }) => Some((*value, *mod_revision)),
                _ => None,
            };
            let fits = op.answer().is_none() || found == key.item;
            return if fits { vec![key.clone()] } else { vec![] };
        }
        Call::Write { condition, value, .. } => (*condition, Some(*value)),
        Call::Delete { condition, .. } => (*condition, None),
        other => panic!("{other:?} is not about a key"),
    };
    let holds = match condition {
        Condition::Always => true,
        Condition::Absent => key.item.is_none(),
        Condition::Revision(revision) => key.item.is_some_and(|(_, own)| own == revision),
    };
    if op.refusal().is_some() {
        return if holds { vec![] } else { vec![key.clone()] };
    }
    if !holds {
        return vec![];
    }
    let Some(value) = value else { return vec![NaiveKey { item: None, last: key.last }] };
    let possible: Vec<u64> = match op.answer() {
        Some(Answer::Written { mod_revision }) => vec![*mod_revision],
        _ => revisions.iter().copied().chain([UNTOLD]).collect(),
    };
    possible
        .into_iter()
        .filter(|revision| key.last < *revision)
        .map(|revision| {
            let last = if revision == UNTOLD { key.last } else { revision };
            NaiveKey { item: Some((value, revision)), last }
        })
        .collect()
}

fn revisions_of(ops: &[Operation]) -> BTreeSet<u64> {
    let mut revisions = BTreeSet::new();
    for op in ops {
        if let Call::Write { condition: Condition::Revision(revision), .. }
        | Call::Delete { condition: Condition::Revision(revision), .. } = op.call
        {
            revisions.insert(revision);
        }
        match op.answer() {
            Some(Answer::Item { mod_revision, .. } | Answer::Written { mod_revision }) => {
                revisions.insert(*mod_revision);
            }
            Some(Answer::Held { token }) => {
                revisions.insert(*token);
            }
            Some(Answer::Lock { holders }) => revisions.extend(holders.iter().map(|holder| holder.token)),
            _ => {}
        }
    }
    revisions
}

/// A run of a real register with overlapping calls, then, now and then, one answer bent.
fn random_key_history(rng: &mut StdRng) -> Vec<Operation> {
    let key = Key::new("k");
    let (mut item, mut revision) = (None, 0);
    let mut ops = Vec::new();
    for step in 1..=rng.random_range(2..=7_u64) {
        let point = step * 10;
        let (invoked_ns, at_ns) =
            (point - rng.random_range(0..10.min(point)), point + rng.random_range(0..25_u64));
        let condition = match rng.random_range(0..4) {
            0 => Condition::Absent,
            1 => Condition::Revision(rng.random_range(1..=3)),
            _ => Condition::Always,
        };
        let holds = match condition {
            Condition::Always => true,
            Condition::Absent => item.is_none(),
            Condition::Revision(revision) => item.is_some_and(|(_, own)| own == revision),
        };
        let call = match rng.random_range(0..8) {
            0..3 => Call::Read { key: key.clone() },
            3..7 => Call::Write { key: key.clone(), value: ValueId(step), condition, guard: None },
            _ if condition == Condition::Absent => Call::Read { key: key.clone() },
            _ => Call::Delete { key: key.clone(), condition },
        };
        let is_lost = rng.random_bool(0.3);
        let happens = !is_lost || rng.random_bool(0.5);
        let answer = match &call {
            Call::Read { .. } => match item {
                Some((value, mod_revision)) => Ok(Answer::Item { value, mod_revision }),
                None => Ok(Answer::NoItem),
            },
            _ if !holds => Err(Refusal::RevisionMismatch),
            Call::Delete { .. } => {
                item = if happens { None } else { item };
                Ok(Answer::Deleted)
            }
            _ => {
                if happens {
                    revision += 1;
                    item = Some((ValueId(step), revision));
                }
                Ok(Answer::Written { mod_revision: revision })
            }
        };
        let outcome = match answer {
            _ if is_lost => Outcome::Unknown,
            Ok(answer) => Outcome::Ok { at_ns, answer },
            Err(refusal) => Outcome::Refused { at_ns, refusal },
        };
        ops.push(operation(invoked_ns, call, outcome));
    }
    if rng.random_bool(0.5) {
        bend_key_answer(rng, &mut ops);
    }
    ops
}

fn bend_key_answer(rng: &mut StdRng, ops: &mut [Operation]) {
    let bent = rng.random_range(0..ops.len());
    let op = &mut ops[bent];
    let Some(at_ns) = op.completed_ns() else { return };
    let revision = rng.random_range(1..=3);
    op.outcome = match &op.call {
        Call::Read { .. } if rng.random_bool(0.3) => Outcome::Ok { at_ns, answer: Answer::NoItem },
        Call::Read { .. } => {
            let value = ValueId(rng.random_range(1..=6));
            Outcome::Ok { at_ns, answer: Answer::Item { value, mod_revision: revision } }
        }
        Call::Write { condition: Condition::Always, .. } => {
            Outcome::Ok { at_ns, answer: Answer::Written { mod_revision: revision } }
        }
        Call::Write { .. } if op.refusal().is_some() => {
            Outcome::Ok { at_ns, answer: Answer::Written { mod_revision: revision } }
        }
        Call::Write { .. } => Outcome::Refused { at_ns, refusal: Refusal::RevisionMismatch },
        _ => return,
    };
}

#[test]
fn the_search_agrees_with_every_order_of_a_key() {
    let mut found = [0_u32; 2];
    for seed in 0..6_000 {
        let ops = random_key_history(&mut StdRng::seed_from_u64(seed));
        let revisions = revisions_of(&ops);
        let expected = has_order(&ops, &NaiveKey::default(), &|key, op| naive_key(&revisions, key, op));
        let history = History { operations: ops };
        let verdict = check_key(&history, &Key::new("k"), Budget::default());
        assert_eq!(verdict == Verdict::Linearizable, expected, "seed {seed}: {verdict:?}\n{history:#?}");
        found[usize::from(expected)] += 1;
    }
    assert!(found.iter().all(|count| *count > 1_000), "one-sided histories: {found:?}");
}

// === Locks ===

#[derive(Clone, Default)]
struct NaiveLock {
    holder: Option<(ClaimName, SessionName, u64)>,
    last: u64,
    over: BTreeSet<String>,
}

fn naive_lock(tokens: &BTreeSet<u64>, lock: &NaiveLock, op: &Operation) -> Vec<NaiveLock> {
    let holds = |claim: &ClaimName| lock.holder.as_ref().is_some_and(|(own, ..)| own == claim);
    let only_if = |condition: bool| if condition { vec![lock.clone()] } else { vec![] };
    let without = |claim: &ClaimName| {
        let mut next = lock.clone();
        next.holder = next.holder.filter(|(own, ..)| own != claim);
        next.over.insert(format!("claim {claim}"));
        vec![next]
    };
    match &op.call {
        Call::Acquire { claim, session, .. } => match (op.refusal(), op.answer()) {
            (Some(Refusal::LockHeld), _) => only_if(lock.holder.is_some() && !holds(claim)),
            (Some(_), _) if holds(claim) => vec![],
            (Some(_), _) => without(claim),
            (None, answer) => {
                let told = match answer {
                    Some(Answer::Held { token }) => Some(*token),
                    _ => None,
                };
                if let Some((own, _, token)) = &lock.holder {
                    return only_if(own == claim && told.is_none_or(|told| told == *token));
                }
                if lock.over.contains(&format!("claim {claim}"))
                    || lock.over.contains(&format!("session {session}"))
                {
                    return vec![];
                }
                let possible =
                    told.map_or(tokens.iter().copied().chain([UNTOLD]).collect(), |told| vec![told]);
                possible
                    .into_iter()
                    .filter(|token| lock.last < *token)
                    .map(|token| {
                        let mut next = lock.clone();
                        next.holder = Some((claim.clone(), session.clone(), token));
                        next.last = if token == UNTOLD { lock.last } else { token };
                        next
                    })
                    .collect()
            }
        },
        Call::Release { claim, .. } => without(claim),
        Call::EndSession { session } => {
            let mut next = lock.clone();
            next.holder = next.holder.filter(|(_, own, _)| own != session);
            next.over.insert(format!("session {session}"));
            vec![next]
        }
        Call::LookAtLock { .. } => match op.answer() {
            Some(Answer::Lock { holders }) => {
                let own = lock.holder.iter().map(|(claim, _, token)| (claim.clone(), *token));
                let seen = holders.iter().map(|held| (held.claim.clone(), held.token));
                only_if(own.eq(seen))
            }
            _ => only_if(true),
        },
        other => panic!("{other:?} is not about a lock"),
    }
}

/// A run of a real lock with two sessions and four claims, some of them asked for twice; then, now and then, one
/// answer bent.
fn random_lock_history(rng: &mut StdRng) -> Vec<Operation> {
    let lock = LockName::new("l");
    let mut holder: Option<(u64, u64)> = None;
    let mut over = BTreeSet::new();
    let mut revision = 0;
    let mut ops = Vec::new();
    for step in 1..=rng.random_range(2..=7_u64) {
        let point = step * 10;
        let invoked_ns = point - rng.random_range(0..10.min(point));
        let at_ns = point + rng.random_range(0..25_u64);
        let is_lost = rng.random_bool(0.25);
        let happens = !is_lost || rng.random_bool(0.5);
        let number = rng.random_range(0..4_u64);
        let claim = ClaimName::new(format!("c{number}"));
        let session = SessionName::new(format!("s{}", number % 2));
        let (call, answer) = match rng.random_range(0..10) {
            0..5 => {
                let call = Call::Acquire { lock: lock.clone(), claim, session, wait_ms: 0 };
                let answer = match holder {
                    Some((own, token)) if own == number => Ok(Answer::Held { token }),
                    _ if over.contains(&number) => Err(Refusal::ClaimEnded),
                    Some(_) => Err(Refusal::LockHeld),
                    None => {
                        if happens {
                            revision += 1;
                            holder = Some((number, revision));
                        }
                        Ok(Answer::Held { token: revision })
                    }
                };
                (call, answer)
            }
            5..8 => {
                if happens {
                    holder = holder.filter(|(own, _)| *own != number);
                    over.insert(number);
                }
                (Call::Release { lock: lock.clone(), claim }, Ok(Answer::Released))
            }
            8 if step > 3 => {
                if happens {
                    holder = holder.filter(|(own, _)| own % 2 != number % 2);
                    over.extend([number % 2, number % 2 + 2]);
                }
                (Call::EndSession { session }, Ok(Answer::SessionEnded))
            }
            _ => {
                let held = |(own, token)| HeldClaim { claim: ClaimName::new(format!("c{own}")), token };
                let holders = holder.into_iter().map(held).collect();
                (Call::LookAtLock { lock: lock.clone() }, Ok(Answer::Lock { holders }))
            }
        };
        let outcome = match answer {
            _ if is_lost => Outcome::Unknown,
            Ok(answer) => Outcome::Ok { at_ns, answer },
            Err(refusal) => Outcome::Refused { at_ns, refusal },
        };
        ops.push(operation(invoked_ns, call, outcome));
    }
    if rng.random_bool(0.5) {
        bend_lock_answer(rng, &mut ops);
    }
    ops
}

fn bend_lock_answer(rng: &mut StdRng, ops: &mut [Operation]) {
    let bent = rng.random_range(0..ops.len());
    let op = &mut ops[bent];
    let Some(at_ns) = op.completed_ns() else { return };
    let token = rng.random_range(1..=3);
    let claim = ClaimName::new(format!("c{}", rng.random_range(0..4)));
    op.outcome = match &op.call {
        Call::Acquire { .. } if rng.random_bool(0.5) => Outcome::Ok { at_ns, answer: Answer::Held { token } },
        Call::Acquire { .. } => Outcome::Refused { at_ns, refusal: Refusal::LockHeld },
        Call::LookAtLock { .. } => {
            let holders = vec![HeldClaim { claim, token }];
            Outcome::Ok { at_ns, answer: Answer::Lock { holders } }
        }
        _ => return,
    };
}

#[test]
fn the_search_agrees_with_every_order_of_a_lock() {
    let mut found = [0_u32; 2];
    for seed in 0..6_000 {
        let ops = random_lock_history(&mut StdRng::seed_from_u64(seed));
        let tokens = revisions_of(&ops);
        let expected = has_order(&ops, &NaiveLock::default(), &|lock, op| naive_lock(&tokens, lock, op));
        let mut operations = ops;
        for session in ["s0", "s1"] {
            // Sessions that outlive the history: here only calls end them.
            let call = Call::OpenSession { session: SessionName::new(session), ttl_ms: 1_000 };
            operations.push(operation(0, call, Outcome::Ok { at_ns: 1, answer: Answer::SessionOpen }));
        }
        let history = History { operations };
        let verdict = check_lock(&history, &LockName::new("l"), Budget::default());
        assert_eq!(verdict == Verdict::Linearizable, expected, "seed {seed}: {verdict:?}\n{history:#?}");
        found[usize::from(expected)] += 1;
    }
    assert!(found.iter().all(|count| *count > 1_000), "one-sided histories: {found:?}");
}

// === Size, time and budget ===

/// Thirty clients at a time, one in forty answers lost, all on one key.
fn busy_history(rng: &mut StdRng, count: u64) -> History {
    let key = Key::new("k");
    let (mut item, mut revision) = (None, 0);
    let operations = (1..=count).map(|step| {
        let (invoked_ns, at_ns) =
            (step * 10 - rng.random_range(0..10), step * 10 + rng.random_range(0..300_u64));
        let (call, answer) = match rng.random_range(0..4) {
            0 | 1 => {
                let answer =
                    item.map_or(Answer::NoItem, |(value, mod_revision)| Answer::Item { value, mod_revision });
                (Call::Read { key: key.clone() }, Ok(answer))
            }
            2 => {
                revision += 1;
                item = Some((ValueId(step), revision));
                let call = Call::Write {
                    key: key.clone(),
                    value: ValueId(step),
                    condition: Condition::Always,
                    guard: None,
                };
                (call, Ok(Answer::Written { mod_revision: revision }))
            }
            _ => {
                let condition = Condition::Revision(revision.saturating_sub(rng.random_range(1..3)).max(1));
                let holds = item.is_some_and(|(_, own)| condition == Condition::Revision(own));
                let call = Call::Write { key: key.clone(), value: ValueId(step), condition, guard: None };
                if holds {
                    revision += 1;
                    item = Some((ValueId(step), revision));
                    (call, Ok(Answer::Written { mod_revision: revision }))
                } else {
                    (call, Err(Refusal::RevisionMismatch))
                }
            }
        };
        let outcome = match answer {
            _ if rng.random_range(0..40) == 0 => Outcome::Unknown,
            Ok(answer) => Outcome::Ok { at_ns, answer },
            Err(refusal) => Outcome::Refused { at_ns, refusal },
        };
        operation(invoked_ns, call, outcome)
    });
    History { operations: operations.collect() }
}

#[test]
fn a_busy_key_of_ten_thousand_operations_is_decided() {
    let history = busy_history(&mut StdRng::seed_from_u64(11), 10_000);
    let open = history.operations.iter().filter(|op| op.completed_ns().is_none()).count();
    assert!(open > 200, "{open} open operations");
    assert_eq!(check_key(&history, &Key::new("k"), Budget::default()), Verdict::Linearizable);
}

#[test]
fn one_lost_write_among_thousands_is_found() {
    let mut history = busy_history(&mut StdRng::seed_from_u64(12), 3_000);
    let at_ns = 40_000_000;
    let answer = Answer::Item { value: ValueId(u64::MAX), mod_revision: 1_000_000 };
    let call = Call::Read { key: Key::new("k") };
    history.operations.push(operation(at_ns - 1, call, Outcome::Ok { at_ns, answer }));
    let verdict = check_key(&history, &Key::new("k"), Budget::default());
    assert!(
        matches!(&verdict, Verdict::Violation { culprit: Some(3_000), window } if window.contains(&3_000)),
        "{verdict:?}"
    );
}

#[test]
fn a_spent_budget_is_reported_with_its_steps() {
    let history = busy_history(&mut StdRng::seed_from_u64(13), 3_000);
    let few = Budget { steps_max: 100, ..Budget::default() };
    assert_eq!(check_key(&history, &Key::new("k"), few), Verdict::BudgetExhausted { steps: 101 });
    let no_time = Budget { time_max: Duration::ZERO, ..Budget::default() };
    let verdict = check_key(&history, &Key::new("k"), no_time);
    assert!(matches!(verdict, Verdict::BudgetExhausted { .. }), "{verdict:?}");
}

#[test]
fn a_lock_may_move_on_only_when_the_ttl_has_passed() {
    let lock = LockName::new("l");
    let at = |second_told_ns: u64| {
        let open = |session: &str| {
            let call = Call::OpenSession { session: SessionName::new(session), ttl_ms: 100 };
            operation(0, call, Outcome::Ok { at_ns: MS, answer: Answer::SessionOpen })
        };
        let acquire = |claim: &str, session: &str, invoked_ns: u64, at_ns: u64, token: u64| {
            let (claim, session) = (ClaimName::new(claim), SessionName::new(session));
            let call = Call::Acquire { lock: lock.clone(), claim, session, wait_ms: 0 };
            operation(invoked_ns, call, Outcome::Ok { at_ns, answer: Answer::Held { token } })
        };
        let renewal = Call::KeepAlive { session: SessionName::new("s1") };
        let renewed = Outcome::Ok { at_ns: 50 * MS, answer: Answer::Renewed };
        let operations = vec![
            open("s1"),
            open("s2"),
            acquire("a", "s1", 2 * MS, 3 * MS, 1),
            operation(40 * MS, renewal, renewed),
            acquire("b", "s2", 60 * MS, second_told_ns, 2),
        ];
        check_lock(&History { operations }, &lock, Budget::default())
    };
    assert_eq!(at(140 * MS), Verdict::Linearizable);
    let early = at(140 * MS - 1);
    assert!(matches!(early, Verdict::Violation { culprit: Some(4), .. }), "{early:?}");
}
