//! What the consensus of one node counts, for its metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::storage::log_sync::SyncStats;

/// Counters since the start.
#[derive(Debug, Default)]
pub(crate) struct RaftCounters {
    log: OnceLock<Arc<SyncStats>>,
    snapshots_built: AtomicU64,
    snapshots_installed: AtomicU64,
    leader_changes: AtomicU64,
}

impl RaftCounters {
    pub(super) fn attach_log(&self, stats: Arc<SyncStats>) {
        // Only one log is ever opened by a node.
        let _ = self.log.set(stats);
    }

    pub(super) fn snapshot_built(&self) {
        self.snapshots_built.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn snapshot_installed(&self) {
        self.snapshots_installed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn leader_changed(&self) {
        self.leader_changes.fetch_add(1, Ordering::Relaxed);
    }

    /// Syncs of the log.
    pub(crate) fn log_syncs(&self) -> u64 {
        self.log.get().map_or(0, |log| log.syncs())
    }

    /// Appends made durable by them.
    pub(crate) fn log_appends(&self) -> u64 {
        self.log.get().map_or(0, |log| log.appends())
    }

    /// Time spent in them.
    pub(crate) fn log_sync_time(&self) -> Duration {
        Duration::from_micros(self.log.get().map_or(0, |log| log.duration_us_sum()))
    }

    /// Snapshots built here.
    pub(crate) fn snapshots_built(&self) -> u64 {
        self.snapshots_built.load(Ordering::Relaxed)
    }

    /// Snapshots received and installed.
    pub(crate) fn snapshots_installed(&self) -> u64 {
        self.snapshots_installed.load(Ordering::Relaxed)
    }

    /// Changes of leader that this node has seen.
    pub(crate) fn leader_changes(&self) -> u64 {
        self.leader_changes.load(Ordering::Relaxed)
    }
}
