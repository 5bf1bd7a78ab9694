//! Config values: preconditions, guards, versions and lists at a revision.

use bytes::Bytes;

use super::{Store, config_key, default_ns, ns, put, put_guarded, put_if, release, rev, token, try_own};
use crate::Revision;
use crate::domain::{
    Change, Command, ConfigAt, ConfigEntry, ConfigItem, ConfigQuery, DeleteConfig, Event, Outcome, Page,
    Precondition, PutConfig, Rejection, Success,
};
use crate::limits::{PAGE_VALUE_BYTES_MAX, VALUE_BYTES_MAX};

#[expect(clippy::unnecessary_wraps, reason = "it is compared with outcomes")]
fn written(create_revision: u64, mod_revision: u64, version: u64) -> Outcome {
    let (create_revision, mod_revision) = (rev(create_revision), rev(mod_revision));
    Ok(Success::ConfigPut { create_revision, mod_revision, version })
}

fn delete(key: &str, precondition: Precondition) -> Command {
    let (namespace, key) = (default_ns(), config_key(key));
    Command::DeleteConfig(DeleteConfig { namespace, key, precondition, guard: None })
}

fn item(key: &str, value: &str, (created, modified, version): (u64, u64, u64)) -> ConfigItem {
    ConfigItem {
        key: config_key(key),
        value: Bytes::copy_from_slice(value.as_bytes()),
        content_type: "text/plain".to_owned(),
        create_revision: rev(created),
        mod_revision: rev(modified),
        version,
        session: None,
        managed_by: String::new(),
    }
}

fn value_at(store: &Store, key: &str, at: Option<u64>) -> Option<(String, u64, u64, u64)> {
    let (view, key) = (store.view(), config_key(key));
    let item = match at.map(rev) {
        None => view.config_get(&default_ns(), &key).unwrap()?,
        Some(at) => match view.config_at(&default_ns(), &key, at, Revision::ZERO).unwrap() {
            ConfigAt::Item(item) => item,
            ConfigAt::Absent | ConfigAt::Compacted => return None,
        },
    };
    let ConfigItem { value, content_type, create_revision, mod_revision, version, .. } = item;
    assert_eq!(content_type, "text/plain");
    let value = String::from_utf8(value.to_vec()).unwrap();
    Some((value, create_revision.as_u64(), mod_revision.as_u64(), version))
}

#[test]
fn a_write_takes_a_revision_and_counts_versions() {
    let mut store = Store::founded();
    let applied = store.apply(put("k", "one"));
    assert_eq!(applied.outcome, written(2, 2, 1));
    let change = Change::ConfigPut { namespace: default_ns(), item: item("k", "one", (2, 2, 1)) };
    assert_eq!(applied.events, [Event { revision: rev(2), change }]);
    assert_eq!(store.outcome(put("k", "two")), written(2, 3, 2));
    assert_eq!(store.outcome(put("other", "x")), written(4, 4, 1));
    assert_eq!(value_at(&store, "k", None), Some(("two".to_owned(), 2, 3, 2)));
}

#[test]
fn a_key_written_after_its_delete_begins_again() {
    let mut store = Store::founded();
    store.outcome(put("k", "one")).unwrap();
    store.outcome(put("k", "two")).unwrap();
    let deleted = store.apply(delete("k", Precondition::None));
    assert_eq!(deleted.outcome, Ok(Success::ConfigDeleted { revision: Some(rev(4)) }));
    let (key, expired) = (config_key("k"), false);
    let change = Change::ConfigDeleted { namespace: default_ns(), key, expired };
    assert_eq!(deleted.events, [Event { revision: rev(4), change }]);
    assert_eq!(value_at(&store, "k", None), None);
    assert_eq!(store.outcome(put("k", "three")), written(5, 5, 1));
}

#[test]
fn every_version_can_be_read_at_its_revision() {
    let mut store = Store::founded();
    store.outcome(put("k", "one")).unwrap();
    store.outcome(put("k", "two")).unwrap();
    store.outcome(delete("k", Precondition::None)).unwrap();
    store.outcome(put("k", "three")).unwrap();
    let values: Vec<_> = (1..=6).map(|at| value_at(&store, "k", Some(at)).map(|(value, ..)| value)).collect();
    let values: Vec<_> = values.iter().map(|value| value.as_deref()).collect();
    assert_eq!(values, [None, Some("one"), Some("two"), None, Some("three"), Some("three")]);
}

#[test]
fn deleting_an_absent_key_takes_no_revision() {
    let mut store = Store::founded();
    for precondition in [Precondition::None, Precondition::Absent] {
        let applied = store.apply(delete("k", precondition));
        let absent = Success::ConfigDeleted { revision: None };
        assert_eq!((applied.outcome, applied.revision), (Ok(absent), rev(1)));
    }
    for precondition in [Precondition::Exists, Precondition::ModRevision(rev(1))] {
        let refusal = store.refusal(delete("k", precondition));
        assert_eq!(refusal, Rejection::RevisionMismatch { current: None });
    }
}

#[test]
fn a_write_happens_only_if_its_precondition_holds() {
    let mut store = Store::founded();
    let exists = Precondition::Exists;
    let at = |number| Precondition::ModRevision(rev(number));
    let mismatch = |current: Option<u64>| Rejection::RevisionMismatch { current: current.map(rev) };
    assert_eq!(store.refusal(put_if("k", "x", exists)), mismatch(None));
    assert_eq!(store.refusal(put_if("k", "x", at(1))), mismatch(None));
    assert_eq!(store.outcome(put_if("k", "one", Precondition::Absent)), written(2, 2, 1));
    assert_eq!(store.refusal(put_if("k", "x", Precondition::Absent)), mismatch(Some(2)));
    assert_eq!(store.refusal(put_if("k", "x", at(1))), mismatch(Some(2)));
    assert_eq!(store.outcome(put_if("k", "two", at(2))), written(2, 3, 2));
    assert_eq!(store.outcome(put_if("k", "three", exists)), written(2, 4, 3));
    assert_eq!(store.refusal(delete("k", at(3))), mismatch(Some(4)));
    assert_eq!(store.refusal(delete("k", Precondition::Absent)), mismatch(Some(4)));
    store.outcome(delete("k", at(4))).unwrap();
    assert_eq!(store.refusal(put_if("k", "x", at(4))), mismatch(None));
}

#[test]
fn a_guarded_write_happens_only_while_exactly_that_claim_holds() {
    let mut store = Store::founded();
    let stale = |held: Option<u64>| Rejection::StaleToken { held: held.map(token) };
    assert_eq!(store.refusal(put_guarded("k", "x", "lock", 2)), stale(None));
    store.outcome(try_own("lock", "x")).unwrap();
    assert_eq!(store.outcome(put_guarded("k", "one", "lock", 2)), written(3, 3, 1));
    assert_eq!(store.refusal(put_guarded("k", "x", "lock", 1)), stale(Some(2)));
    assert_eq!(store.refusal(put_guarded("k", "x", "other", 2)), stale(None));
    store.outcome(release("lock", "x")).unwrap();
    assert_eq!(store.refusal(put_guarded("k", "x", "lock", 2)), stale(None));
    store.outcome(try_own("lock", "y")).unwrap();
    assert_eq!(store.refusal(put_guarded("k", "x", "lock", 2)), stale(Some(5)));
}

#[test]
fn a_guard_comes_before_the_precondition_and_guards_deletes_too() {
    let mut store = Store::founded();
    let guard = crate::domain::Guard { lock: super::lock_ref("lock").lock, token: token(2) };
    let delete = DeleteConfig {
        namespace: default_ns(),
        key: config_key("k"),
        precondition: Precondition::Exists,
        guard: Some(guard),
    };
    let refusal = store.refusal(Command::DeleteConfig(delete.clone()));
    assert_eq!(refusal, Rejection::StaleToken { held: None });
    store.outcome(try_own("lock", "x")).unwrap();
    let refusal = store.refusal(Command::DeleteConfig(delete.clone()));
    assert_eq!(refusal, Rejection::RevisionMismatch { current: None });
    store.outcome(put("k", "one")).unwrap();
    let deleted = store.outcome(Command::DeleteConfig(delete));
    assert_eq!(deleted, Ok(Success::ConfigDeleted { revision: Some(rev(4)) }));
}

#[test]
fn writes_need_their_namespace() {
    let mut store = Store::founded();
    let Command::PutConfig(of_default) = put("k", "x") else { panic!("put makes a put") };
    let elsewhere = PutConfig { namespace: ns("other"), ..of_default };
    assert_eq!(store.refusal(Command::PutConfig(elsewhere)), Rejection::NamespaceNotFound);
    let (namespace, key) = (ns("other"), config_key("k"));
    let delete = DeleteConfig { namespace, key, precondition: Precondition::None, guard: None };
    assert_eq!(store.refusal(Command::DeleteConfig(delete)), Rejection::NamespaceNotFound);
}

fn query<'q>(namespace: &'q crate::NamespaceName, prefix: &'q str) -> ConfigQuery<'q> {
    ConfigQuery { namespace, prefix, after: None, limit: 100, at: None, with_values: false }
}

fn keys(page: &Page<ConfigEntry, crate::ConfigKey>) -> Vec<&str> {
    page.items.iter().map(|entry| entry.key.as_str()).collect()
}

#[test]
fn keys_are_listed_by_prefix_in_pages() {
    let mut store = Store::founded();
    for key in ["b", "a/2", "a/1", "a", "a/3", "ab", "ä"] {
        store.outcome(put(key, key)).unwrap();
    }
    let default = default_ns();
    let view = store.view();
    let all = view.config_list(&query(&default, "")).unwrap();
    assert_eq!((keys(&all), all.next.as_ref()), (vec!["a", "a/1", "a/2", "a/3", "ab", "b", "ä"], None));
    let first = view.config_list(&ConfigQuery { limit: 2, ..query(&default, "a/") }).unwrap();
    assert_eq!((keys(&first), &first.next), (vec!["a/1", "a/2"], &Some(config_key("a/2"))));
    let after = first.next.as_ref();
    let rest = view.config_list(&ConfigQuery { limit: 2, after, ..query(&default, "a/") }).unwrap();
    assert_eq!((keys(&rest), rest.next.as_ref()), (vec!["a/3"], None));
    assert_eq!(rest.items[0].value, None);
    assert_eq!(rest.items[0].value_bytes, 3);
}

#[test]
fn a_list_at_a_revision_shows_the_keys_of_then() {
    let mut store = Store::founded();
    store.outcome(put("a", "1")).unwrap();
    store.outcome(put("b", "2")).unwrap();
    store.outcome(delete("a", Precondition::None)).unwrap();
    store.outcome(put("c", "5")).unwrap();
    store.outcome(put("b", "6")).unwrap();
    let (default, view) = (default_ns(), store.view());
    let at = |number| {
        let query = ConfigQuery { at: Some(rev(number)), with_values: true, ..query(&default, "") };
        let page = view.config_list(&query).unwrap();
        assert_eq!(page.next, None);
        let value = |entry: &ConfigEntry| String::from_utf8(entry.value.clone().unwrap().to_vec()).unwrap();
        page.items.iter().map(|entry| format!("{}={}", entry.key, value(entry))).collect::<Vec<_>>()
    };
    assert_eq!(at(1), Vec::<String>::new());
    assert_eq!(at(2), ["a=1"]);
    assert_eq!(at(3), ["a=1", "b=2"]);
    assert_eq!(at(4), ["b=2"]);
    assert_eq!(at(5), ["b=2", "c=5"]);
    assert_eq!(at(6), ["b=6", "c=5"]);
    assert_eq!(at(7), ["b=6", "c=5"]);
    let query = ConfigQuery { at: Some(rev(3)), limit: 1, ..query(&default, "") };
    let page = view.config_list(&query).unwrap();
    assert_eq!((keys(&page), &page.next), (vec!["a"], &Some(config_key("a"))));
    let page = view.config_list(&ConfigQuery { after: page.next.as_ref(), ..query }).unwrap();
    assert_eq!((keys(&page), &page.next), (vec!["b"], &None));
}

#[test]
fn a_list_with_large_values_ends_early_and_goes_on() {
    let mut store = Store::founded();
    let values = 2 * PAGE_VALUE_BYTES_MAX / VALUE_BYTES_MAX;
    for number in 0..values {
        let Command::PutConfig(small) = put(&format!("k{number:02}"), "") else { panic!("a put") };
        let value = Bytes::from(vec![b'x'; VALUE_BYTES_MAX]);
        store.outcome(Command::PutConfig(PutConfig { value, ..small })).unwrap();
    }
    let (default, view) = (default_ns(), store.view());
    for at in [None, Some(store.machine.meta().revision)] {
        let query = ConfigQuery { at, with_values: true, ..query(&default, "") };
        let first = view.config_list(&query).unwrap();
        assert_eq!(first.items.len(), values / 2);
        let rest = view.config_list(&ConfigQuery { after: first.next.as_ref(), ..query }).unwrap();
        assert_eq!((rest.items.len(), rest.next), (values - values / 2, None));
    }
    store.outcome(put("z", "")).unwrap();
    let view = store.view();
    let earlier = store.machine.meta().revision.as_u64() - 1;
    let query = ConfigQuery { at: Some(rev(earlier)), with_values: true, ..query(&default, "") };
    let first = view.config_list(&query).unwrap();
    assert_eq!(first.items.len(), values / 2);
    let rest = view.config_list(&ConfigQuery { after: first.next.as_ref(), ..query }).unwrap();
    assert_eq!((rest.items.len(), rest.next), (values - values / 2, None));
}
