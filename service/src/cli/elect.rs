//! `holdfast elect`: run a command while this process leads an election.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use holdfast_api::claims::ContestKind;

use crate::cli::lock_run::{self, RunArgs};
use crate::cli::target::Target;
use crate::exit::Fatal;

/// The flags of `holdfast elect`.
#[derive(Debug, Args)]
pub(super) struct ElectArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a command while this process leads an election, and never longer
    ///
    /// Campaigns, runs CMD once it leads, and resigns when CMD has ended. If the leadership is lost, or cannot be renewed in
    /// time, CMD is ended before the cluster can give it to another candidate: TERM first, then KILL. That also holds when
    /// this process is stopped or killed. `--wait forever` makes a stand-by that takes over when the leader is gone.
    ///
    /// CMD gets its arguments, streams, signals and environment as from `holdfast lock run`, and the election's name in
    /// HOLDFAST_ELECTION instead of HOLDFAST_LOCK.
    Run(RunArgs),
}

/// Runs the command.
///
/// # Errors
/// [`Fatal`] says what failed, where, and what to do.
pub(super) async fn run(args: ElectArgs, target: &Target) -> Result<ExitCode, Fatal> {
    match args.command {
        Command::Run(args) => lock_run::run(args, ContestKind::Election, target).await,
    }
}
