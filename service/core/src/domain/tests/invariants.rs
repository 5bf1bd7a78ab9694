//! A valid state is broken once per invariant, by writing rows directly, and exactly that invariant is reported.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};

use super::{
    Store, claim_ref, config_key, create_delayed, default_ns, expire, id, lock_ref, ns, put, queue, release,
    rev, scope, token, try_lock, try_own,
};
use crate::domain::batch::RemovedNode;
use crate::domain::claim::{Claim, Standing, Takes};
use crate::domain::compaction::Superseded;
use crate::domain::config::{ConfigHead, ConfigVersion};
use crate::domain::election::ElectionValue;
use crate::domain::invariants::{Invariant, Violation, check};
use crate::domain::lock::{Lock, Place};
use crate::domain::namespace::Namespace;
use crate::domain::session::Session;
use crate::domain::tombstone::{Age, Aged, ClaimTombstone, KeptBy, SessionTombstone};
use crate::domain::{
    Acquire, AcquireSet, ClaimRef, Command, DeleteConfig, EndReason, IfHeld, LockMode, LockRef, MemoryTables,
    Meta, Precondition, Proclaim, PutConfig, Success, Table, key, record,
};
use crate::{LockName, LogTime, NodeId};

/// Rows that a test writes as it likes.
struct Rows(MemoryTables);

impl Rows {
    fn put<R: Serialize>(&mut self, table: Table, key: Vec<u8>, record: &R) {
        let value = record::seal(table, &key, record);
        self.0.write([((table, key), Some(value))].into());
    }

    fn delete(&mut self, table: Table, key: Vec<u8>) {
        assert!(crate::domain::Tables::get(&self.0, table, &key).unwrap().is_some());
        self.0.write([((table, key), None)].into());
    }

    fn edit<R: Serialize + DeserializeOwned>(
        &mut self,
        table: Table,
        key: Vec<u8>,
        change: impl FnOnce(&mut R),
    ) {
        let mut record = record::read(&self.0, table, &key).unwrap().unwrap();
        change(&mut record);
        self.put(table, key, &record);
    }

    fn meta(&mut self, change: impl FnOnce(&mut Meta)) {
        self.edit(Table::Meta, key::META.to_vec(), change);
    }

    fn namespace(&mut self, change: impl FnOnce(&mut Namespace)) {
        self.edit(Table::Namespace, key::namespace(&default_ns()), change);
    }

    fn session(&mut self, session: &str, change: impl FnOnce(&mut Session)) {
        self.edit(Table::Session, key::session(&id(session)), change);
    }

    fn lock(&mut self, lock: &str, change: impl FnOnce(&mut Lock)) {
        self.edit(Table::Lock, key::lock(&lock_ref(lock)), change);
    }

    fn claim(&mut self, lock: &str, claim: &str, change: impl FnOnce(&mut Claim)) {
        self.edit(Table::Claim, key::claim(&claim_ref(lock, claim)), change);
    }

    fn age(&mut self, time: u64, revision: u64, aged: Aged) {
        let age = Age { time: LogTime::from_ms(time), revision: rev(revision), aged };
        self.put(Table::Age, age.key(), &());
    }

    fn delete_age(&mut self, time: u64, revision: u64, aged: Aged) {
        let age = Age { time: LogTime::from_ms(time), revision: rev(revision), aged };
        self.delete(Table::Age, age.key());
    }

    fn end_session(&mut self, session: &str, reason: EndReason) {
        let tombstone = SessionTombstone { reason, revision: rev(3), time: LogTime::ZERO };
        self.put(Table::SessionTombstone, key::session(&id(session)), &tombstone);
        self.age(0, 3, Aged::Session(id(session)));
        self.meta(|meta| meta.counters.tombstones += 1);
    }
}

/// A state with everything in it: holders, waits, delays, tombstones of each kind, idle locks, versions and records.
fn sound() -> MemoryTables {
    let mut store = Store::founded();
    store.outcome(create_delayed("a", 500)).unwrap();
    store.session("b");
    store.outcome(try_lock("held", "x", "a")).unwrap();
    store.outcome(queue("held", "y", "b")).unwrap();
    store.outcome(try_own("own", "z")).unwrap();
    assert_eq!(store.apply(put("k", "one")).revision, rev(7));
    store.outcome(put("k", "two")).unwrap();
    store.outcome(put("gone", "x")).unwrap();
    let (namespace, gone) = (default_ns(), config_key("gone"));
    let precondition = Precondition::None;
    let delete = DeleteConfig { namespace, key: gone, precondition, guard: None };
    store.outcome(Command::DeleteConfig(delete)).unwrap();
    store.outcome(try_lock("idle", "t", "b")).unwrap();
    store.outcome(release("idle", "t")).unwrap();
    assert_eq!(store.apply(release("idle", "u")).revision, rev(13));
    store.outcome(create_delayed("d", 100)).unwrap();
    store.outcome(try_lock("closed", "v", "d")).unwrap();
    store.outcome(expire(&[("d", 14)], &[])).unwrap();
    assert_eq!(store.apply_keyed(scope(1), put("e", "f")).revision, rev(17));
    store.outcome(Command::CreateNamespace { name: ns("other") }).unwrap();
    let Command::PutConfig(of_default) = put("k", "x") else { panic!("put makes a put") };
    store.outcome(Command::PutConfig(PutConfig { namespace: ns("other"), ..of_default.clone() })).unwrap();
    let (key, session) = (config_key("owned"), Some(id("a")));
    store.outcome(Command::PutConfig(PutConfig { key, session, ..of_default })).unwrap();
    let locks = ["of-set", "of-set-too"].map(|name| (lock_ref(name).lock, LockMode::Exclusive));
    let set = AcquireSet {
        namespace: default_ns(),
        claim: claim_ref("of-set", "set").claim,
        session: id("b"),
        locks: BTreeMap::from(locks),
        if_held: IfHeld::Refuse,
        label: String::new(),
    };
    store.outcome(Command::AcquireSet(set)).unwrap();
    let lead = try_lock("x", "leader", "b");
    let Command::Acquire(lead) = lead else { panic!("a try makes a claim") };
    let claim = ClaimRef { lock: election(), claim: lead.claim.claim.clone() };
    let Ok(Success::Held { token, .. }) = store.outcome(Command::Acquire(Acquire { claim, ..lead })) else {
        panic!("the election is free")
    };
    let (value, content_type) = (Bytes::from_static(b"v"), String::new());
    let proclaim = Proclaim { election: election(), token, value, content_type };
    store.outcome(Command::Proclaim(proclaim)).unwrap();
    let mut batch = store.machine.batch(&store.tables);
    let nodes = [1, 2].map(|number| NodeId::new(number).unwrap());
    batch.note_membership(&BTreeSet::from(nodes)).unwrap();
    batch.note_membership(&BTreeSet::from([nodes[0]])).unwrap();
    let changes = batch.finish();
    store.tables.write(changes);
    store.tables
}

fn election() -> LockRef {
    LockRef { namespace: default_ns(), lock: LockName::election("e").unwrap() }
}

fn removed() -> Vec<u8> {
    key::removed_node(NodeId::new(2).unwrap())
}

fn by_revision(revision: u64, key: &str) -> Vec<u8> {
    key::config_by_revision(rev(revision), &default_ns(), &config_key(key))
}

/// Breaks one invariant of the sound state and no other.
fn break_one(invariant: Invariant, rows: &mut Rows) {
    match invariant {
        Invariant::RowsReadable => {
            rows.0.write([((Table::RemovedNode, removed()), Some(vec![1, 2, 3, 4, 5, 6]))].into());
        }
        Invariant::WithinUnits => {
            let standing = Standing::Held { token: token(9), since: LogTime::ZERO };
            let (session, takes) = (id("b"), Takes::Lock(LockMode::Exclusive));
            let claim = Claim { session, own_ttl_ms: None, takes, label: String::new(), standing };
            let second = claim_ref("held", "second");
            rows.put(Table::Claim, key::claim(&second), &claim);
            let place = Place { claim: second.claim.clone() };
            rows.put(Table::Holder, key::holder(&second.lock, token(9)), &place);
            rows.put(Table::SessionClaim, key::session_claim(&id("b"), &second), &());
            rows.session("b", |session| session.owned += 1);
            rows.lock("held", |lock| {
                (lock.holders, lock.taken, lock.last_token) = (2, 2 * lock.taken, token(9));
            });
            rows.namespace(|namespace| namespace.claims += 1);
            rows.meta(|meta| meta.counters.claims += 1);
        }
        Invariant::OwnerLive => {
            rows.claim("held", "y", |claim| claim.session = id("ghost"));
            rows.delete(Table::SessionClaim, key::session_claim(&id("b"), &claim_ref("held", "y")));
            rows.put(Table::SessionClaim, key::session_claim(&id("ghost"), &claim_ref("held", "y")), &());
            rows.session("b", |session| session.owned -= 1);
        }
        Invariant::TokenWithinRevision => rows.lock("idle", |lock| lock.last_token = token(1_000)),
        Invariant::ClaimHasPlace => {
            rows.delete(Table::Queue, key::queue(&lock_ref("held"), rev(5)));
            rows.lock("held", |lock| lock.queued -= 1);
        }
        Invariant::PlaceHasClaim => {
            let place = Place { claim: claim_ref("held", "nobody").claim };
            rows.put(Table::Queue, key::queue(&lock_ref("held"), rev(9)), &place);
            rows.lock("held", |lock| lock.queued += 1);
        }
        Invariant::ClaimIsOwned => {
            rows.delete(Table::SessionClaim, key::session_claim(&id("b"), &claim_ref("held", "y")));
            rows.session("b", |session| session.owned -= 1);
        }
        Invariant::OwnedIsClaim => {
            let ghost = key::session_claim(&id("b"), &claim_ref("held", "ghost"));
            rows.put(Table::SessionClaim, ghost, &());
            rows.session("b", |session| session.owned += 1);
        }
        Invariant::OwnedCounted => rows.session("b", |session| session.owned += 1),
        Invariant::OwnSession => rows.claim("own", "z", |claim| claim.own_ttl_ms = Some(1)),
        Invariant::ClaimOnce => {
            let tombstone = ClaimTombstone {
                reason: EndReason::Released,
                token: None,
                session: None,
                revision: rev(3),
                time: LogTime::ZERO,
                kept_by: KeptBy::Age,
            };
            rows.put(Table::ClaimTombstone, key::claim(&claim_ref("held", "x")), &tombstone);
            rows.age(0, 3, Aged::Claim(claim_ref("held", "x")));
            rows.meta(|meta| meta.counters.tombstones += 1);
        }
        Invariant::SessionOnce => rows.end_session("a", EndReason::Released),
        Invariant::NoneWaitsForFree => {
            rows.delete(Table::Claim, key::claim(&claim_ref("held", "x")));
            rows.delete(Table::Holder, key::holder(&lock_ref("held"), token(4)));
            rows.delete(Table::SessionClaim, key::session_claim(&id("a"), &claim_ref("held", "x")));
            rows.session("a", |session| session.owned -= 1);
            rows.lock("held", |lock| (lock.holders, lock.taken) = (0, 0));
            rows.namespace(|namespace| namespace.claims -= 1);
            rows.meta(|meta| meta.counters.claims -= 1);
        }
        Invariant::DelayIndexed => {
            let due = LogTime::from_ms(100);
            rows.delete(Table::LockDelay, key::lock_delay(due, &lock_ref("closed")));
            rows.namespace(|namespace| namespace.lock_delays -= 1);
            rows.meta(|meta| meta.counters.lock_delays -= 1);
        }
        Invariant::LastToken => rows.lock("held", |lock| lock.last_token = token(3)),
        Invariant::TokenUnique => {
            let key = key::claim(&claim_ref("idle", "t"));
            rows.edit(Table::ClaimTombstone, key, |ended: &mut ClaimTombstone| {
                ended.token = Some(token(4));
            });
        }
        Invariant::LockCounted => rows.lock("held", |lock| lock.queued += 1),
        Invariant::IdleMarked => {
            rows.lock("idle", |lock| lock.idle = None);
            rows.delete_age(0, 12, Aged::Lock(lock_ref("idle")));
            rows.meta(|meta| meta.counters.idle_locks -= 1);
        }
        Invariant::HeadIsNewest => {
            let key = key::config(&default_ns(), &config_key("k"));
            rows.edit(Table::ConfigHead, key, |head: &mut ConfigHead| head.value_bytes += 1);
        }
        Invariant::VersionChain => {
            let newest = key::config_version(&default_ns(), &config_key("k"), rev(8));
            rows.edit(Table::ConfigVersion, newest, |version: &mut ConfigVersion| match version {
                ConfigVersion::Put { version, .. } => *version = 5,
                ConfigVersion::Deleted { .. } => panic!("the key exists"),
            });
            let key = key::config(&default_ns(), &config_key("k"));
            rows.edit(Table::ConfigHead, key, |head: &mut ConfigHead| head.version = 5);
        }
        Invariant::StoreCounted => rows.meta(|meta| meta.counters.sessions += 1),
        Invariant::NamespaceCounted => rows.namespace(|namespace| namespace.keys += 1),
        Invariant::AgeIndexed => rows.delete_age(0, 13, Aged::Claim(claim_ref("idle", "u"))),
        Invariant::SessionTombstonesIndexed => rows.session("b", |session| session.tombstones += 1),
        Invariant::ReplayIndexed => rows.delete(Table::ReplayAge, key::replay_age(0)),
        Invariant::ReservedId => rows.end_session("c-99", EndReason::DeletedUnseen),
        Invariant::RevisionWithinStore => {
            rows.put(Table::RemovedNode, removed(), &RemovedNode { revision: rev(1_000) });
        }
        Invariant::TimeWithinClock => rows.session("a", |session| session.time = LogTime::from_ms(1)),
        Invariant::NamespaceExists => {
            rows.delete(Table::Namespace, key::namespace(&ns("other")));
            rows.meta(|meta| meta.counters.namespaces -= 1);
        }
        Invariant::WithinSettings => rows.meta(|meta| meta.settings.sessions_max = 1),
        Invariant::Founded => rows.meta(|meta| meta.cluster_id = None),
        Invariant::SupersededIndexed => {
            rows.edit(Table::Superseded, by_revision(8, "k"), |row: &mut Superseded| row.by_delete = true);
            rows.put(Table::Prunable, by_revision(8, "k"), &());
            let key = key::config(&default_ns(), &config_key("k"));
            rows.edit(Table::ConfigHead, key, |head: &mut ConfigHead| head.window = rev(8));
        }
        Invariant::PrunableIndexed => rows.put(Table::Prunable, by_revision(8, "k"), &()),
        Invariant::ChangesIndexed => rows.delete(Table::ConfigChange, by_revision(8, "k")),
        Invariant::KeyIsOwned => {
            let row = key::session_key(&id("a"), &default_ns(), &config_key("owned"));
            rows.delete(Table::SessionKey, row);
            rows.session("a", |session| session.owned -= 1);
        }
        Invariant::EventsKept => rows.meta(|meta| meta.events_compacted_revision = rev(5)),
        Invariant::KindKept => rows.claim("held", "y", |claim| {
            claim.takes = Takes::Lock(LockMode::Permits { permits: 1, of: 1 });
        }),
        Invariant::SetWhole => {
            let set_ref = ClaimRef::lock_set(default_ns(), claim_ref("of-set", "set").claim);
            rows.edit(Table::Claim, key::claim(&set_ref), |set: &mut Claim| {
                set.takes = Takes::Set(BTreeMap::from([(lock_ref("of-set").lock, LockMode::Shared)]));
            });
        }
        Invariant::ValueOfLeader => {
            let key = key::lock(&election());
            rows.edit(Table::ElectionValue, key, |value: &mut ElectionValue| value.token = token(4));
        }
    }
}

#[test]
fn a_state_with_everything_in_it_is_sound() {
    assert_eq!(check(&sound()), []);
}

#[test]
fn empty_tables_are_sound() {
    assert_eq!(check(&MemoryTables::default()), []);
}

#[test]
fn each_broken_invariant_is_reported_and_no_other() {
    for invariant in Invariant::ALL {
        let mut rows = Rows(sound());
        break_one(invariant, &mut rows);
        let violations = check(&rows.0);
        let reported: BTreeSet<Invariant> = violations.iter().map(|found| found.invariant).collect();
        assert_eq!(reported, BTreeSet::from([invariant]), "{violations:#?}");
    }
}

#[test]
fn invariants_are_numbered_without_gaps() {
    let numbers: Vec<u8> = Invariant::ALL.iter().map(|invariant| invariant.number()).collect();
    assert_eq!(numbers, (1..=39).collect::<Vec<u8>>());
}

#[test]
fn a_violation_names_its_invariant_by_number() {
    let violation = Violation { invariant: Invariant::WithinUnits, detail: "two hold".to_owned() };
    assert_eq!(violation.to_string(), "invariant 2 (WithinUnits): two hold");
}
