//! Claims: taken, replayed, released, forced, and what each leaves behind.

use super::{
    QUEUE, Store, acquire, claim_ref, create, default_ns, end, grants, id, lock_ref, ns, queue, queue_own,
    release, rev, token, try_lock, try_own, wait_ref,
};
use crate::domain::{
    Acquire, Change, ClaimOwner, ClaimRef, ClaimState, Command, EndReason, Event, Holder, IfHeld, LockMode,
    LockRef, Outcome, Rejection, SessionState, Settings, Success,
};

#[expect(clippy::unnecessary_wraps, reason = "it is compared with outcomes")]
fn held(number: u64, session: &str, granted: bool) -> Outcome {
    Ok(Success::Held { token: token(number), session: id(session), granted })
}

fn holder(claim: &str, session: &str, number: u64, held_ms: u64) -> Holder {
    Holder {
        claim: claim.to_owned(),
        session: id(session),
        session_name: String::new(),
        mode: LockMode::Exclusive,
        label: format!("label of {claim}"),
        token: token(number),
        held_ms,
    }
}

fn with_sessions(sessions: &[&str]) -> Store {
    let mut store = Store::founded();
    for session in sessions {
        store.session(session);
    }
    store
}

#[test]
fn a_free_lock_is_granted_with_the_commands_revision_as_its_token() {
    let mut store = with_sessions(&["a"]);
    let applied = store.apply(try_lock("lock", "x", "a"));
    assert_eq!((applied.outcome.clone(), applied.revision), (held(3, "a", true), rev(3)));
    assert_eq!(grants(&applied), [("x".to_owned(), 3)]);
}

#[test]
fn a_held_claim_asked_again_answers_the_same_token() {
    let mut store = with_sessions(&["a"]);
    store.outcome(try_lock("lock", "x", "a")).unwrap();
    for command in [try_lock("lock", "x", "a"), queue("lock", "x", "a")] {
        let applied = store.apply(command);
        assert_eq!((applied.outcome, applied.revision), (held(3, "a", false), rev(3)));
    }
}

#[test]
fn a_claim_asked_again_with_another_body_is_a_conflict() {
    let mut store = with_sessions(&["a", "b"]);
    store.outcome(try_lock("lock", "x", "a")).unwrap();
    assert_eq!(store.refusal(try_lock("lock", "x", "b")), Rejection::ClaimConflict);
    assert_eq!(store.refusal(try_own("lock", "x")), Rejection::ClaimConflict);
    store.outcome(try_own("other", "y")).unwrap();
    let other_ttl = acquire("other", "y", ClaimOwner::OwnSession { ttl_ms: 5_001 }, IfHeld::Refuse);
    assert_eq!(store.refusal(other_ttl), Rejection::ClaimConflict);
    assert_eq!(store.refusal(try_lock("other", "y", "c-5")), Rejection::ClaimConflict);
    assert_eq!(store.outcome(try_own("other", "y")), held(5, "c-5", false));
}

#[test]
fn trying_a_held_lock_is_refused_with_its_holders_and_leaves_nothing() {
    let mut store = with_sessions(&["a", "b"]);
    store.at(100).outcome(try_lock("lock", "x", "a")).unwrap();
    let refusal = store.at(350).refusal(try_lock("lock", "y", "b"));
    let holders = vec![holder("x", "a", 4, 250)];
    assert_eq!(refusal, Rejection::LockHeld { holders, queued: 0, delay_remaining_ms: 0 });
    store.outcome(release("lock", "x")).unwrap();
    assert_eq!(store.outcome(try_lock("lock", "y", "b")), held(6, "b", true));
}

#[test]
fn claims_wait_in_the_order_of_the_log() {
    let mut store = with_sessions(&["a", "b", "c"]);
    store.outcome(try_lock("lock", "x", "a")).unwrap();
    let queued = |enqueued, session: &str, position, queued| {
        let holders = vec![holder("x", "a", 5, 0)];
        let (enqueued, session) = (rev(enqueued), id(session));
        Ok(Success::Queued { enqueued, session, position, holders, queued })
    };
    assert_eq!(store.outcome(queue("lock", "y", "b")), queued(6, "b", 0, true));
    assert_eq!(store.outcome(queue("lock", "z", "c")), queued(7, "c", 1, true));
    assert_eq!(store.outcome(queue("lock", "z", "c")), queued(7, "c", 1, false));
    assert_eq!(store.outcome(try_lock("lock", "z", "c")), queued(7, "c", 1, false));

    assert_eq!(grants(&store.apply(release("lock", "x"))), [("y".to_owned(), 9)]);
    assert_eq!(grants(&store.apply(release("lock", "y"))), [("z".to_owned(), 11)]);
    assert_eq!(grants(&store.apply(release("lock", "z"))), []);
}

#[test]
fn a_claim_that_makes_its_session_shares_its_revision_with_it() {
    let mut store = Store::founded();
    let applied = store.apply(try_own("lock", "x"));
    assert_eq!(applied.outcome, held(2, "c-2", true));
    let made_by = Some(claim_ref("lock", "x"));
    assert_eq!(
        applied.events,
        [
            Event {
                revision: rev(2),
                change: Change::SessionCreated { id: id("c-2"), ttl_ms: 5_000, made_by }
            },
            Event {
                revision: rev(2),
                change: Change::ClaimGranted {
                    claim: claim_ref("lock", "x"),
                    session: id("c-2"),
                    mode: LockMode::Exclusive,
                    token: token(2)
                }
            },
        ]
    );
}

#[test]
fn a_claim_made_session_ends_with_its_claim() {
    let mut store = Store::founded();
    store.outcome(try_own("lock", "x")).unwrap();
    store.outcome(queue_own("lock", "y")).unwrap();
    store.outcome(release("lock", "y")).unwrap();
    let applied = store.apply(release("lock", "x"));
    let reason = EndReason::Released;
    let session = Some(id("c-2"));
    let token = Some(token(2));
    assert_eq!(
        applied.events,
        [
            Event {
                revision: rev(5),
                change: Change::ClaimEnded { claim: claim_ref("lock", "x"), session, reason, token }
            },
            Event { revision: rev(5), change: Change::SessionEnded { id: id("c-2"), reason } },
        ]
    );
    let left = SessionState::Ended { reason: EndReason::LeftQueue, revision: rev(4) };
    assert_eq!(store.view().session(&id("c-3")).unwrap(), Some(left));
}

#[test]
fn a_claim_made_session_may_own_more_and_all_of_it_ends_with_its_claim() {
    let mut store = Store::founded();
    store.outcome(try_own("one", "x")).unwrap();
    assert_eq!(store.outcome(try_lock("two", "y", "c-2")), held(3, "c-2", true));
    assert_eq!(store.outcome(try_lock("three", "z", "c-2")), held(4, "c-2", true));
    store.outcome(release("three", "z")).unwrap();
    store.outcome(release("one", "x")).unwrap();
    let ended = store.view().claim(&claim_ref("two", "y")).unwrap();
    assert!(matches!(ended, Some(ClaimState::Ended { reason: EndReason::Released, .. })));
}

#[test]
fn a_released_claim_never_holds_again() {
    let mut store = with_sessions(&["a"]);
    store.outcome(try_lock("lock", "x", "a")).unwrap();
    let applied = store.apply(release("lock", "x"));
    assert_eq!((applied.outcome, applied.revision), (Ok(Success::Released), rev(4)));
    let refusal = store.refusal(try_lock("lock", "x", "a"));
    assert_eq!(refusal, Rejection::ClaimEnded { reason: EndReason::Released, token: Some(token(3)) });
    let again = store.apply(release("lock", "x"));
    assert_eq!((again.outcome, again.revision), (Ok(Success::Released), rev(4)));
}

#[test]
fn a_claim_deleted_before_it_was_seen_cannot_begin_later() {
    let mut store = with_sessions(&["a"]);
    let applied = store.apply(release("lock", "x"));
    let reason = EndReason::DeletedUnseen;
    let change = Change::ClaimEnded { claim: claim_ref("lock", "x"), session: None, reason, token: None };
    assert_eq!(applied.events, [Event { revision: rev(3), change }]);
    let refusal = store.refusal(try_lock("lock", "x", "a"));
    assert_eq!(refusal, Rejection::ClaimEnded { reason, token: None });
}

#[test]
fn releasing_a_queued_claim_takes_it_out_of_the_queue_and_nothing_else() {
    let mut store = with_sessions(&["a", "b", "c"]);
    store.outcome(try_lock("lock", "x", "a")).unwrap();
    store.outcome(queue("lock", "y", "b")).unwrap();
    store.outcome(queue("lock", "z", "c")).unwrap();
    let applied = store.apply(release("lock", "y"));
    assert_eq!(grants(&applied), []);
    let refusal = store.refusal(queue("lock", "y", "b"));
    assert_eq!(refusal, Rejection::ClaimEnded { reason: EndReason::LeftQueue, token: None });
    assert_eq!(grants(&store.apply(release("lock", "x"))), [("z".to_owned(), 10)]);
}

#[test]
fn only_a_live_session_takes_a_lock() {
    let mut store = with_sessions(&["a"]);
    assert_eq!(store.refusal(try_lock("lock", "x", "b")), Rejection::SessionNotFound);
    store.outcome(end("a")).unwrap();
    let refusal = store.refusal(try_lock("lock", "x", "a"));
    assert_eq!(refusal, Rejection::SessionExpired { reason: EndReason::Released });
}

#[test]
fn a_claim_of_an_ended_session_tells_its_own_reason() {
    let mut store = with_sessions(&["a"]);
    store.outcome(try_lock("lock", "x", "a")).unwrap();
    store.outcome(super::expire(&[("a", 2)], &[])).unwrap();
    let refusal = store.refusal(try_lock("lock", "x", "a"));
    assert_eq!(refusal, Rejection::ClaimEnded { reason: EndReason::Expired, token: Some(token(3)) });
}

#[test]
fn a_queue_is_bounded_together_with_its_holders() {
    let mut store = Store::with(Settings { queue_max: 2, ..Settings::default() });
    store.outcome(try_own("lock", "x")).unwrap();
    store.outcome(queue_own("lock", "y")).unwrap();
    assert_eq!(store.refusal(queue_own("lock", "z")), Rejection::QueueFull { max: 2 });
    store.outcome(release("lock", "x")).unwrap();
    store.outcome(queue_own("lock", "z")).unwrap();
}

#[test]
fn claims_need_their_namespace() {
    let mut store = with_sessions(&["a"]);
    let lock = LockRef { namespace: ns("other"), ..lock_ref("lock") };
    let claim = ClaimRef { lock: lock.clone(), claim: claim_ref("lock", "x").claim };
    let acquire = Acquire {
        claim: claim.clone(),
        owner: ClaimOwner::Session(id("a")),
        mode: LockMode::Exclusive,
        if_held: QUEUE,
        label: String::new(),
    };
    let wait = crate::domain::WaitRef { claim: claim.clone(), enqueued: rev(1) };
    let force = Command::ForceRelease { lock, token: token(1), reason: String::new() };
    for command in [Command::Acquire(acquire), Command::Release { claim }, Command::CancelWait(wait), force] {
        assert_eq!(store.refusal(command), Rejection::NamespaceNotFound);
    }
}

#[test]
fn a_wait_that_is_over_ends_its_claim() {
    let mut store = with_sessions(&["a", "b"]);
    store.outcome(try_lock("lock", "x", "a")).unwrap();
    store.outcome(queue("lock", "y", "b")).unwrap();
    let cancel = Command::CancelWait(wait_ref("lock", "y", 5));
    let applied = store.apply(cancel.clone());
    assert_eq!((applied.outcome, applied.revision), (Ok(Success::WaitTimedOut), rev(6)));
    let refusal = store.refusal(cancel);
    assert_eq!(refusal, Rejection::ClaimEnded { reason: EndReason::TimedOut, token: None });
    assert_eq!(grants(&store.apply(release("lock", "x"))), []);
}

#[test]
fn a_wait_that_was_granted_first_stays_granted() {
    let mut store = with_sessions(&["a", "b"]);
    store.outcome(try_lock("lock", "x", "a")).unwrap();
    store.outcome(queue("lock", "y", "b")).unwrap();
    store.outcome(release("lock", "x")).unwrap();
    let applied = store.apply(Command::CancelWait(wait_ref("lock", "y", 5)));
    assert_eq!((applied.outcome, applied.revision), (held(7, "b", false), rev(7)));
}

#[test]
fn cancelling_another_wait_tells_where_the_claim_stands() {
    let mut store = with_sessions(&["a", "b"]);
    store.outcome(try_lock("lock", "x", "a")).unwrap();
    store.outcome(queue("lock", "y", "b")).unwrap();
    let applied = store.apply(Command::CancelWait(wait_ref("lock", "y", 4)));
    assert!(matches!(applied.outcome, Ok(Success::Queued { queued: false, .. })));
    assert_eq!(applied.revision, rev(5));
    let refusal = store.refusal(Command::CancelWait(wait_ref("lock", "z", 4)));
    assert_eq!(refusal, Rejection::ClaimNotFound);
}

#[test]
fn a_timed_out_claim_takes_its_own_session_with_it() {
    let mut store = Store::founded();
    store.outcome(try_own("lock", "x")).unwrap();
    store.outcome(queue_own("lock", "y")).unwrap();
    store.outcome(Command::CancelWait(wait_ref("lock", "y", 3))).unwrap();
    let ended = SessionState::Ended { reason: EndReason::TimedOut, revision: rev(4) };
    assert_eq!(store.view().session(&id("c-3")).unwrap(), Some(ended));
}

#[test]
fn a_forced_release_ends_exactly_the_claim_with_that_token() {
    let mut store = with_sessions(&["a", "b"]);
    store.outcome(try_lock("lock", "x", "a")).unwrap();
    store.outcome(queue("lock", "y", "b")).unwrap();
    let force = |number| Command::ForceRelease {
        lock: lock_ref("lock"),
        token: token(number),
        reason: "stuck".to_owned(),
    };
    assert_eq!(store.refusal(force(3)), Rejection::TokenMismatch { held: vec![token(4)] });
    let applied = store.apply(force(4));
    let claim = claim_ref("lock", "x");
    assert_eq!(
        applied.outcome,
        Ok(Success::ForceReleased { claim, session: id("a"), revision: applied.events[0].revision })
    );
    assert_eq!(grants(&applied), [("y".to_owned(), 7)]);
    assert_eq!(store.refusal(force(4)), Rejection::TokenMismatch { held: vec![token(7)] });
    let refusal = store.refusal(try_lock("lock", "x", "a"));
    assert_eq!(refusal, Rejection::ClaimEnded { reason: EndReason::Forced, token: Some(token(4)) });
}

#[test]
fn the_same_claim_id_is_another_claim_of_another_lock() {
    let mut store = with_sessions(&["a"]);
    store.outcome(try_lock("one", "x", "a")).unwrap();
    assert_eq!(store.outcome(try_lock("two", "x", "a")), held(4, "a", true));
    store.outcome(release("one", "x")).unwrap();
    let claims = store.view().session_claims(&id("a")).unwrap();
    assert_eq!(claims.iter().map(|claim| &claim.claim).collect::<Vec<_>>(), [&claim_ref("two", "x")]);
    assert_eq!(store.view().namespace(&default_ns()).unwrap().unwrap().claims, 1);
    store.outcome(create("a")).unwrap();
}
