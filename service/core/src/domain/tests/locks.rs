//! Locks: queues, lock delays and what an idle lock remembers.

use super::{
    Store, claim_ref, create_delayed, end, expire, grants, lock_ref, queue, release, rev, token, try_lock,
};
use crate::domain::{Command, LockView, Rejection, Success};
use crate::limits::DUE_DELAYS_PER_ENTRY_MAX;

/// A lock held by a session with this delay, and one claim that waits for it.
fn contended(lock_delay_ms: u64) -> Store {
    let mut store = Store::founded();
    store.outcome(create_delayed("a", lock_delay_ms)).unwrap();
    store.session("b");
    store.outcome(try_lock("lock", "x", "a")).unwrap();
    store.outcome(queue("lock", "y", "b")).unwrap();
    store
}

#[test]
fn a_lost_lock_stays_closed_for_its_sessions_delay() {
    let mut store = contended(500);
    let lost = store.at(1_000).apply(expire(&[("a", 2)], &[]));
    assert_eq!((grants(&lost), lost.revision), (vec![], rev(6)));
    let before = store.at(1_499).tick();
    assert_eq!((grants(&before), before.revision), (vec![], rev(6)));
    let due = store.at(1_500).tick();
    assert_eq!((due.outcome.clone(), grants(&due)), (Ok(Success::Ticked), vec![("y".to_owned(), 7)]));
}

#[test]
fn a_forced_release_closes_the_lock_too() {
    let mut store = contended(500);
    let force = Command::ForceRelease { lock: lock_ref("lock"), token: token(4), reason: String::new() };
    assert_eq!(grants(&store.at(1_000).apply(force)), []);
    assert_eq!(grants(&store.at(1_500).tick()), [("y".to_owned(), 7)]);
}

#[test]
fn who_gives_a_lock_back_leaves_it_open() {
    let mut store = contended(500);
    assert_eq!(grants(&store.apply(release("lock", "x"))), [("y".to_owned(), 7)]);
    let mut store = contended(500);
    assert_eq!(grants(&store.apply(end("a"))), [("y".to_owned(), 7)]);
}

#[test]
fn a_closed_lock_refuses_a_try_and_takes_a_wait() {
    let mut store = contended(500);
    store.outcome(release("lock", "y")).unwrap();
    store.at(1_000).outcome(expire(&[("a", 2)], &[])).unwrap();
    let refusal = store.at(1_100).refusal(try_lock("lock", "z", "b"));
    assert_eq!(refusal, Rejection::LockHeld { holders: vec![], queued: 0, delay_remaining_ms: 400 });
    let queued = store.outcome(queue("lock", "z", "b"));
    assert!(matches!(queued, Ok(Success::Queued { position: 0, .. })));
    assert_eq!(store.view().lock(&lock_ref("lock"), 10).unwrap().delay_remaining_ms, 400);
    assert_eq!(grants(&store.at(1_500).tick()), [("z".to_owned(), 9)]);
}

#[test]
fn a_closed_lock_that_nobody_waits_for_opens_when_the_delay_is_over() {
    let mut store = contended(500);
    store.outcome(release("lock", "y")).unwrap();
    store.at(1_000).outcome(expire(&[("a", 2)], &[])).unwrap();
    let applied = store.at(1_500).apply(try_lock("lock", "z", "b"));
    assert_eq!(grants(&applied), [("z".to_owned(), 8)]);
}

#[test]
fn the_delay_ends_before_the_command_of_the_entry() {
    let mut store = contended(500);
    store.at(1_000).outcome(expire(&[("a", 2)], &[])).unwrap();
    let refusal = store.at(1_500).apply(try_lock("lock", "z", "b"));
    assert_eq!(grants(&refusal), [("y".to_owned(), 7)]);
    let Err(Rejection::LockHeld { holders, queued: 0, delay_remaining_ms: 0 }) = refusal.outcome else {
        panic!("{refusal:?}")
    };
    assert_eq!(holders[0].token, token(7));
}

#[test]
fn a_bounded_number_of_delays_ends_in_one_entry_the_longest_due_first() {
    let mut store = Store::founded();
    let more = DUE_DELAYS_PER_ENTRY_MAX + 1;
    store.outcome(create_delayed("a", 100)).unwrap();
    store.session("b");
    for number in 0..more {
        store.outcome(try_lock(&format!("lock{number:04}"), "x", "a")).unwrap();
        store.outcome(queue(&format!("lock{number:04}"), &format!("y{number:04}"), "b")).unwrap();
    }
    store.outcome(expire(&[("a", 2)], &[])).unwrap();
    let first = grants(&store.at(100).tick());
    assert_eq!(first.len(), DUE_DELAYS_PER_ENTRY_MAX);
    assert!(first.is_sorted());
    assert_eq!(
        grants(&store.tick()),
        [(format!("y{:04}", more - 1), store.machine.meta().revision.as_u64())]
    );
    assert_eq!(store.machine.meta().counters.lock_delays, 0);
}

#[test]
fn locks_that_one_entry_frees_are_granted_in_the_order_of_their_names() {
    let mut store = Store::founded();
    store.session("a");
    store.session("b");
    for lock in ["m", "z", "b", "k"] {
        store.outcome(try_lock(lock, "x", "a")).unwrap();
        store.outcome(queue(lock, &format!("w-{lock}"), "b")).unwrap();
    }
    let applied = store.apply(end("a"));
    let names: Vec<String> = grants(&applied).into_iter().map(|(claim, _)| claim).collect();
    assert_eq!(names, ["w-b", "w-k", "w-m", "w-z"]);
    assert_eq!(grants(&applied).iter().map(|(_, token)| *token).collect::<Vec<_>>(), [13, 14, 15, 16]);
}

#[test]
fn a_lock_shows_its_last_token_while_it_is_remembered() {
    let mut store = Store::founded();
    assert_eq!(store.view().lock(&lock_ref("lock"), 10).unwrap(), LockView::default());
    store.session("a");
    store.outcome(try_lock("lock", "x", "a")).unwrap();
    store.outcome(release("lock", "x")).unwrap();
    let view = store.view().lock(&lock_ref("lock"), 10).unwrap();
    assert_eq!(view, LockView { last_token: token(3), ..LockView::default() });
    let tombstone_ms = store.machine.meta().settings.tombstone_ms;
    store.at(tombstone_ms - 1).pass();
    assert_eq!(store.view().lock(&lock_ref("lock"), 10).unwrap().last_token, token(3));
    store.at(tombstone_ms).pass();
    assert_eq!(store.view().lock(&lock_ref("lock"), 10).unwrap(), LockView::default());
}

#[test]
fn a_lock_that_is_used_again_is_not_forgotten() {
    let mut store = Store::founded();
    let tombstone_ms = store.machine.meta().settings.tombstone_ms;
    store.session("a");
    store.outcome(try_lock("lock", "x", "a")).unwrap();
    store.outcome(release("lock", "x")).unwrap();
    store.at(1_000).outcome(try_lock("lock", "y", "a")).unwrap();
    store.at(tombstone_ms + 1_000).pass();
    let view = store.view().claim(&claim_ref("lock", "y")).unwrap();
    assert!(matches!(view, Some(crate::domain::ClaimState::Held { .. })));
}

#[test]
fn a_delay_that_begins_after_others_ended_ends_too() {
    let mut store = contended(500);
    store.at(1_000).outcome(expire(&[("a", 2)], &[])).unwrap();
    assert_eq!(grants(&store.at(1_500).tick()), [("y".to_owned(), 7)]);
    store.outcome(create_delayed("c", 100)).unwrap();
    store.outcome(try_lock("other", "z", "c")).unwrap();
    store.outcome(queue("other", "w", "b")).unwrap();
    store.outcome(expire(&[("c", 8)], &[])).unwrap();
    assert_eq!(grants(&store.at(1_599).tick()), []);
    assert_eq!(grants(&store.at(1_600).tick()), [("w".to_owned(), 12)]);
}

#[test]
fn a_shorter_delay_that_begins_later_ends_first() {
    let mut store = contended(500);
    store.outcome(create_delayed("c", 100)).unwrap();
    store.outcome(try_lock("other", "z", "c")).unwrap();
    store.outcome(queue("other", "w", "b")).unwrap();
    store.outcome(expire(&[("a", 2)], &[])).unwrap();
    assert_eq!(grants(&store.at(10).tick()), []);
    store.at(20).outcome(expire(&[("c", 6)], &[])).unwrap();
    assert_eq!(grants(&store.at(120).tick()), [("w".to_owned(), 11)]);
    assert_eq!(grants(&store.at(500).tick()), [("y".to_owned(), 12)]);
}
