//! The hidden steps: this program, run by itself again, as something that is not a command for people.
//!
//! They are told apart before any argument is parsed, so they appear in no help and depend on no flag or environment
//! variable.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use crate::cli::lock_run::link::receive_descriptor;
use crate::cli::lock_run::{Exit, guard, terminal};
use crate::cli::output;

/// This program, whatever has become of its file.
pub(super) const PROGRAM: &str = "/proc/self/exe";
/// Guards a command: see [`guard`].
pub(super) const GUARD: &str = "__lock-guard";
/// Becomes the command: see [`become_command`].
pub(super) const COMMAND: &str = "__lock-command";
/// Gives the terminal back: see [`terminal::give_back`].
pub(super) const RETURN_TERMINAL: &str = "__lock-return-terminal";

/// Carries out the hidden step that the arguments name, if they do.
pub(in crate::cli) fn run_hidden() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    let step = args.next()?;
    let exit = match step.to_str()? {
        GUARD => guard::run(args),
        COMMAND => become_command(args),
        RETURN_TERMINAL => return_terminal(args),
        _ => return None,
    };
    Some(exit.unwrap_or_else(|error| {
        output::complaint(&format!("holdfast: {}: {error}", step.display()));
        ExitCode::from(Exit::Failed.code())
    }))
}

/// The next argument of a hidden step.
///
/// # Errors
/// When there is none that reads as it should: only a person can have called the step like that.
pub(super) fn argument<T: std::str::FromStr>(args: &mut impl Iterator<Item = OsString>) -> io::Result<T> {
    let argument = args.next();
    let parsed = argument.as_ref().and_then(|argument| argument.to_str()?.parse().ok());
    parsed.ok_or_else(|| {
        io::Error::new(
            ErrorKind::InvalidInput,
            "this is a part of `holdfast lock run`, which calls it itself",
        )
    })
}

/// Becomes the command, in four steps whose order matters: from the first on, the death of the guard's thread, which is its
/// only one, kills this process; the second sees whether the guard had died before; the third waits until the command may
/// begin, and ends if the guard gives it up; the fourth keeps the death signal. The kernel clears it only for a program
/// that changes its user or its capabilities, such as `sudo`.
fn become_command(mut args: impl Iterator<Item = OsString>) -> io::Result<ExitCode> {
    let guard: i32 = argument(&mut args)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Pid::from_raw(guard) {
        return Err(io::Error::other("the guard is gone"));
    }
    let stdin = receive_descriptor(io::stdin().as_fd())?;
    let Some(program) = args.next() else { return Err(ErrorKind::InvalidInput.into()) };
    let error = Command::new(&program).args(args).stdin(Stdio::from(stdin)).exec();
    output::complaint(&format!("holdfast: cannot run {}: {error}", program.display()));
    let exit = if error.kind() == ErrorKind::NotFound { Exit::NotFound } else { Exit::NotExecutable };
    Ok(ExitCode::from(exit.code()))
}

fn return_terminal(mut args: impl Iterator<Item = OsString>) -> io::Result<ExitCode> {
    let home = Pid::from_raw(argument(&mut args)?).ok_or(ErrorKind::InvalidInput)?;
    terminal::give_back(home);
    Ok(ExitCode::SUCCESS)
}
