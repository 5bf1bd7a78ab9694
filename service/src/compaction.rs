//! Compaction of config's past: the leader proposes the slices that are due, one after another.
//!
//! What may go is decided by the settings and by the core, which drops it when it applies the entry, on every node alike. This
//! module only looks from time to time whether anything is due.

use std::sync::Arc;
use std::time::Duration;

use holdfast_core::Revision;
use holdfast_core::domain::{Command, Compact, Rejection, Success};

use crate::metrics::Metrics;
use crate::raft::{Handle, ProposeError};

/// Why a compaction ended early; what is left goes with the next one.
#[derive(Debug, thiserror::Error)]
enum CompactError {
    /// The slice was not put into the log, or its outcome is not known.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// The store takes no compaction yet.
    #[error("refused: {0:?}")]
    Refused(Rejection),
    /// A bug.
    #[error("the outcome of another command: {0:?}")]
    Stray(Box<Success>),
}

/// What a slice did.
struct Slice {
    rows: u64,
    compacted_revision: Revision,
    more: bool,
}

/// Compacts what is due, every `period` while this node leads. Runs for the life of the node.
pub(crate) async fn run(handle: Handle, metrics: Arc<Metrics>, period: Duration) {
    let mut looks = tokio::time::interval(period);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        if handle.status().leading.is_none() {
            continue;
        }
        match handle.look(|view| view.compaction_due(handle.log_time())) {
            Ok(Some(due)) => compact(&handle, &metrics, due).await,
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "failed to read what is to be compacted"),
        }
    }
}

/// Drops all that is due, slice by slice; other entries go in between.
async fn compact(handle: &Handle, metrics: &Metrics, due: Compact) {
    let (mut slices, mut rows) = (0_u64, 0_u64);
    loop {
        match propose(handle, due).await {
            Ok(slice) => {
                metrics.compacted(slice.rows);
                slices += 1;
                rows += slice.rows;
                if !slice.more {
                    let compacted_revision = slice.compacted_revision.as_u64();
                    tracing::info!(slices, rows, compacted_revision, "compacted the history of config");
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(slices, rows, %error, "the compaction ended early");
                return;
            }
        }
        tokio::task::yield_now().await;
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "every other outcome is a bug and told as one")]
async fn propose(handle: &Handle, due: Compact) -> Result<Slice, CompactError> {
    let applied = handle.propose(Command::Compact(due), None).await?;
    match applied.outcome.map_err(CompactError::Refused)? {
        Success::Compacted { rows, compacted_revision, more } => Ok(Slice { rows, compacted_revision, more }),
        other => Err(CompactError::Stray(Box::new(other))),
    }
}
