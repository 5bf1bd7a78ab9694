//! What an `Expire` entry ends, and when it is void.

use super::{
    Store, create, create_delayed, expire, grants, id, leader, queue, queue_own, rev, session_ref, try_lock,
    try_own, wait_ref,
};
use crate::domain::{
    ClaimRef, Command, EndReason, Expire, LockRef, SessionRef, SessionState, Success, WaitRef,
};
use crate::limits::{
    ENTRY_BYTES_MAX, EXPIRE_OWNED_MAX, EXPIRE_SESSIONS_MAX, EXPIRE_WAITS_MAX, SESSION_OWNED_MAX,
};
use crate::{ClaimId, LeaderId, LockName, NamespaceName, NodeId, Revision, Term};

#[test]
fn an_expired_session_loses_its_locks_to_those_who_wait() {
    let mut store = Store::founded();
    store.session("a");
    store.session("b");
    store.outcome(try_lock("lock", "x", "a")).unwrap();
    store.outcome(queue("lock", "y", "b")).unwrap();
    let applied = store.apply(expire(&[("a", 2)], &[]));
    assert_eq!(applied.outcome, Ok(Success::Expired { sessions: 1, waits: 0 }));
    assert_eq!(grants(&applied), [("y".to_owned(), 7)]);
    let ended = SessionState::Ended { reason: EndReason::Expired, revision: rev(6) };
    assert_eq!(store.view().session(&id("a")).unwrap(), Some(ended));
}

#[test]
fn nobody_whose_session_ends_in_the_entry_is_let_in_by_it() {
    let mut store = Store::founded();
    for session in ["a", "b", "c"] {
        store.session(session);
    }
    store.outcome(try_lock("lock", "x", "a")).unwrap();
    store.outcome(queue("lock", "y", "b")).unwrap();
    store.outcome(queue("lock", "z", "c")).unwrap();
    let applied = store.apply(expire(&[("a", 2), ("b", 3)], &[]));
    assert_eq!(applied.outcome, Ok(Success::Expired { sessions: 2, waits: 0 }));
    assert_eq!(grants(&applied), [("z".to_owned(), 9)]);
}

#[test]
fn an_expiry_of_another_leadership_is_void() {
    let mut store = Store::founded();
    store.session("a");
    let others =
        [LeaderId { term: Term(2), ..leader() }, LeaderId { node: NodeId::new(12).unwrap(), ..leader() }];
    for leader in others {
        let void = Expire { leader, sessions: vec![session_ref("a", 2)], waits: vec![] };
        let applied = store.apply(Command::Expire(void));
        assert_eq!((applied.outcome, applied.revision), (Ok(Success::ExpireVoid), rev(2)));
    }
    assert!(matches!(store.view().session(&id("a")).unwrap(), Some(SessionState::Live(_))));
}

#[test]
fn a_later_session_of_the_same_id_is_safe() {
    let mut store = Store::founded();
    store.session("a");
    let applied = store.apply(expire(&[("a", 1), ("never", 2)], &[wait_ref("lock", "x", 2)]));
    let none = Success::Expired { sessions: 0, waits: 0 };
    assert_eq!((applied.outcome, applied.revision), (Ok(none), rev(2)));
    assert_eq!(applied.events, []);
}

#[test]
fn a_wait_that_nobody_waits_for_ends() {
    let mut store = Store::founded();
    store.outcome(try_own("lock", "x")).unwrap();
    store.outcome(queue_own("lock", "y")).unwrap();
    store.outcome(queue_own("lock", "z")).unwrap();
    let waits = [wait_ref("lock", "y", 3), wait_ref("lock", "z", 3), wait_ref("lock", "x", 2)];
    let applied = store.apply(expire(&[], &waits));
    assert_eq!(applied.outcome, Ok(Success::Expired { sessions: 0, waits: 1 }));
    let ended = SessionState::Ended { reason: EndReason::TimedOut, revision: rev(5) };
    assert_eq!(store.view().session(&id("c-3")).unwrap(), Some(ended));
    assert_eq!(store.view().lock(&super::lock_ref("lock"), 10).unwrap().queued, 1);
}

#[test]
fn sessions_and_waits_that_end_in_one_entry_share_its_revision() {
    let mut store = Store::founded();
    for session in ["a", "b"] {
        store.session(session);
    }
    store.outcome(try_lock("lock", "x", "a")).unwrap();
    store.outcome(queue("lock", "y", "b")).unwrap();
    let applied = store.apply(expire(&[("a", 2)], &[wait_ref("lock", "y", 5)]));
    assert_eq!(applied.outcome, Ok(Success::Expired { sessions: 1, waits: 1 }));
    assert_eq!(grants(&applied), []);
    assert!(applied.events.iter().all(|event| event.revision == rev(6)));
}

#[test]
fn one_entry_ends_a_bounded_number_of_sessions() {
    let mut store = Store::founded();
    let names: Vec<String> = (0..=EXPIRE_SESSIONS_MAX).map(|number| format!("s{number}")).collect();
    let mut sessions = vec![("gone", 1)];
    for (number, name) in names.iter().enumerate() {
        store.outcome(create(name)).unwrap();
        sessions.push((name, number as u64 + 2));
    }
    let applied = store.apply(expire(&sessions, &[]));
    let ended = EXPIRE_SESSIONS_MAX as u64;
    assert_eq!(applied.outcome, Ok(Success::Expired { sessions: ended, waits: 0 }));
    let applied = store.apply(expire(&sessions, &[]));
    assert_eq!(applied.outcome, Ok(Success::Expired { sessions: 1, waits: 0 }));
}

#[test]
fn one_entry_ends_a_bounded_number_of_claims_and_at_least_one_session() {
    let mut store = Store::founded();
    let each = SESSION_OWNED_MAX;
    let mut batch = store.machine.batch(&store.tables);
    let mut run = |command| {
        let time = crate::LogTime::ZERO;
        let proposal = crate::domain::Proposal { level: crate::domain::LEVEL, time, replay: None, command };
        let applied = batch.apply(leader(), &proposal).unwrap();
        applied.outcome.unwrap()
    };
    let names = ["a", "b", "c"];
    for name in names {
        run(create_delayed(name, 0));
    }
    for name in names {
        for number in 0..each {
            run(try_lock(&format!("{name}{number}"), "x", name));
        }
    }
    let changes = batch.finish();
    store.tables.write(changes);
    assert!(EXPIRE_OWNED_MAX < 3 * each && 2 * each <= EXPIRE_OWNED_MAX);
    let all = [("a", 2), ("b", 3), ("c", 4)];
    let applied = store.apply(expire(&all, &[]));
    assert_eq!(applied.outcome, Ok(Success::Expired { sessions: 2, waits: 0 }));
    let applied = store.apply(expire(&all, &[]));
    assert_eq!(applied.outcome, Ok(Success::Expired { sessions: 1, waits: 0 }));
}

#[test]
fn the_longest_expiry_fits_an_entry() {
    let lock = LockRef {
        namespace: NamespaceName::new("n".repeat(63)).unwrap(),
        lock: LockName::new(format!("{}/{}", "l".repeat(128), "l".repeat(127))).unwrap(),
    };
    let claim = ClaimRef { lock, claim: ClaimId::new("c".repeat(128)).unwrap() };
    let wait = WaitRef { claim, enqueued: Revision::MAX };
    let session = SessionRef { id: id(&"s".repeat(128)), create_revision: Revision::MAX };
    let expire = Expire {
        leader: LeaderId { term: Term(u64::MAX), node: NodeId::MAX },
        sessions: vec![session; EXPIRE_SESSIONS_MAX],
        waits: vec![wait; EXPIRE_WAITS_MAX],
    };
    let proposal = Store::founded().proposal(Command::Expire(expire), None);
    assert!(proposal.encode().len() < ENTRY_BYTES_MAX);
}
