//! Sessions: `/v1/sessions`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::claims::ContestName;

/// Body that creates a session. Absent fields get the service's defaults.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionRequest {
    /// How long the session lives after its last keepalive, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// What people see beside a lock that this session holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Free labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// How long a lock stays free after it was lost (not released) by this session, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock_delay_ms: Option<u64>,
}

/// One live session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionView {
    /// Its id; used once, never again.
    pub id: String,
    /// How long it lives after its last keepalive, in milliseconds.
    pub ttl_ms: u64,
    /// What is left of that, in milliseconds; only the leader knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_ms: Option<u64>,
    /// What people see beside a lock that it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Free labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// How long a lock stays free after this session lost it, in milliseconds.
    pub lock_delay_ms: u64,
    /// The revision that created it.
    pub create_revision: u64,
    /// Its claims, held and queued.
    #[serde(default)]
    pub claims: Vec<ClaimRef>,
    /// How many config items it owns.
    #[serde(default)]
    pub keys: u64,
}

/// A claim as its session lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRef {
    /// Namespace of the lock or election.
    pub namespace: String,
    /// Name of the lock or election.
    #[serde(flatten)]
    pub contest: ContestName,
    /// Id of the claim.
    pub claim: String,
    /// Whether it holds or waits.
    pub state: LiveState,
    /// The token of its grant; absent while it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fencing_token: Option<u64>,
}

/// The state of a claim that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LiveState {
    /// It holds the lock.
    Held,
    /// It waits in the lock's queue.
    Queued,
}

/// Answer to a keepalive.
///
/// A holder counts its lease from when it *sent* the keepalive; `remaining_ms` is for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepaliveView {
    /// How long the session lives after this keepalive, in milliseconds.
    pub ttl_ms: u64,
    /// What the leader counts as left, in milliseconds.
    pub remaining_ms: u64,
    /// Its claims, so that a client can delete one that it does not know.
    #[serde(default)]
    pub claims: Vec<ClaimRef>,
}

/// A page of sessions, in the order of their ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionList {
    /// The page.
    pub items: Vec<SessionView>,
    /// The store's revision that the page reflects.
    pub revision: u64,
    /// Give it as `cursor` to get the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}
