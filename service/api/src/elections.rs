//! Elections: `/v1/namespaces/{ns}/elections`. An election is an exclusive lock in a name space of its own; its claims are
//! called candidates and are made, shown and ended as [claims](crate::claims) are.

use serde::{Deserialize, Serialize};

use crate::locks::{HolderView, QueuedView};

/// One election with its leader and the candidates that wait. An election never used has no leader; it is not absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElectionView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who leads it; null when nobody does.
    pub leader: Option<HolderView>,
    /// Who waits, in the order in which they will lead.
    pub queue: Vec<QueuedView>,
    /// The token of its newest leadership, 0 before the first.
    pub last_token: u64,
    /// How long it stays without a leader after one was lost, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_remaining_ms: Option<u64>,
}
