//! Idempotency records: answered, refused, and dropped within their bounds.

use super::{Store, create, end, put, put_if, rev, scope, try_lock};
use crate::domain::{
    Applied, Command, Holder, Precondition, Rejection, ReplayKey, Settings, Success, Table, key, record,
};
use crate::limits::{DROPPED_PER_ENTRY_MAX, REPLAY_ANSWER_BYTES_MAX};

fn stored(store: &Store) -> (u64, u64) {
    let counters = &store.machine.meta().counters;
    (counters.replay_records, counters.replay_bytes)
}

#[test]
fn a_keyed_request_is_answered_with_its_first_answer_and_runs_once() {
    let mut store = Store::founded();
    let first = store.apply_keyed(scope(1), put("k", "one"));
    store.outcome(put("k", "two")).unwrap();
    let again = store.apply_keyed(scope(1), put("k", "one"));
    assert_eq!(again.outcome, first.outcome);
    assert_eq!((again.revision, again.events), (rev(3), vec![]));
}

#[test]
fn a_refusal_is_the_answer_too() {
    let mut store = Store::founded();
    let first = store.apply_keyed(scope(1), put_if("k", "one", Precondition::Exists));
    let refused = Err(Rejection::RevisionMismatch { current: None });
    assert_eq!(first.outcome, refused);
    store.outcome(put("k", "two")).unwrap();
    let again = store.apply_keyed(scope(1), put_if("k", "one", Precondition::Exists));
    assert_eq!((again.outcome, again.revision), (refused, rev(2)));
}

#[test]
fn a_key_used_for_another_request_is_refused_and_keeps_its_answer() {
    let mut store = Store::founded();
    let first = store.apply_keyed(scope(1), put("k", "one"));
    let other = ReplayKey { fingerprint: [2; 32], ..scope(1) };
    let applied = store.apply_keyed(other, put("k", "two"));
    assert_eq!((applied.outcome, applied.revision), (Err(Rejection::ReplayKeyReused), rev(2)));
    assert_eq!(store.apply_keyed(scope(1), put("k", "one")).outcome, first.outcome);
}

#[test]
fn a_record_that_is_too_old_answers_no_more_and_is_replaced() {
    let mut store = Store::founded();
    let replay_ms = store.machine.meta().settings.replay_ms;
    store.apply_keyed(scope(1), put("k", "one")).outcome.unwrap();
    let young = store.at(replay_ms - 1).apply_keyed(scope(1), put("k", "one"));
    assert_eq!(young.revision, rev(2));
    let other = ReplayKey { fingerprint: [2; 32], ..scope(1) };
    let old = store.at(replay_ms).apply_keyed(other, put("k", "two"));
    assert_eq!((old.revision, stored(&store).0), (rev(3), 1));
    assert_eq!(store.apply_keyed(other, put("k", "two")).revision, rev(3));
}

#[test]
fn records_are_dropped_by_age_a_bounded_number_an_entry() {
    let mut store = Store::founded();
    let replay_ms = store.machine.meta().settings.replay_ms;
    let more = DROPPED_PER_ENTRY_MAX + 1;
    for number in 0..more {
        let scope = scope(u8::try_from(number).unwrap());
        store.apply_keyed(scope, Command::Tick).outcome.unwrap();
    }
    store.at(replay_ms - 1).pass();
    assert_eq!(stored(&store).0, more as u64);
    store.at(replay_ms).pass();
    assert_eq!(stored(&store).0, 1);
    store.pass();
    assert_eq!(stored(&store), (0, 0));
}

#[test]
fn records_are_bounded_by_number_the_oldest_go_first() {
    let mut store = Store::with(Settings { replay_records_max: 2, ..Settings::default() });
    for number in 1..=3 {
        store.apply_keyed(scope(number), put("k", "v")).outcome.unwrap();
    }
    assert_eq!(stored(&store).0, 2);
    assert_eq!(store.apply_keyed(scope(2), put("k", "v")).revision, rev(4));
    assert_eq!(store.apply_keyed(scope(1), put("k", "v")).revision, rev(5));
}

#[test]
fn records_are_bounded_by_bytes_the_oldest_go_first() {
    let mut store = Store::founded();
    store.apply_keyed(scope(1), put("k", "v")).outcome.unwrap();
    let (_, bytes) = stored(&store);
    let mut store = Store::with(Settings { replay_bytes_max: 2 * bytes, ..Settings::default() });
    for number in 1..=3 {
        store.apply_keyed(scope(number), put("k", "v")).outcome.unwrap();
    }
    assert_eq!(stored(&store), (2, 2 * bytes));
    assert_eq!(store.apply_keyed(scope(1), put("k", "v")).revision, rev(5));
}

#[test]
fn what_is_due_happens_in_a_replay_too() {
    let mut store = Store::founded();
    store.outcome(super::create_delayed("a", 100)).unwrap();
    store.session("b");
    store.outcome(try_lock("lock", "x", "a")).unwrap();
    store.outcome(super::queue("lock", "y", "b")).unwrap();
    store.apply_keyed(scope(1), put("k", "v")).outcome.unwrap();
    store.outcome(super::expire(&[("a", 2)], &[])).unwrap();
    let again: Applied = store.at(100).apply_keyed(scope(1), put("k", "v"));
    assert_eq!(super::grants(&again), [("y".to_owned(), 8)]);
}

#[test]
fn an_answer_that_is_too_large_is_not_kept() {
    let mut store = Store::founded();
    let holder = Holder {
        claim: "x".repeat(REPLAY_ANSWER_BYTES_MAX),
        session: super::id("a"),
        session_name: String::new(),
        mode: crate::domain::LockMode::Exclusive,
        label: String::new(),
        token: super::token(1),
        held_ms: 0,
    };
    // No answer of this version is that large, so the record is made by the step itself.
    let tables = store.tables.clone();
    let mut batch = store.machine.batch(&tables);
    {
        let mut entry = crate::domain::entry::Entry {
            rows: &mut batch.rows,
            meta: &mut batch.meta,
            oldest: &mut batch.oldest,
            events: Vec::new(),
            unsettled: std::collections::BTreeSet::new(),
            #[cfg(feature = "seeded-bugs")]
            bugs: crate::domain::SeededBugs::default(),
        };
        let large = Err(Rejection::LockHeld { holders: vec![holder], queued: 0, delay_remaining_ms: 0 });
        entry.remember(&scope(1), &large).unwrap();
    }
    let changes = batch.finish();
    store.tables.write(changes);
    let applied = store.apply_keyed(scope(1), put("k", "v"));
    assert_eq!((applied.outcome, applied.revision), (Err(Rejection::ReplayAnswerNotKept), rev(1)));
    let row: crate::domain::replay::Replay =
        record::read(&store.tables, Table::Replay, &key::replay(&[1; 32])).unwrap().unwrap();
    assert_eq!(row.answer, None);
}

#[test]
fn a_session_is_ended_once_by_a_keyed_request() {
    let mut store = Store::founded();
    store.apply_keyed(scope(1), create("a")).outcome.unwrap();
    store.outcome(end("a")).unwrap();
    let again = store.apply_keyed(scope(1), create("a"));
    assert!(matches!(again.outcome, Ok(Success::Session { created: true, .. })));
    assert_eq!(again.revision, rev(3));
}

#[test]
fn records_made_after_all_others_were_dropped_are_dropped_too() {
    let mut store = Store::founded();
    let replay_ms = store.machine.meta().settings.replay_ms;
    for round in 1..=2 {
        store.apply_keyed(scope(1), Command::Tick).outcome.unwrap();
        store.at(round * replay_ms - 1).pass();
        assert_eq!(stored(&store).0, 1);
        store.at(round * replay_ms).pass();
        assert_eq!(stored(&store).0, 0);
        store.pass();
    }
}
