//! A running cluster of either system, and what it costs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::bench::client::Client;
use crate::bench::etcd::EtcdCluster;
use crate::bench::etcd_client::EtcdClient;
use crate::bench::holdfast_client::HoldfastClient;
use crate::bench::options::{SystemKind, Target};
use crate::bench::process;
use crate::harness::{Binary, Cluster, Metrics, NodeOptions};

/// Members of a cluster.
pub(super) const NODES: usize = 3;

/// The binaries to measure.
#[derive(Clone, Debug)]
pub(super) struct Binaries {
    /// `holdfast`.
    pub(super) holdfast: Binary,
    /// `etcd`, where there is one.
    pub(super) etcd: Option<PathBuf>,
}

/// A running cluster. Dropping it ends its processes and removes its data.
#[derive(Debug)]
pub(super) enum System {
    Holdfast(Cluster),
    Etcd(EtcdCluster),
}

/// What was counted up to a moment.
#[derive(Clone, Debug)]
pub(super) struct Counters {
    /// Processor time of each server.
    pub(super) servers_cpu_seconds: Vec<f64>,
    /// That of this program.
    pub(super) generator_cpu_seconds: f64,
    /// Syncs of the log, on all nodes.
    pub(super) log_syncs: f64,
    /// Entries in the log, as all nodes together count them.
    pub(super) log_entries: f64,
}

impl System {
    /// Starts a cluster and waits until it serves.
    pub(super) async fn start(kind: SystemKind, binaries: &Binaries) -> Result<Self> {
        Ok(match kind {
            SystemKind::Holdfast => {
                let options = NodeOptions::default();
                Self::Holdfast(Cluster::start_binary(&binaries.holdfast, NODES, &options).await?)
            }
            SystemKind::Etcd => {
                let binary = binaries.etcd.as_deref().context("there is an etcd binary")?;
                let cluster = EtcdCluster::start(binary).await?;
                cluster.wait_serving().await?;
                Self::Etcd(cluster)
            }
        })
    }

    pub(super) fn kind(&self) -> SystemKind {
        match self {
            Self::Holdfast(_) => SystemKind::Holdfast,
            Self::Etcd(_) => SystemKind::Etcd,
        }
    }

    /// Waits for a leader that serves.
    pub(super) async fn leader(&self) -> Result<usize> {
        match self {
            Self::Holdfast(cluster) => cluster.wait_leader().await,
            Self::Etcd(cluster) => cluster.wait_leader().await,
        }
    }

    /// Waits until every node serves.
    pub(super) async fn wait_serving(&self) -> Result<()> {
        match self {
            Self::Holdfast(cluster) => cluster.wait_serving().await,
            Self::Etcd(cluster) => cluster.wait_serving().await,
        }
    }

    /// Where a node takes requests.
    pub(super) fn address(&self, index: usize) -> SocketAddr {
        match self {
            Self::Holdfast(cluster) => cluster.nodes()[index].addresses().api,
            Self::Etcd(cluster) => cluster.client(index),
        }
    }

    /// A client with a connection of its own to a node.
    pub(super) fn client(&self, index: usize) -> Result<Client> {
        let address = self.address(index);
        Ok(match self {
            Self::Holdfast(_) => Client::Holdfast(HoldfastClient::new(address)?),
            Self::Etcd(_) => Client::Etcd(Box::new(EtcdClient::new(address)?)),
        })
    }

    /// Clients with a connection each.
    pub(super) async fn clients(&self, number: usize, target: Target) -> Result<Vec<Client>> {
        let leader = self.leader().await?;
        (0..number)
            .map(|client| match target {
                Target::Leader => self.client(leader),
                Target::All => self.client(client % NODES),
            })
            .collect()
    }

    /// The ids of the running processes.
    pub(super) fn pids(&self) -> Vec<u32> {
        match self {
            Self::Holdfast(cluster) => cluster.nodes().iter().filter_map(|node| node.process_id()).collect(),
            Self::Etcd(cluster) => cluster.pids(),
        }
    }

    /// The directory of each node.
    pub(super) fn data_dirs(&self) -> Vec<PathBuf> {
        match self {
            Self::Holdfast(cluster) => {
                cluster.nodes().iter().map(|node| node.data_dir().to_owned()).collect()
            }
            Self::Etcd(cluster) => cluster.data_dirs(),
        }
    }

    /// Kills a node (SIGKILL).
    pub(super) fn kill(&mut self, index: usize) -> Result<()> {
        match self {
            Self::Holdfast(cluster) => cluster.node_mut(index).kill(),
            Self::Etcd(cluster) => cluster.kill(index),
        }
    }

    /// Starts a killed node on its data.
    pub(super) fn start_node(&mut self, index: usize) -> Result<()> {
        match self {
            Self::Holdfast(cluster) => cluster.node_mut(index).start(),
            Self::Etcd(cluster) => cluster.start_member(index),
        }
    }

    /// What was counted until now.
    pub(super) async fn counters(&self) -> Result<Counters> {
        let (log_syncs, log_entries) = match self {
            Self::Holdfast(cluster) => {
                let (mut syncs, mut entries) = (0.0, 0.0);
                // A connection that idled since the last look may just be closed by the node.
                let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build()?;
                for node in cluster.nodes() {
                    let metrics = Metrics::scrape(&http, &node.ops_url()).await?;
                    let value = |name| metrics.value(name, &[]).with_context(|| format!("no metric {name}"));
                    syncs += value("holdfast_raft_log_fsyncs")?;
                    entries += value("holdfast_raft_last_log_index")?;
                }
                (syncs, entries)
            }
            Self::Etcd(cluster) => (
                cluster.metric("etcd_disk_wal_fsync_duration_seconds_count").await?,
                cluster.metric("etcd_server_proposals_applied_total").await?,
            ),
        };
        let servers = self.pids().into_iter().map(process::cpu_seconds);
        Ok(Counters {
            servers_cpu_seconds: servers.collect::<Result<_>>()?,
            generator_cpu_seconds: process::cpu_seconds(std::process::id())?,
            log_syncs,
            log_entries,
        })
    }

    /// The memory of the largest node, in megabytes.
    pub(super) fn memory_mb(&self) -> Result<f64> {
        largest(self.pids().into_iter().map(process::resident_mb))
    }

    /// The disk space of the largest node, in megabytes.
    pub(super) fn disk_mb(&self) -> Result<f64> {
        largest(self.data_dirs().iter().map(|dir| process::disk_mb(dir)))
    }
}

impl Counters {
    /// Processor time of all servers since an earlier moment.
    pub(super) fn servers_since(&self, earlier: &Self) -> f64 {
        self.each_since(earlier).sum()
    }

    /// That of the busiest.
    pub(super) fn busiest_since(&self, earlier: &Self) -> f64 {
        self.each_since(earlier).fold(0.0, f64::max)
    }

    fn each_since(&self, earlier: &Self) -> impl Iterator<Item = f64> {
        self.servers_cpu_seconds
            .iter()
            .zip(&earlier.servers_cpu_seconds)
            .map(|(later, earlier)| later - earlier)
    }
}

fn largest(values: impl Iterator<Item = Result<f64>>) -> Result<f64> {
    values.reduce(|one, other| Ok(one?.max(other?))).context("no process runs")?
}

/// An etcd binary on the PATH.
pub(super) fn etcd_on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join("etcd")).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
