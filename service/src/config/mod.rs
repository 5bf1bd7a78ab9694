//! The configuration of one node: flags, environment and file become one validated, immutable value.
//!
//! Order of precedence: flag, environment (`HOLDFAST_…`), file, default. What the cluster shares (limits, retention) is
//! replicated; only its beginning, which a founding node proposes, is here.

mod args;
mod file;
mod founding;
mod node;
mod raft;

pub(crate) use args::{LogFormat, ServeArgs};
pub(crate) use file::FileConfig;
pub(crate) use founding::{FoundingArgs, FoundingFile};
pub(crate) use node::{ConfigError, NodeConfig};
pub(crate) use raft::{RaftArgs, RaftConfig, RaftFile};
