//! Locks: `/v1/namespaces/{ns}/locks`.

use serde::{Deserialize, Serialize};

use crate::claims::ClaimMode;

/// The most waiters that a list shows with each lock; reading the one lock shows more.
pub const QUEUE_SHOWN_IN_LIST_MAX: usize = 10;

/// One lock with everybody who holds it or waits for it. A lock never used is free, not absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How it is held; absent while nobody holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<ClaimMode>,
    /// Mode `permits`: how many its holders take together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permits: Option<u32>,
    /// Mode `permits`: how many it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u32>,
    /// Who holds it.
    pub holders: Vec<HolderView>,
    /// Who waits, in the order of the grants to come.
    pub queue: Vec<QueuedView>,
    /// The token of its newest grant, 0 before the first.
    pub last_token: u64,
    /// How long it stays free after a holder was lost, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_remaining_ms: Option<u64>,
}

/// A claim that holds the lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderView {
    /// Id of the claim.
    pub claim: String,
    /// The session that owns it.
    pub session: String,
    /// That session's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_name: Option<String>,
    /// The claim's label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// How the claim shares the lock.
    #[serde(default)]
    pub mode: ClaimMode,
    /// Mode `permits`: how many it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permits: Option<u32>,
    /// The token of the grant.
    pub fencing_token: u64,
    /// For how long it has held the lock, in milliseconds of replicated time.
    pub held_ms: u64,
}

impl HolderView {
    /// What people know it by: the claim's label, or its session's name, or its session's id.
    #[must_use]
    pub fn known_as(&self) -> &str {
        self.label.as_ref().or(self.session_name.as_ref()).unwrap_or(&self.session)
    }
}

/// A claim that waits for the lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedView {
    /// Id of the claim.
    pub claim: String,
    /// The session that owns it.
    pub session: String,
    /// The claim's label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// How the claim shares the lock.
    #[serde(default)]
    pub mode: ClaimMode,
    /// Mode `permits`: how many it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permits: Option<u32>,
    /// Its place in the queue; 1 is granted next.
    pub position: u64,
    /// For how long it has waited, in milliseconds of replicated time.
    pub waiting_ms: u64,
}

/// A page of locks in use, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockList {
    /// The page.
    pub items: Vec<LockView>,
    /// The store's revision that the page reflects.
    pub revision: u64,
    /// Give it as `cursor` to get the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Body that takes a lock away from its holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForceReleaseRequest {
    /// The holder's token, so that a holder who came later is never hit.
    pub fencing_token: u64,
    /// Why, for the record.
    pub reason: String,
}

/// What a forced release ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForceReleaseView {
    /// Id of the claim that held the lock.
    pub claim: String,
    /// The session that owned it.
    pub session: String,
    /// The token that is no longer held.
    pub fencing_token: u64,
    /// The revision of the release.
    pub revision: u64,
}
