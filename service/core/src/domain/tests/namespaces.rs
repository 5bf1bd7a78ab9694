//! Namespaces: created, deleted when empty, created again.

use super::{Store, config_key, default_ns, expire, ns, put, rev, token};
use crate::domain::{
    Acquire, Change, ClaimOwner, ClaimRef, Command, ConfigAt, ConfigQuery, DeleteConfig, EndReason, Event,
    IfHeld, LockMode, LockRef, LockView, Precondition, PutConfig, Rejection, SessionSpec, Success,
};
use crate::{ClaimId, LockName, Revision};

fn create(name: &str) -> Command {
    Command::CreateNamespace { name: ns(name) }
}

fn delete(name: &str) -> Command {
    Command::DeleteNamespace { name: ns(name) }
}

fn claim_in(namespace: &str) -> ClaimRef {
    let lock = LockRef { namespace: ns(namespace), lock: LockName::new("lock").unwrap() };
    ClaimRef { lock, claim: ClaimId::new("x").unwrap() }
}

fn acquire_in(namespace: &str, session: &str) -> Command {
    Command::Acquire(Acquire {
        claim: claim_in(namespace),
        owner: ClaimOwner::Session(super::id(session)),
        mode: LockMode::Exclusive,
        if_held: IfHeld::Refuse,
        label: String::new(),
    })
}

fn put_in(namespace: &str, key: &str) -> Command {
    let Command::PutConfig(of_default) = put(key, "x") else { panic!("put makes a put") };
    Command::PutConfig(PutConfig { namespace: ns(namespace), ..of_default })
}

fn delete_in(namespace: &str, key: &str) -> Command {
    let (namespace, key) = (ns(namespace), config_key(key));
    Command::DeleteConfig(DeleteConfig { namespace, key, precondition: Precondition::None, guard: None })
}

#[test]
fn founding_takes_revision_1_and_makes_the_default_namespace() {
    let mut store = Store::unfounded();
    let found = Command::Found {
        cluster_id: "cluster".to_owned(),
        history_id: 7,
        settings: crate::domain::Settings::default(),
    };
    let applied = store.at(10).apply(found);
    let change = Change::NamespaceCreated { name: default_ns() };
    assert_eq!(applied.outcome, Ok(Success::Founded));
    assert_eq!(applied.events, [Event { revision: rev(1), change }]);
    let meta = store.machine.meta();
    assert_eq!((meta.cluster_id.as_deref(), meta.history_id), (Some("cluster"), 7));
    assert_eq!(store.view().namespace(&default_ns()).unwrap().unwrap().create_revision, rev(1));
}

#[test]
fn a_store_without_identity_refuses_everything_else() {
    let mut store = Store::unfounded();
    for command in [Command::Tick, put("k", "v"), super::create("a"), create("other")] {
        let applied = store.at(10).apply(command);
        assert_eq!((applied.outcome, applied.revision), (Err(Rejection::NotFounded), rev(0)));
    }
    assert_eq!(store.tables.rows().count(), 0);
}

#[test]
fn a_store_is_founded_once() {
    let mut store = Store::founded();
    let settings = crate::domain::Settings { queue_max: 1, ..Default::default() };
    let again = Command::Found { cluster_id: "other".to_owned(), history_id: 8, settings };
    let applied = store.apply(again);
    assert_eq!((applied.outcome, applied.revision), (Ok(Success::Founded), rev(1)));
    let meta = store.machine.meta();
    assert_eq!((meta.cluster_id.as_deref(), meta.history_id), (Some("cluster"), 7));
    assert_ne!(meta.settings.queue_max, 1);
}

#[test]
fn a_namespace_is_created_once() {
    let mut store = Store::founded();
    let created = |created| Ok(Success::Namespace { create_revision: rev(2), created });
    assert_eq!(store.outcome(create("other")), created(true));
    let again = store.apply(create("other"));
    assert_eq!((again.outcome, again.revision), (created(false), rev(2)));
    assert_eq!(store.refusal(delete("third")), Rejection::NamespaceNotFound);
}

#[test]
fn a_namespace_is_deleted_only_when_nothing_lives_in_it() {
    let mut store = Store::founded();
    let spec = SessionSpec { lock_delay_ms: 100, ..super::spec() };
    store.outcome(Command::CreateSession { id: super::id("a"), spec }).unwrap();
    store.outcome(create("other")).unwrap();
    store.outcome(put_in("other", "k")).unwrap();
    assert_eq!(store.refusal(delete("other")), Rejection::NamespaceNotEmpty);
    store.outcome(delete_in("other", "k")).unwrap();
    store.outcome(acquire_in("other", "a")).unwrap();
    assert_eq!(store.refusal(delete("other")), Rejection::NamespaceNotEmpty);
    store.outcome(expire(&[("a", 2)], &[])).unwrap();
    assert_eq!(store.refusal(delete("other")), Rejection::NamespaceNotEmpty);
    let applied = store.at(100).apply(delete("other"));
    assert_eq!(applied.outcome, Ok(Success::NamespaceDeleted));
    let change = Change::NamespaceDeleted { name: ns("other") };
    assert_eq!(applied.events, [Event { revision: rev(8), change }]);
    assert_eq!(store.refusal(put_in("other", "k")), Rejection::NamespaceNotFound);
}

#[test]
fn the_default_namespace_is_never_deleted() {
    let mut store = Store::founded();
    assert_eq!(store.refusal(delete("default")), Rejection::NamespaceNotEmpty);
}

#[test]
fn what_was_before_a_namespace_was_created_again_is_invisible_but_its_ended_ids_stay_ended() {
    let mut store = Store::founded();
    store.session("a");
    store.outcome(create("other")).unwrap();
    store.outcome(put_in("other", "k")).unwrap();
    store.outcome(acquire_in("other", "a")).unwrap();
    store.outcome(Command::Release { claim: claim_in("other") }).unwrap();
    store.outcome(delete_in("other", "k")).unwrap();
    store.outcome(delete("other")).unwrap();
    let at = |store: &Store| {
        let place = (ns("other"), config_key("k"));
        store.view().config_at(&place.0, &place.1, rev(4), Revision::ZERO).unwrap()
    };
    assert_eq!(at(&store), ConfigAt::Absent);
    store.outcome(create("other")).unwrap();

    assert_eq!(at(&store), ConfigAt::Absent);
    let view = store.view();
    let other = ns("other");
    let query = ConfigQuery {
        namespace: &other,
        prefix: "",
        after: None,
        limit: 10,
        at: Some(rev(4)),
        with_values: false,
    };
    assert_eq!(view.config_list(&query).unwrap().items, []);
    assert_eq!(view.lock(&claim_in("other").lock, 10).unwrap(), LockView::default());
    assert_eq!(view.locks(&other, "", None, 10).unwrap().items, []);
    let refusal = store.refusal(acquire_in("other", "a"));
    assert_eq!(refusal, Rejection::ClaimEnded { reason: EndReason::Released, token: Some(token(5)) });
    let again = store.outcome(put_in("other", "k"));
    let (create_revision, mod_revision) = (rev(10), rev(10));
    assert_eq!(again, Ok(Success::ConfigPut { create_revision, mod_revision, version: 1 }));
}
