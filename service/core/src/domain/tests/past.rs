//! What is kept of the past, what goes, and what belongs to sessions.

use super::{Store, config_key, default_ns, end, expire, id, ns, put, rev, try_own};
use crate::domain::{
    Change, Command, Compact, ConfigAt, ConfigVersionView, DeleteConfig, Event, Precondition, PutConfig,
    Rejection, RollbackConfig, Settings, Success, Table,
};
use crate::{LogTime, Revision};

/// Two versions of a key whatever their age, and everything for a second.
fn small() -> Settings {
    Settings { history_versions: 2, history_ms: 1_000, ..Settings::default() }
}

fn delete(key: &str) -> Command {
    let (namespace, key) = (default_ns(), config_key(key));
    Command::DeleteConfig(DeleteConfig { namespace, key, precondition: Precondition::None, guard: None })
}

fn put_owned(key: &str, session: &str) -> Command {
    let Command::PutConfig(put) = put(key, "x") else { panic!("put makes a put") };
    Command::PutConfig(PutConfig { session: Some(id(session)), ..put })
}

fn rollback(key: &str, to: u64) -> Command {
    Command::RollbackConfig(RollbackConfig {
        namespace: default_ns(),
        key: config_key(key),
        to: rev(to),
        managed_by: "me".to_owned(),
        precondition: Precondition::None,
        guard: None,
    })
}

/// What a leader would compact now, in one slice of so many rows: how many went, and whether more is left.
fn compact(store: &mut Store, rows: u64) -> (u64, u64, bool) {
    let due = store.view().compaction_due(LogTime::from_ms(store.now_ms)).unwrap();
    let Some(due) = due else { return (0, compacted(store), false) };
    let outcome = store.outcome(Command::Compact(Compact { rows, ..due }));
    let Ok(Success::Compacted { rows, compacted_revision, more }) = outcome else { panic!("{outcome:?}") };
    (rows, compacted_revision.as_u64(), more)
}

fn compacted(store: &Store) -> u64 {
    store.view().meta().unwrap().compacted_revision.as_u64()
}

/// The revisions of a key's kept versions, the newest first.
fn kept(store: &Store, key: &str) -> Vec<u64> {
    let history = store.view().config_history(&default_ns(), &config_key(key), None, 100).unwrap();
    let revision = |version: &ConfigVersionView| match version {
        ConfigVersionView::Put { item, .. } => item.mod_revision.as_u64(),
        ConfigVersionView::Deleted { revision, .. } => revision.as_u64(),
    };
    history.versions.iter().map(revision).collect()
}

fn at(store: &Store, key: &str, revision: u64) -> Result<Option<String>, Revision> {
    let meta = store.view().meta().unwrap();
    let found =
        store.view().config_at(&default_ns(), &config_key(key), rev(revision), meta.compacted_revision);
    match found.unwrap() {
        ConfigAt::Item(item) => Ok(Some(String::from_utf8(item.value.to_vec()).unwrap())),
        ConfigAt::Absent => Ok(None),
        ConfigAt::Compacted => Err(meta.compacted_revision),
    }
}

fn rows(store: &Store, table: Table) -> usize {
    store.tables.rows().filter(|(of, _, _)| *of == table).count()
}

#[test]
fn a_version_goes_once_it_is_old_and_has_enough_newer_ones() {
    let mut store = Store::with(small());
    for value in ["one", "two", "three", "four"] {
        store.outcome(put("k", value)).unwrap();
    }
    assert_eq!(compact(&mut store, 100), (0, 0, false), "everything is young");
    store.at(1_000);
    assert_eq!(compact(&mut store, 100), (0, 0, false), "the boundary itself is young");
    store.at(1_001);
    // Versions 2 and 3 were superseded by 3 and 4; the two newest stay whatever their age.
    assert_eq!(compact(&mut store, 100).1, 4);
    assert_eq!(kept(&store, "k"), [5, 4]);
    assert_eq!(at(&store, "k", 4), Ok(Some("three".to_owned())));
    assert_eq!(at(&store, "k", 3), Err(rev(4)));
    assert_eq!(compact(&mut store, 100), (0, 4, false), "nothing is due twice");
}

#[test]
fn a_kept_version_is_readable_below_the_compacted_revision_and_can_be_rolled_back_to() {
    let mut store = Store::with(small());
    store.outcome(put("calm", "old")).unwrap();
    store.outcome(put("calm", "new")).unwrap();
    for value in ["one", "two", "three", "four"] {
        store.outcome(put("busy", value)).unwrap();
    }
    store.at(2_000);
    assert_eq!(compact(&mut store, 100).1, 6);
    assert_eq!(at(&store, "calm", 2), Ok(Some("old".to_owned())));
    assert_eq!(at(&store, "calm", 1), Err(rev(6)), "nothing tells that it did not exist then");
    let back = store.outcome(rollback("calm", 2)).unwrap();
    assert_eq!(back, Success::ConfigPut { create_revision: rev(2), mod_revision: rev(8), version: 3 });
    assert_eq!(at(&store, "calm", 8), Ok(Some("old".to_owned())));
    assert_eq!(store.refusal(rollback("busy", 4)), Rejection::RevisionCompacted { oldest: rev(6) });
    assert_eq!(store.refusal(rollback("none", 7)), Rejection::KeyNotFound);
    assert_eq!(store.refusal(rollback("calm", 9)), Rejection::FutureRevision { revision: rev(8) });
}

#[test]
fn a_deleted_key_goes_whole_once_its_delete_is_old() {
    let mut store = Store::with(small());
    store.outcome(put("k", "one")).unwrap();
    store.outcome(put("k", "two")).unwrap();
    store.at(500).outcome(delete("k")).unwrap();
    store.outcome(put("k", "again")).unwrap();
    store.at(1_500);
    assert_eq!(compact(&mut store, 100), (0, 0, false));
    store.at(1_501);
    assert_eq!(compact(&mut store, 100).1, 4);
    assert_eq!(kept(&store, "k"), [5]);
    assert_eq!(at(&store, "k", 4), Ok(None));
    assert_eq!(at(&store, "k", 3), Err(rev(4)));
    assert_eq!((rows(&store, Table::Superseded), rows(&store, Table::Prunable)), (0, 0));
}

#[test]
fn a_delete_can_be_rolled_back_while_its_versions_are_kept() {
    let mut store = Store::with(small());
    store.outcome(put("k", "one")).unwrap();
    store.outcome(delete("k")).unwrap();
    assert_eq!(store.refusal(rollback("k", 3)), Rejection::KeyNotFound);
    let back = store.outcome(rollback("k", 2)).unwrap();
    assert_eq!(back, Success::ConfigPut { create_revision: rev(4), mod_revision: rev(4), version: 1 });
    let item = store.view().config_get(&default_ns(), &config_key("k")).unwrap().unwrap();
    assert_eq!((&*item.value, item.managed_by.as_str()), (&b"one"[..], "me"));
}

#[test]
fn superseded_versions_that_are_too_large_together_go_whatever_their_age() {
    // A key of one byte and values of nine: each superseded version has ten bytes.
    let mut store = Store::with(Settings { history_bytes_max: 20, ..Settings::default() });
    for value in ["aaaaaaaaa", "bbbbbbbbb", "ccccccccc", "ddddddddd"] {
        store.outcome(put("k", value)).unwrap();
    }
    assert_eq!(compact(&mut store, 100).1, 3);
    assert_eq!(kept(&store, "k"), [5, 4, 3]);
    assert_eq!(store.view().meta().unwrap().counters.history_bytes, 20);
}

#[test]
fn a_compaction_goes_in_slices_and_each_leaves_a_sound_store() {
    let mut store = Store::with(Settings { history_versions: 1, ..small() });
    for value in 0..6 {
        store.outcome(put("a", &value.to_string())).unwrap();
        store.outcome(put("b", &value.to_string())).unwrap();
    }
    store.outcome(delete("b")).unwrap();
    store.at(5_000);
    let (mut slices, mut dropped) = (0, 0);
    loop {
        let (rows, _, more) = compact(&mut store, 3);
        slices += 1;
        dropped += rows;
        if !more {
            break;
        }
        assert!(3 <= rows, "a slice uses its limit");
    }
    assert!(4 < slices, "{slices} slices");
    assert_eq!((kept(&store, "a"), kept(&store, "b")), (vec![12], vec![]));
    assert_eq!(rows(&store, Table::ConfigVersion), 1);
    assert_eq!(rows(&store, Table::ConfigChange), 0, "nothing up to the delete can be watched");
    // Ten versions of both keys, the last version of the deleted one with its delete, and thirteen changes.
    assert_eq!(dropped, 10 + 2 + 13);
    assert_eq!(store.view().compaction_due(LogTime::from_ms(store.now_ms)).unwrap(), None);
}

#[test]
fn a_watch_reads_whole_revisions_from_where_it_stopped() {
    let mut store = Store::founded();
    store.outcome(put("a/1", "one")).unwrap();
    store.outcome(put("b/1", "x")).unwrap();
    store.outcome(delete("a/1")).unwrap();
    let page =
        store.view().config_events(&default_ns(), rev(1), |key| key.as_str().starts_with("a/")).unwrap();
    let seen: Vec<u64> = page.events.iter().map(|event| event.revision.as_u64()).collect();
    assert_eq!((seen, page.seen), (vec![2, 4], rev(4)));
    let page = store.view().config_events(&default_ns(), rev(2), |_| true).unwrap();
    assert_eq!(page.events.len(), 2);
    let page = store.view().config_events(&ns("other"), rev(1), |_| true).unwrap();
    assert_eq!((page.events, page.seen), (vec![], rev(4)));
}

#[test]
fn the_keys_of_a_session_go_with_it_at_one_revision() {
    let mut store = Store::founded();
    store.session("s");
    store.outcome(put_owned("a", "s")).unwrap();
    store.outcome(put_owned("b", "s")).unwrap();
    store.outcome(put("stays", "x")).unwrap();
    let ended = store.apply(expire(&[("s", 2)], &[]));
    let gone = |key| Change::ConfigDeleted { namespace: default_ns(), key: config_key(key), expired: true };
    let changes: Vec<&Event> = ended.events.iter().collect();
    assert_eq!(changes[0], &Event { revision: rev(6), change: gone("a") });
    assert_eq!(changes[1], &Event { revision: rev(6), change: gone("b") });
    assert!(matches!(changes[2].change, Change::SessionEnded { .. }));
    assert_eq!((at(&store, "a", 5), at(&store, "a", 6)), (Ok(Some("x".to_owned())), Ok(None)));
    assert_eq!(at(&store, "stays", 6), Ok(Some("x".to_owned())));
}

#[test]
fn a_put_says_anew_who_owns_the_key() {
    let mut store = Store::founded();
    store.session("s");
    store.session("t");
    store.outcome(put_owned("k", "s")).unwrap();
    store.outcome(put_owned("k", "t")).unwrap();
    store.outcome(put_owned("k", "t")).unwrap();
    let owned = |store: &Store| {
        let live = store.view().live_sessions().unwrap();
        live.iter().map(|session| session.owned).collect::<Vec<u64>>()
    };
    assert_eq!(owned(&store), [0, 1]);
    store.outcome(put("k", "permanent")).unwrap();
    assert_eq!(owned(&store), [0, 0]);
    store.outcome(end("t")).unwrap();
    assert_eq!(at(&store, "k", 8), Ok(Some("permanent".to_owned())));
    assert_eq!(store.refusal(put_owned("k", "nobody")), Rejection::SessionNotFound);
    assert!(matches!(store.refusal(put_owned("k", "t")), Rejection::SessionExpired { .. }));
}

#[test]
fn a_key_of_a_claims_own_session_goes_with_the_claim() {
    let mut store = Store::founded();
    store.outcome(try_own("l", "x")).unwrap();
    store.outcome(put_owned("k", "c-2")).unwrap();
    store.outcome(super::release("l", "x")).unwrap();
    assert_eq!(at(&store, "k", 4), Ok(None));
}

#[test]
fn changes_of_locks_and_sessions_are_kept_for_a_while() {
    let mut store = Store::with(Settings { events_max: 4, events_ms: 1_000, ..Settings::default() });
    store.session("a");
    store.session("b");
    store.session("c");
    let logged = |store: &Store, after| {
        let page = store.view().logged_events(rev(after), |_| true).unwrap();
        page.events.iter().map(|event| event.revision.as_u64()).collect::<Vec<u64>>()
    };
    assert_eq!(logged(&store, 1), [2, 3, 4]);
    store.session("d");
    store.session("e");
    assert_eq!(store.view().meta().unwrap().events_compacted_revision, rev(2));
    assert_eq!(logged(&store, 2), [3, 4, 5, 6]);
    let _ = store.at(1_000).tick();
    assert_eq!(logged(&store, 6), [] as [u64; 0]);
    assert_eq!(store.view().meta().unwrap().events_compacted_revision, rev(6));
    assert_eq!(store.view().meta().unwrap().time, LogTime::from_ms(1_000));
}
