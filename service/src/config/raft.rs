//! Timing of the consensus. The defaults suit disks that sync within 50 ms; slower ones want all of them longer.

use clap::Args;
use serde::Deserialize;

use crate::config::ConfigError;

/// The flags.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct RaftArgs {
    /// Milliseconds between a leader's heartbeats; longer than a sync of the disk takes [default: 100]
    #[arg(long = "raft-heartbeat-ms", env = "HOLDFAST_RAFT_HEARTBEAT_MS", value_name = "MS")]
    pub(crate) heartbeat_ms: Option<u64>,
    /// The shortest silence of the leader, in milliseconds, after which a follower asks for votes [default: 400]
    #[arg(long = "raft-election-ms-min", env = "HOLDFAST_RAFT_ELECTION_MS_MIN", value_name = "MS")]
    pub(crate) election_ms_min: Option<u64>,
    /// The longest, and the lease of a leader [default: 800]
    #[arg(long = "raft-election-ms-max", env = "HOLDFAST_RAFT_ELECTION_MS_MAX", value_name = "MS")]
    pub(crate) election_ms_max: Option<u64>,
    /// Log entries between two snapshots [default: 50000]
    #[arg(long = "raft-snapshot-entries", env = "HOLDFAST_RAFT_SNAPSHOT_ENTRIES", value_name = "N")]
    pub(crate) snapshot_entries: Option<u64>,
    /// Log entries kept below a snapshot, for members that were away shortly [default: 20000]
    #[arg(long = "raft-keep-entries", env = "HOLDFAST_RAFT_KEEP_ENTRIES", value_name = "N")]
    pub(crate) keep_entries: Option<u64>,
}

/// The same in the file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RaftFile {
    heartbeat_ms: Option<u64>,
    election_ms_min: Option<u64>,
    election_ms_max: Option<u64>,
    snapshot_entries: Option<u64>,
    keep_entries: Option<u64>,
}

/// The validated settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RaftConfig {
    /// Milliseconds between heartbeats.
    pub(crate) heartbeat_ms: u64,
    /// The shortest election timeout in milliseconds.
    pub(crate) election_ms_min: u64,
    /// The longest election timeout in milliseconds, which is the lease.
    pub(crate) election_ms_max: u64,
    /// Entries between two snapshots.
    pub(crate) snapshot_entries: u64,
    /// Entries kept below a snapshot.
    pub(crate) keep_entries: u64,
}

impl RaftConfig {
    /// The settings of flags and file.
    ///
    /// # Errors
    /// [`ConfigError`] names the flag.
    pub(super) fn resolve(args: RaftArgs, file: RaftFile) -> Result<Self, ConfigError> {
        let config = Self {
            heartbeat_ms: args.heartbeat_ms.or(file.heartbeat_ms).unwrap_or(100),
            election_ms_min: args.election_ms_min.or(file.election_ms_min).unwrap_or(400),
            election_ms_max: args.election_ms_max.or(file.election_ms_max).unwrap_or(800),
            snapshot_entries: args.snapshot_entries.or(file.snapshot_entries).unwrap_or(50_000),
            keep_entries: args.keep_entries.or(file.keep_entries).unwrap_or(20_000),
        };
        let invalid = ConfigError::invalid;
        if !(10..=10_000).contains(&config.heartbeat_ms) {
            return Err(invalid("raft-heartbeat-ms", config.heartbeat_ms, "it must be from 10 to 10000"));
        }
        if config.election_ms_min < 3 * config.heartbeat_ms {
            return Err(invalid(
                "raft-election-ms-min",
                config.election_ms_min,
                "it must be at least three heartbeats, or one that is late starts an election",
            ));
        }
        if config.election_ms_max <= config.election_ms_min || 60_000 < config.election_ms_max {
            return Err(invalid(
                "raft-election-ms-max",
                config.election_ms_max,
                "it must be above --raft-election-ms-min and at most 60000",
            ));
        }
        if config.snapshot_entries == 0 {
            return Err(invalid("raft-snapshot-entries", config.snapshot_entries, "it must be at least 1"));
        }
        Ok(config)
    }
}
