//! What a node knows of its cluster, in our own words: no type of the consensus library leaves the module `raft`.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_core::{LeaderId, Member, NodeId};
use tokio::time::Instant;

/// A node's part in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It leads.
    Leader,
    /// It votes and follows.
    Follower,
    /// It asks for votes.
    Candidate,
    /// It copies the log and does not vote.
    Learner,
    /// It has no log yet, or is stopping.
    Idle,
}

/// What a node knows of its cluster at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    /// This node.
    pub(crate) node: NodeId,
    /// Its part.
    pub(crate) role: Role,
    /// The highest term it has seen.
    pub(crate) term: u64,
    /// The leader it follows, itself included.
    pub(crate) leader: Option<NodeId>,
    /// The leadership of this node, once the first entry of its term is applied: only then does it serve.
    pub(crate) leading: Option<LeaderId>,
    /// The newest membership in its log.
    pub(crate) membership: Membership,
    /// The last index of its log.
    pub(crate) last_log_index: Option<u64>,
    /// The last index that it knows to be committed.
    pub(crate) committed_index: Option<u64>,
    /// The last index it applied.
    pub(crate) applied_index: Option<u64>,
    /// The last index in its newest snapshot.
    pub(crate) snapshot_index: Option<u64>,
    /// The last index dropped from its log.
    pub(crate) purged_index: Option<u64>,
    /// On the leader: when a majority last acknowledged it.
    pub(crate) quorum_acked: Option<Instant>,
    /// On the leader: the last index each member has.
    pub(crate) matched: BTreeMap<NodeId, Option<u64>>,
    /// On the leader: when each member last answered.
    pub(crate) last_acked: BTreeMap<NodeId, Option<Instant>>,
    /// Why the consensus stopped for good; the node ends with it.
    pub(crate) fatal: Option<String>,
}

/// A membership: who votes, and everybody's addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Membership {
    /// The log id of its entry as clients compare it, `<term>-<node id>-<index>`.
    pub(crate) log_id: Option<String>,
    /// The sets of voters: one, or two while a change is under way.
    pub(crate) voter_sets: Vec<BTreeSet<NodeId>>,
    /// All members with their addresses.
    pub(crate) members: BTreeMap<NodeId, Member>,
    /// Whether the entry is committed.
    pub(crate) committed: bool,
}

impl Status {
    /// On the leader: milliseconds since a majority acknowledged it.
    pub(crate) fn quorum_ack_ms(&self) -> Option<u64> {
        self.quorum_acked.map(age_ms)
    }

    /// On the leader: milliseconds since a member answered.
    pub(crate) fn last_ack_ms(&self, node: NodeId) -> Option<u64> {
        self.last_acked.get(&node).copied().flatten().map(age_ms)
    }
}

fn age_ms(instant: Instant) -> u64 {
    u64::try_from(instant.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Membership {
    /// Whether a change is half done.
    pub(crate) fn is_joint(&self) -> bool {
        1 < self.voter_sets.len()
    }

    /// Whether the node votes, in any of the sets.
    pub(crate) fn is_voter(&self, node: NodeId) -> bool {
        self.voter_sets.iter().any(|set| set.contains(&node))
    }

    /// All voters.
    pub(crate) fn voters(&self) -> BTreeSet<NodeId> {
        self.voter_sets.iter().flatten().copied().collect()
    }
}
