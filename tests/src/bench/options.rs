//! The command line of `holdfast-bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::bench::scenario::Scenario;

/// Measures Holdfast, and etcd beside it where there is one: three processes on this machine, every write synced to a
/// disk. Data goes to a directory of its own below `CARGO_TARGET_TMPDIR` or the system's temporary directory, which must
/// not be in memory, and is removed at the end.
#[derive(Clone, Debug, Parser)]
#[command(name = "holdfast-bench")]
pub struct Options {
    /// What to measure; all when none is named
    #[arg(value_enum)]
    pub scenarios: Vec<Scenario>,
    /// Numbers of clients, for the scenarios that take several
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64, 256])]
    pub clients: Vec<usize>,
    /// How long each measurement lasts
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// How long the load runs before it is measured
    #[arg(long, default_value_t = 2)]
    pub warmup_seconds: u64,
    /// How often everything is measured, in alternating order
    #[arg(long, default_value_t = 3)]
    pub repeats: usize,
    /// Leaders killed by `failover`
    #[arg(long, default_value_t = 30)]
    pub kills: usize,
    /// Keys written by `million`
    #[arg(long, default_value_t = 1_000_000)]
    pub keys: usize,
    /// Which nodes the clients are connected to
    #[arg(long, value_enum, default_value_t = Target::Leader)]
    pub target: Target,
    /// The systems to measure
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [SystemKind::Holdfast, SystemKind::Etcd])]
    pub systems: Vec<SystemKind>,
    /// The `holdfast` binary; that beside this program when it is not given
    #[arg(long, value_name = "PATH")]
    pub holdfast: Option<PathBuf>,
    /// The `etcd` binary; that on the PATH when it is not given. Without one only Holdfast is measured
    #[arg(long, value_name = "PATH")]
    pub etcd: Option<PathBuf>,
    /// Prints every run and the medians as JSON
    #[arg(long)]
    pub json: bool,
}

/// Which nodes clients talk to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// The leader, as a client library that knows it does.
    Leader,
    /// All nodes in turn, as behind a load balancer.
    All,
}

/// A system to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum SystemKind {
    /// Holdfast.
    Holdfast,
    /// etcd, version 3.
    Etcd,
}

impl SystemKind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Holdfast => "holdfast",
            Self::Etcd => "etcd",
        }
    }
}

impl Options {
    /// How long a measurement lasts.
    pub(super) fn measured(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// How long its load runs before.
    pub(super) fn warmup(&self) -> Duration {
        Duration::from_secs(self.warmup_seconds)
    }
}
