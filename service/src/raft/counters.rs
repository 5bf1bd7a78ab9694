//! What the consensus of one node counts, for its metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::storage::log_sync::{SYNC_DURATION_US_MAX, SyncStats};

/// Counters since the start.
#[derive(Debug, Default)]
pub(crate) struct RaftCounters {
    log: OnceLock<Arc<SyncStats>>,
    snapshots_built: AtomicU64,
    snapshots_installed: AtomicU64,
    leader_changes: AtomicU64,
}

/// Durations of syncs: each bucket has its upper bound in seconds and how many fell into it.
#[derive(Debug, Clone, Default)]
pub(crate) struct SyncDurations {
    /// All of them together.
    pub(crate) sum_seconds: f64,
    /// How many.
    pub(crate) count: u64,
    /// The last bucket has no bound.
    pub(crate) buckets: Vec<(f64, u64)>,
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

    /// How long they took.
    pub(crate) fn log_sync_durations(&self) -> SyncDurations {
        let Some(log) = self.log.get() else { return SyncDurations::default() };
        let counts = log.durations();
        let bounds =
            SYNC_DURATION_US_MAX.iter().map(|us| Duration::from_micros(*us).as_secs_f64()).chain([f64::MAX]);
        SyncDurations {
            sum_seconds: Duration::from_micros(log.duration_us_sum()).as_secs_f64(),
            count: counts.iter().sum(),
            buckets: bounds.zip(counts).collect(),
        }
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
