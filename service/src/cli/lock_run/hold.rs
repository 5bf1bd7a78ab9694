//! Main while it holds the lock: it renews the lease, tells the guard, and passes signals on to the command.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use holdfast_api::client::{LockGuard, Lost};
use rustix::process::{Pid, Signal as RawSignal, getpgrp};

use crate::cli::lock_run::group::Group;
use crate::cli::lock_run::link::{Link, Order, Report, send_descriptor};
use crate::cli::lock_run::signals::{Relayed, Signals};
use crate::cli::lock_run::terminal::{self, Terminal};
use crate::cli::lock_run::timing::boot_ms;
use crate::cli::lock_run::{Run, brief, name_variable, say, step};

/// The lock is held, and the command is to run.
pub(super) struct Held<'a> {
    pub(super) run: &'a Run<'a>,
    pub(super) guard: &'a LockGuard,
    pub(super) session: &'a str,
}

/// How it was held to the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HeldEnd {
    /// The command ended by itself.
    Command { code: u8, group_gone: bool },
    /// The guard ended the command, because the lock was lost or would have been.
    Forced { lost: Option<Lost>, group_gone: bool },
    /// The guard is dead, and so is the command.
    GuardDied { group_gone: bool },
    /// The command never began.
    NotStarted { reason: String },
}

impl HeldEnd {
    /// Whether it is certain that nothing of the command runs on.
    pub(super) const fn nothing_runs(&self) -> bool {
        match self {
            Self::Command { group_gone, .. }
            | Self::Forced { group_gone, .. }
            | Self::GuardDied { group_gone } => *group_gone,
            Self::NotStarted { .. } => true,
        }
    }
}

impl Held<'_> {
    /// Runs the command under a guard until it is dead.
    pub(super) async fn run_command(&self, signals: &mut Signals) -> HeldEnd {
        let started = self.start_guard().and_then(|(socket, child)| Ok((Link::new(socket)?, child)));
        let (link, mut child) = match started {
            Ok(started) => started,
            Err(error) => return HeldEnd::NotStarted { reason: error.to_string() },
        };
        let mut watch = Watch {
            held: self,
            link,
            group: None,
            terminal: Terminal::controlling(),
            command_has_terminal: false,
            own_stops: 0,
            lost: None,
        };
        let end = watch.until_the_end(signals).await;
        // The socket has ended, so the guard is dead or about to be: nobody has to wait for it.
        let _: io::Result<Option<_>> = child.try_wait();
        end
    }

    fn start_guard(&self) -> io::Result<(UnixStream, Child)> {
        let Self { run, guard, session } = self;
        let (ours, theirs) = UnixStream::pair()?;
        let child = Command::new(step::PROGRAM)
            .arg(step::GUARD)
            .arg(run.timing.kill_after_ms().to_string())
            .arg(run.timing.margin_ms().to_string())
            .arg(self.lease_end_ms().to_string())
            .args(&run.command)
            .env(name_variable(run.contest), &run.name)
            .env("HOLDFAST_NAMESPACE", &run.target.namespace)
            .env("HOLDFAST_FENCING_TOKEN", guard.fencing_token().to_string())
            .env("HOLDFAST_SESSION", session)
            .env("HOLDFAST_CLAIM", guard.claim())
            .env("HOLDFAST_ENDPOINT", run.target.endpoint_list())
            // Ctrl-C and Ctrl-Z are for main and the command.
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()?;
        send_descriptor(&ours, io::stdin())?;
        Ok((ours, child))
    }

    /// When the lease ends, in milliseconds of `CLOCK_BOOTTIME`. The clock is read first: later would promise too much.
    fn lease_end_ms(&self) -> u64 {
        let now_ms = boot_ms();
        now_ms + u64::try_from(self.guard.remaining().as_millis()).unwrap_or(0)
    }
}

/// Main's view of the command.
struct Watch<'a> {
    held: &'a Held<'a>,
    link: Link,
    /// The command's process group, once it exists.
    group: Option<Group>,
    terminal: Option<Terminal>,
    /// Whether the terminal was handed to the command.
    command_has_terminal: bool,
    /// SIGTSTPs that this process sent to its own job and that have yet to come back to it.
    own_stops: u32,
    lost: Option<Lost>,
}

impl Watch<'_> {
    async fn until_the_end(&mut self, signals: &mut Signals) -> HeldEnd {
        let guard = self.held.guard;
        let mut lost = Box::pin(guard.lost());
        loop {
            // Made before the lease is read, so that no renewal is missed in between.
            let renewed = guard.renewed();
            self.link.tell(&Order::Lease { end_ms: self.held.lease_end_ms() });
            tokio::pin!(renewed);
            loop {
                tokio::select! {
                    biased;
                    report = self.link.next() => match report {
                        Some(report) => if let Some(end) = self.take_in(report) { return end },
                        None => return self.guard_died().await,
                    },
                    reason = &mut lost, if self.lost.is_none() => self.lose(reason),
                    signal = signals.next() => self.relay(signal),
                    () = &mut renewed, if self.lost.is_none() => break,
                }
            }
        }
    }

    fn take_in(&mut self, report: Report) -> Option<HeldEnd> {
        match report {
            Report::Started { pid } => {
                self.group = Pid::from_raw(pid).map(Group::led_by);
                if terminal::is_for_the_command_alone() {
                    self.hand_over_terminal();
                }
                self.link.tell(&Order::Go { terminal_home: self.terminal_home() });
            }
            Report::Failed { reason } => return Some(HeldEnd::NotStarted { reason }),
            Report::Stopped { signal } => self.command_stopped(signal),
            Report::Ending => say(&format!(
                "{} could not be renewed; the command is told to end (TERM), and is killed in {}",
                self.held.run.what(),
                brief(Duration::from_millis(self.held.run.timing.kill_after_ms()))
            )),
            Report::Ended { code, forced: false, group_gone } => {
                return Some(HeldEnd::Command { code, group_gone });
            }
            Report::Ended { code: _, forced: true, group_gone } => {
                return Some(HeldEnd::Forced { lost: self.lost, group_gone });
            }
        }
        None
    }

    /// The lock may be somebody else's. The guard is told, and not relied upon: it might be stopped.
    fn lose(&mut self, reason: Lost) {
        self.lost = Some(reason);
        self.link.tell(&Order::Kill);
        if let Some(group) = self.group {
            group.signal(RawSignal::KILL);
        }
    }

    fn relay(&mut self, signal: Relayed) {
        if signal == Relayed::Tstp && 0 < self.own_stops {
            self.own_stops -= 1;
            return;
        }
        self.link.tell(&Order::Signal { signal });
    }

    /// The command needs the terminal, or Ctrl-Z stopped it.
    fn command_stopped(&mut self, signal: i32) {
        let needs_terminal = [RawSignal::TTIN, RawSignal::TTOU].iter().any(|raw| raw.as_raw() == signal);
        // A plain SIGSTOP is from somebody who will also let it go on.
        if (!needs_terminal && signal != RawSignal::TSTP.as_raw()) || self.terminal.is_none() {
            return;
        }
        let wants_terminal = needs_terminal || self.command_has_terminal;
        if !(needs_terminal && self.hand_over_terminal()) {
            if terminal::can_stop() {
                // Nothing is renewed meanwhile, so the guard ends the command if it takes too long.
                self.own_stops += 1;
                terminal::stop_job();
            } else if needs_terminal {
                return;
            }
            if wants_terminal {
                self.hand_over_terminal();
            }
        }
        self.link.tell(&Order::Continue { terminal_home: self.terminal_home() });
    }

    fn hand_over_terminal(&mut self) -> bool {
        let (Some(terminal), Some(group)) = (&self.terminal, self.group) else { return false };
        let handed = terminal.hand_to(group);
        self.command_has_terminal |= handed;
        handed
    }

    fn terminal_home(&self) -> Option<i32> {
        self.command_has_terminal.then(|| getpgrp().as_raw_nonzero().get())
    }

    /// The command got its death signal with the guard's end; the rest of its group gets it here.
    async fn guard_died(&self) -> HeldEnd {
        let group_gone = match self.group {
            Some(group) => group.kill_and_wait().await,
            None => true,
        };
        HeldEnd::GuardDied { group_gone }
    }
}
