//! Views: what answers read from the tables.

use std::collections::BTreeSet;

use super::{
    QUEUE, Store, acquire, claim_ref, create, default_ns, end, id, lock_ref, ns, queue, release, rev, token,
    try_lock, try_own, wait_ref,
};
use crate::domain::{
    ClaimOwner, ClaimState, ClaimView, Command, EndReason, IfHeld, LiveSession, LockMode, QueuedWait,
    SessionState, Waiter,
};
use crate::{ClaimId, NodeId};

/// `a` holds since 100, `b` and then `c` wait since 200.
fn contended() -> Store {
    let mut store = Store::founded();
    for session in ["a", "b", "c"] {
        store.session(session);
    }
    store.at(100).outcome(try_lock("lock", "x", "a")).unwrap();
    store.at(200).outcome(queue("lock", "y", "b")).unwrap();
    let waits_on = IfHeld::Queue { wait_ms: 5, keep_waiting: true };
    store.outcome(acquire("lock", "z", ClaimOwner::Session(id("c")), waits_on)).unwrap();
    store.at(350).pass();
    store
}

#[test]
fn a_claim_is_held_queued_ended_or_unknown() {
    let mut store = contended();
    store.outcome(release("other", "u")).unwrap();
    let view = store.view();
    let state = |lock, claim| view.claim(&claim_ref(lock, claim)).unwrap();
    let (mode, label) = (LockMode::Exclusive, "label of x".to_owned());
    let held = ClaimState::Held { session: id("a"), mode, label, token: token(5), held_ms: 250 };
    assert_eq!(state("lock", "x"), Some(held));
    let Some(ClaimState::Queued { enqueued, position, holders, waited_ms, wait_ms, keep_waiting, .. }) =
        state("lock", "z")
    else {
        panic!("z waits")
    };
    assert_eq!((enqueued, position, waited_ms, wait_ms, keep_waiting), (rev(7), 1, 150, 5, true));
    assert_eq!(holders.len(), 1);
    let reason = EndReason::DeletedUnseen;
    let ended = ClaimState::Ended { session: None, reason, token: None, revision: rev(8) };
    assert_eq!(state("other", "u"), Some(ended));
    assert_eq!(state("lock", "w"), None);
}

#[test]
fn a_lock_shows_who_holds_and_who_waits() {
    let store = contended();
    let lock = store.view().lock(&lock_ref("lock"), 1).unwrap();
    assert_eq!((lock.mode, lock.queued, lock.last_token), (Some(LockMode::Exclusive), 2, token(5)));
    assert_eq!((lock.holders[0].session.clone(), lock.holders[0].held_ms), (id("a"), 250));
    let first = Waiter {
        claim: ClaimId::new("y").unwrap(),
        session: id("b"),
        session_name: String::new(),
        mode: LockMode::Exclusive,
        label: "label of y".to_owned(),
        enqueued: rev(6),
        waited_ms: 150,
    };
    assert_eq!(lock.queue, [first]);
}

#[test]
fn locks_are_listed_by_prefix_in_pages() {
    let mut store = Store::founded();
    for lock in ["a/1", "a/2", "a/3", "b"] {
        store.outcome(try_own(lock, "x")).unwrap();
    }
    let view = store.view();
    let names = |prefix, after: Option<&str>, limit| {
        let after = after.map(|after| lock_ref(after).lock);
        let page = view.locks(&default_ns(), prefix, after.as_ref(), limit).unwrap();
        let names: Vec<String> = page.items.iter().map(|lock| lock.lock.to_string()).collect();
        (names.join(" "), page.next.map(|next| next.to_string()))
    };
    assert_eq!(names("", None, 10), ("a/1 a/2 a/3 b".to_owned(), None));
    assert_eq!(names("a/", None, 2), ("a/1 a/2".to_owned(), Some("a/2".to_owned())));
    assert_eq!(names("a/", Some("a/2"), 2), ("a/3".to_owned(), None));
    assert_eq!(names("", Some("a/0"), 1), ("a/1".to_owned(), Some("a/1".to_owned())));
}

#[test]
fn sessions_show_what_they_own() {
    let store = contended();
    let Some(SessionState::Live(session)) = store.view().session(&id("a")).unwrap() else {
        panic!("a lives")
    };
    assert_eq!((session.create_revision, session.owned, session.age_ms), (rev(2), 1, 350));
    let claims = store.view().session_claims(&id("a")).unwrap();
    let (mode, label) = (LockMode::Exclusive, "label of x".to_owned());
    let claim = claim_ref("lock", "x");
    let held = ClaimView { claim, mode, label, token: Some(token(5)), since_ms: 250 };
    assert_eq!(claims, [held]);
    assert_eq!(store.view().session_claims(&id("b")).unwrap()[0].token, None);
    assert_eq!(store.view().session(&id("never")).unwrap(), None);
}

#[test]
fn sessions_and_namespaces_are_listed_in_pages() {
    let mut store = Store::founded();
    for name in ["a", "b", "c"] {
        store.outcome(create(name)).unwrap();
        store.outcome(Command::CreateNamespace { name: ns(name) }).unwrap();
    }
    let view = store.view();
    let first = view.sessions(None, 2).unwrap();
    assert_eq!((first.items.len(), first.next.clone()), (2, Some(id("b"))));
    let rest = view.sessions(first.next.as_ref(), 2).unwrap();
    assert_eq!((rest.items[0].id.clone(), rest.next), (id("c"), None));
    let first = view.namespaces(None, 3).unwrap();
    assert_eq!((first.items.len(), first.next.clone()), (3, Some(ns("c"))));
    let rest = view.namespaces(first.next.as_ref(), 3).unwrap();
    assert_eq!((rest.items[0].name.clone(), rest.items.len(), rest.next), (default_ns(), 1, None));
}

#[test]
fn deadlines_are_rebuilt_from_live_sessions_and_queued_claims() {
    let mut store = contended();
    store.outcome(acquire("lock", "own", ClaimOwner::OwnSession { ttl_ms: 9 }, QUEUE)).unwrap();
    store.outcome(end("b")).unwrap();
    let sessions = store.view().live_sessions().unwrap();
    let live = |session, created, ttl_ms, made_by| {
        let (id, create_revision) = (id(session), rev(created));
        LiveSession { id, create_revision, ttl_ms, made_by, owned: 1 }
    };
    let made_by = Some(claim_ref("lock", "own"));
    assert_eq!(
        sessions,
        [live("a", 2, 15_000, None), live("c", 4, 15_000, None), live("c-8", 8, 9, made_by)]
    );
    let waits = store.view().queued_waits().unwrap();
    let wait = |claim, enqueued, session, wait_ms, keep_waiting| {
        let (wait, session) = (wait_ref("lock", claim, enqueued), id(session));
        QueuedWait { wait, session, wait_ms, keep_waiting }
    };
    assert_eq!(waits, [wait("z", 7, "c", 5, true), wait("own", 8, "c-8", 1_000, false)]);
}

#[test]
fn a_removed_member_is_remembered_for_ever() {
    let mut store = Store::unfounded();
    let nodes: Vec<NodeId> = (1..=3).map(|number| NodeId::new(number).unwrap()).collect();
    for members in [&nodes[0..1], &nodes[0..2], &nodes[1..3], &nodes[0..3]] {
        let mut batch = store.machine.batch(&store.tables);
        batch.note_membership(&members.iter().copied().collect::<BTreeSet<_>>()).unwrap();
        let changes = batch.finish();
        store.tables.write(changes);
    }
    let removed = |node| store.view().is_removed(node).unwrap();
    assert_eq!(nodes.iter().map(|node| removed(*node)).collect::<Vec<_>>(), [true, false, false]);
    assert_eq!(store.view().removed_nodes().unwrap(), [nodes[0]]);
}
