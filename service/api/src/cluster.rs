//! The cluster: `/v1/cluster`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A node's id: 63 random bits, kept on its disk, written as 16 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The text is not a node id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a node id is 16 lower-case hex digits, not {0:?}")]
pub struct InvalidNodeId(pub String);

impl FromStr for NodeId {
    type Err = InvalidNodeId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let canonical = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match u64::from_str_radix(text, 16) {
            Ok(id) if canonical => Ok(Self(id)),
            Ok(_) | Err(_) => Err(InvalidNodeId(text.to_owned())),
        }
    }
}

impl TryFrom<String> for NodeId {
    type Error = InvalidNodeId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<NodeId> for String {
    fn from(id: NodeId) -> Self {
        id.to_string()
    }
}

/// The cluster as the answering node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterView {
    /// The cluster's id; null while the node belongs to none.
    pub cluster_id: Option<String>,
    /// The node that answers.
    pub node_id: NodeId,
    /// Its name, a label for people.
    pub name: String,
    /// The leader that it knows of.
    pub leader: Option<NodeId>,
    /// The Raft term that it is in.
    pub term: u64,
    /// What it is doing.
    pub phase: Phase,
    /// The store's revision that it has applied.
    pub revision: u64,
    /// The Raft log index that it has applied.
    pub applied_index: u64,
    /// Names the membership in force, `<term>-<node id>-<index>`; null while the node belongs to no cluster.
    pub membership_log_id: Option<String>,
    /// Everybody in that membership.
    pub members: Vec<MemberView>,
    /// The answering node's own addresses, known also while it belongs to no cluster.
    #[serde(rename = "self")]
    pub this_node: NodeView,
    /// Who may do what.
    pub policy: AccessPolicy,
    /// Both voter sets while a membership change is half done, else null.
    pub joint: Option<[Vec<NodeId>; 2]>,
    /// Ids that were removed and are refused for ever.
    pub removed: Vec<NodeId>,
    /// Milliseconds since a quorum last acknowledged this node as leader; null on other nodes.
    pub quorum_ack_ms: Option<u64>,
    /// The snapshot that is being received, else null.
    pub snapshot_progress: Option<SnapshotProgress>,
    /// The software's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// What a node is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Its disk is empty and it waits to be told what to join.
    Waiting,
    /// No leader is known.
    Electing,
    /// The leader has not applied its first entry, or this node lags behind it.
    Synchronizing,
    /// It takes requests.
    Serving,
    /// It leads, but no quorum answers.
    NoQuorum,
    /// It was removed from the cluster and never comes back.
    Removed,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberView {
    /// Its id.
    pub id: NodeId,
    /// Its name, a label for people.
    pub name: String,
    /// Whether it votes.
    pub role: MemberRole,
    /// Where it takes client requests, `host:port`.
    pub api: String,
    /// Where it speaks Raft, `host:port`.
    pub peer: String,
    /// Where it gossips, `host:port`.
    pub gossip: String,
    /// The log index that it is known to have; only the leader knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matched_index: Option<u64>,
    /// How many log entries it is behind the leader; only the leader knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
    /// How it does; only the leader knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Milliseconds since it last acknowledged the leader; only the leader knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_ack_ms: Option<u64>,
    /// The software's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// Whether a member votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberRole {
    /// It votes and counts for the quorum.
    Voter,
    /// It copies the log, to become a voter.
    Learner,
    /// It copies the log and stays so.
    Observer,
}

/// How a member does, as the leader sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// It acknowledges and is close behind.
    Ok,
    /// It acknowledges, but is far behind.
    Lagging,
    /// It does not acknowledge.
    Unreachable,
}

/// A node's own addresses, each `host:port`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Where it takes client requests.
    pub api: String,
    /// Where it speaks Raft.
    pub peer: String,
    /// Where it gossips.
    pub gossip: String,
    /// Where it answers probes and metrics.
    pub ops: String,
}

/// Who may do what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessPolicy {
    /// Everybody may do everything: for trusted networks only.
    Open,
}

/// How far a snapshot has been received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotProgress {
    /// Bytes received.
    pub bytes_done: u64,
    /// Bytes in all.
    pub bytes_total: u64,
}

/// Body that makes a waiting node form a cluster of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootstrapRequest {
    /// The id of the node that is meant, read from that node before.
    pub node_id: NodeId,
    /// The id that the cluster is to have; the node chooses one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
}

/// The cluster that was formed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootstrapView {
    /// Its id.
    pub cluster_id: String,
    /// Its only member.
    pub node_id: NodeId,
    /// Names the membership in force.
    pub membership_log_id: String,
}

/// Body that adds a waiting node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddMemberRequest {
    /// The id of the node that is meant, read from that node before.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Where it takes client requests, `host:port`.
    pub api: String,
    /// Where it speaks Raft, `host:port`.
    pub peer: String,
    /// Where it gossips, `host:port`.
    pub gossip: String,
    /// What it is to become; a voter starts as a learner.
    pub role: JoinRole,
    /// The membership that the caller saw; another one in force is 412.
    pub expected_membership_log_id: String,
}

/// What a node that is added is to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JoinRole {
    /// A learner that is promoted when it has caught up.
    Voter,
    /// A member that never votes.
    Observer,
}

/// Body that makes a learner a voter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromoteRequest {
    /// The membership that the caller saw; another one in force is 412.
    pub expected_membership_log_id: String,
}

/// The membership after a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembershipView {
    /// Names the membership in force.
    pub membership_log_id: String,
    /// Everybody in it.
    pub members: Vec<MemberView>,
}

/// Body that hands the leadership over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferRequest {
    /// Who is to lead; null lets the leader choose the best voter.
    pub to: Option<NodeId>,
}

/// Who leads after a transfer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferView {
    /// The leader.
    pub leader: NodeId,
    /// Its term.
    pub term: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_id_has_one_spelling() {
        assert_eq!(NodeId(0xab).to_string(), "00000000000000ab");
        assert_eq!("00000000000000ab".parse(), Ok(NodeId(0xab)));
        for bad in ["ab", "00000000000000AB", "+0000000000000ab", "00000000000000ag", "000000000000000ab"] {
            assert_eq!(bad.parse::<NodeId>(), Err(InvalidNodeId(bad.to_owned())));
        }
    }

    #[test]
    fn a_transfer_names_a_node_or_null() {
        let any: TransferRequest = serde_json::from_str(r#"{"to":null}"#).unwrap();
        assert_eq!(any, TransferRequest { to: None });
        assert!(serde_json::from_str::<TransferRequest>(r#"{"to":"somebody"}"#).is_err());
    }
}
