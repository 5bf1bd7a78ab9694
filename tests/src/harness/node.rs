//! One `holdfast serve` process with its data directory, addresses and log.

use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::binary::Binary;
use crate::harness::log_tail::log_tail;
use crate::harness::poll::{Seen, poll};
use crate::harness::ports::PortReservation;

/// Lines of a node's log that an error shows.
const LOG_LINES_SHOWN: usize = 40;
/// The service promises to end within 25 s of SIGTERM; beyond this it is stuck.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// What a node is started with beyond its name, directory and addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeOptions {
    /// Further arguments of `holdfast serve`.
    pub args: Vec<String>,
    /// Environment variables.
    pub env: Vec<(String, String)>,
}

/// Where a node listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The REST API.
    pub api: SocketAddr,
    /// Raft.
    pub peer: SocketAddr,
    /// Gossip, UDP and TCP.
    pub gossip: SocketAddr,
    /// Probes and metrics.
    pub ops: SocketAddr,
}

/// A node. Dropping it kills its process and waits for its end; its data stays until the scratch directory goes.
#[derive(Debug)]
pub struct Node {
    name: String,
    binary: Binary,
    options: NodeOptions,
    data_dir: PathBuf,
    log: PathBuf,
    addresses: Addresses,
    child: Option<Child>,
}

impl Node {
    /// Picks addresses for a node called `name` that keeps its data and log below `dir`. Starts nothing.
    pub fn new(binary: &Binary, dir: &Path, name: &str, options: NodeOptions) -> Result<Self> {
        let data_dir = dir.join(name);
        std::fs::create_dir_all(&data_dir).with_context(|| format!("create {}", data_dir.display()))?;
        let log = dir.join(format!("{name}.log"));
        let (name, binary, addresses) = (name.to_owned(), binary.clone(), pick_addresses()?);
        Ok(Self { name, binary, options, data_dir, log, addresses, child: None })
    }

    /// Starts the process. It is up once it answers, not when this returns.
    pub fn start(&mut self) -> Result<()> {
        if self.is_running()? {
            bail!("node {} is running already", self.name);
        }
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("open {}", self.log.display()))?;
        let mut command = Command::new(self.binary.path());
        command.arg("serve").args(["--name", &self.name]).arg("--data-dir").arg(&self.data_dir);
        command.args(["--api-addr", &self.addresses.api.to_string()]);
        command.args(["--peer-addr", &self.addresses.peer.to_string()]);
        command.args(["--gossip-addr", &self.addresses.gossip.to_string()]);
        command.args(["--ops-addr", &self.addresses.ops.to_string()]);
        command.args(["--advertise-host", "127.0.0.1", "--log-format", "json"]).args(&self.options.args);
        command.envs(self.options.env.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("start {}", self.binary.path().display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Picks other addresses, for a first start that found one taken. Only while nobody else knows them.
    pub fn pick_other_addresses(&mut self) -> Result<()> {
        self.addresses = pick_addresses()?;
        Ok(())
    }

    /// Whether the process runs; a paused one does.
    pub fn is_running(&mut self) -> Result<bool> {
        let Some(child) = &mut self.child else { return Ok(false) };
        if child.try_wait().context("look after the process")?.is_none() {
            return Ok(true);
        }
        self.child = None;
        Ok(false)
    }

    /// Kills the process at once (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { bail!("node {} is not running", self.name) };
        child.kill().context("kill the process")?;
        child.wait().context("wait for the killed process")?;
        Ok(())
    }

    /// Kills the process (SIGKILL) without waiting for its end; [`kill`](Self::kill) still has to collect it.
    pub fn strike_down(&mut self) -> Result<()> {
        self.signal(Signal::KILL)
    }

    /// Asks the process to end (SIGTERM) and waits for its exit status.
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        self.terminate()?;
        self.wait_exit(STOP_LIMIT).await
    }

    /// Asks the process to end (SIGTERM), to be watched while it does.
    pub fn terminate(&mut self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// Waits until the process ends by itself.
    pub async fn wait_exit(&mut self, limit: Duration) -> Result<ExitStatus> {
        let Some(child) = &mut self.child else { bail!("node {} is not running", self.name) };
        let status = poll("the process to end", limit, async || match child.try_wait() {
            Ok(Some(status)) => Seen::Ready(status),
            Ok(None) => Seen::NotYet("it runs".to_owned()),
            Err(error) => Seen::NotYet(error.to_string()),
        });
        let status = status.await.with_context(|| self.describe())?;
        self.child = None;
        Ok(status)
    }

    /// Stops the process in its tracks (SIGSTOP).
    pub fn pause(&mut self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets a paused process go on (SIGCONT).
    pub fn resume(&mut self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Kills the process if it runs, and starts it on the same data and addresses.
    pub fn restart(&mut self) -> Result<()> {
        if self.is_running()? {
            self.kill()?;
        }
        self.start()
    }

    fn signal(&mut self, signal: Signal) -> Result<()> {
        // Looking first keeps the signal from a reused process id: an ended child stays a zombie until then.
        if !self.is_running()? {
            bail!("node {} is not running; its log ends:\n{}", self.name, self.log_tail());
        }
        let Some(child) = &self.child else { bail!("node {} is not running", self.name) };
        kill_process(Pid::from_child(child), signal).context("signal the process")
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The id of its process, if it was started and not seen to end.
    pub fn process_id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Its directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The file that its output goes to.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The base URL of its REST API.
    pub fn api_url(&self) -> String {
        format!("http://{}", self.addresses.api)
    }

    /// The base URL of its probes and metrics.
    pub fn ops_url(&self) -> String {
        format!("http://{}", self.addresses.ops)
    }

    /// The last lines of its output.
    pub fn log_tail(&self) -> String {
        log_tail(&self.log, LOG_LINES_SHOWN)
    }

    /// Its name and the end of its log, for an error.
    pub fn describe(&self) -> String {
        format!("node {}, whose log ends:\n{}", self.name, self.log_tail())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only when the process is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn pick_addresses() -> Result<Addresses> {
    let ports = PortReservation::take(4).and_then(PortReservation::release).context("pick free ports")?;
    match ports.as_slice() {
        [api, peer, gossip, ops] => Ok(Addresses { api: *api, peer: *peer, gossip: *gossip, ops: *ops }),
        other => bail!("asked for 4 ports, got {}", other.len()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    /// A stand-in for the service: it logs its arguments and stays.
    const SCRIPT: &str = "#!/bin/sh\necho \"$@\"\nexec sleep 1000\n";

    fn state_of(pid: u32) -> String {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().unwrap_or_default().chars().take(1).collect()
    }

    async fn wait_state(pid: u32, wanted: &str) {
        let what = format!("process state {wanted:?}");
        let reached = poll(&what, Duration::from_secs(10), async || {
            let state = state_of(pid);
            if state == wanted { Seen::Ready(()) } else { Seen::NotYet(state) }
        });
        reached.await.unwrap();
    }

    // One test, because a script cannot be started while another thread's fork still has it open for writing.
    #[tokio::test]
    async fn a_process_is_started_paused_stopped_killed_and_never_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("holdfast");
        std::fs::write(&script, SCRIPT).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        let binary = Binary::at(script).unwrap();
        let options = NodeOptions { args: vec!["--extra".to_owned()], env: vec![] };
        let mut node = Node::new(&binary, dir.path(), "n0", options).unwrap();
        assert!(node.stop().await.is_err(), "stopped what does not run");

        node.start().unwrap();
        assert!(node.start().is_err(), "started twice");
        let expected = format!("--api-addr {}", node.addresses().api);
        let logged = poll("the arguments in the log", Duration::from_secs(10), async || {
            let tail = node.log_tail();
            if tail.ends_with("--extra") { Seen::Ready(tail) } else { Seen::NotYet(tail) }
        });
        let logged = logged.await.unwrap();
        assert!(logged.starts_with("serve --name n0") && logged.contains(&expected), "{logged}");

        let pid = node.child.as_ref().unwrap().id();
        node.pause().unwrap();
        wait_state(pid, "T").await;
        assert!(node.is_running().unwrap());
        node.resume().unwrap();
        wait_state(pid, "S").await;
        assert_eq!(node.stop().await.unwrap().signal(), Some(15));
        assert!(!node.is_running().unwrap());

        node.start().unwrap();
        let pid = node.child.as_ref().unwrap().id();
        node.pause().unwrap();
        node.restart().unwrap();
        assert_eq!(state_of(pid), "", "the killed process is reaped");
        let pid = node.child.as_ref().unwrap().id();
        node.pause().unwrap();
        drop(node);
        assert_eq!(state_of(pid), "", "the dropped node's process is reaped");
    }
}
