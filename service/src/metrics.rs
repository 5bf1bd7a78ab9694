//! What a node counts. Each node has a registry of its own, so that several can live in one process. Labels are closed
//! sets, never names or keys.

mod streams;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::http::App;
use crate::metrics::streams::StreamGauges;
use crate::peer::{Channel, PeerMetrics, RefusalReason};
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
    streams: StreamGauges,
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
    snapshots_built: CopiedCounter,
    snapshots_installed: CopiedCounter,
    leader_changes: CopiedCounter,
    peers: PeerGauges,
}

#[derive(Default)]
struct PeerGauges {
    bytes: Family<TrafficLabels, CopiedCounter>,
    frames: Family<TrafficLabels, CopiedCounter>,
    connects: Family<ChannelLabels, CopiedCounter>,
    dial_failures: Family<ChannelLabels, CopiedCounter>,
    refusals: Family<RefusalLabels, CopiedCounter>,
    round_trips: CopiedCounter,
    round_trip_seconds: Gauge<f64, AtomicU64>,
    round_trip_last_seconds: Gauge<f64, AtomicU64>,
}

/// A connection to or from a peer, and the direction.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TrafficLabels {
    channel: &'static str,
    direction: &'static str,
}

/// A connection to a peer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChannelLabels {
    channel: &'static str,
}

/// A refused handshake: who refused, and why.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    by: &'static str,
    reason: &'static str,
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
    compacted_revision: CopiedCounter,
    events_compacted_revision: CopiedCounter,
    superseded_versions: CopiedCounter,
    history_bytes: CopiedCounter,
    logged_events: CopiedCounter,
    compaction_slices: Counter,
    compaction_rows: Counter,
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
        registry.register_collector(Box::new(FsyncDurations(Arc::clone(&counters))));
        let raft = RaftGauges::default();
        raft.register(&mut registry);
        let store = StoreGauges::default();
        store.register(&mut registry);
        let streams = StreamGauges::default();
        streams.register(&mut registry);
        Self { registry, requests, requests_in_flight, raft, store, streams, counters, peers }
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

    /// Counts a slice of a compaction that this node proposed.
    pub(crate) fn compacted(&self, rows: u64) {
        self.store.compaction_slices.inc();
        self.store.compaction_rows.inc_by(rows);
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
        raft.snapshots_built.set(self.counters.snapshots_built());
        raft.snapshots_installed.set(self.counters.snapshots_installed());
        raft.leader_changes.set(self.counters.leader_changes());
        raft.peers.observe(&self.peers);
        self.streams.observe(&app.feed);
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
            self.store.compacted_revision.set(meta.compacted_revision.as_u64());
            self.store.events_compacted_revision.set(meta.events_compacted_revision.as_u64());
            self.store.superseded_versions.set(counters.superseded);
            self.store.history_bytes.set(counters.history_bytes);
            self.store.logged_events.set(counters.events);
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

/// The durations of the log's syncs, which the storage counts in buckets of its own.
#[derive(Debug)]
struct FsyncDurations(Arc<RaftCounters>);

impl Collector for FsyncDurations {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let durations = self.0.log_sync_durations();
        let mut metric = encoder.encode_descriptor(
            "holdfast_raft_log_fsync_duration",
            "Time that a sync of the log takes",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        metric.encode_histogram::<NoLabelSet>(
            durations.sum_seconds,
            durations.count,
            &durations.buckets,
            None,
        )
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
        self.peers.register(registry);
    }
}

impl PeerGauges {
    fn register(&self, registry: &mut Registry) {
        registry.register("peer_bytes", "Bytes to and from peers since the start", self.bytes.clone());
        registry.register("peer_frames", "Frames to and from peers since the start", self.frames.clone());
        registry.register(
            "peer_connects",
            "Connections made to peers since the start",
            self.connects.clone(),
        );
        registry.register(
            "peer_dial_failures",
            "Connections to peers that failed since the start",
            self.dial_failures.clone(),
        );
        registry.register("peer_refusals", "Refused handshakes since the start", self.refusals.clone());
        registry.register(
            "peer_round_trips",
            "Answered control messages since the start",
            self.round_trips.clone(),
        );
        registry.register(
            "peer_round_trip_seconds",
            "Time that answered control messages took since the start",
            self.round_trip_seconds.clone(),
        );
        registry.register(
            "peer_round_trip_last_seconds",
            "Time that the last answered control message took",
            self.round_trip_last_seconds.clone(),
        );
    }

    fn observe(&self, peers: &PeerMetrics) {
        for kind in Channel::ALL {
            let (channel, counted) = (kind.name(), peers.channel(kind));
            let labels = |direction| TrafficLabels { channel, direction };
            self.bytes.get_or_create(&labels("out")).set(counted.bytes_out());
            self.bytes.get_or_create(&labels("in")).set(counted.bytes_in());
            self.frames.get_or_create(&labels("out")).set(counted.frames_out());
            self.frames.get_or_create(&labels("in")).set(counted.frames_in());
            self.connects.get_or_create(&ChannelLabels { channel }).set(counted.connects());
            self.dial_failures.get_or_create(&ChannelLabels { channel }).set(counted.dial_failures());
        }
        for refusal in RefusalReason::ALL {
            let reason = refusal.name();
            self.refusals
                .get_or_create(&RefusalLabels { by: "here", reason })
                .set(peers.refused_here(refusal));
            self.refusals
                .get_or_create(&RefusalLabels { by: "there", reason })
                .set(peers.refused_there(refusal));
        }
        let (count, micros) = peers.control_rtt_micros();
        self.round_trips.set(count);
        self.round_trip_seconds.set(Duration::from_micros(micros).as_secs_f64());
        let last = Duration::from_micros(peers.control_rtt_micros_last());
        self.round_trip_last_seconds.set(last.as_secs_f64());
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
        self.register_past(registry);
    }

    fn register_past(&self, registry: &mut Registry) {
        registry.register(
            "config_compacted_revision",
            "Config below this revision may be incomplete",
            self.compacted_revision.clone(),
        );
        registry.register(
            "events_compacted_revision",
            "Changes of locks and sessions up to this revision are dropped",
            self.events_compacted_revision.clone(),
        );
        registry.register(
            "config_superseded_versions",
            "Superseded versions of config keys that are kept",
            self.superseded_versions.clone(),
        );
        registry.register(
            "config_history_bytes",
            "Bytes of their keys and values",
            self.history_bytes.clone(),
        );
        registry.register(
            "logged_events",
            "Changes of locks and sessions that are kept for watches",
            self.logged_events.clone(),
        );
        registry.register(
            "compaction_slices",
            "Slices of compactions that this node proposed since the start",
            self.compaction_slices.clone(),
        );
        registry.register("compaction_rows", "Rows that they dropped", self.compaction_rows.clone());
    }
}
