//! Every body of the API, byte for byte. A difference here is a change of the protocol: run with `HOLDFAST_BLESS=1` to
//! accept it, and say so in the commit.

use std::{collections::BTreeMap, fmt::Debug, fs, path::PathBuf};

use holdfast_api::{
    ErrorCode, Problem,
    claims::{
        ClaimMode, ClaimRequest, ClaimView, ContestName, EndReason, EndedClaim, HeldClaim, QueuedClaim,
    },
    cluster::{
        AccessPolicy, AddMemberRequest, BootstrapRequest, BootstrapView, ClusterView, Health, JoinRole,
        MemberRole, MemberView, MembershipView, NodeId, NodeView, Phase, PromoteRequest, SnapshotProgress,
        TransferRequest, TransferView,
    },
    config::{
        CompareOp, ConfigDiff, ConfigHistory, ConfigItem, ConfigList, ConfigVersion, ConfigWrite,
        DeletedVersion, RevisionTarget, RollbackRequest, TxnAnswer, TxnCompare, TxnDeleted, TxnKey, TxnOp,
        TxnPut, TxnRead, TxnRequest, TxnResult, WrittenVersion,
    },
    elections::ElectionView,
    elections::Published,
    lock_sets::{HeldLock, HeldSet, LockSetRequest, LockSetView, QueuedLock, QueuedSet, SetLock},
    locks::{ForceReleaseRequest, ForceReleaseView, HolderView, LockList, LockView, QueuedView},
    namespaces::{NamespaceList, NamespaceView},
    query::{
        Consistency, DiffQuery, EventsQuery, HistoryQuery, Initial, ListQuery, PutQuery, ReadQuery,
        WatchQuery,
    },
    sessions::{ClaimRef, KeepaliveView, LiveState, SessionList, SessionRequest, SessionView},
    watch::{
        Change, ChangeEvent, Deletion, EventId, LockChange, LockStateEvent, Progress, SessionChange,
        SessionStateEvent, StateEvent,
    },
};
use serde::{Serialize, de::DeserializeOwned};

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, value: &T) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.json"));
    let json = serde_json::to_string_pretty(value).expect("a body is plain data") + "\n";
    if std::env::var_os("HOLDFAST_BLESS").is_some() {
        fs::write(&path, &json).expect("the folder of golden files is there");
    }
    let golden = fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
    assert_eq!(json, golden, "{name}.json differs from what is written");
    let read: T = serde_json::from_str(&golden).expect("a golden file is a body");
    assert_eq!(&read, value, "{name}.json does not read back");
}

const N1: NodeId = NodeId(0x0011_2233_4455_6677);
const N2: NodeId = NodeId(0x2a);

fn text(text: &str) -> String {
    text.to_owned()
}

fn holder() -> HolderView {
    HolderView {
        mode: ClaimMode::Exclusive,
        permits: None,
        claim: text("worker-1"),
        session: text("c-812"),
        session_name: Some(text("nightly")),
        label: Some(text("host-a")),
        fencing_token: 812,
        held_ms: 1_500,
    }
}

fn claim_ref(contest: ContestName, state: LiveState, fencing_token: Option<u64>) -> ClaimRef {
    ClaimRef { namespace: text("default"), contest, claim: text("worker-1"), state, fencing_token }
}

fn session() -> SessionView {
    SessionView {
        id: text("s-1"),
        ttl_ms: 15_000,
        remaining_ms: Some(14_200),
        name: Some(text("nightly")),
        labels: BTreeMap::from([(text("app"), text("billing")), (text("pod"), text("billing-0"))]),
        lock_delay_ms: 0,
        create_revision: 800,
        claims: vec![
            claim_ref(ContestName::Election(text("scheduler")), LiveState::Held, Some(811)),
            claim_ref(ContestName::Lock(text("jobs/nightly")), LiveState::Held, Some(812)),
            claim_ref(ContestName::Lock(text("jobs/nightly")), LiveState::Queued, None),
        ],
        keys: 2,
    }
}

fn published() -> Published {
    let content_type = text("text/plain");
    Published { value: b"10.0.0.7:8080".to_vec(), content_type, revision: 813 }
}

fn lock() -> LockView {
    let queued = QueuedView {
        mode: ClaimMode::Exclusive,
        permits: None,
        claim: text("worker-2"),
        session: text("s-2"),
        label: Some(text("host-b")),
        position: 1,
        waiting_ms: 700,
    };
    LockView {
        namespace: text("default"),
        name: text("jobs/nightly"),
        mode: Some(ClaimMode::Exclusive),
        permits: None,
        of: None,
        holders: vec![holder()],
        queue: vec![queued],
        last_token: 812,
        delay_remaining_ms: None,
    }
}

fn member(id: NodeId, role: MemberRole) -> MemberView {
    MemberView {
        id,
        name: text("n1"),
        role,
        api: text("127.0.0.1:7700"),
        peer: text("127.0.0.1:7701"),
        gossip: text("127.0.0.1:7702"),
        matched_index: Some(90),
        lag: Some(0),
        health: Some(Health::Ok),
        last_ack_ms: Some(40),
        version: Some(text("0.1.0")),
    }
}

fn node() -> NodeView {
    NodeView {
        id: N1,
        name: text("n1"),
        api: text("127.0.0.1:7700"),
        peer: text("127.0.0.1:7701"),
        gossip: text("127.0.0.1:7702"),
        ops: text("127.0.0.1:7703"),
    }
}

fn cluster() -> ClusterView {
    ClusterView {
        cluster_id: Some(text("7f3a")),
        node_id: N1,
        name: text("n1"),
        leader: Some(N1),
        term: 3,
        phase: Phase::Serving,
        revision: 812,
        applied_index: 90,
        membership_log_id: Some(text("3-0011223344556677-7")),
        members: vec![
            member(N1, MemberRole::Voter),
            MemberView {
                matched_index: None,
                lag: None,
                health: Some(Health::Unreachable),
                last_ack_ms: None,
                version: None,
                ..member(N2, MemberRole::Learner)
            },
        ],
        this_node: node(),
        policy: AccessPolicy::Open,
        joint: Some([vec![N1], vec![N1, N2]]),
        removed: vec![NodeId(7)],
        quorum_ack_ms: Some(12),
        snapshot_progress: Some(SnapshotProgress { bytes_done: 10, bytes_total: 20 }),
        version: Some(text("0.1.0")),
    }
}

#[test]
fn problems_are_as_written() {
    check("problem", &Problem::new(ErrorCode::NamespaceNotFound, "no namespace \"blue\""));
    let everything = Problem::new(ErrorCode::OutcomeUnknown, "the leader went away")
        .with_pointer("/ttl_ms")
        .with_retry_after_ms(250)
        .with_replayable(true)
        .with_holders(vec![holder()])
        .with_delay_remaining_ms(900)
        .with_end(EndReason::TimedOut, Some(812))
        .with_revision(42)
        .with_resume(EventId { history_id: 0x1f_03a9, revision: 41 })
        .with_membership_log_id("3-0011223344556677-7")
        .with_hint("curl -H 'Content-Type: application/json' …")
        .with_request_id("5f0c");
    check("problem_everything", &everything);
}

#[test]
fn every_code_has_the_status_effect_and_advice_that_is_written() {
    let codes: Vec<Problem> = ErrorCode::ALL.into_iter().map(|code| Problem::new(code, "")).collect();
    check("problem_codes", &codes);
}

#[test]
fn namespaces_are_as_written() {
    let namespace = NamespaceView { name: text("default"), create_revision: 1 };
    check("namespace", &namespace);
    let list = NamespaceList { items: vec![namespace], revision: 812, next_cursor: Some(text("ZGVm")) };
    check("namespace_list", &list);
}

#[test]
fn sessions_are_as_written() {
    let request = SessionRequest {
        ttl_ms: Some(15_000),
        name: Some(text("nightly")),
        labels: BTreeMap::from([(text("app"), text("billing"))]),
        lock_delay_ms: Some(2_000),
    };
    check("session_request", &request);
    check("session_request_empty", &SessionRequest::default());
    check("session", &session());
    check("session_list", &SessionList { items: vec![session()], revision: 812, next_cursor: None });
    let lock = ContestName::Lock(text("jobs/nightly"));
    let claims = vec![claim_ref(lock, LiveState::Held, Some(812))];
    check("keepalive", &KeepaliveView { ttl_ms: 15_000, remaining_ms: 15_000, claims });
}

#[test]
fn claims_are_as_written() {
    let request = ClaimRequest {
        session: Some(text("s-1")),
        ttl_ms: None,
        mode: Some(ClaimMode::Permits),
        permits: Some(2),
        of: Some(5),
        wait_ms: 30_000,
        keep_waiting: true,
        label: Some(text("host-a")),
    };
    check("claim_request", &request);
    check("claim_request_ttl", &ClaimRequest { ttl_ms: Some(15_000), ..ClaimRequest::default() });
    let held = HeldClaim {
        claim: text("worker-1"),
        session: text("c-812"),
        fencing_token: 812,
        revision: 812,
        remaining_ms: Some(15_000),
        label: Some(text("host-a")),
    };
    check("claim_held", &ClaimView::Held(held));
    let queued = QueuedClaim {
        claim: text("worker-2"),
        session: text("s-2"),
        position: 1,
        holders: vec![holder()],
        label: None,
    };
    check("claim_queued", &ClaimView::Queued(queued));
    let ended = |reason, fencing_token| EndedClaim { claim: text("worker-1"), reason, fencing_token };
    check("claim_released", &ClaimView::ended(ended(EndReason::Released, Some(812))));
    check("claim_lost", &ClaimView::ended(ended(EndReason::Expired, None)));
}

#[test]
fn locks_are_as_written() {
    check("lock", &lock());
    let idle = LockView {
        mode: None,
        holders: Vec::new(),
        queue: Vec::new(),
        last_token: 0,
        delay_remaining_ms: Some(900),
        ..lock()
    };
    let semaphore = LockView {
        mode: Some(ClaimMode::Permits),
        permits: Some(2),
        of: Some(3),
        holders: vec![HolderView { mode: ClaimMode::Permits, permits: Some(2), ..holder() }],
        ..lock()
    };
    check("lock_semaphore", &semaphore);
    check("lock_idle", &idle);
    check("lock_list", &LockList { items: vec![idle], revision: 812, next_cursor: Some(text("am9i")) });
    let reason = text("the holder hangs");
    check("force_release_request", &ForceReleaseRequest { fencing_token: 812, reason });
    let released = ForceReleaseView {
        claim: text("worker-1"),
        session: text("c-812"),
        fencing_token: 812,
        revision: 813,
    };
    check("force_release", &released);
}

fn item(value: Option<&[u8]>) -> ConfigItem {
    ConfigItem {
        key: text("app/settings"),
        value: value.map(<[u8]>::to_vec),
        content_type: text("application/json"),
        create_revision: 3,
        mod_revision: 9,
        version: 2,
        session: None,
        managed_by: None,
    }
}

fn text_item() -> ConfigItem {
    item(Some("{\"größe\":1}".as_bytes()))
}

fn owned_bytes_item() -> ConfigItem {
    ConfigItem { session: Some(text("s-1")), managed_by: Some(text("git")), ..item(Some(&[0xff, 0x00])) }
}

fn write() -> ConfigWrite {
    ConfigWrite { key: text("app/settings"), create_revision: 3, mod_revision: 12, version: 3 }
}

#[test]
fn config_is_as_written() {
    check("config_item", &text_item());
    check("config_item_bytes", &owned_bytes_item());
    check(
        "config_list",
        &ConfigList { items: vec![item(None)], revision: 12, next_cursor: Some(text("YXBw")) },
    );
}

#[test]
fn the_past_of_config_is_as_written() {
    let deleted = DeletedVersion { mod_revision: 11, age_ms: 40, expired: true };
    let written = |item, age_ms| ConfigVersion::Written(Box::new(WrittenVersion { item, age_ms }));
    let history = ConfigHistory {
        key: text("app/settings"),
        versions: vec![
            ConfigVersion::Deleted(deleted),
            written(owned_bytes_item(), 1_500),
            written(text_item(), 9_000),
        ],
        revision: 12,
        next_cursor: Some(text("12.9")),
    };
    check("config_history", &history);
    let diff = ConfigDiff {
        key: text("app/settings"),
        from: 9,
        to: 12,
        equal: false,
        unified: Some(text("--- 9\n+++ 12\n@@ -1 +1 @@\n-a\n+b\n")),
        from_sha256: Some(text("ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb")),
        to_sha256: Some(text("3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d")),
    };
    check("config_diff", &diff);
    check("config_diff_absent", &ConfigDiff { unified: None, from_sha256: None, ..diff });
    check("rollback_request", &RollbackRequest { to_revision: 9 });
    check("config_write", &write());
}

fn txn() -> TxnRequest {
    let key = || text("app/settings");
    let put =
        TxnPut { key: key(), value: b"1".to_vec(), content_type: None, session: None, managed_by: None };
    TxnRequest {
        compare: vec![
            TxnCompare::Revision {
                key: key(),
                target: RevisionTarget::ModRevision,
                op: CompareOp::Equal,
                value: 9,
            },
            TxnCompare::Revision {
                key: key(),
                target: RevisionTarget::CreateRevision,
                op: CompareOp::Less,
                value: 9,
            },
            TxnCompare::Revision {
                key: key(),
                target: RevisionTarget::Version,
                op: CompareOp::Greater,
                value: 0,
            },
            TxnCompare::Value { key: key(), op: CompareOp::NotEqual, value: b"off".to_vec() },
            TxnCompare::Value { key: key(), op: CompareOp::Equal, value: vec![0xff, 0] },
            TxnCompare::Exists { key: text("app/frozen"), exists: false },
            TxnCompare::Held { lock: text("jobs/nightly"), token: 812, claim: Some(text("worker-1")) },
            TxnCompare::Held { lock: text("jobs/hourly"), token: 7, claim: None },
        ],
        success: vec![
            TxnOp::Put(put),
            TxnOp::Put(TxnPut {
                key: text("app/owner"),
                value: vec![0xff, 0],
                content_type: Some(text("image/png")),
                session: Some(text("s-1")),
                managed_by: Some(text("git")),
            }),
            TxnOp::Delete(TxnKey { key: text("app/old") }),
        ],
        failure: vec![TxnOp::Get(TxnKey { key: key() })],
    }
}

#[test]
fn transactions_are_as_written() {
    check("txn_request", &txn());
    check("txn_request_empty", &TxnRequest::default());
    let results = vec![
        TxnResult::Put(write()),
        TxnResult::Delete(TxnDeleted { key: text("app/old"), deleted: false }),
        TxnResult::Get(TxnRead { key: text("app/settings"), item: Some(text_item()) }),
        TxnResult::Get(TxnRead { key: text("app/none"), item: None }),
    ];
    check("txn_answer", &TxnAnswer { succeeded: true, revision: 12, results });
}

#[test]
fn changes_of_config_are_as_written() {
    let deletion = |key: &str| Deletion { key: text(key), mod_revision: 12 };
    let changes = vec![
        Change::Put(text_item()),
        Change::Put(owned_bytes_item()),
        Change::Delete(deletion("app/old")),
        Change::Expire(deletion("app/owner")),
    ];
    check("watch_change", &ChangeEvent { revision: 12, changes });
    check("watch_state", &StateEvent { revision: 12, items: vec![text_item()], more: true });
    check("watch_progress", &Progress { revision: 12 });
    let resume = EventId { history_id: 0x1f_03a9, revision: 12 };
    let problem = Problem::new(ErrorCode::Overloaded, "slow reader: 1024 events wait to be read");
    check("watch_error", &problem.with_resume(resume));
}

#[test]
fn events_of_locks_are_as_written() {
    let (claim, session) = (|| text("worker-1"), || text("c-812"));
    let changes = vec![
        LockChange::Queued { claim: claim(), session: session(), mode: ClaimMode::Permits, permits: Some(2) },
        LockChange::Granted {
            claim: claim(),
            session: session(),
            mode: ClaimMode::Exclusive,
            permits: None,
            fencing_token: 812,
        },
        LockChange::Proclaimed {
            claim: claim(),
            session: session(),
            fencing_token: 812,
            published: published(),
        },
        LockChange::Ended {
            claim: claim(),
            session: Some(session()),
            reason: EndReason::Expired,
            fencing_token: Some(812),
        },
        LockChange::Ended {
            claim: claim(),
            session: None,
            reason: EndReason::DeletedUnseen,
            fencing_token: None,
        },
    ];
    check("lock_change", &ChangeEvent { revision: 812, changes });
    check("lock_state", &LockStateEvent { revision: 812, lock: lock() });
}

#[test]
fn events_of_sessions_are_as_written() {
    let (namespace, claim) = (|| text("default"), || text("worker-1"));
    let lock = || ContestName::Lock(text("jobs/nightly"));
    let changes = vec![
        SessionChange::Created { session: text("s-1"), ttl_ms: 15_000 },
        SessionChange::Queued { namespace: namespace(), contest: lock(), claim: claim() },
        SessionChange::Granted {
            namespace: namespace(),
            contest: lock(),
            claim: claim(),
            fencing_token: 812,
        },
        SessionChange::Ended {
            namespace: namespace(),
            contest: lock(),
            claim: claim(),
            reason: EndReason::Forced,
            fencing_token: Some(812),
        },
        SessionChange::Ended {
            namespace: namespace(),
            contest: ContestName::Election(text("scheduler")),
            claim: claim(),
            reason: EndReason::LeftQueue,
            fencing_token: None,
        },
        SessionChange::SessionEnded { session: text("s-1"), reason: EndReason::Expired },
    ];
    check("session_change", &ChangeEvent { revision: 812, changes });
    check("session_state", &SessionStateEvent { revision: 812, session: session() });
}

#[test]
fn lock_sets_are_as_written() {
    let lock = |name, mode, permits, of| SetLock { name: text(name), mode, permits, of };
    let locks = vec![
        lock("a", None, None, None),
        lock("b", Some(ClaimMode::Shared), None, None),
        lock("c", Some(ClaimMode::Permits), Some(2), Some(3)),
    ];
    let (session, label) = (text("s-1"), Some(text("host-a")));
    let (wait_ms, keep_waiting) = (30_000, true);
    check("lock_set_request", &LockSetRequest { session, locks, wait_ms, keep_waiting, label });
    let held = HeldSet {
        claim: text("move-7"),
        session: text("s-1"),
        locks: vec![
            HeldLock { name: text("a"), fencing_token: 812 },
            HeldLock { name: text("b"), fencing_token: 813 },
        ],
        revision: 813,
        remaining_ms: Some(14_200),
        label: None,
    };
    check("lock_set_held", &LockSetView::Held(held));
    let queued = QueuedSet {
        claim: text("move-7"),
        session: text("s-1"),
        locks: vec![QueuedLock { name: text("a"), position: 1 }],
        label: None,
    };
    check("lock_set_queued", &LockSetView::Queued(queued));
    let ended = EndedClaim { claim: text("move-7"), reason: EndReason::Forced, fencing_token: None };
    check("lock_set_lost", &LockSetView::ended(ended));
}

#[test]
fn elections_are_as_written() {
    let LockView { namespace, name, queue, last_token, .. } = lock();
    let led = ElectionView {
        namespace,
        name,
        leader: Some(holder()),
        published: Some(published()),
        queue,
        last_token,
        delay_remaining_ms: None,
    };
    check("election", &led);
    let idle = ElectionView {
        leader: None,
        published: None,
        queue: Vec::new(),
        last_token: 0,
        delay_remaining_ms: Some(900),
        ..led
    };
    check("election_idle", &idle);
}

#[test]
fn the_cluster_is_as_written() {
    check("cluster", &cluster());
    let waiting = ClusterView {
        cluster_id: None,
        leader: None,
        term: 0,
        phase: Phase::Waiting,
        revision: 0,
        applied_index: 0,
        membership_log_id: None,
        members: Vec::new(),
        joint: None,
        removed: Vec::new(),
        quorum_ack_ms: None,
        snapshot_progress: None,
        version: None,
        ..cluster()
    };
    check("cluster_waiting", &waiting);
    let phases = [
        Phase::Waiting,
        Phase::Electing,
        Phase::Synchronizing,
        Phase::Serving,
        Phase::NoQuorum,
        Phase::Removed,
    ];
    check("phases", &phases);
}

#[test]
fn membership_calls_are_as_written() {
    let membership_log_id = text("3-0011223344556677-7");
    check("bootstrap_request", &BootstrapRequest { node_id: N1, cluster_id: Some(text("7f3a")) });
    let formed =
        BootstrapView { cluster_id: text("7f3a"), node_id: N1, membership_log_id: membership_log_id.clone() };
    check("bootstrap", &formed);
    let add = AddMemberRequest {
        id: N2,
        name: text("n2"),
        api: text("127.0.0.1:7710"),
        peer: text("127.0.0.1:7711"),
        gossip: text("127.0.0.1:7712"),
        role: JoinRole::Voter,
        expected_membership_log_id: membership_log_id.clone(),
    };
    check("add_member_request", &add);
    let expected_membership_log_id = membership_log_id.clone();
    check("promote_request", &PromoteRequest { expected_membership_log_id });
    let members = vec![member(N1, MemberRole::Voter), member(N2, MemberRole::Observer)];
    check("membership", &MembershipView { membership_log_id, members });
    check("transfer_request", &TransferRequest { to: Some(N2) });
    check("transfer_request_any", &TransferRequest { to: None });
    check("transfer", &TransferView { leader: N2, term: 4 });
}

#[test]
fn query_parameters_are_as_written() {
    let read =
        ReadQuery { consistency: Some(Consistency::Stale), min_revision: Some(7), at_revision: Some(5) };
    check("read_query", &read);
    let list = ListQuery {
        prefix: Some(text("app/")),
        limit: Some(100),
        cursor: Some(text("YXBw")),
        values: true,
        at_revision: Some(5),
        consistency: Some(Consistency::Linearizable),
        min_revision: None,
    };
    check("list_query", &list);
    let history = HistoryQuery {
        limit: Some(10),
        cursor: Some(text("12.9")),
        consistency: Some(Consistency::Stale),
        min_revision: Some(7),
    };
    check("history_query", &history);
    check("diff_query", &DiffQuery { from: 3, to: Some(9), consistency: None, min_revision: None });
    check("put_query", &PutQuery { session: Some(text("s-1")) });
    let events = EventsQuery {
        from_revision: Some(7),
        initial: Some(Initial::State),
        consistency: Some(Consistency::Stale),
    };
    check("events_query", &events);
    let watch = WatchQuery {
        prefix: vec![text("app/"), text("jobs/")],
        from_revision: Some(7),
        initial: Some(Initial::State),
        consistency: Some(Consistency::Stale),
    };
    check("watch_query", &watch);
}

#[test]
fn requests_refuse_fields_that_they_do_not_know() {
    fn refuses<T: DeserializeOwned + Debug>(value: &impl Serialize) {
        let mut json = serde_json::to_value(value).unwrap();
        json["surprise"] = 1.into();
        let error = serde_json::from_value::<T>(json).unwrap_err().to_string();
        assert!(error.contains("unknown field `surprise`"), "{error}");
    }
    refuses::<SessionRequest>(&SessionRequest::default());
    refuses::<ClaimRequest>(&ClaimRequest::default());
    refuses::<ForceReleaseRequest>(&ForceReleaseRequest { fencing_token: 1, reason: text("why") });
    refuses::<BootstrapRequest>(&BootstrapRequest { node_id: N1, cluster_id: None });
    refuses::<PromoteRequest>(&PromoteRequest { expected_membership_log_id: text("1-0-1") });
    refuses::<TransferRequest>(&TransferRequest { to: None });
    refuses::<ReadQuery>(&ReadQuery::default());
    refuses::<ListQuery>(&ListQuery::default());
    refuses::<HistoryQuery>(&HistoryQuery::default());
    refuses::<DiffQuery>(&DiffQuery { from: 1, to: None, consistency: None, min_revision: None });
    refuses::<PutQuery>(&PutQuery::default());
    refuses::<EventsQuery>(&EventsQuery::default());
    refuses::<WatchQuery>(&WatchQuery::default());
    refuses::<RollbackRequest>(&RollbackRequest { to_revision: 1 });
    refuses::<TxnRequest>(&TxnRequest::default());
    let TxnRequest { compare, success, failure: _ } = txn();
    compare.iter().for_each(refuses::<TxnCompare>);
    refuses::<TxnKey>(&TxnKey { key: text("a") });
    for op in &success {
        if let TxnOp::Put(put) = op {
            refuses::<TxnPut>(put);
        }
    }
}
