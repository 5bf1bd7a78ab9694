//! Three etcd processes on loopback, with etcd's own defaults.

use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::bench::etcd_client::EtcdClient;
use crate::harness::{PortReservation, Scratch, Seen, poll};

/// Bound on forming and recovering; far above what they take.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);
/// The most that etcd lets its database be told to hold: a million keys need more than its default.
const QUOTA_BYTES: u64 = 8 << 30;

/// The members. Dropping it ends all processes and removes their data.
#[derive(Debug)]
pub(super) struct EtcdCluster {
    // Before `scratch`, so that the processes are gone when their data is removed.
    members: Vec<Member>,
    http: reqwest::Client,
    _scratch: Scratch,
}

#[derive(Debug)]
struct Member {
    binary: PathBuf,
    dir: PathBuf,
    log: PathBuf,
    client: SocketAddr,
    args: Vec<String>,
    child: Option<Child>,
}

impl EtcdCluster {
    /// Starts three members and waits until they have a leader.
    pub(super) async fn start(binary: &Path) -> Result<Self> {
        let scratch = Scratch::durable()?;
        let ports = PortReservation::take(6).and_then(PortReservation::release).context("pick free ports")?;
        let (clients, peers) = ports.split_at(3);
        let url = |address: &SocketAddr| format!("http://{address}");
        let initial: Vec<String> =
            peers.iter().enumerate().map(|(index, peer)| format!("e{index}={}", url(peer))).collect();
        let mut members = Vec::new();
        for (index, (client, peer)) in clients.iter().zip(peers).enumerate() {
            let name = format!("e{index}");
            let dir = scratch.path().join(&name);
            let settings = [
                ("name", name.clone()),
                ("data-dir", dir.display().to_string()),
                ("listen-client-urls", url(client)),
                ("advertise-client-urls", url(client)),
                ("listen-peer-urls", url(peer)),
                ("initial-advertise-peer-urls", url(peer)),
                ("initial-cluster", initial.join(",")),
                ("initial-cluster-state", "new".to_owned()),
                ("quota-backend-bytes", QUOTA_BYTES.to_string()),
                ("log-level", "warn".to_owned()),
            ];
            let args = settings.iter().map(|(flag, value)| format!("--{flag}={value}")).collect();
            let log = scratch.path().join(format!("{name}.log"));
            let mut member =
                Member { binary: binary.to_owned(), dir, log, client: *client, args, child: None };
            member.start()?;
            members.push(member);
        }
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
        let cluster = Self { members, http, _scratch: scratch };
        cluster.wait_leader().await?;
        Ok(cluster)
    }

    /// Waits for a leader that takes writes.
    pub(super) async fn wait_leader(&self) -> Result<usize> {
        let found = poll("an etcd leader", SETTLE_LIMIT, async || {
            for (index, member) in self.members.iter().enumerate() {
                let look = async { EtcdClient::new(member.client)?.leads().await };
                if member.child.is_some() && matches!(look.await, Ok(true)) {
                    return Seen::Ready(index);
                }
            }
            Seen::NotYet("no member leads".to_owned())
        });
        let leader = found.await?;
        let writes = poll("etcd to take a write", SETTLE_LIMIT, async || {
            let write = async { EtcdClient::new(self.members[leader].client)?.put("ready", "".into()).await };
            match tokio::time::timeout(Duration::from_secs(2), write).await {
                Ok(Ok(())) => Seen::Ready(()),
                Ok(Err(error)) => Seen::NotYet(format!("{error:#}")),
                Err(elapsed) => Seen::NotYet(elapsed.to_string()),
            }
        });
        writes.await?;
        Ok(leader)
    }

    /// Waits until every member answers a linearizable read.
    pub(super) async fn wait_serving(&self) -> Result<()> {
        self.wait_leader().await?;
        for member in &self.members {
            let serves = poll("every member to serve", SETTLE_LIMIT, async || {
                let read = async { EtcdClient::new(member.client)?.get("ready").await };
                match tokio::time::timeout(Duration::from_secs(2), read).await {
                    Ok(Ok(_)) => Seen::Ready(()),
                    Ok(Err(error)) => Seen::NotYet(format!("{error:#}")),
                    Err(elapsed) => Seen::NotYet(elapsed.to_string()),
                }
            });
            serves.await?;
        }
        Ok(())
    }

    pub(super) fn client(&self, index: usize) -> SocketAddr {
        self.members[index].client
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        self.members.iter().filter_map(|member| member.child.as_ref().map(Child::id)).collect()
    }

    pub(super) fn data_dirs(&self) -> Vec<PathBuf> {
        self.members.iter().map(|member| member.dir.clone()).collect()
    }

    pub(super) fn kill(&mut self, index: usize) -> Result<()> {
        self.members[index].kill()
    }

    pub(super) fn start_member(&mut self, index: usize) -> Result<()> {
        self.members[index].start()
    }

    /// The sum over all running members of a metric without labels.
    pub(super) async fn metric(&self, name: &str) -> Result<f64> {
        let mut sum = 0.0;
        for member in self.members.iter().filter(|member| member.child.is_some()) {
            let url = format!("http://{}/metrics", member.client);
            let text = self.http.get(&url).send().await?.error_for_status()?.text().await?;
            let value =
                text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<f64>().ok());
            sum += value.with_context(|| format!("{url} has no {name}"))?;
        }
        Ok(sum)
    }
}

impl Member {
    fn start(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "{} runs already", self.dir.display());
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.binary);
        command.args(&self.args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn().with_context(|| format!("start {}", self.binary.display()))?);
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the member runs")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only when the process is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
