//! What the streams of a node count.

use std::sync::atomic::{AtomicU64, Ordering};

/// A kind of frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// What is there when a stream begins.
    State,
    /// A revision.
    Change,
    /// How far everything has been delivered.
    Progress,
    /// Why a stream ends.
    Error,
}

/// Why a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndKind {
    /// What it was about is over.
    Over,
    /// Its reader was too slow.
    SlowReader,
    /// The node shuts down.
    ShuttingDown,
    /// What it needs is compacted.
    Compacted,
    /// The state has another history.
    HistoryChanged,
    /// The state cannot be read.
    Failed,
}

/// What the streams of a node count. Counters only grow.
#[derive(Debug, Default)]
pub(crate) struct WatchCounters {
    frames: [AtomicU64; FrameKind::ALL.len()],
    ends: [AtomicU64; EndKind::ALL.len()],
    pages: AtomicU64,
}

impl FrameKind {
    /// Every kind.
    pub(crate) const ALL: [Self; 4] = [Self::State, Self::Change, Self::Progress, Self::Error];

    /// The kind as a label.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Change => "change",
            Self::Progress => "progress",
            Self::Error => "error",
        }
    }
}

impl EndKind {
    /// Every kind.
    pub(crate) const ALL: [Self; 6] = [
        Self::Over,
        Self::SlowReader,
        Self::ShuttingDown,
        Self::Compacted,
        Self::HistoryChanged,
        Self::Failed,
    ];

    /// The kind as a label.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Over => "over",
            Self::SlowReader => "slow_reader",
            Self::ShuttingDown => "shutting_down",
            Self::Compacted => "compacted",
            Self::HistoryChanged => "history_changed",
            Self::Failed => "failed",
        }
    }
}

impl WatchCounters {
    pub(super) fn count_frame(&self, kind: FrameKind) {
        self.frames[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_end(&self, kind: EndKind) {
        self.ends[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_page(&self) {
        self.pages.fetch_add(1, Ordering::Relaxed);
    }

    /// Frames handed to readers.
    pub(crate) fn frames(&self, kind: FrameKind) -> u64 {
        self.frames[kind as usize].load(Ordering::Relaxed)
    }

    /// Streams that this node ended.
    pub(crate) fn ends(&self, kind: EndKind) -> u64 {
        self.ends[kind as usize].load(Ordering::Relaxed)
    }

    /// Reads of the state for streams that were behind.
    pub(crate) fn pages(&self) -> u64 {
        self.pages.load(Ordering::Relaxed)
    }
}
