//! openraft's test suite for stores, on the real log store.
//!
//! The suite makes node ids of any number, 0 included, which ours refuse. So it runs with a configuration of its own, whose
//! log store translates ids and hands everything else through; the state machine that it needs is kept in memory.

use super::{Fixture, LogStore};
use crate::raft::types::{self, ProposalBytes, Response};
use futures_util::{Stream, TryStreamExt};
use holdfast_core::{Member, NodeId};
use openraft::alias::{EntryOf, LogIdOf, SmSnapshotOf, SnapshotMetaOf, StoredMembershipOf, VoteOf};
use openraft::impls::leader_id_adv;
use openraft::storage::{EntryResponder, IOFlushed, LogState, RaftLogStorage, RaftStateMachine, Snapshot};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use openraft::{
    EntryPayload, LogId, Membership, OptionalSend, RaftLogReader, RaftSnapshotBuilder, StorageError, Vote,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::io;
use std::ops::RangeBounds;
use tempfile::TempDir;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct SuiteId(u64);

impl From<u64> for SuiteId {
    fn from(id: u64) -> Self {
        Self(id)
    }
}

impl fmt::Display for SuiteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

openraft::declare_raft_types!(
    SuiteConfig:
        D = ProposalBytes,
        R = Response,
        NodeId = SuiteId,
        Node = Member,
        AsyncRuntime = openraft::TokioRuntime,
);

// === between the suite's ids and ours: id n of the suite is node n + 1 ===

fn our_id(id: SuiteId) -> NodeId {
    NodeId::new(id.0 + 1).unwrap()
}

fn suite_id(id: NodeId) -> SuiteId {
    SuiteId(id.as_u64() - 1)
}

fn our_log_id(log_id: &LogIdOf<SuiteConfig>) -> types::LogId {
    let leader_id_adv::LeaderId { term, node_id } = log_id.leader_id;
    LogId::new(leader_id_adv::LeaderId { term, node_id: our_id(node_id) }, log_id.index)
}

fn suite_log_id(log_id: &types::LogId) -> LogIdOf<SuiteConfig> {
    let leader_id_adv::LeaderId { term, node_id } = log_id.leader_id;
    LogId::new(leader_id_adv::LeaderId { term, node_id: suite_id(node_id) }, log_id.index)
}

fn our_vote(vote: &VoteOf<SuiteConfig>) -> types::Vote {
    let leader_id_adv::LeaderId { term, node_id } = vote.leader_id;
    Vote { leader_id: leader_id_adv::LeaderId { term, node_id: our_id(node_id) }, committed: vote.committed }
}

fn suite_vote(vote: &types::Vote) -> VoteOf<SuiteConfig> {
    let leader_id_adv::LeaderId { term, node_id } = vote.leader_id;
    Vote {
        leader_id: leader_id_adv::LeaderId { term, node_id: suite_id(node_id) },
        committed: vote.committed,
    }
}

fn translate<A: openraft::NodeId + Copy, B: openraft::NodeId>(
    membership: &Membership<A, Member>,
    id: impl Fn(A) -> B,
) -> Membership<B, Member> {
    let configs = membership.get_joint_config().iter();
    let configs = configs.map(|voters| voters.iter().map(|voter| id(*voter)).collect()).collect();
    let nodes: BTreeMap<_, _> =
        membership.nodes().map(|(node, member)| (id(*node), member.clone())).collect();
    Membership::new(configs, nodes).unwrap()
}

fn our_entry(entry: EntryOf<SuiteConfig>) -> types::Entry {
    let payload = match entry.payload {
        EntryPayload::Blank => EntryPayload::Blank,
        EntryPayload::Normal(proposal) => EntryPayload::Normal(proposal),
        EntryPayload::Membership(membership) => EntryPayload::Membership(translate(&membership, our_id)),
    };
    types::Entry { log_id: our_log_id(&entry.log_id), payload }
}

fn suite_entry(entry: types::Entry) -> EntryOf<SuiteConfig> {
    let payload = match entry.payload {
        EntryPayload::Blank => EntryPayload::Blank,
        EntryPayload::Normal(proposal) => EntryPayload::Normal(proposal),
        EntryPayload::Membership(membership) => EntryPayload::Membership(translate(&membership, suite_id)),
    };
    EntryOf::<SuiteConfig> { log_id: suite_log_id(&entry.log_id), payload }
}

// === the log store under test ===

struct SuiteLog(LogStore);

impl RaftLogReader<SuiteConfig> for SuiteLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<EntryOf<SuiteConfig>>, io::Error> {
        Ok(self.0.try_get_log_entries(range).await?.into_iter().map(suite_entry).collect())
    }

    async fn read_vote(&mut self) -> Result<Option<VoteOf<SuiteConfig>>, io::Error> {
        Ok(self.0.read_vote().await?.as_ref().map(suite_vote))
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<EntryOf<SuiteConfig>>, io::Error> {
        Ok(self.0.limited_get_log_entries(start, end).await?.into_iter().map(suite_entry).collect())
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<EntryOf<SuiteConfig>, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        Box::pin(self.0.entries_stream(range).await.map_ok(suite_entry))
    }
}

impl RaftLogStorage<SuiteConfig> for SuiteLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<SuiteConfig>, io::Error> {
        let LogState { last_purged_log_id, last_log_id } = self.0.get_log_state().await?;
        Ok(LogState {
            last_purged_log_id: last_purged_log_id.as_ref().map(suite_log_id),
            last_log_id: last_log_id.as_ref().map(suite_log_id),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        Self(self.0.get_log_reader().await)
    }

    async fn save_vote(&mut self, vote: &VoteOf<SuiteConfig>) -> Result<(), io::Error> {
        self.0.save_vote(&our_vote(vote)).await
    }

    async fn save_committed(&mut self, committed: Option<LogIdOf<SuiteConfig>>) -> Result<(), io::Error> {
        self.0.save_committed(committed.as_ref().map(our_log_id)).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogIdOf<SuiteConfig>>, io::Error> {
        Ok(self.0.read_committed().await?.as_ref().map(suite_log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<SuiteConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = EntryOf<SuiteConfig>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let (sender, done) = types::TypeConfig::oneshot();
        let entries: Vec<_> = entries.into_iter().map(our_entry).collect();
        self.0.append(entries, IOFlushed::signal(sender)).await?;
        tokio::spawn(async move { callback.io_completed(done.await.unwrap()) });
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogIdOf<SuiteConfig>>) -> Result<(), io::Error> {
        self.0.truncate_after(last_log_id.as_ref().map(our_log_id)).await
    }

    async fn purge(&mut self, log_id: LogIdOf<SuiteConfig>) -> Result<(), io::Error> {
        self.0.purge(our_log_id(&log_id)).await
    }
}

// === the state machine beside it ===

#[derive(Clone, Default)]
struct SuiteState {
    last_applied: Option<LogIdOf<SuiteConfig>>,
    membership: StoredMembershipOf<SuiteConfig>,
}

impl SuiteState {
    fn meta(&self) -> SnapshotMetaOf<SuiteConfig> {
        SnapshotMetaOf::<SuiteConfig> {
            last_log_id: self.last_applied,
            last_membership: self.membership.clone(),
        }
    }
}

#[derive(Clone, Default)]
struct SuiteMachine {
    state: SuiteState,
    snapshot: std::sync::Arc<std::sync::Mutex<Option<SnapshotMetaOf<SuiteConfig>>>>,
}

impl RaftSnapshotBuilder<SuiteConfig> for SuiteMachine {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> Result<SmSnapshotOf<SuiteConfig, Self>, io::Error> {
        let meta = self.state.meta();
        *self.snapshot.lock().unwrap() = Some(meta.clone());
        Ok(Snapshot { meta, snapshot: () })
    }
}

impl RaftStateMachine<SuiteConfig> for SuiteMachine {
    type SnapshotData = ();
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogIdOf<SuiteConfig>>, StoredMembershipOf<SuiteConfig>), io::Error> {
        Ok((self.state.last_applied, self.state.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<SuiteConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, _responder)) = entries.try_next().await? {
            self.state.last_applied = Some(entry.log_id);
            if let EntryPayload::Membership(membership) = entry.payload {
                self.state.membership =
                    StoredMembershipOf::<SuiteConfig>::new(Some(entry.log_id), membership);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMetaOf<SuiteConfig>, _: ()) -> Result<(), io::Error> {
        self.state = SuiteState { last_applied: meta.last_log_id, membership: meta.last_membership.clone() };
        *self.snapshot.lock().unwrap() = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SmSnapshotOf<SuiteConfig, Self>>, io::Error> {
        Ok(self.snapshot.lock().unwrap().clone().map(|meta| Snapshot { meta, snapshot: () }))
    }
}

struct Builder;

impl StoreBuilder<SuiteConfig, SuiteLog, SuiteMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, SuiteLog, SuiteMachine), StorageError<SuiteConfig>> {
        let Fixture { dir, store } = super::fixture();
        Ok((dir, SuiteLog(store), SuiteMachine::default()))
    }
}

#[tokio::test]
async fn the_log_store_passes_the_librarys_suite() {
    Suite::test_all(Builder).await.unwrap();
}
