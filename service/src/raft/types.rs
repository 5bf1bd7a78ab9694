//! How Holdfast instantiates openraft, and short names for the types that follow from it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a log entry carries: one proposal of the core, already encoded.
///
/// It is encoded once, where the request enters the cluster. The same bytes go to the log, to the followers and to apply,
/// so that no node can read another proposal than the one that was agreed on.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProposalBytes(pub(crate) Bytes);

/// The length only: proposals hold clients' values, which are never logged.
impl fmt::Debug for ProposalBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProposalBytes({} bytes)", self.0.len())
    }
}

impl fmt::Display for ProposalBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "proposal of {} bytes", self.0.len())
    }
}

/// What applying one entry answers to the node that proposed it. It never leaves the node; openraft asks for serde's traits
/// of every application type all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Response {
    /// A proposal's outcome.
    Applied(Box<holdfast_core::domain::Applied>),
    /// The entry was the consensus's own.
    Nothing,
}

openraft::declare_raft_types!(
    /// The types that Holdfast gives openraft. The leader id is the advanced one, (term, node): several candidates may win
    /// in one term, in order, which makes elections conflict less.
    pub(crate) TypeConfig:
        D = ProposalBytes,
        R = Response,
        NodeId = holdfast_core::NodeId,
        Node = holdfast_core::Member,
        AsyncRuntime = openraft::TokioRuntime,
);

/// (term, node): one leadership.
pub(crate) type LeaderId = openraft::alias::LeaderIdOf<TypeConfig>;
/// (leadership, index): one entry.
pub(crate) type LogId = openraft::alias::LogIdOf<TypeConfig>;
/// A vote for a leadership, or the leadership itself once a quorum granted it.
pub(crate) type Vote = openraft::alias::VoteOf<TypeConfig>;
/// One entry of the log.
pub(crate) type Entry = openraft::alias::EntryOf<TypeConfig>;
/// What an entry holds.
pub(crate) type Payload = openraft::alias::PayloadOf<TypeConfig>;
/// The voters (two sets while a change is under way) and every node's addresses.
pub(crate) type Membership = openraft::Membership<holdfast_core::NodeId, holdfast_core::Member>;
/// A membership and the entry that set it.
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
/// What a snapshot contains: the last applied entry and the membership there.
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;

/// Leader to follower: entries, or a heartbeat when there are none.
pub(crate) type AppendEntriesRequest = openraft::raft::AppendEntriesRequest<TypeConfig>;
/// The follower's answer.
pub(crate) type AppendEntriesResponse = openraft::raft::AppendEntriesResponse<TypeConfig>;
/// The answer to one request of a replication stream.
pub(crate) type StreamAppendResult = openraft::raft::StreamAppendResult<TypeConfig>;
/// Candidate to voter; a pre-vote has the same form.
pub(crate) type VoteRequest = openraft::raft::VoteRequest<TypeConfig>;
/// The voter's answer; a pre-vote's has the same form.
pub(crate) type VoteResponse = openraft::raft::VoteResponse<TypeConfig>;
/// Leader to the node that shall succeed it.
pub(crate) type TransferLeaderRequest = openraft::raft::TransferLeaderRequest<TypeConfig>;
/// Why the successor refused, if it did.
pub(crate) type TransferLeaderResponse = openraft::raft::TransferLeaderResponse<TypeConfig>;
/// The answer to a whole snapshot.
pub(crate) type SnapshotResponse = openraft::raft::SnapshotResponse<TypeConfig>;
/// A snapshot with its files.
pub(crate) type StoredSnapshot =
    openraft::alias::SnapshotOf<TypeConfig, crate::raft::snapshot::SnapshotFiles>;

/// The log id of these parts.
pub(crate) fn log_id(term: u64, node: holdfast_core::NodeId, index: u64) -> LogId {
    LogId::new(LeaderId { term, node_id: node }, index)
}
