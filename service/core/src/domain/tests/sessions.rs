//! Sessions: created, replayed, ended with all that they own.

use super::{
    Store, claim_ref, create, default_ns, end, grants, id, queue, rev, spec, token, try_lock, try_own,
};
use crate::domain::{
    Change, Command, EndReason, Event, LockMode, Rejection, SessionSpec, SessionState, Settings, Success,
};

#[test]
fn a_session_is_created_at_the_next_revision() {
    let mut store = Store::founded();
    let applied = store.apply(create("a"));
    let created = Success::Session { create_revision: rev(2), spec: spec(), created: true };
    assert_eq!(applied.outcome, Ok(created));
    let change = Change::SessionCreated { id: id("a"), ttl_ms: 15_000, made_by: None };
    assert_eq!(applied.events, [Event { revision: rev(2), change }]);
}

#[test]
fn creating_a_session_again_finds_it_and_takes_no_revision() {
    let mut store = Store::founded();
    store.session("a");
    let applied = store.apply(create("a"));
    let found = Success::Session { create_revision: rev(2), spec: spec(), created: false };
    assert_eq!((applied.outcome, applied.revision, applied.events), (Ok(found), rev(2), vec![]));
}

#[test]
fn a_session_with_another_body_is_a_conflict() {
    let mut store = Store::founded();
    store.session("a");
    let other = SessionSpec { ttl_ms: 16_000, ..spec() };
    let refusal = store.refusal(Command::CreateSession { id: id("a"), spec: other });
    assert_eq!(refusal, Rejection::SessionExists);
}

#[test]
fn an_ended_session_cannot_be_created_again() {
    let mut store = Store::founded();
    store.session("a");
    store.outcome(end("a")).unwrap();
    let refusal = store.refusal(create("a"));
    assert_eq!(refusal, Rejection::SessionExpired { reason: EndReason::Released });
}

#[test]
fn a_session_deleted_before_it_was_seen_cannot_begin_later() {
    let mut store = Store::founded();
    let applied = store.apply(end("a"));
    assert_eq!((applied.outcome, applied.revision), (Ok(Success::SessionEnded), rev(2)));
    let refusal = store.refusal(create("a"));
    assert_eq!(refusal, Rejection::SessionExpired { reason: EndReason::DeletedUnseen });
}

#[test]
fn ending_a_session_twice_takes_one_revision() {
    let mut store = Store::founded();
    store.session("a");
    assert_eq!(store.apply(end("a")).revision, rev(3));
    let again = store.apply(end("a"));
    assert_eq!((again.outcome, again.revision), (Ok(Success::SessionEnded), rev(3)));
    assert_eq!(again.events, []);
}

#[test]
fn ending_a_session_releases_what_it_holds_and_leaves_the_queues() {
    let mut store = Store::founded();
    for session in ["a", "b", "c"] {
        store.session(session);
    }
    store.outcome(try_lock("one", "a1", "a")).unwrap();
    store.outcome(try_lock("two", "c2", "c")).unwrap();
    store.outcome(queue("two", "a2", "a")).unwrap();
    store.outcome(queue("one", "b1", "b")).unwrap();

    let applied = store.apply(end("a"));
    let ended = |lock, claim, reason, token| Event {
        revision: rev(9),
        change: Change::ClaimEnded { claim: claim_ref(lock, claim), session: Some(id("a")), reason, token },
    };
    let session = Change::SessionEnded { id: id("a"), reason: EndReason::Released };
    let grant = Change::ClaimGranted {
        claim: claim_ref("one", "b1"),
        session: id("b"),
        mode: LockMode::Exclusive,
        token: token(10),
    };
    assert_eq!(
        applied.events,
        [
            ended("one", "a1", EndReason::Released, Some(token(5))),
            ended("two", "a2", EndReason::LeftQueue, None),
            Event { revision: rev(9), change: session },
            Event { revision: rev(10), change: grant },
        ]
    );
    assert_eq!(store.view().session_claims(&id("a")).unwrap(), []);
}

#[test]
fn sessions_are_bounded() {
    let mut store = Store::with(Settings { sessions_max: 1, ..Settings::default() });
    store.session("a");
    assert_eq!(store.refusal(create("b")), Rejection::TooManySessions { max: 1 });
    assert_eq!(store.refusal(try_own("lock", "x")), Rejection::TooManySessions { max: 1 });
    store.outcome(end("a")).unwrap();
    store.session("b");
}

#[test]
fn a_session_owns_a_bounded_number_of_claims() {
    let mut store = Store::founded();
    store.session("a");
    let mut batch = store.machine.batch(&store.tables);
    for number in 0..crate::limits::SESSION_OWNED_MAX {
        let command = try_lock(&format!("lock{number}"), "x", "a");
        let proposal = crate::domain::Proposal {
            level: crate::domain::LEVEL,
            time: crate::LogTime::ZERO,
            replay: None,
            command,
        };
        assert!(batch.apply(super::leader(), &proposal).unwrap().outcome.is_ok());
    }
    let changes = batch.finish();
    store.tables.write(changes);
    let refusal = store.refusal(try_lock("more", "x", "a"));
    assert_eq!(refusal, Rejection::SessionOwnsTooMuch { max: crate::limits::SESSION_OWNED_MAX });
    store.outcome(end("a")).unwrap();
    assert_eq!(store.view().namespace(&default_ns()).unwrap().unwrap().claims, 0);
}

#[test]
fn a_reserved_id_cannot_be_created_by_a_client() {
    let mut store = Store::founded();
    assert_eq!(store.refusal(create("c-3")), Rejection::SessionExists);
}

#[test]
fn deleting_a_reserved_id_ahead_of_its_revision_does_not_stand_in_the_way_of_its_claim() {
    let mut store = Store::founded();
    let applied = store.apply(end("c-2"));
    assert_eq!((applied.outcome, applied.revision), (Ok(Success::SessionEnded), rev(1)));
    let held = Success::Held { token: token(2), session: id("c-2"), granted: true };
    assert_eq!(store.outcome(try_own("lock", "x")), Ok(held));
}

#[test]
fn ending_a_claim_made_session_ends_its_claim_and_lets_the_next_in() {
    let mut store = Store::founded();
    store.outcome(try_own("lock", "x")).unwrap();
    store.outcome(super::queue_own("lock", "y")).unwrap();
    let applied = store.apply(end("c-2"));
    assert_eq!(applied.outcome, Ok(Success::SessionEnded));
    assert_eq!(grants(&applied), [("y".to_owned(), 5)]);
    let ended = SessionState::Ended { reason: EndReason::Released, revision: rev(4) };
    assert_eq!(store.view().session(&id("c-2")).unwrap(), Some(ended));
}
