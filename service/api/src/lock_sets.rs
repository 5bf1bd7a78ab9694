//! Lock sets: `/v1/namespaces/{ns}/lock-sets/{claim}`. Several locks of a namespace, all or none, each with its own token.

use serde::{Deserialize, Serialize};

use crate::claims::{ClaimMode, EndedClaim};

/// Body that takes several locks at once, or replays that under the same id.
///
/// A set that waits has a place in the queue of each of its locks and holds none of them until it gets all. Its locks are
/// released only together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockSetRequest {
    /// The session that is to own it.
    pub session: String,
    /// The locks, each once.
    pub locks: Vec<SetLock>,
    /// How long the request waits for the grant, in milliseconds; 0 only tries.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub wait_ms: u64,
    /// Stay in the queues when the wait is over (202) instead of leaving them (408).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_waiting: bool,
    /// What people see beside the claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// serde hands `skip_serializing_if` a reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// One lock of a set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetLock {
    /// Its name.
    pub name: String,
    /// How the set shares it; exclusive when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<ClaimMode>,
    /// Mode `permits`: how many permits it takes; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permits: Option<u32>,
    /// Mode `permits`: how many permits the lock has in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u32>,
}

/// A lock set as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum LockSetView {
    /// It holds all its locks.
    Held(HeldSet),
    /// It waits in all queues.
    Queued(QueuedSet),
    /// Its owner ended it.
    Released(EndedClaim),
    /// It ended without its owner asking for it.
    Lost(EndedClaim),
}

impl LockSetView {
    /// An ended set: released when its owner asked for the end, lost otherwise.
    #[must_use]
    pub const fn ended(ended: EndedClaim) -> Self {
        if ended.reason.is_voluntary() { Self::Released(ended) } else { Self::Lost(ended) }
    }
}

/// A set that holds its locks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldSet {
    /// Its id.
    pub claim: String,
    /// The session that owns it.
    pub session: String,
    /// Its locks by name, with their tokens.
    pub locks: Vec<HeldLock>,
    /// The revision of its last grant.
    pub revision: u64,
    /// What is left of the session, in milliseconds; only the leader knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_ms: Option<u64>,
    /// What people see beside the claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// A lock that a set holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldLock {
    /// Its name.
    pub name: String,
    /// The token of its grant.
    pub fencing_token: u64,
}

/// A set that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedSet {
    /// Its id.
    pub claim: String,
    /// The session that owns it.
    pub session: String,
    /// Its locks by name, with its places.
    pub locks: Vec<QueuedLock>,
    /// What people see beside the claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// A lock that a set waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedLock {
    /// Its name.
    pub name: String,
    /// The place in its queue; a set is granted once it is 1 in all that are not free for it.
    pub position: u64,
}
