//! The one row that every entry reads: where the store stands, and how much it holds.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

use crate::domain::{Level, Settings};
use crate::{LogTime, NodeId, Revision};

/// Where the store stands. Kept decoded by the `Machine`, written once per batch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The newest revision. Invariant: no row carries a larger one.
    pub revision: Revision,
    /// The replicated clock. It never goes back.
    pub time: LogTime,
    /// Config below this revision may be incomplete, and changes up to it are not watched any more: the newest revision of
    /// which a superseded version or a delete was dropped.
    pub compacted_revision: Revision,
    /// No change of config is kept from before this revision. Invariant: at most the compacted revision.
    pub changes_from: Revision,
    /// Changes of locks and sessions up to this revision are not watched any more.
    pub events_compacted_revision: Revision,
    /// The highest level that an entry needed.
    pub level: Level,
    /// The cluster's identity; none until the store is founded.
    pub cluster_id: Option<String>,
    /// Names this line of history; a restore changes it.
    pub history_id: u64,
    /// The limits and retentions.
    pub settings: Settings,
    /// How much there is. Invariant: equal to what the tables hold.
    pub counters: Counters,
    /// The members that the newest membership names, learners included.
    pub members: BTreeSet<NodeId>,
}

/// How much the store holds, so that no bound needs a scan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Namespaces.
    pub namespaces: u64,
    /// Live sessions, claim-made ones included.
    pub sessions: u64,
    /// Held and queued claims.
    pub claims: u64,
    /// Running lock delays.
    pub lock_delays: u64,
    /// Ended ids that age, which `tombstones_max` bounds: all but those that a live session keeps.
    pub tombstones: u64,
    /// Locks that nobody holds or waits for, and that are still remembered.
    pub idle_locks: u64,
    /// Idempotency records.
    pub replay_records: u64,
    /// Bytes of their answers.
    pub replay_bytes: u64,
    /// The sequence number of the next idempotency record.
    pub replay_next: u64,
    /// Superseded versions of config keys.
    pub superseded: u64,
    /// Bytes of their keys and values.
    pub history_bytes: u64,
    /// Changes of locks and sessions that are kept.
    pub events: u64,
}

impl Meta {
    /// Whether the store has its identity.
    #[must_use]
    pub const fn is_founded(&self) -> bool {
        self.cluster_id.is_some()
    }
}
