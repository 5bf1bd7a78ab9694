//! The guard: a process between main and the command that sees to it that the command does not outlive the lock.
//!
//! ```text
//!   main ──── socket: go · lease until … · signal … ───▶ guard ──── TERM, KILL ────▶ process group of the command
//!        ◀─── started · stopped · ended ────────────────   │                            │
//!   stopped: sends nothing more, so the lease runs out     └ dies: the kernel sends ────┘
//!   dies:    the socket ends                                 KILL (the death signal)
//! ```
//!
//! It talks to nobody but main and the command, so nothing that hangs can make it late. It has one thread, because the
//! command's death signal fires when the *thread* ends that started it. It never writes to the terminal, which could stop
//! it, and it survives the signals that are meant for the command.
//!
//! What it cannot help against: that main and guard are stopped together while the command runs on (a debugger, a frozen
//! part of a cgroup), and a command that changed its user, so that it cannot be signalled. The fencing token is for that.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};

use rustix::process::{Pid, Signal as RawSignal, WaitId, WaitIdOptions, WaitIdStatus, getpid, waitid};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::net::unix::pipe::Receiver;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::lock_run::group::Group;
use crate::cli::lock_run::link::{Link, Order, Report, receive_descriptor, send_descriptor};
use crate::cli::lock_run::signals::Signals;
use crate::cli::lock_run::step;
use crate::cli::lock_run::terminal;
use crate::cli::lock_run::timing::{Countdown, Due, boot_ms};
use crate::seeded_bugs::{self, SeededBug};

/// Runs the guard: its arguments are the time between TERM and KILL, the margin, the end of the lease, and the command.
///
/// # Errors
/// When it cannot do its work; main sees that the socket ends.
pub(super) fn run(mut args: impl Iterator<Item = OsString>) -> io::Result<ExitCode> {
    let (kill_after_ms, margin_ms) = (step::argument(&mut args)?, step::argument(&mut args)?);
    let countdown = Countdown::start(kill_after_ms, margin_ms, step::argument(&mut args)?);
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let stdin = receive_descriptor(&socket)?;
    // A runtime on this thread alone.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let link = Link::new(socket)?;
        let started = Started::new(args).inspect_err(|error| {
            link.tell(&Report::Failed { reason: error.to_string() });
        })?;
        Guard::new(countdown, link, stdin, started).watch().await
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The command, which waits to begin, and what tells about it.
struct Started {
    /// Kept so that these signals go on to be caught.
    signals: Signals,
    /// Changes of the command.
    changes: tokio::signal::unix::Signal,
    timer: BootTimer,
    gate: UnixStream,
    child: Child,
}

impl Started {
    fn new(command: impl Iterator<Item = OsString>) -> io::Result<Self> {
        let signals = Signals::catch()?;
        // Before the command starts, so that its end cannot be missed.
        let changes = signal(SignalKind::child())?;
        let timer = BootTimer::new()?;
        let (gate, theirs) = UnixStream::pair()?;
        let child = spawn(theirs, command)?;
        Ok(Self { signals, changes, timer, gate, child })
    }
}

/// The command under guard.
struct Guard {
    countdown: Countdown,
    timer: BootTimer,
    link: Link,
    /// Whether main is there to be listened to.
    main_lives: bool,
    /// What the command still waits for; it begins when it gets its standard input.
    gate: Option<(UnixStream, OwnedFd)>,
    child: Child,
    changes: tokio::signal::unix::Signal,
    group: Group,
    /// Where the terminal goes back to, while the command has it.
    terminal_home: Option<Pid>,
    _signals: Signals,
}

impl Guard {
    fn new(countdown: Countdown, link: Link, stdin: OwnedFd, started: Started) -> Self {
        let Started { signals, changes, timer, gate, child } = started;
        let group = Group::led_by(Pid::from_child(&child));
        link.tell(&Report::Started { pid: group.id().as_raw_nonzero().get() });
        Self {
            countdown,
            timer,
            link,
            main_lives: true,
            gate: Some((gate, stdin)),
            child,
            changes,
            group,
            terminal_home: None,
            _signals: signals,
        }
    }

    /// Watches over the command until it and its group are dead.
    async fn watch(mut self) -> io::Result<()> {
        loop {
            self.do_what_is_due()?;
            tokio::select! {
                // Time first: whatever main says, it cannot put off what is due.
                biased;
                fired = self.timer.fired() => fired?,
                _ = self.changes.recv() => {
                    if let Some(code) = self.look()? {
                        return self.finish(code).await;
                    }
                }
                order = self.link.next(), if self.main_lives => match order {
                    Some(order) => self.obey(order),
                    None => self.main_is_gone(),
                },
            }
        }
    }

    fn do_what_is_due(&mut self) -> io::Result<()> {
        if seeded_bugs::active(SeededBug::GuardIgnoresDeadline) {
            return self.timer.disarm();
        }
        loop {
            match self.countdown.due(boot_ms()) {
                Due::NothingUntil(at_ms) => return self.timer.arm(at_ms),
                Due::Nothing => return self.timer.disarm(),
                Due::Terminate => {
                    self.group.signal(RawSignal::TERM);
                    self.link.tell(&Report::Ending);
                }
                Due::Kill => self.group.signal(RawSignal::KILL),
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Go { terminal_home } => {
                self.terminal_home = terminal_home.and_then(Pid::from_raw);
                if let Some((gate, stdin)) = self.gate.take() {
                    // It fails only when the command is dead before it began, which `look` sees.
                    let _: io::Result<()> = send_descriptor(&gate, stdin);
                }
            }
            Order::Lease { end_ms } => self.countdown.renew(end_ms),
            Order::Signal { signal } => self.group.signal(signal.raw()),
            Order::Continue { terminal_home } => {
                self.terminal_home = terminal_home.and_then(Pid::from_raw).or(self.terminal_home);
                self.group.signal(RawSignal::CONT);
            }
            Order::Kill => self.countdown.forfeit(boot_ms()),
        }
    }

    /// Nobody renews the lease any more.
    fn main_is_gone(&mut self) {
        self.main_lives = false;
        if !self.countdown.is_over() {
            self.countdown.end(boot_ms());
            self.group.signal(RawSignal::TERM);
        }
    }

    /// What has become of the command: its exit code when it is dead. It is not collected yet, so that its process id and
    /// its group stay its own.
    fn look(&self) -> io::Result<Option<u8>> {
        let wait = |options| waitid(WaitId::Pid(self.group.id()), options | WaitIdOptions::NOHANG);
        if let Some(status) = wait(WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)? {
            return Ok(Some(exit_code(&status)));
        }
        // A stop is asked for once: it would be told again and again otherwise.
        let stopped = wait(WaitIdOptions::STOPPED).unwrap_or_default();
        if let Some(signal) = stopped.and_then(|status| status.stopping_signal()) {
            self.link.tell(&Report::Stopped { signal });
        }
        Ok(None)
    }

    /// The command is dead: nothing of its group may live on when main lets go of the lock.
    async fn finish(mut self, code: u8) -> io::Result<()> {
        let group_gone = self.group.kill_and_wait().await;
        if let Some(home) = self.terminal_home {
            terminal::return_from(self.group, home);
        }
        self.link.tell(&Report::Ended { code, forced: self.countdown.is_over(), group_gone });
        self.child.wait()?;
        Ok(())
    }
}

/// Starts the step that becomes the command, in a process group of its own.
fn spawn(gate: UnixStream, command: impl Iterator<Item = OsString>) -> io::Result<Child> {
    Command::new(step::PROGRAM)
        .arg(step::COMMAND)
        .arg(getpid().as_raw_nonzero().to_string())
        .args(command)
        .process_group(0)
        .stdin(Stdio::from(OwnedFd::from(gate)))
        .spawn()
}

/// The exit code as shells have it.
fn exit_code(status: &WaitIdStatus) -> u8 {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
    // Both are below 256, and a dead process has one of them.
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// A timer on `CLOCK_BOOTTIME`: it also fires when the system wakes up from a suspend after the time.
struct BootTimer {
    /// The runtime's reader of pipes, which waits for whatever polls and is read as a pipe; for other descriptors the
    /// runtime has no reader without `unsafe`.
    timer: Receiver,
}

impl BootTimer {
    fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Boottime, flags)?;
        Ok(Self { timer: Receiver::from_owned_fd_unchecked(timer)? })
    }

    fn arm(&self, at_ms: u64) -> io::Result<()> {
        let millis = i64::try_from(at_ms).unwrap_or(i64::MAX);
        self.set(Timespec { tv_sec: millis / 1_000, tv_nsec: millis % 1_000 * 1_000_000 })
    }

    fn disarm(&self) -> io::Result<()> {
        self.set(Timespec { tv_sec: 0, tv_nsec: 0 })
    }

    fn set(&self, it_value: Timespec) -> io::Result<()> {
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &Itimerspec { it_interval, it_value })?;
        Ok(())
    }

    /// Ends when the timer has fired.
    async fn fired(&self) -> io::Result<()> {
        loop {
            self.timer.readable().await?;
            match self.timer.try_read(&mut [0; 8]) {
                Ok(_) => return Ok(()),
                // It was set anew meanwhile.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_timer_fires_at_its_time_and_again_when_it_is_set_again() {
        let timer = BootTimer::new().unwrap();
        for _ in 0..2 {
            let at_ms = boot_ms() + 5;
            timer.arm(at_ms).unwrap();
            timer.fired().await.unwrap();
            assert!(at_ms <= boot_ms());
        }
        timer.arm(1).unwrap();
        timer.fired().await.unwrap();
    }

    #[test]
    fn the_exit_code_is_the_commands_own_or_128_and_the_signal() {
        for (script, code) in [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -TERM $$", 143)] {
            let mut child = Command::new("sh").args(["-c", script]).spawn().unwrap();
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            let status = waitid(WaitId::Pid(Pid::from_child(&child)), options).unwrap().unwrap();
            assert_eq!(exit_code(&status), code, "{script}");
            child.wait().unwrap();
        }
    }
}
