//! Ended ids: remembered, and forgotten within their bounds.

use super::{Store, claim_ref, create, end, id, put, release, rev, try_lock, try_own};
use crate::domain::{ClaimState, EndReason, Rejection, Settings, Success};
use crate::limits::DROPPED_PER_ENTRY_MAX;

const MIN: u64 = 60_000;
const AGE: u64 = 86_400_000;

fn small(tombstones_max: u64) -> Store {
    Store::with(Settings { tombstones_max, ..Settings::default() })
}

fn tombstones(store: &Store) -> u64 {
    store.machine.meta().counters.tombstones
}

#[test]
fn ended_ids_are_forgotten_after_their_time() {
    let mut store = Store::founded();
    store.outcome(end("a")).unwrap();
    store.outcome(release("lock", "x")).unwrap();
    store.outcome(try_own("lock", "y")).unwrap();
    store.outcome(release("lock", "y")).unwrap();
    assert_eq!(tombstones(&store), 4);
    store.at(AGE - 1).pass();
    assert_eq!(tombstones(&store), 4);
    store.at(AGE).pass();
    assert_eq!(tombstones(&store), 0);
    store.session("a");
    assert!(store.outcome(try_own("lock", "x")).is_ok());
}

#[test]
fn the_oldest_are_forgotten_first_when_there_are_too_many() {
    let mut store = small(2);
    for (at, session) in [(0, "a"), (1, "b"), (MIN, "c")] {
        store.at(at).outcome(end(session)).unwrap();
    }
    assert_eq!(tombstones(&store), 2);
    let reason = EndReason::DeletedUnseen;
    assert_eq!(store.refusal(create("b")), Rejection::SessionExpired { reason });
    assert_eq!(store.view().session(&id("a")).unwrap(), None);
}

#[test]
fn a_young_tombstone_is_never_dropped_and_new_ids_are_refused_instead() {
    let mut store = small(2);
    store.outcome(end("a")).unwrap();
    store.outcome(end("b")).unwrap();
    let full = Rejection::TooManyTombstones { max: 2 };
    store.at(MIN - 1);
    for command in [end("c"), create("c"), release("lock", "x"), try_own("lock", "x")] {
        assert_eq!(store.refusal(command), full);
    }
    assert_eq!(store.outcome(end("a")), Ok(Success::SessionEnded));
    assert!(store.at(MIN).outcome(create("c")).is_ok());
    assert_eq!(store.outcome(end("c")), Ok(Success::SessionEnded));
    assert_eq!(tombstones(&store), 2);
}

#[test]
fn what_already_lives_may_end_beyond_the_bound() {
    let mut store = small(1);
    store.session("a");
    store.outcome(try_own("lock", "x")).unwrap();
    store.outcome(release("lock", "x")).unwrap();
    store.outcome(end("a")).unwrap();
    assert_eq!(tombstones(&store), 3);
    store.at(MIN).pass();
    assert_eq!(tombstones(&store), 1);
}

#[test]
fn one_entry_drops_a_bounded_number() {
    let mut store = Store::founded();
    let more = DROPPED_PER_ENTRY_MAX + 1;
    for number in 0..more {
        store.outcome(end(&format!("s{number}"))).unwrap();
    }
    store.at(AGE).pass();
    assert_eq!(tombstones(&store), 1);
    store.outcome(put("k", "v")).unwrap();
    assert_eq!(tombstones(&store), 0);
}

#[test]
fn claims_of_an_explicit_session_are_remembered_as_long_as_it_lives() {
    let mut store = Store::founded();
    store.session("a");
    store.outcome(try_lock("lock", "x", "a")).unwrap();
    store.outcome(release("lock", "x")).unwrap();
    assert_eq!(tombstones(&store), 0);
    store.at(10 * AGE).pass();
    let refusal = store.refusal(try_lock("lock", "x", "a"));
    assert!(matches!(refusal, Rejection::ClaimEnded { .. }));
}

#[test]
fn the_newest_tombstones_of_a_live_session_are_kept() {
    let mut store = Store::with(Settings { session_tombstones_max: 2, ..Settings::default() });
    store.session("a");
    for claim in ["x", "y", "z"] {
        store.outcome(try_lock("lock", claim, "a")).unwrap();
        store.outcome(release("lock", claim)).unwrap();
    }
    assert_eq!(store.view().claim(&claim_ref("lock", "x")).unwrap(), None);
    for claim in ["y", "z"] {
        let refusal = store.refusal(try_lock("lock", claim, "a"));
        assert!(matches!(refusal, Rejection::ClaimEnded { .. }));
    }
    assert!(store.outcome(try_lock("lock", "x", "a")).is_ok());
}

#[test]
fn the_claims_of_an_ended_session_are_forgotten_before_the_session_is() {
    let mut store = Store::founded();
    let more = DROPPED_PER_ENTRY_MAX + 1;
    store.session("a");
    for number in 0..more {
        store.outcome(try_lock(&format!("lock{number:03}"), "x", "a")).unwrap();
    }
    store.outcome(end("a")).unwrap();
    assert_eq!(tombstones(&store), more as u64 + 1);
    let state = store.view().claim(&claim_ref("lock000", "x")).unwrap();
    assert!(matches!(state, Some(ClaimState::Ended { reason: EndReason::Released, .. })));

    store.at(AGE).pass();
    assert_eq!(tombstones(&store), 2);
    let forgotten = store.outcome(try_lock("lock000", "x", "a"));
    assert_eq!(forgotten, Err(Rejection::SessionExpired { reason: EndReason::Released }));
    assert_eq!(tombstones(&store), 0);
    assert_eq!(store.view().session(&id("a")).unwrap(), None);
}

#[test]
fn a_session_id_that_is_forgotten_begins_anew() {
    let mut store = Store::founded();
    store.session("a");
    store.outcome(try_lock("lock", "x", "a")).unwrap();
    store.outcome(end("a")).unwrap();
    store.at(AGE).pass();
    store.pass();
    let created = store.outcome(create("a"));
    assert!(matches!(created, Ok(Success::Session { created: true, .. })));
    let held = store.apply(try_lock("lock", "x", "a"));
    assert_eq!(held.revision, rev(6));
}

#[test]
fn idle_locks_are_bounded_like_tombstones() {
    let mut store = small(2);
    store.session("a");
    for (number, lock) in ["one", "two", "three"].into_iter().enumerate() {
        store.outcome(try_lock(lock, &format!("x{number}"), "a")).unwrap();
        store.outcome(release(lock, &format!("x{number}"))).unwrap();
    }
    assert_eq!(store.machine.meta().counters.idle_locks, 3);
    store.at(MIN).pass();
    assert_eq!(store.machine.meta().counters.idle_locks, 2);
}

#[test]
fn what_ends_after_all_else_is_forgotten_is_forgotten_too() {
    let mut store = Store::founded();
    for (round, claim) in ["x", "y"].into_iter().enumerate() {
        store.outcome(try_own("lock", claim)).unwrap();
        store.outcome(release("lock", claim)).unwrap();
        store.at((round as u64 + 1) * AGE - 1).pass();
        assert_eq!((tombstones(&store), store.machine.meta().counters.idle_locks), (2, 1));
        store.at((round as u64 + 1) * AGE).pass();
        assert_eq!((tombstones(&store), store.machine.meta().counters.idle_locks), (0, 0));
        store.pass();
    }
}
