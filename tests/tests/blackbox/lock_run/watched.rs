//! A process that is watched for its death, by a descriptor that no reused process id can confuse.

use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::net::unix::pipe::Receiver;
use tokio::task::JoinHandle;

/// Bound on a death that must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process, and the time at which its death was seen: never before it died.
#[derive(Debug)]
pub(super) struct Watched {
    pidfd: OwnedFd,
    death: JoinHandle<Result<SystemTime>>,
    /// What came of waiting for it before.
    died_at: Option<SystemTime>,
}

impl Watched {
    /// Watches a process that a command printed the id of.
    pub(super) fn new(pid: &str) -> Result<Self> {
        let pid = Pid::from_raw(pid.trim().parse().with_context(|| format!("process id {pid:?}"))?);
        let pid = pid.context("process id 0")?;
        let pidfd = pidfd_open(pid, PidfdFlags::NONBLOCK).with_context(|| format!("watch {pid:?}"))?;
        // The runtime's reader of pipes waits for whatever polls as a pipe does, and this becomes readable by the death.
        let death = Receiver::from_owned_fd_unchecked(pidfd.try_clone()?)?;
        let death = tokio::spawn(async move {
            death.readable().await?;
            Ok(SystemTime::now())
        });
        Ok(Self { pidfd, death, died_at: None })
    }

    /// Whether it is dead.
    pub(super) fn is_dead(&self) -> bool {
        self.death.is_finished()
    }

    /// Waits for its death.
    pub(super) async fn died_at(&mut self) -> Result<SystemTime> {
        if let Some(died_at) = self.died_at {
            return Ok(died_at);
        }
        let died_at = tokio::time::timeout(PATIENCE, &mut self.death)
            .await
            .context("the process does not die")???;
        self.died_at = Some(died_at);
        Ok(died_at)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.death.abort();
        // It is gone already, as it should be, or a test has failed.
        let _: rustix::io::Result<()> = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }
}
