//! The flags of `holdfast serve`, with the environment variables beside them.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Deserialize;

use crate::config::{FoundingArgs, RaftArgs};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// The flags of `holdfast serve`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServeArgs {
    /// A label of this node for people, such as the pod's name [default: the host's name]
    #[arg(long, env = "HOLDFAST_NAME")]
    pub(crate) name: Option<String>,
    /// Where the node keeps its data; one node per directory [default: ./holdfast-data]
    #[arg(long, env = "HOLDFAST_DATA_DIR", value_name = "PATH")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Where the REST API listens [default: 127.0.0.1:7700]
    #[arg(long, env = "HOLDFAST_API_ADDR", value_name = "HOST:PORT")]
    pub(crate) api_addr: Option<String>,
    /// Where the other nodes connect for replication [default: 127.0.0.1:7701]
    #[arg(long, env = "HOLDFAST_PEER_ADDR", value_name = "HOST:PORT")]
    pub(crate) peer_addr: Option<String>,
    /// The gossip address that goes into this node's member record [default: 127.0.0.1:7702]
    #[arg(long, env = "HOLDFAST_GOSSIP_ADDR", value_name = "HOST:PORT")]
    pub(crate) gossip_addr: Option<String>,
    /// Where health checks and metrics listen, plain HTTP [default: 127.0.0.1:7703]
    #[arg(long, env = "HOLDFAST_OPS_ADDR", value_name = "HOST:PORT")]
    pub(crate) ops_addr: Option<String>,
    /// The host by which other nodes reach this one; it never changes for a member [default: the host of each address]
    #[arg(long, env = "HOLDFAST_ADVERTISE_HOST", value_name = "HOST")]
    pub(crate) advertise_host: Option<String>,
    /// Refuse to start on a data directory that belongs to another cluster than this one
    #[arg(long, env = "HOLDFAST_CLUSTER_ID", value_name = "ID")]
    pub(crate) cluster_id: Option<String>,
    /// A YAML file with the same names as these flags; flags and environment win
    #[arg(long, env = "HOLDFAST_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// What to log: error, warn, info, debug or trace, or a filter such as info,holdfast=debug [default: info]
    #[arg(long, env = "HOLDFAST_LOG_LEVEL", value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// How log lines look [default: text]
    #[arg(long, env = "HOLDFAST_LOG_FORMAT", value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
    /// Milliseconds between two looks of the leader for versions of config keys that may be dropped [default: 60000]
    #[arg(long, env = "HOLDFAST_COMPACTION_PERIOD_MS", value_name = "MS")]
    pub(crate) compaction_period_ms: Option<u64>,
    /// Timing of the consensus, for slow disks and networks.
    #[command(flatten)]
    pub(crate) raft: RaftArgs,
    /// What a cluster keeps of its past, for the node that founds it.
    #[command(flatten)]
    pub(crate) founding: FoundingArgs,
}
