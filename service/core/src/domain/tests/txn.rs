//! Transactions.

use bytes::Bytes;

use super::{Store, config_key, default_ns, id, lock_ref, ns, put, release, rev, token, try_own};
use crate::domain::{
    Command, Compare, Comparison, Guard, KeyTest, Rejection, Success, Txn, TxnOp, TxnResult,
};
use crate::limits::VALUE_BYTES_MAX;
use crate::{ClaimId, ConfigKey, Revision};

fn key_is(key: &str, test: KeyTest) -> Compare {
    Compare::Key { key: config_key(key), test }
}

fn op_put(key: &str, value: &str) -> TxnOp {
    let value = Bytes::copy_from_slice(value.as_bytes());
    let (content_type, managed_by) = ("text/plain".to_owned(), String::new());
    TxnOp::Put { key: config_key(key), value, content_type, session: None, managed_by }
}

fn op_get(key: &str) -> TxnOp {
    TxnOp::Get { key: config_key(key) }
}

fn op_delete(key: &str) -> TxnOp {
    TxnOp::Delete { key: config_key(key) }
}

fn txn(compare: Vec<Compare>, success: Vec<TxnOp>, failure: Vec<TxnOp>) -> Command {
    Command::Txn(Txn { namespace: default_ns(), guard: None, compare, success, failure })
}

fn holds(store: &mut Store, condition: Compare) -> bool {
    let outcome = store.outcome(txn(vec![condition], vec![], vec![]));
    let Ok(Success::Txn { succeeded, revision: None, results }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(results, []);
    succeeded
}

fn written(key: &str, (created, modified, version): (u64, u64, u64)) -> TxnResult {
    let (create_revision, mod_revision) = (rev(created), rev(modified));
    TxnResult::Put { key: config_key(key), create_revision, mod_revision, version }
}

#[test]
fn the_writes_of_a_transaction_share_one_revision() {
    let mut store = Store::founded();
    store.outcome(put("a", "1")).unwrap();
    store.outcome(put("gone", "1")).unwrap();
    let ops = vec![op_put("a", "2"), op_get("b"), op_delete("gone"), op_delete("absent"), op_put("b", "3")];
    let done = store.apply(txn(vec![], ops, vec![]));
    let deleted = |key, deleted| TxnResult::Deleted { key: config_key(key), deleted };
    let results = vec![
        written("a", (2, 4, 2)),
        TxnResult::Got { key: config_key("b"), item: None },
        deleted("gone", true),
        deleted("absent", false),
        written("b", (4, 4, 1)),
    ];
    assert_eq!(done.outcome, Ok(Success::Txn { succeeded: true, revision: Some(rev(4)), results }));
    assert!(done.events.iter().all(|event| event.revision == rev(4)));
    let page = store.view().config_events(&default_ns(), rev(3), |_| true).unwrap();
    assert_eq!(page.events.len(), 3);
}

#[test]
fn a_transaction_that_changes_nothing_takes_no_revision() {
    let mut store = Store::founded();
    store.outcome(put("a", "1")).unwrap();
    let done = store.apply(txn(vec![], vec![op_get("a"), op_delete("absent")], vec![]));
    assert_eq!(done.revision, rev(2));
    assert!(done.events.is_empty());
}

#[test]
fn comparisons_look_at_what_was_before() {
    let mut store = Store::founded();
    store.outcome(put("k", "b")).unwrap();
    store.outcome(put("k", "b")).unwrap();
    let value = |text: &'static str| Bytes::from_static(text.as_bytes());
    let absent = ConfigKey::new("absent").unwrap();
    for (test, expected) in [
        (KeyTest::ModRevision(Comparison::Equal, 3), true),
        (KeyTest::ModRevision(Comparison::Less, 3), false),
        (KeyTest::CreateRevision(Comparison::Greater, 1), true),
        (KeyTest::Version(Comparison::NotEqual, 2), false),
        (KeyTest::Value(Comparison::Equal, value("b")), true),
        (KeyTest::Value(Comparison::Less, value("ba")), true),
        (KeyTest::Value(Comparison::Greater, value("a")), true),
        (KeyTest::Exists(true), true),
    ] {
        assert_eq!(holds(&mut store, key_is("k", test.clone())), expected, "{test:?}");
    }
    for (test, expected) in [
        (KeyTest::ModRevision(Comparison::Equal, 0), true),
        (KeyTest::Version(Comparison::Less, 1), true),
        (KeyTest::Value(Comparison::NotEqual, value("b")), false),
        (KeyTest::Exists(false), true),
    ] {
        let condition = Compare::Key { key: absent.clone(), test: test.clone() };
        assert_eq!(holds(&mut store, condition), expected, "{test:?} of an absent key");
    }
}

#[test]
fn one_condition_that_fails_takes_the_other_list() {
    let mut store = Store::founded();
    let compare = vec![key_is("k", KeyTest::Exists(false)), key_is("k", KeyTest::Exists(true))];
    let done = store.outcome(txn(compare, vec![op_put("k", "yes")], vec![op_put("k", "no")])).unwrap();
    let results = vec![written("k", (2, 2, 1))];
    assert_eq!(done, Success::Txn { succeeded: false, revision: Some(rev(2)), results });
    let item = store.view().config_get(&default_ns(), &config_key("k")).unwrap().unwrap();
    assert_eq!(&*item.value, b"no");
}

#[test]
fn a_lock_compares_only_while_exactly_that_claim_holds_it() {
    let mut store = Store::founded();
    store.outcome(try_own("l", "x")).unwrap();
    let lock = |number, claim: Option<&str>| Compare::Lock {
        lock: lock_ref("l").lock,
        claim: claim.map(|id| ClaimId::new(id).unwrap()),
        token: token(number),
    };
    assert!(holds(&mut store, lock(2, None)));
    assert!(holds(&mut store, lock(2, Some("x"))));
    assert!(!holds(&mut store, lock(2, Some("y"))));
    assert!(!holds(&mut store, lock(3, None)));
    store.outcome(release("l", "x")).unwrap();
    assert!(!holds(&mut store, lock(2, None)));
}

#[test]
fn a_refused_transaction_does_nothing_at_all() {
    let mut store = Store::founded();
    let Command::Txn(plain) = txn(vec![], vec![op_put("a", "1")], vec![]) else { panic!("a txn") };
    let guard = Some(Guard { lock: lock_ref("l").lock, token: token(9) });
    let refusal = store.refusal(Command::Txn(Txn { guard, ..plain.clone() }));
    assert_eq!(refusal, Rejection::StaleToken { held: None });
    let elsewhere = Txn { namespace: ns("other"), ..plain };
    assert_eq!(store.refusal(Command::Txn(elsewhere)), Rejection::NamespaceNotFound);
    let TxnOp::Put { key, value, content_type, managed_by, .. } = op_put("b", "1") else { panic!("a put") };
    let owned = TxnOp::Put { key, value, content_type, session: Some(id("nobody")), managed_by };
    let refusal = store.refusal(txn(vec![], vec![op_put("a", "1"), owned], vec![]));
    assert_eq!(refusal, Rejection::SessionNotFound);
    assert_eq!(store.view().meta().unwrap().revision, Revision::new(1));
}

#[test]
fn a_transaction_that_reads_too_much_is_refused_as_a_whole() {
    let mut store = Store::founded();
    let large = "x".repeat(VALUE_BYTES_MAX);
    let keys = ["a", "b", "c", "d", "e"];
    for key in keys {
        store.outcome(put(key, &large)).unwrap();
    }
    let ops: Vec<TxnOp> = keys.iter().map(|key| op_get(key)).chain([op_put("f", "1")]).collect();
    let refusal = store.refusal(txn(vec![], ops.clone(), vec![]));
    assert_eq!(refusal, Rejection::TxnAnswerTooLarge { bytes_max: 4 << 20 });
    store.outcome(txn(vec![], ops[1..].to_vec(), vec![])).unwrap();
}
