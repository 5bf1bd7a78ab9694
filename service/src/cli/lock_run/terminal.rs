//! The terminal: whose process group may read from it, and what Ctrl-Z does.
//!
//! The command runs in a process group of its own, and only one group, the foreground one, may read from the terminal; any
//! other is stopped by SIGTTIN when it tries. So the terminal is handed to the command: at once when all three standard
//! streams are the terminal, else when it turns out to need it. In a pipeline, such as `holdfast lock run … | less`, it
//! would be wrong to take the terminal away from the others for nothing.

use std::fs::{File, OpenOptions};
use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getpgrp, getpid, getsid, kill_current_process_group, kill_process};
use rustix::termios::{tcgetpgrp, tcsetpgrp};

use crate::cli::lock_run::group::Group;
use crate::cli::lock_run::step;

/// How long giving the terminal back may take.
const RETURN_PATIENCE: Duration = Duration::from_secs(1);

/// The terminal that controls this process.
#[derive(Debug)]
pub(super) struct Terminal {
    device: File,
}

impl Terminal {
    /// The terminal, if there is one.
    pub(super) fn controlling() -> Option<Self> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/tty").ok()?;
        Some(Self { device })
    }

    /// Whether this process is in the foreground. Only then may it hand the terminal on: in the background the attempt
    /// would stop it.
    pub(super) fn is_ours(&self) -> bool {
        self.foreground() == Some(getpgrp())
    }

    fn foreground(&self) -> Option<Pid> {
        tcgetpgrp(&self.device).ok()
    }

    /// Puts a process group in the foreground; false when this process is not there itself.
    pub(super) fn hand_to(&self, group: Group) -> bool {
        self.is_ours() && tcsetpgrp(&self.device, group.id()).is_ok()
    }
}

/// Whether nothing but this process and its command uses the terminal, as far as can be seen.
pub(super) fn is_for_the_command_alone() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal() && std::io::stderr().is_terminal()
}

/// Whether somebody could let this process go on again if it stopped: not if it leads its session, because what it runs
/// under is then no shell with jobs.
pub(super) fn can_stop() -> bool {
    getsid(None).is_ok_and(|session| session != getpid())
}

/// Stops this process and the rest of its job, as Ctrl-Z would have done had the job been in the foreground. Returns when it
/// goes on. The others get SIGTSTP, which they may treat as they like; so does this process, which catches it.
pub(super) fn stop_job() {
    // Neither can fail: both targets exist, and are this process' own.
    let _: rustix::io::Result<()> = kill_current_process_group(Signal::TSTP);
    stop_self();
}

/// Stops this process. Returns when it goes on.
pub(super) fn stop_self() {
    let _: rustix::io::Result<()> = kill_process(getpid(), Signal::STOP);
}

/// Gives the terminal back from the command's group, whose dead leader has not been collected yet. Only a process in the
/// foreground may do that, so a step is started in that very group.
pub(super) fn return_from(group: Group, home: Pid) {
    let mut command = Command::new(step::PROGRAM);
    command.arg(step::RETURN_TERMINAL).arg(home.as_raw_nonzero().to_string());
    command.process_group(group.id().as_raw_nonzero().get()).stdin(Stdio::null());
    // Without it, the shell that waits for this job takes the terminal by itself.
    if let Ok(mut child) = command.spawn() {
        wait_briefly(&mut child);
    }
}

/// Waits for the step, and not for ever: it would be stopped if somebody else took the terminal at the same moment.
fn wait_briefly(child: &mut Child) {
    let since = Instant::now();
    while since.elapsed() < RETURN_PATIENCE {
        match child.try_wait() {
            Ok(None) => std::thread::sleep(Duration::from_millis(1)),
            Ok(Some(_)) | Err(_) => return,
        }
    }
    // Both fail only when it has just ended.
    let _: std::io::Result<()> = child.kill();
    let _: std::io::Result<_> = child.wait();
}

/// The step that gives the terminal back.
pub(super) fn give_back(home: Pid) {
    if let Some(terminal) = Terminal::controlling()
        && terminal.is_ours()
    {
        // Nobody is there to be told.
        let _: rustix::io::Result<()> = tcsetpgrp(&terminal.device, home);
    }
}
