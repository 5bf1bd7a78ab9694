//! What a node counts. Each node has a registry of its own, so that several can live in one process. Labels are closed
//! sets, never names or keys.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::http::App;
use crate::peer::{Channel, PeerMetrics};
use crate::raft::{RaftCounters, Role};

/// A counter that is kept elsewhere and copied when somebody asks.
type CopiedCounter = Gauge<u64, AtomicU64>;

/// The labels of a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    method: String,
    route: String,
    code: u16,
}

impl RequestLabels {
    /// The labels of a request; `route` is the pattern that matched, never the path.
    pub(crate) fn new(method: &http::Method, route: &str, code: u16) -> Self {
        // A client may invent methods; labels stay a closed set.
        let known =
            matches!(method.as_str(), "GET" | "PUT" | "POST" | "DELETE" | "HEAD" | "OPTIONS" | "PATCH");
        let method = if known { method.as_str() } else { "other" };
        Self { method: method.to_owned(), route: route.to_owned(), code }
    }
}

/// The metrics of one node.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Histogram, fn() -> Histogram>,
    requests_in_flight: Gauge,
    raft: RaftGauges,
    store: StoreGauges,
    counters: Arc<RaftCounters>,
    peers: Arc<PeerMetrics>,
}

#[derive(Default)]
struct RaftGauges {
    has_leader: Gauge,
    is_leader: Gauge,
    term: CopiedCounter,
    last_log_index: CopiedCounter,
    committed_index: CopiedCounter,
    applied_index: CopiedCounter,
    snapshot_index: CopiedCounter,
    purged_index: CopiedCounter,
    quorum_ack_age_seconds: Gauge<f64, AtomicU64>,
    proposals_pending: Gauge,
    log_fsyncs: CopiedCounter,
    log_appends: CopiedCounter,
    log_fsync_seconds: Gauge<f64, AtomicU64>,
    snapshots_built: CopiedCounter,
    snapshots_installed: CopiedCounter,
    leader_changes: CopiedCounter,
    peer_bytes_out: CopiedCounter,
    peer_bytes_in: CopiedCounter,
}

#[derive(Default)]
struct StoreGauges {
    revision: CopiedCounter,
    sessions: CopiedCounter,
    claims: CopiedCounter,
    tombstones: CopiedCounter,
    idempotency_records: CopiedCounter,
    idempotency_bytes: CopiedCounter,
    namespaces: CopiedCounter,
    waiting_requests: Gauge,
}

/// One request in flight; counted until it is dropped.
#[must_use]
pub(crate) struct RequestInFlight(Gauge);

impl Drop for RequestInFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn request_buckets() -> Histogram {
    // 0.5 ms to 16 s.
    Histogram::new(exponential_buckets(0.000_5, 2.0, 16))
}

impl Metrics {
    /// The metrics of a node.
    pub(crate) fn new(node: &str, counters: Arc<RaftCounters>, peers: Arc<PeerMetrics>) -> Self {
        let mut registry = Registry::with_prefix("holdfast");
        let requests =
            Family::<RequestLabels, Histogram, fn() -> Histogram>::new_with_constructor(request_buckets);
        let requests_in_flight = Gauge::default();
        registry.register_with_unit(
            "http_request_duration",
            "Time from the head of a request to its answer",
            Unit::Seconds,
            requests.clone(),
        );
        registry.register(
            "http_requests_in_flight",
            "Requests that have no answer yet",
            requests_in_flight.clone(),
        );
        let build = prometheus_client::metrics::info::Info::new(vec![
            ("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("node".to_owned(), node.to_owned()),
        ]);
        registry.register("build", "This build and this node", build);
        let raft = RaftGauges::default();
        raft.register(&mut registry);
        let store = StoreGauges::default();
        store.register(&mut registry);
        Self { registry, requests, requests_in_flight, raft, store, counters, peers }
    }

    /// Counts a request until the returned value is dropped.
    pub(crate) fn request_began(&self) -> RequestInFlight {
        self.requests_in_flight.inc();
        RequestInFlight(self.requests_in_flight.clone())
    }

    /// Counts an answered request.
    pub(crate) fn request_ended(&self, labels: RequestLabels, took: Duration) {
        self.requests.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Copies what is counted elsewhere.
    pub(crate) fn observe(&self, app: &App) {
        let status = app.raft.status();
        let raft = &self.raft;
        raft.has_leader.set(i64::from(status.leader.is_some()));
        raft.is_leader.set(i64::from(status.role == Role::Leader));
        raft.term.set(status.term);
        raft.last_log_index.set(status.last_log_index.unwrap_or(0));
        raft.committed_index.set(status.committed_index.unwrap_or(0));
        raft.applied_index.set(status.applied_index.unwrap_or(0));
        raft.snapshot_index.set(status.snapshot_index.unwrap_or(0));
        raft.purged_index.set(status.purged_index.unwrap_or(0));
        raft.quorum_ack_age_seconds
            .set(status.quorum_ack_ms().map_or(0.0, |ms| Duration::from_millis(ms).as_secs_f64()));
        raft.proposals_pending.set(i64::try_from(app.raft.proposals_pending()).unwrap_or(i64::MAX));
        raft.log_fsyncs.set(self.counters.log_syncs());
        raft.log_appends.set(self.counters.log_appends());
        raft.log_fsync_seconds.set(self.counters.log_sync_time().as_secs_f64());
        raft.snapshots_built.set(self.counters.snapshots_built());
        raft.snapshots_installed.set(self.counters.snapshots_installed());
        raft.leader_changes.set(self.counters.leader_changes());
        let channels = Channel::ALL.map(|channel| self.peers.channel(channel));
        raft.peer_bytes_out.set(channels.iter().map(|channel| channel.bytes_out()).sum());
        raft.peer_bytes_in.set(channels.iter().map(|channel| channel.bytes_in()).sum());
        self.store.waiting_requests.set(i64::try_from(app.waits.count()).unwrap_or(i64::MAX));
        if let Ok(meta) = app.raft.look(|view| view.meta()) {
            let counters = &meta.counters;
            self.store.revision.set(meta.revision.as_u64());
            self.store.sessions.set(counters.sessions);
            self.store.claims.set(counters.claims);
            self.store.tombstones.set(counters.tombstones);
            self.store.idempotency_records.set(counters.replay_records);
            self.store.idempotency_bytes.set(counters.replay_bytes);
            self.store.namespaces.set(counters.namespaces);
        }
    }

    /// The metrics as OpenMetrics text.
    pub(crate) fn encode(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)
            .expect("writing to a string cannot fail");
        text
    }
}

impl RaftGauges {
    fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("raft");
        registry.register("has_leader", "1 when this node knows a leader", self.has_leader.clone());
        registry.register("is_leader", "1 when this node leads", self.is_leader.clone());
        registry.register("term", "The highest term seen", self.term.clone());
        registry.register("last_log_index", "The last index of the log", self.last_log_index.clone());
        registry.register(
            "committed_index",
            "The last index known to be committed",
            self.committed_index.clone(),
        );
        registry.register("applied_index", "The last index applied", self.applied_index.clone());
        registry.register(
            "snapshot_index",
            "The last index in the newest snapshot",
            self.snapshot_index.clone(),
        );
        registry.register("purged_index", "The last index dropped from the log", self.purged_index.clone());
        registry.register(
            "quorum_ack_age_seconds",
            "Time since a majority acknowledged this leader; 0 on others",
            self.quorum_ack_age_seconds.clone(),
        );
        registry.register(
            "proposals_pending",
            "Proposals without an outcome",
            self.proposals_pending.clone(),
        );
        registry.register("log_fsyncs", "Syncs of the log since the start", self.log_fsyncs.clone());
        registry.register("log_appends", "Appends made durable since the start", self.log_appends.clone());
        registry.register(
            "log_fsync_seconds",
            "Time spent in syncs of the log since the start",
            self.log_fsync_seconds.clone(),
        );
        registry.register("snapshots_built", "Snapshots built since the start", self.snapshots_built.clone());
        registry.register(
            "snapshots_installed",
            "Snapshots installed since the start",
            self.snapshots_installed.clone(),
        );
        registry.register(
            "leader_changes",
            "Changes of leader seen since the start",
            self.leader_changes.clone(),
        );
        registry.register(
            "peer_bytes_out",
            "Bytes sent to peers since the start",
            self.peer_bytes_out.clone(),
        );
        registry.register(
            "peer_bytes_in",
            "Bytes received from peers since the start",
            self.peer_bytes_in.clone(),
        );
    }
}

impl StoreGauges {
    fn register(&self, registry: &mut Registry) {
        registry.register("store_revision", "The revision of this node's state", self.revision.clone());
        registry.register("sessions", "Live sessions", self.sessions.clone());
        registry.register("claims", "Held and queued claims", self.claims.clone());
        registry.register("tombstones", "Ended ids that are remembered", self.tombstones.clone());
        registry.register("idempotency_records", "Idempotency records", self.idempotency_records.clone());
        registry.register(
            "idempotency_bytes",
            "Bytes of the answers in idempotency records",
            self.idempotency_bytes.clone(),
        );
        registry.register("namespaces", "Namespaces", self.namespaces.clone());
        registry.register(
            "lock_waiting_requests",
            "Requests that wait for a lock on this node",
            self.waiting_requests.clone(),
        );
    }
}
