//! The bytes that disks and logs hold, pinned in `format_1.txt`. Whoever changes a line there decides to change a format,
//! and then owes a new format number and a reader of this one.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use super::{
    claim_ref, config_key, default_ns, id, leader, lock_ref, ns, rev, scope, session_ref, token, wait_ref,
};
use crate::domain::batch::RemovedNode;
use crate::domain::claim::{Claim, Standing, Takes};
use crate::domain::compaction::Superseded;
use crate::domain::config::{ConfigHead, ConfigVersion};
use crate::domain::election::ElectionValue;
use crate::domain::event_log::LoggedEvent;
use crate::domain::lock::{Idle, Lock, Place};
use crate::domain::namespace::Namespace;
use crate::domain::replay::{Replay, ReplayAge};
use crate::domain::session::Session;
use crate::domain::tombstone::{ClaimTombstone, KeptBy, SessionTombstone};
use crate::domain::{
    Acquire, AcquireSet, Change, ClaimOwner, Command, Compact, Compare, Comparison, ConfigItem, Counters,
    DeleteConfig, EndReason, Expire, Guard, Holder, IfHeld, KeyTest, LEVEL, LockKind, LockMode, LockRef,
    Meta, Outcome, Precondition, Proclaim, Proposal, ProposalError, PutConfig, Rejection, RollbackConfig,
    SessionSpec, Settings, StuckWait, Success, Table, Txn, TxnOp, TxnResult, record,
};
use crate::{LockName, LogTime, NodeId};

const PINNED: &str = include_str!("format_1.txt");

/// The key under which sample records are sealed.
const KEY: &[u8] = b"key";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digits).collect()
}

/// The bytes that are pinned under a name.
fn pinned(name: &str) -> Vec<u8> {
    let line = PINNED.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
    unhex(line.unwrap_or_else(|| panic!("nothing is pinned as {name}")))
}

fn spec() -> SessionSpec {
    let labels = BTreeMap::from([("pod".to_owned(), "p-0".to_owned())]);
    SessionSpec { ttl_ms: 15_000, name: "worker".to_owned(), labels, lock_delay_ms: 500 }
}

fn guard() -> Guard {
    Guard { lock: lock_ref("a/lock").lock, token: token(300) }
}

fn commands() -> Vec<Command> {
    let claim = claim_ref("a/lock", "x");
    let acquire = |owner, if_held| {
        let (claim, mode, label) = (claim.clone(), LockMode::Exclusive, "label".to_owned());
        Command::Acquire(Acquire { claim, owner, mode, if_held, label })
    };
    let put = |precondition, guard: Option<Guard>| {
        Command::PutConfig(PutConfig {
            namespace: default_ns(),
            key: config_key("a/ä"),
            value: Bytes::from_static(&[0, 1, 255]),
            content_type: "text/plain".to_owned(),
            session: guard.as_ref().map(|_| id("s")),
            managed_by: "m".to_owned(),
            precondition,
            guard,
        })
    };
    let key_is = |test| Compare::Key { key: config_key("k"), test };
    vec![
        Command::Found { cluster_id: "c1".to_owned(), history_id: 7, settings: Settings::default() },
        Command::Tick,
        Command::CreateNamespace { name: ns("other") },
        Command::DeleteNamespace { name: ns("other") },
        Command::CreateSession { id: id("s"), spec: spec() },
        Command::EndSession { id: id("s") },
        acquire(ClaimOwner::Session(id("s")), IfHeld::Refuse),
        acquire(ClaimOwner::OwnSession { ttl_ms: 5_000 }, IfHeld::Queue { wait_ms: 300, keep_waiting: true }),
        Command::CancelWait(wait_ref("a/lock", "x", 300)),
        Command::Release { claim: claim.clone() },
        Command::ForceRelease { lock: lock_ref("a/lock"), token: token(300), reason: "stuck".to_owned() },
        put(Precondition::None, None),
        put(Precondition::ModRevision(rev(300)), Some(guard())),
        put(Precondition::Exists, None),
        put(Precondition::Absent, None),
        Command::DeleteConfig(DeleteConfig {
            namespace: default_ns(),
            key: config_key("k"),
            precondition: Precondition::Exists,
            guard: Some(guard()),
        }),
        Command::Expire(Expire {
            leader: leader(),
            sessions: vec![session_ref("s", 300)],
            waits: vec![wait_ref("a/lock", "x", 301)],
        }),
        Command::RollbackConfig(RollbackConfig {
            namespace: default_ns(),
            key: config_key("k"),
            to: rev(300),
            managed_by: "m".to_owned(),
            precondition: Precondition::Exists,
            guard: Some(guard()),
        }),
        Command::Txn(Txn {
            namespace: default_ns(),
            guard: Some(guard()),
            compare: vec![
                key_is(KeyTest::ModRevision(Comparison::Equal, 300)),
                key_is(KeyTest::CreateRevision(Comparison::NotEqual, 300)),
                key_is(KeyTest::Version(Comparison::Less, 300)),
                key_is(KeyTest::Value(Comparison::Greater, Bytes::from_static(&[0, 255]))),
                key_is(KeyTest::Exists(true)),
                Compare::Lock { lock: guard().lock, claim: Some(claim.claim), token: token(300) },
            ],
            success: vec![
                TxnOp::Put {
                    key: config_key("k"),
                    value: Bytes::from_static(&[0, 255]),
                    content_type: "text/plain".to_owned(),
                    session: Some(id("s")),
                    managed_by: "m".to_owned(),
                },
                TxnOp::Delete { key: config_key("l") },
            ],
            failure: vec![TxnOp::Get { key: config_key("k") }],
        }),
        Command::Compact(Compact {
            superseded_before: LogTime::from_ms(70_000),
            history_bytes: 300,
            rows: 10_000,
        }),
        Command::AcquireSet(AcquireSet {
            namespace: default_ns(),
            claim: claim_ref("a/lock", "x").claim,
            session: id("s"),
            locks: BTreeMap::from([
                (lock_ref("a").lock, LockMode::Shared),
                (lock_ref("b").lock, LockMode::Permits { permits: 3, of: 300 }),
            ]),
            if_held: IfHeld::Queue { wait_ms: 300, keep_waiting: false },
            label: "label".to_owned(),
        }),
        Command::Proclaim(Proclaim {
            election: LockRef { namespace: default_ns(), lock: LockName::election("e").unwrap() },
            token: token(300),
            value: Bytes::from_static(&[0, 255]),
            content_type: "text/plain".to_owned(),
        }),
    ]
}

/// A variant that is added needs a name here, a sample above and a line in the file.
const fn command_name(command: &Command) -> &'static str {
    match command {
        Command::Found { .. } => "found",
        Command::Tick => "tick",
        Command::CreateNamespace { .. } => "create-namespace",
        Command::DeleteNamespace { .. } => "delete-namespace",
        Command::CreateSession { .. } => "create-session",
        Command::EndSession { .. } => "end-session",
        Command::Acquire(_) => "acquire",
        Command::CancelWait(_) => "cancel-wait",
        Command::Release { .. } => "release",
        Command::ForceRelease { .. } => "force-release",
        Command::PutConfig(_) => "put-config",
        Command::DeleteConfig(_) => "delete-config",
        Command::Expire(_) => "expire",
        Command::RollbackConfig(_) => "rollback-config",
        Command::Txn(_) => "txn",
        Command::Compact(_) => "compact",
        Command::AcquireSet(_) => "acquire-set",
        Command::Proclaim(_) => "proclaim",
    }
}

fn txn_results() -> Vec<TxnResult> {
    let key = || config_key("k");
    let item = ConfigItem {
        key: key(),
        value: Bytes::from_static(&[0, 255]),
        content_type: "text/plain".to_owned(),
        create_revision: rev(2),
        mod_revision: rev(300),
        version: 5,
        session: Some(id("s")),
        managed_by: "m".to_owned(),
    };
    vec![
        TxnResult::Put { key: key(), create_revision: rev(2), mod_revision: rev(300), version: 5 },
        TxnResult::Deleted { key: key(), deleted: true },
        TxnResult::Got { key: key(), item: Some(item) },
        TxnResult::Got { key: key(), item: None },
    ]
}

fn outcomes() -> Vec<Outcome> {
    let (create_revision, mod_revision, session) = (rev(2), rev(300), id("s"));
    let holder = Holder {
        claim: "x".to_owned(),
        session: session.clone(),
        session_name: "worker".to_owned(),
        mode: LockMode::Permits { permits: 3, of: 300 },
        label: "label".to_owned(),
        token: token(300),
        held_ms: 1_000,
    };
    let holders = vec![holder];
    let reasons = [
        EndReason::Released,
        EndReason::Expired,
        EndReason::TimedOut,
        EndReason::LeftQueue,
        EndReason::DeletedUnseen,
        EndReason::Forced,
    ];
    let mut outcomes = vec![
        Ok(Success::Founded),
        Ok(Success::Ticked),
        Ok(Success::Namespace { create_revision, created: true }),
        Ok(Success::NamespaceDeleted),
        Ok(Success::Session { create_revision, spec: spec(), created: false }),
        Ok(Success::SessionEnded),
        Ok(Success::Held { token: token(300), session: session.clone(), granted: true }),
        Ok(Success::Queued {
            enqueued: rev(300),
            session,
            position: 4,
            holders: holders.clone(),
            queued: true,
        }),
        Ok(Success::WaitTimedOut),
        Ok(Success::Released),
        Ok(Success::ForceReleased { claim: claim_ref("a/lock", "x"), session: id("s"), revision: rev(300) }),
        Ok(Success::ConfigPut { create_revision, mod_revision, version: 5 }),
        Ok(Success::ConfigDeleted { revision: Some(rev(300)) }),
        Ok(Success::Expired { sessions: 1, waits: 2 }),
        Ok(Success::ExpireVoid),
        Ok(Success::Txn { succeeded: true, revision: Some(rev(300)), results: txn_results() }),
        Ok(Success::SetHeld {
            tokens: BTreeMap::from([(guard().lock, token(300))]),
            session: id("s"),
            granted: true,
        }),
        Ok(Success::SetQueued {
            enqueued: rev(300),
            session: id("s"),
            positions: BTreeMap::from([(guard().lock, 4)]),
            queued: true,
        }),
        Ok(Success::Proclaimed { revision: rev(300) }),
        Ok(Success::Compacted { rows: 300, compacted_revision: rev(299), more: true }),
        Err(Rejection::NotFounded),
        Err(Rejection::NamespaceNotFound),
        Err(Rejection::NamespaceNotEmpty),
        Err(Rejection::TooManyNamespaces { max: 300 }),
        Err(Rejection::SessionNotFound),
        Err(Rejection::SessionExists),
        Err(Rejection::TooManySessions { max: 300 }),
        Err(Rejection::SessionOwnsTooMuch { max: 300 }),
        Err(Rejection::TooManyTombstones { max: 300 }),
        Err(Rejection::LockHeld { holders: holders.clone(), queued: 4, delay_remaining_ms: 300 }),
        Err(Rejection::SetHeld { lock: guard().lock, holders, queued: 4, delay_remaining_ms: 300 }),
        Err(Rejection::ImpossiblePermits { permits: 301, of: 300 }),
        Err(Rejection::LockSetSize { max: 300 }),
        Err(Rejection::LockModeConflict { lock: guard().lock, kind: LockKind::Permits { of: 300 } }),
        Err(Rejection::WouldDeadlock {
            stuck: vec![StuckWait {
                session: id("s"),
                session_name: "worker".to_owned(),
                lock: guard().lock,
                namespace: default_ns(),
            }],
        }),
        Err(Rejection::ClaimConflict),
        Err(Rejection::ClaimEnded { reason: EndReason::Forced, token: Some(token(300)) }),
        Err(Rejection::ClaimNotFound),
        Err(Rejection::QueueFull { max: 300 }),
        Err(Rejection::TokenMismatch { held: vec![token(300)] }),
        Err(Rejection::StaleToken { held: Some(token(300)) }),
        Err(Rejection::RevisionMismatch { current: Some(rev(300)) }),
        Err(Rejection::KeyNotFound),
        Err(Rejection::RevisionCompacted { oldest: rev(300) }),
        Err(Rejection::FutureRevision { revision: rev(300) }),
        Err(Rejection::TxnAnswerTooLarge { bytes_max: 300 }),
        Err(Rejection::ReplayKeyReused),
        Err(Rejection::ReplayAnswerNotKept),
    ];
    outcomes.extend(reasons.map(|reason| Err(Rejection::SessionExpired { reason })));
    outcomes
}

const fn outcome_name(outcome: &Outcome) -> &'static str {
    match outcome {
        Ok(success) => match success {
            Success::Founded => "founded",
            Success::Ticked => "ticked",
            Success::Namespace { .. } => "namespace",
            Success::NamespaceDeleted => "namespace-deleted",
            Success::Session { .. } => "session",
            Success::SessionEnded => "session-ended",
            Success::Held { .. } => "held",
            Success::Queued { .. } => "queued",
            Success::WaitTimedOut => "wait-timed-out",
            Success::Released => "released",
            Success::ForceReleased { .. } => "force-released",
            Success::ConfigPut { .. } => "config-put",
            Success::ConfigDeleted { .. } => "config-deleted",
            Success::Expired { .. } => "expired",
            Success::ExpireVoid => "expire-void",
            Success::Txn { .. } => "txn",
            Success::SetHeld { .. } => "set-held",
            Success::SetQueued { .. } => "set-queued",
            Success::Proclaimed { .. } => "proclaimed",
            Success::Compacted { .. } => "compacted",
        },
        Err(rejection) => match rejection {
            Rejection::NotFounded => "not-founded",
            Rejection::NamespaceNotFound => "namespace-not-found",
            Rejection::NamespaceNotEmpty => "namespace-not-empty",
            Rejection::TooManyNamespaces { .. } => "too-many-namespaces",
            Rejection::SessionNotFound => "session-not-found",
            Rejection::SessionExpired { .. } => "session-expired",
            Rejection::SessionExists => "session-exists",
            Rejection::TooManySessions { .. } => "too-many-sessions",
            Rejection::SessionOwnsTooMuch { .. } => "session-owns-too-much",
            Rejection::TooManyTombstones { .. } => "too-many-tombstones",
            Rejection::LockHeld { .. } => "lock-held",
            Rejection::SetHeld { .. } => "set-held",
            Rejection::ImpossiblePermits { .. } => "impossible-permits",
            Rejection::LockSetSize { .. } => "lock-set-size",
            Rejection::LockModeConflict { .. } => "lock-mode-conflict",
            Rejection::WouldDeadlock { .. } => "would-deadlock",
            Rejection::ClaimConflict => "claim-conflict",
            Rejection::ClaimEnded { .. } => "claim-ended",
            Rejection::ClaimNotFound => "claim-not-found",
            Rejection::QueueFull { .. } => "queue-full",
            Rejection::TokenMismatch { .. } => "token-mismatch",
            Rejection::StaleToken { .. } => "stale-token",
            Rejection::RevisionMismatch { .. } => "revision-mismatch",
            Rejection::KeyNotFound => "key-not-found",
            Rejection::RevisionCompacted { .. } => "revision-compacted",
            Rejection::FutureRevision { .. } => "future-revision",
            Rejection::TxnAnswerTooLarge { .. } => "txn-answer-too-large",
            Rejection::ReplayKeyReused => "replay-key-reused",
            Rejection::ReplayAnswerNotKept => "replay-answer-not-kept",
        },
    }
}

/// Names with their bytes. Each record is also read back from the pinned bytes.
#[derive(Default)]
struct Lines {
    written: Vec<String>,
    misread: Vec<String>,
}

impl Lines {
    fn add(&mut self, name: &str, bytes: &[u8]) {
        self.written.push(format!("{name} = {}", hex(bytes)));
    }

    fn record<R>(&mut self, name: &str, table: Table, sample: &R)
    where
        R: Serialize + DeserializeOwned + PartialEq + Debug,
    {
        let name = format!("record {name}");
        self.add(&name, &record::seal(table, KEY, sample));
        let is_pinned = PINNED.contains(&format!("{name} = "));
        let pinned = if is_pinned { pinned(&name) } else { Vec::new() };
        if record::open::<R>(table, KEY, &pinned).as_ref() != Ok(sample) {
            self.misread.push(name);
        }
    }
}

fn numbered<'n>(kind: &str, names: impl Iterator<Item = &'n str>) -> Vec<String> {
    names.enumerate().map(|(at, name)| format!("{kind} {at} {name}")).collect()
}

fn add_records(lines: &mut Lines) {
    let time = LogTime::from_ms(70_000);
    let node = |number| NodeId::new(number).unwrap();
    let meta = Meta {
        revision: rev(300),
        time,
        compacted_revision: rev(200),
        changes_from: rev(199),
        events_compacted_revision: rev(250),
        level: LEVEL,
        cluster_id: Some("c1".to_owned()),
        history_id: 7,
        settings: Settings::default(),
        counters: Counters {
            namespaces: 1,
            sessions: 2,
            claims: 3,
            lock_delays: 4,
            tombstones: 5,
            idle_locks: 6,
            replay_records: 7,
            replay_bytes: 300,
            replay_next: 9,
            superseded: 10,
            history_bytes: 301,
            events: 11,
        },
        members: BTreeSet::from([node(1), node(i64::MAX as u64)]),
    };
    lines.record("meta", Table::Meta, &meta);
    let namespace = Namespace { create_revision: rev(300), keys: 1, claims: 2, lock_delays: 3 };
    lines.record("namespace", Table::Namespace, &namespace);
    let made_by = Some(claim_ref("a/lock", "x"));
    let session = Session { spec: spec(), create_revision: rev(300), time, made_by, owned: 1, tombstones: 2 };
    lines.record("session", Table::Session, &session);
    lines.record("session-claim", Table::SessionClaim, &());
    let ended = SessionTombstone { reason: EndReason::Expired, revision: rev(300), time };
    lines.record("session-tombstone", Table::SessionTombstone, &ended);
    let idle = Some(Idle { time, revision: rev(300) });
    let lock = Lock {
        last_token: token(300),
        kind: LockKind::Permits { of: 300 },
        holders: 1,
        taken: 3,
        queued: 2,
        delay_until: Some(time),
        idle,
    };
    lines.record("lock", Table::Lock, &lock);
    let place = Place { claim: claim_ref("a/lock", "x").claim };
    lines.record("holder", Table::Holder, &place);
    lines.record("queue", Table::Queue, &place);
    let held = Claim {
        session: id("s"),
        own_ttl_ms: Some(5_000),
        takes: Takes::Lock(LockMode::Exclusive),
        label: "label".to_owned(),
        standing: Standing::Held { token: token(300), since: time },
    };
    lines.record("claim held", Table::Claim, &held);
    let standing = Standing::Queued { enqueued: rev(300), since: time, wait_ms: 300, keep_waiting: true };
    let queued = Claim { standing, own_ttl_ms: None, ..held };
    lines.record("claim queued", Table::Claim, &queued);
    let part = Claim { takes: Takes::Part(LockMode::Shared), ..queued };
    lines.record("claim part", Table::Claim, &part);
    let locks = BTreeMap::from([(lock_ref("a").lock, LockMode::Shared)]);
    lines.record("claim set", Table::Claim, &Claim { takes: Takes::Set(locks), ..part });
    let ended = ClaimTombstone {
        reason: EndReason::Forced,
        token: Some(token(299)),
        session: Some(id("s")),
        revision: rev(300),
        time,
        kept_by: KeptBy::Age,
    };
    lines.record("claim-tombstone age", Table::ClaimTombstone, &ended);
    let kept = ClaimTombstone { kept_by: KeptBy::Session, ..ended };
    lines.record("claim-tombstone session", Table::ClaimTombstone, &kept);
    lines.record("session-claim-tombstone", Table::SessionClaimTombstone, &());
    lines.record("age", Table::Age, &());
    lines.record("lock-delay", Table::LockDelay, &());
    let content_type = "text/plain".to_owned();
    let head = ConfigHead {
        create_revision: rev(2),
        mod_revision: rev(300),
        version: 4,
        content_type: content_type.clone(),
        value_bytes: 3,
        session: Some(id("s")),
        managed_by: "m".to_owned(),
        window: rev(299),
    };
    lines.record("config-head", Table::ConfigHead, &head);
    let value = Bytes::from_static(&[0, 1, 255]);
    let put = ConfigVersion::Put {
        create_revision: rev(2),
        version: 4,
        content_type,
        session: Some(id("s")),
        managed_by: "m".to_owned(),
        time,
        value,
    };
    lines.record("config-version put", Table::ConfigVersion, &put);
    let deleted = ConfigVersion::Deleted { time, expired: true };
    lines.record("config-version deleted", Table::ConfigVersion, &deleted);
    lines.record("config-change", Table::ConfigChange, &());
    let superseded = Superseded { version: rev(299), bytes: 300, time, by_delete: true };
    lines.record("superseded", Table::Superseded, &superseded);
    lines.record("prunable", Table::Prunable, &());
    lines.record("session-key", Table::SessionKey, &());
    let replay = Replay { fingerprint: [7; 32], time, sequence: 300, answer: Some(vec![0, 1]) };
    lines.record("replay", Table::Replay, &replay);
    lines.record("replay-age", Table::ReplayAge, &ReplayAge { scope: [8; 32], time });
    for (name, change) in logged_changes() {
        lines.record(&format!("event {name}"), Table::Event, &LoggedEvent { time, change });
    }
    let value = ElectionValue {
        token: token(299),
        value: Bytes::from_static(&[0, 1, 255]),
        content_type: "text/plain".to_owned(),
        revision: rev(300),
    };
    lines.record("election-value", Table::ElectionValue, &value);
    lines.record("removed-node", Table::RemovedNode, &RemovedNode { revision: rev(300) });
}

/// What the log of events keeps.
fn logged_changes() -> [(&'static str, Change); 8] {
    let (claim, session) = (claim_ref("a/lock", "x"), id("s"));
    [
        (
            "session-created",
            Change::SessionCreated { id: id("s"), ttl_ms: 5_000, made_by: Some(claim.clone()) },
        ),
        ("session-ended", Change::SessionEnded { id: id("s"), reason: EndReason::Expired }),
        (
            "claim-queued",
            Change::ClaimQueued {
                claim: claim.clone(),
                session: session.clone(),
                mode: LockMode::Permits { permits: 3, of: 300 },
                wait_ms: 300,
                keep_waiting: true,
            },
        ),
        (
            "claim-granted",
            Change::ClaimGranted {
                claim: claim.clone(),
                session: session.clone(),
                mode: LockMode::Shared,
                token: token(300),
            },
        ),
        (
            "set-queued",
            Change::SetQueued {
                claim: claim.clone(),
                session: session.clone(),
                wait_ms: 300,
                keep_waiting: true,
            },
        ),
        ("set-granted", Change::SetGranted { claim: claim.clone(), session: session.clone() }),
        (
            "proclaimed",
            Change::Proclaimed {
                claim: claim.clone(),
                session: session.clone(),
                token: token(300),
                value: Bytes::from_static(&[0, 255]),
                content_type: "text/plain".to_owned(),
            },
        ),
        (
            "claim-ended",
            Change::ClaimEnded {
                claim,
                session: Some(session),
                reason: EndReason::Forced,
                token: Some(token(300)),
            },
        ),
    ]
}

fn proposals() -> Vec<Proposal> {
    let time = LogTime::from_ms(70_000);
    let proposal = |(at, command)| {
        let replay = (at == 1).then(|| scope(9));
        Proposal { level: LEVEL, time, replay, command }
    };
    commands().into_iter().enumerate().map(proposal).collect()
}

#[test]
fn every_format_is_as_it_is_pinned() {
    let mut lines = Lines::default();
    let proposals = proposals();
    let names = numbered("proposal", proposals.iter().map(|proposal| command_name(&proposal.command)));
    for (name, proposal) in names.iter().zip(&proposals) {
        lines.add(name, &proposal.encode());
    }
    let outcomes = outcomes();
    let names = numbered("outcome", outcomes.iter().map(outcome_name));
    for (name, outcome) in names.iter().zip(&outcomes) {
        lines.add(name, &postcard::to_stdvec(outcome).unwrap());
    }
    add_records(&mut lines);
    let written = lines.written.join("\n") + "\n";
    assert!(written == PINNED, "the formats are not as pinned, they are\n{written}");
    assert_eq!(lines.misread, [] as [String; 0]);
}

#[test]
fn every_variant_has_a_sample() {
    let commands: BTreeSet<&str> = commands().iter().map(command_name).collect();
    let outcomes: BTreeSet<&str> = outcomes().iter().map(outcome_name).collect();
    assert_eq!((commands.len(), outcomes.len()), (18, 48));
}

#[test]
fn pinned_proposals_and_outcomes_are_read() {
    let proposals = proposals();
    let names = numbered("proposal", proposals.iter().map(|proposal| command_name(&proposal.command)));
    for (name, proposal) in names.iter().zip(&proposals) {
        assert_eq!(&Proposal::decode(&pinned(name)).unwrap(), proposal);
    }
    let outcomes = outcomes();
    for (name, outcome) in numbered("outcome", outcomes.iter().map(outcome_name)).iter().zip(&outcomes) {
        assert_eq!(&postcard::from_bytes::<Outcome>(&pinned(name)).unwrap(), outcome);
    }
}

#[test]
fn a_proposal_of_a_newer_format_is_refused_by_name() {
    let mut bytes = proposals()[1].encode().to_vec();
    bytes[0] = 2;
    assert_eq!(Proposal::decode(&bytes), Err(ProposalError::NewerFormat { found: 2 }));
    assert_eq!(Proposal::decode(&[]), Err(ProposalError::Empty));
}

#[test]
fn a_proposal_that_is_cut_or_longer_is_malformed() {
    for proposal in proposals() {
        let bytes = proposal.encode();
        for length in 1..bytes.len() {
            assert_eq!(Proposal::decode(&bytes[..length]), Err(ProposalError::Malformed));
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(Proposal::decode(&longer), Err(ProposalError::Malformed));
    }
}
