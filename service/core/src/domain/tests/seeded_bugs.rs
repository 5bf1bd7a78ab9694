//! Each planted defect does what it says, so that the checkers have something to find.

use super::{
    Store, claim_ref, create, expire, grants, id, leader, put, queue, release, rev, scope, session_ref,
    token, try_lock,
};
use crate::domain::{Applied, Command, Expire, LEVEL, Outcome, Proposal, SeededBugs, SessionState, Success};
use crate::{LeaderId, LogTime, Term};

fn store(bugs: SeededBugs) -> Store {
    let mut store = Store::founded();
    store.session("a");
    store.session("b");
    store.outcome(try_lock("lock", "x", "a")).unwrap();
    store.outcome(queue("lock", "y", "b")).unwrap();
    store.machine.seed_bugs(bugs);
    store
}

/// Applies without checking the invariants, which the defects break.
fn apply(store: &mut Store, command: Command) -> Applied {
    apply_proposal(store, &Proposal { level: LEVEL, time: LogTime::ZERO, replay: None, command })
}

fn apply_proposal(store: &mut Store, proposal: &Proposal) -> Applied {
    let mut batch = store.machine.batch(&store.tables);
    let applied = batch.apply(leader(), proposal).unwrap();
    let changes = batch.finish();
    store.tables.write(changes);
    applied
}

fn held(outcome: &Outcome) -> bool {
    matches!(outcome, Ok(Success::Held { .. }))
}

#[test]
fn without_the_session_check_the_dead_take_locks() {
    let mut store = store(SeededBugs { session_check_dropped: true, ..SeededBugs::default() });
    apply(&mut store, expire(&[("b", 3)], &[])).outcome.unwrap();
    assert_eq!(grants(&apply(&mut store, release("lock", "x"))), [("y".to_owned(), 8)]);
    assert!(held(&apply(&mut store, try_lock("other", "z", "b")).outcome));
    apply(&mut store, release("other", "z")).outcome.unwrap();
    apply(&mut store, release("lock", "y")).outcome.unwrap();
}

#[test]
fn without_the_leader_check_an_old_leader_ends_a_new_session() {
    let mut store = store(SeededBugs { expiry_without_leader_check: true, ..SeededBugs::default() });
    let old = LeaderId { term: Term(1), ..leader() };
    let expire = Expire { leader: old, sessions: vec![session_ref("a", 1)], waits: vec![] };
    let applied = apply(&mut store, Command::Expire(expire));
    assert_eq!(applied.outcome, Ok(Success::Expired { sessions: 1, waits: 0 }));
    assert!(matches!(store.view().session(&id("a")).unwrap(), Some(SessionState::Ended { .. })));
}

#[test]
fn a_release_by_name_ends_whoever_holds() {
    let mut store = store(SeededBugs { release_by_lock_name: true, ..SeededBugs::default() });
    assert_eq!(grants(&apply(&mut store, release("lock", "never"))), [("y".to_owned(), 7)]);
    let ended = store.view().claim(&claim_ref("lock", "x")).unwrap();
    assert!(matches!(ended, Some(crate::domain::ClaimState::Ended { .. })));
}

#[test]
fn a_reevaluated_replay_writes_again() {
    let mut store = store(SeededBugs { replay_reevaluated: true, ..SeededBugs::default() });
    let proposal = store.proposal(put("k", "v"), Some(scope(1)));
    assert_eq!(apply_proposal(&mut store, &proposal).revision, rev(6));
    assert_eq!(apply_proposal(&mut store, &proposal).revision, rev(7));
}

#[test]
fn none_is_planted_by_default() {
    let mut store = store(SeededBugs::default());
    store.apply(release("lock", "never")).outcome.unwrap();
    let view = store.view().lock(&super::lock_ref("lock"), 10).unwrap();
    assert_eq!(view.holders[0].token, token(4));
    store.outcome(create("c")).unwrap();
}
