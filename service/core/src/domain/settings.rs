//! Limits and retention that the cluster shares: a replicated record, never configuration of a node.

use serde::{Deserialize, Serialize};

use crate::limits;

/// The replicated settings. Apply reads them from the state, so all replicas obey the same ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Live sessions at most.
    pub sessions_max: u64,
    /// Held and queued claims of one lock at most.
    pub queue_max: u64,
    /// How long ended claims, sessions and idle locks are remembered, in replicated milliseconds.
    pub tombstone_ms: u64,
    /// Tombstones below this age are never dropped, in replicated milliseconds.
    pub tombstone_ms_min: u64,
    /// Tombstones of the store at most; beyond, the oldest go first, and with none old enough new ids are refused.
    pub tombstones_max: u64,
    /// Tombstones of one live explicit session's claims at most; the oldest go first.
    pub session_tombstones_max: u64,
    /// How long an idempotency record answers, in replicated milliseconds.
    pub replay_ms: u64,
    /// Idempotency records at most; the oldest go first.
    pub replay_records_max: u64,
    /// Bytes of stored answers at most; the oldest go first.
    pub replay_bytes_max: u64,
    /// Versions of a config key, since it was created, that are kept whatever their age; at least 1 is.
    pub history_versions: u64,
    /// How long a superseded version, or the last one of a deleted key, is kept at least, in replicated milliseconds.
    pub history_ms: u64,
    /// Bytes of superseded versions at most; beyond, the oldest go first, whatever their number and age.
    pub history_bytes_max: u64,
    /// Changes of locks and sessions that are kept for those who watch; the oldest go first.
    pub events_max: u64,
    /// How long they are kept at most, in replicated milliseconds.
    pub events_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sessions_max: limits::SESSIONS_MAX_DEFAULT,
            queue_max: limits::QUEUE_MAX_DEFAULT,
            tombstone_ms: limits::TOMBSTONE_MS_DEFAULT,
            tombstone_ms_min: limits::TOMBSTONE_MS_MIN,
            tombstones_max: limits::TOMBSTONES_MAX_DEFAULT,
            session_tombstones_max: limits::SESSION_TOMBSTONES_MAX_DEFAULT,
            replay_ms: limits::REPLAY_MS_DEFAULT,
            replay_records_max: limits::REPLAY_RECORDS_MAX_DEFAULT,
            replay_bytes_max: limits::REPLAY_BYTES_MAX_DEFAULT,
            history_versions: limits::HISTORY_VERSIONS_DEFAULT,
            history_ms: limits::HISTORY_MS_DEFAULT,
            history_bytes_max: limits::HISTORY_BYTES_MAX_DEFAULT,
            events_max: limits::EVENTS_MAX_DEFAULT,
            events_ms: limits::EVENTS_MS_DEFAULT,
        }
    }
}
