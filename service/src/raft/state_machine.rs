//! Applies committed entries: decode → core → one write → answers, events and wake-ups, in order.
//!
//! An entry is applied only when it is durable in this node's log: so the state on disk is never ahead of the log on disk,
//! whatever a crash leaves of either. The database has no log of its own; what a crash takes from it is applied again.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use futures_util::{FutureExt, Stream, StreamExt};
use holdfast_core::domain::{Event, Machine, Proposal};
use holdfast_core::{LeaderId, NodeId, Term};
use openraft::storage::{EntryResponder, RaftStateMachine};
use tokio::sync::{mpsc, watch};

use crate::raft::applied::{AppliedMark, Notice};
use crate::raft::codec;
use crate::raft::counters::RaftCounters;
use crate::raft::log_store::LogStore;
use crate::raft::snapshot::{SnapshotBuilder, SnapshotFiles, meta_of, stored};
use crate::raft::tables::{self, LiveReader, RAFT_ROWS};
use crate::raft::types::{
    LogId, Payload, Response, SnapshotMeta, StoredMembership, StoredSnapshot, TypeConfig,
};
use crate::storage::data_dir::DataDir;
use crate::storage::latch::StorageError;
use crate::storage::snapshot_store::SnapshotStore;
use crate::storage::state_db::StateHandle;

/// The row that says what the state contains.
const APPLIED_KEY: [u8; 2] = [RAFT_ROWS, b'a'];
/// Entries that are written together at most: enough to share one write, few enough to answer the first soon.
const BATCH_ENTRIES_MAX: usize = 256;

/// What the state contains, as its own row says.
pub(super) fn applied_row(
    get: impl FnOnce(&[u8]) -> Result<Option<Vec<u8>>, StorageError>,
) -> Result<SnapshotMeta, StorageError> {
    match get(&APPLIED_KEY)? {
        Some(row) => codec::decode(&APPLIED_KEY, &row.into())
            .map_err(|source| StorageError::Record { path: "state".into(), source }),
        None => Ok(SnapshotMeta { last_log_id: None, last_membership: StoredMembership::default() }),
    }
}

/// The state machine of one node.
pub(crate) struct StateMachine {
    state: StateHandle,
    machine: Machine,
    last_applied: Option<LogId>,
    membership: StoredMembership,
    data: Arc<DataDir>,
    log: LogStore,
    flushed: watch::Receiver<Option<u64>>,
    snapshots: Arc<SnapshotStore>,
    counters: Arc<RaftCounters>,
    applied: watch::Sender<AppliedMark>,
    notices: mpsc::UnboundedSender<Notice>,
}

/// What a state machine is made of.
pub(super) struct StateMachineParts {
    pub(super) state: StateHandle,
    pub(super) data: Arc<DataDir>,
    pub(super) log: LogStore,
    pub(super) snapshots: Arc<SnapshotStore>,
    pub(super) counters: Arc<RaftCounters>,
    pub(super) applied: watch::Sender<AppliedMark>,
    pub(super) notices: mpsc::UnboundedSender<Notice>,
}

impl StateMachine {
    /// The state machine of what is on the disk.
    pub(super) fn load(parts: StateMachineParts) -> io::Result<Self> {
        let StateMachineParts { state, data, log, snapshots, counters, applied, notices } = parts;
        let machine = load_machine(&state)?;
        let mut loaded = Self {
            flushed: log.flushed(),
            state,
            machine,
            last_applied: None,
            membership: StoredMembership::default(),
            data,
            log,
            snapshots,
            counters,
            applied,
            notices,
        };
        loaded.read_applied()?;
        Ok(loaded)
    }

    fn read_applied(&mut self) -> io::Result<()> {
        let row = applied_row(|key| self.state.current().get(key))?;
        self.last_applied = row.last_log_id;
        self.membership = row.last_membership;
        self.publish();
        Ok(())
    }

    fn publish(&self) {
        let meta = self.machine.meta();
        self.applied.send_replace(AppliedMark {
            leader: self.last_applied.map(|id| leader_of(&id)),
            index: self.last_applied.map(|id| id.index()),
            revision: meta.revision,
            time: meta.time,
        });
    }

    /// Waits until this node's own log has the entry on disk.
    async fn wait_flushed(&mut self, index: u64) -> io::Result<()> {
        let flushed = self.flushed.wait_for(|flushed| flushed.is_some_and(|flushed| index <= flushed));
        flushed.await.map(drop).map_err(|_| io::Error::other("the log has stopped"))
    }

    /// Applies entries as one write. Answers go out after it, in order.
    async fn apply_batch(&mut self, entries: Vec<EntryResponder<TypeConfig>>) -> io::Result<()> {
        let Some((last, _)) = entries.last() else { return Ok(()) };
        self.wait_flushed(last.log_id.index()).await?;
        let state = self.state.current();
        let reader = LiveReader(&state);
        let mut batch = self.machine.batch(&reader);
        let mut answers = Vec::with_capacity(entries.len());
        let mut events: Vec<Event> = Vec::new();
        for (entry, responder) in entries {
            let response = match entry.payload {
                Payload::Blank => Response::Nothing,
                Payload::Membership(membership) => {
                    let members: BTreeSet<NodeId> = membership.nodes().map(|(node, _)| *node).collect();
                    batch.note_membership(&members).map_err(io::Error::other)?;
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                    Response::Nothing
                }
                Payload::Normal(bytes) => {
                    let proposal = Proposal::decode(&bytes.0).map_err(io::Error::other)?;
                    let mut applied =
                        batch.apply(leader_of(&entry.log_id), &proposal).map_err(io::Error::other)?;
                    events.append(&mut applied.events);
                    Response::Applied(Box::new(applied))
                }
            };
            self.last_applied = Some(entry.log_id);
            answers.extend(responder.map(|responder| (responder, response)));
        }
        let rows = tables::rows(batch.finish());
        let applied =
            SnapshotMeta { last_log_id: self.last_applied, last_membership: self.membership.clone() };
        let applied = (APPLIED_KEY.to_vec(), Some(codec::encode(&APPLIED_KEY, &applied).to_vec()));
        state.write(rows.chain([applied]))?;
        self.publish();
        if !events.is_empty() {
            let revision = self.machine.meta().revision;
            // Nobody listens only while the node ends.
            let _ = self.notices.send(Notice::Applied { events, revision });
        }
        for (responder, response) in answers {
            responder.send(response);
        }
        Ok(())
    }
}

fn load_machine(state: &StateHandle) -> io::Result<Machine> {
    let state = state.current();
    #[cfg_attr(not(feature = "seeded-bugs"), expect(unused_mut, reason = "only seeded bugs change it"))]
    let mut machine = Machine::load(&LiveReader(&state)).map_err(io::Error::other)?;
    #[cfg(feature = "seeded-bugs")]
    machine.seed_bugs(crate::seeded_bugs::core_bugs());
    Ok(machine)
}

/// The leadership that made an entry.
pub(super) fn leader_of(id: &LogId) -> LeaderId {
    let leader = id.committed_leader_id();
    LeaderId { term: Term(leader.term), node: leader.node_id }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotFiles;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.last_applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + Send,
    {
        let mut entries = entries.fuse();
        while let Some(first) = entries.next().await {
            let mut batch = vec![first?];
            while batch.len() < BATCH_ENTRIES_MAX
                && let Some(Some(next)) = entries.next().now_or_never()
            {
                batch.push(next?);
            }
            self.apply_batch(batch).await?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder::new(self.state.clone(), Arc::clone(&self.snapshots), Arc::clone(&self.counters))
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, files: SnapshotFiles) -> Result<(), io::Error> {
        self.log.wait_synced().await?;
        let (store, data) = (Arc::clone(&self.snapshots), Arc::clone(&self.data));
        let (installed, snapshot) = tokio::task::spawn_blocking(move || {
            let snapshot = match files {
                SnapshotFiles::Kept(snapshot) => snapshot,
                SnapshotFiles::Received(incoming) => store.accept(incoming)?,
            };
            SnapshotStore::install(&snapshot, &data).map(|state| (state, snapshot))
        })
        .await
        .map_err(io::Error::other)?
        .map_err(io::Error::other)?;
        let contained = meta_of(snapshot.meta())?;
        if contained != *meta {
            return Err(io::Error::other("a snapshot contains something else than its sender says"));
        }
        self.state.replace(installed);
        self.machine = load_machine(&self.state)?;
        self.read_applied()?;
        self.counters.snapshot_installed();
        tracing::info!(last = self.last_applied.map(|id| id.index()), "installed a snapshot");
        // Nobody listens only while the node ends.
        let _ = self.notices.send(Notice::Replaced);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<StoredSnapshot>, io::Error> {
        // Every byte is read before it is offered: a follower would refuse a damaged one again and again.
        let store = Arc::clone(&self.snapshots);
        let found = tokio::task::spawn_blocking(move || store.newest_valid()).await;
        let (snapshot, damaged) = found.map_err(io::Error::other)?;
        for error in damaged {
            tracing::warn!(%error, "not using a damaged snapshot");
        }
        snapshot.map(stored).transpose()
    }
}
