//! Opens what is on the disk and starts the consensus on it; keeps [`Status`] up to date.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_core::{LeaderId, NodeId, Term};
use openraft::async_runtime::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Config, RaftMetrics, ServerState, SnapshotPolicy};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::config::RaftConfig;
use crate::peer::PeerPool;
use crate::raft::HoldfastRaft;
use crate::raft::applied::{AppliedMark, Notice};
use crate::raft::counters::RaftCounters;
use crate::raft::handle::{Handle, confirm};
use crate::raft::log_store::LogStore;
use crate::raft::membership::log_id_text;
use crate::raft::network::Network;
use crate::raft::rounds::{self, Rounds};
use crate::raft::state_machine::{StateMachine, StateMachineParts};
use crate::raft::status::{Membership, Role, Status};
use crate::raft::types::{LogId, StoredMembership, TypeConfig, Vote};
use crate::storage::data_dir::{DataDir, OpenError};
use crate::storage::latch::StorageError;
use crate::storage::log_db::LogOpenError;
use crate::storage::snapshot_store::{SnapshotError, SnapshotStore};
use crate::storage::state_db::{StateDb, StateHandle};

/// How long a follower may take to install a snapshot, in milliseconds.
const INSTALL_SNAPSHOT_MS: u64 = 300_000;
/// Entries in one message to a follower.
const PAYLOAD_ENTRIES: u64 = 300;
/// Entries purged at once.
const PURGE_ENTRIES: u64 = 1_024;

/// How often positions in the log and acknowledgements are looked at while they move.
const POSITIONS_PERIOD: std::time::Duration = std::time::Duration::from_millis(20);

/// How long the consensus may take to report what it found on the disk.
const RECALL_PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// Why the consensus could not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The data directory.
    #[error(transparent)]
    Data(#[from] OpenError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogOpenError),
    /// The state.
    #[error(transparent)]
    State(#[from] StorageError),
    /// The snapshots.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The state machine cannot read its own state.
    #[error("load the state: {0}")]
    Load(std::io::Error),
    /// The consensus refused what it found.
    #[error("start the consensus: {0}")]
    Consensus(String),
}

/// A running consensus.
pub(crate) struct Started {
    /// The way in.
    pub(crate) handle: Handle,
    /// What happens in the state, in order.
    pub(crate) notices: mpsc::UnboundedReceiver<Notice>,
    /// This node's snapshots, for those that are received.
    pub(crate) snapshots: Arc<SnapshotStore>,
    /// Keeps the status up to date; ends with the consensus.
    pub(crate) watcher: JoinHandle<()>,
    /// Confirms the leadership for reads; ends with the last [`Handle`].
    pub(crate) rounds: JoinHandle<()>,
}

fn consensus_config(settings: &RaftConfig) -> Config {
    Config {
        cluster_name: "holdfast".to_owned(),
        heartbeat_interval: settings.heartbeat_ms,
        election_timeout_min: settings.election_ms_min,
        election_timeout_max: settings.election_ms_max,
        install_snapshot_timeout: INSTALL_SNAPSHOT_MS,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(settings.snapshot_entries),
        max_in_snapshot_log_to_keep: settings.keep_entries,
        // A follower that lacks more than what is kept needs a snapshot anyway.
        replication_lag_threshold: settings.keep_entries.max(1_000),
        max_payload_entries: PAYLOAD_ENTRIES,
        purge_batch_size: PURGE_ENTRIES,
        enable_pre_vote: Some(true),
        // A leader without a majority gives up its term, so that a partial partition cannot leave the cluster without a
        // usable leader for ever. It must be at least twice the lease.
        quorum_loss_probe_interval: Some(3 * settings.election_ms_max),
        // A leader that restarts is a follower: what it remembers of its lease is gone.
        enable_leader_restore: Some(false),
        allow_log_reversion: Some(false),
        ..Config::default()
    }
}

/// Opens log, state and snapshots of a data directory and starts the consensus of its node.
///
/// # Errors
/// [`StartError`] names the file; nothing was changed then.
pub(crate) async fn start(
    data: Arc<DataDir>,
    settings: &RaftConfig,
    pool: PeerPool,
    counters: Arc<RaftCounters>,
) -> Result<Started, StartError> {
    let opened = tokio::task::spawn_blocking({
        let data = Arc::clone(&data);
        move || open(&data)
    });
    let Opened { log, state, snapshots } =
        opened.await.map_err(|error| StartError::Consensus(error.to_string()))??;
    counters.attach_log(log.stats());
    let (applied, applied_watch) = watch::channel(AppliedMark::default());
    let (notices, notices_receiver) = mpsc::unbounded_channel();
    let parts = StateMachineParts {
        state: state.clone(),
        data: Arc::clone(&data),
        log: log.clone(),
        snapshots: Arc::clone(&snapshots),
        counters: Arc::clone(&counters),
        applied,
        notices,
    };
    let state_machine = StateMachine::load(parts).map_err(StartError::Load)?;
    let node = data.identity().node_id;
    let consensus = |error: &dyn std::fmt::Display| StartError::Consensus(error.to_string());
    let config = consensus_config(settings).validate().map_err(|error| consensus(&error))?;
    let voted = log.vote().map_err(|error| consensus(&error))?;
    let raft = HoldfastRaft::new(node, Arc::new(config), Network::new(pool, node), log, state_machine)
        .await
        .map_err(|error| consensus(&error))?;
    // Nobody may be told of a term before the one that this node voted in.
    let known = |metrics: &RaftMetrics<TypeConfig>| voted.is_none_or(|voted| voted <= metrics.vote);
    let recalled = raft.wait(Some(RECALL_PATIENCE)).metrics(known, "the vote is recalled").await;
    recalled.map_err(|error| consensus(&error))?;
    let (status, status_watch) =
        watch::channel(Arc::new(status_of(&raft.metrics().borrow_watched(), *applied_watch.borrow())));
    let watcher = tokio::spawn(watch_status(raft.clone(), applied_watch.clone(), status, counters));
    let (rounds, asked) = Rounds::new();
    let confirming = raft.clone();
    let rounds_task = tokio::spawn(rounds::run(asked, async move || confirm(&confirming).await));
    let handle = Handle::new(raft, state, status_watch, applied_watch, rounds);
    Ok(Started { handle, notices: notices_receiver, snapshots, watcher, rounds: rounds_task })
}

struct Opened {
    log: LogStore,
    state: StateHandle,
    snapshots: Arc<SnapshotStore>,
}

fn open(data: &DataDir) -> Result<Opened, StartError> {
    let log = LogStore::open(&data.log_dir())?;
    let state = StateHandle::new(StateDb::open(&data.current_state_dir()?)?);
    let (snapshots, unreadable) = SnapshotStore::open(&data.snapshots_dir())?;
    for error in unreadable {
        tracing::warn!(%error, "ignoring a snapshot that cannot be read");
    }
    Ok(Opened { log, state, snapshots: Arc::new(snapshots) })
}

/// What of the consensus library's metrics decides who does what: somebody may wait for it to change.
#[derive(PartialEq)]
struct Deciding {
    role: ServerState,
    term: u64,
    leader: Option<NodeId>,
    vote: Vote,
    newest_membership: Option<LogId>,
    committed_membership: Option<LogId>,
    stopped: bool,
}

impl Deciding {
    fn of(metrics: &RaftMetrics<TypeConfig>) -> Self {
        Self {
            role: metrics.state,
            term: metrics.current_term,
            leader: metrics.current_leader,
            vote: metrics.vote,
            newest_membership: *metrics.membership_config.log_id(),
            committed_membership: *metrics.committed_membership_config.log_id(),
            stopped: metrics.running_state.is_err(),
        }
    }
}

/// Turns the consensus library's metrics into [`Status`], until it stops. Under load they change with every batch of
/// entries: what decides is told at once, positions and acknowledgements every [`POSITIONS_PERIOD`].
async fn watch_status(
    raft: HoldfastRaft,
    mut applied: watch::Receiver<AppliedMark>,
    status: watch::Sender<Arc<Status>>,
    counters: Arc<RaftCounters>,
) {
    let mut metrics = raft.metrics();
    loop {
        let deciding = Deciding::of(&metrics.borrow_watched());
        let now = status_of(&metrics.borrow_watched(), *applied.borrow_and_update());
        let stopped = now.fatal.is_some();
        let told = Instant::now();
        status.send_if_modified(|before| {
            if before.leader != now.leader && now.leader.is_some() {
                counters.leader_changed();
                tracing::info!(term = now.term, leader = ?now.leader.map(|id| id.to_string()), "the leader changed");
            }
            let changed = **before != now;
            *before = Arc::new(now);
            changed
        });
        if stopped {
            return;
        }
        let mut positions_moved = false;
        loop {
            tokio::select! {
                changed = metrics.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    positions_moved = true;
                    if Deciding::of(&metrics.borrow_watched()) != deciding {
                        break;
                    }
                }
                // Only the first entry of a term can make a leader serve; what follows needs no look.
                changed = applied.changed(), if status.borrow().leading.is_none() => {
                    if changed.is_err() {
                        return;
                    }
                    break;
                }
                () = tokio::time::sleep_until(told + POSITIONS_PERIOD), if positions_moved => break,
            }
        }
    }
}

fn status_of(metrics: &RaftMetrics<TypeConfig>, applied: AppliedMark) -> Status {
    let role = match metrics.state {
        ServerState::Leader => Role::Leader,
        ServerState::Follower => Role::Follower,
        ServerState::Candidate => Role::Candidate,
        ServerState::Learner => Role::Learner,
        ServerState::Shutdown => Role::Idle,
    };
    let vote = &metrics.vote;
    let leadership = LeaderId { term: Term(vote.leader_id().term), node: vote.leader_id().node_id };
    let leads = role == Role::Leader && vote.is_committed() && leadership.node == metrics.id;
    Status {
        node: metrics.id,
        role,
        term: metrics.current_term,
        leader: metrics.current_leader,
        leading: (leads && applied.leader == Some(leadership)).then_some(leadership),
        membership: membership_of(&metrics.membership_config, &metrics.committed_membership_config),
        last_log_index: metrics.last_log_index,
        committed_index: metrics.local_committed.map(|id| id.index()),
        applied_index: applied.index,
        snapshot_index: metrics.snapshot.map(|id| id.index()),
        purged_index: metrics.purged.map(|id| id.index()),
        quorum_acked: metrics.last_quorum_acked.as_ref().map(|acked| instant(acked.elapsed())),
        matched: matched_of(metrics),
        last_acked: metrics
            .heartbeat
            .iter()
            .flatten()
            .map(|(node, acked)| (*node, acked.as_ref().map(|acked| instant(acked.elapsed()))))
            .collect(),
        fatal: metrics.running_state.as_ref().err().map(ToString::to_string),
    }
}

/// The instant that lies this far back.
fn instant(elapsed: std::time::Duration) -> Instant {
    let now = Instant::now();
    now.checked_sub(elapsed).unwrap_or(now)
}

fn matched_of(metrics: &RaftMetrics<TypeConfig>) -> BTreeMap<NodeId, Option<u64>> {
    let replication = metrics.replication.iter().flatten();
    replication.map(|(node, matched)| (*node, matched.as_ref().map(|id| id.index()))).collect()
}

fn membership_of(newest: &StoredMembership, committed: &StoredMembership) -> Membership {
    Membership {
        log_id: newest.log_id().as_ref().map(log_id_text),
        voter_sets: newest.get_joint_config().clone(),
        members: newest.nodes().map(|(node, member)| (*node, member.clone())).collect(),
        committed: newest.log_id() == committed.log_id(),
    }
}
