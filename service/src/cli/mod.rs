//! The commands of the binary.
//!
//! ```text
//!   dev, serve           run nodes in this process
//!   lock, config,        ask a cluster over the client, by the global flags:  target
//!   session, namespace,  what they print: output, progress, duration; how they fail: failure
//!   cluster
//!   man, completions     tell about the command line itself:  manual, formats
//! ```

mod dev;
mod serve;

mod cluster;
mod config;
mod elect;
mod lock;
mod lock_run;
mod namespace;
mod session;

mod target;

mod manual;

mod banner;
mod duration;
mod failure;
mod formats;
mod membership;
mod output;
mod pages;
mod progress;

use std::process::{ExitCode, Termination};
use std::time::Duration;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::cluster::ClusterArgs;
use crate::cli::config::ConfigArgs;
use crate::cli::dev::DevArgs;
use crate::cli::elect::ElectArgs;
use crate::cli::lock::LockArgs;
use crate::cli::manual::{CompletionsArgs, ManArgs};
use crate::cli::namespace::NamespaceArgs;
use crate::cli::session::SessionArgs;
use crate::cli::target::{GlobalArgs, Target};
use crate::config::ServeArgs;
use crate::exit::{Ending, Fatal};

/// A distributed lock and config service.
///
/// Locks with fencing tokens and configuration values over REST, kept by a cluster
/// of nodes that loses nothing when a minority of them is lost.
///
/// `holdfast dev` runs a cluster to try the other commands with.
#[derive(Debug, Parser)]
#[command(
    name = "holdfast",
    version,
    long_version = formats::version_and_formats(),
    verbatim_doc_comment,
    after_long_help = failure::exit_codes()
)]
struct Cli {
    #[command(flatten)]
    globals: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a command under a lock, and look at locks, at who holds them and who waits
    Lock(LockArgs),
    /// Read, write and watch values under keys, and go back to what they were
    Config(ConfigArgs),
    /// Run a command while leading an election, and look at who leads
    Elect(ElectArgs),
    /// Look at the sessions that own locks, and end one
    Session(SessionArgs),
    /// List, create and delete namespaces
    Namespace(NamespaceArgs),
    /// Form a cluster of running nodes, look at it, and change who belongs to it
    Cluster(ClusterArgs),
    /// Try Holdfast: run a whole cluster in one process, and print what to send it
    #[command(after_help = "Examples:
  holdfast dev
  holdfast dev --nodes 1 --data-dir .holdfast")]
    Dev(DevArgs),
    /// Run one node until it is told to stop
    #[command(after_help = "Example:
  holdfast serve --name n1 --data-dir /var/lib/holdfast --api-addr 10.0.0.1:7700 --peer-addr 10.0.0.1:7701")]
    Serve(Box<ServeArgs>),
    /// Print what makes a shell complete commands and flags
    Completions(CompletionsArgs),
    /// Print a manual page, or write all of them
    Man(ManArgs),
}

/// Commands that ask no cluster: a global flag after or before one of them is a mistake.
const LOCAL_COMMANDS: [&str; 4] = ["dev", "serve", "completions", "man"];
/// Commands that work on the whole cluster: they take a namespace like all others, so that an alias may name one, and
/// their help leaves it out.
const CLUSTER_WIDE_COMMANDS: [&str; 3] = ["session", "namespace", "cluster"];

/// How long blocking work may take after everything else has ended.
const DISK_PATIENCE: Duration = Duration::from_secs(10);

/// Runs the command that the arguments name.
#[must_use]
pub fn run() -> ExitCode {
    if let Some(exit) = lock_run::run_hidden() {
        return exit;
    }
    let command = command();
    let matches = command.clone().get_matches();
    refuse_unread_globals(command, &matches);
    let Cli { globals, command } = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match command {
        Command::Completions(args) => finish(manual::completions(&args, Cli::command())),
        Command::Man(args) => finish(manual::man(&args, self::command())),
        Command::Lock(args) => ask(globals, async |target| lock::run(args, &target).await),
        Command::Config(args) => ask(globals, async |target| config::run(args, &target).await),
        Command::Elect(args) => ask(globals, async |target| elect::run(args, &target).await),
        Command::Session(args) => ask(globals, async |target| session::run(args, &target).await),
        Command::Namespace(args) => ask(globals, async |target| namespace::run(args, &target).await),
        Command::Cluster(args) => ask(globals, async |target| cluster::run(args, target).await),
        Command::Dev(args) => serve_until_end(dev::run(args), explain),
        Command::Serve(args) => serve_until_end(serve::run(*args), Fatal::report),
    }
}

fn runtime() -> Result<Runtime, Fatal> {
    let built = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    built.map_err(|error| Fatal::new(Ending::ConsensusStopped, format!("cannot start threads: {error}")))
}

/// The exit code of a command that has ended. One that has more to say than "done" gives a code itself.
fn finish<T: Termination>(outcome: Result<T, Fatal>) -> ExitCode {
    outcome.map_or_else(|fatal| explain(&fatal), T::report)
}

/// Runs a command that asks a cluster.
fn ask<T: Termination>(
    globals: GlobalArgs,
    command: impl AsyncFnOnce(Target) -> Result<T, Fatal>,
) -> ExitCode {
    finish(runtime().and_then(|runtime| {
        let outcome = Target::of(globals).and_then(|target| runtime.block_on(Box::pin(command(target))));
        // Nothing that is left of it is worth waiting for, and a read of the terminal would never end.
        runtime.shutdown_background();
        outcome
    }))
}

/// Runs a command that has databases open.
fn serve_until_end(
    command: impl Future<Output = Result<(), Fatal>>,
    tell: impl FnOnce(&Fatal) -> ExitCode,
) -> ExitCode {
    let outcome = runtime().and_then(|runtime| {
        let outcome = runtime.block_on(Box::pin(command));
        // Work on the databases that is under way ends before the process does: RocksDB does not survive its own end.
        runtime.shutdown_timeout(DISK_PATIENCE);
        outcome
    });
    outcome.map_or_else(|fatal| tell(&fatal), |()| ExitCode::SUCCESS)
}

/// The whole command line as clap parses it.
fn command() -> clap::Command {
    let command = Cli::command();
    let globals: Vec<Arg> = command.get_arguments().filter(|arg| arg.is_global_set()).cloned().collect();
    // A flag that a command has itself is not taken from above: so this one is hidden there, and still read.
    let hide = |command: clap::Command, name: &str, hidden: &dyn Fn(&Arg) -> bool| {
        let hidden: Vec<Arg> =
            globals.iter().filter(|arg| hidden(arg)).map(|arg| arg.clone().hide(true)).collect();
        command.mut_subcommand(name, |subcommand| subcommand.args(hidden))
    };
    let command = LOCAL_COMMANDS.iter().fold(command, |command, name| hide(command, name, &|_| true));
    CLUSTER_WIDE_COMMANDS
        .iter()
        .fold(command, |command, name| hide(command, name, &|arg| arg.get_id() == "namespace"))
}

/// Ends the process if a global flag is given to a command that asks no cluster.
fn refuse_unread_globals(mut command: clap::Command, matches: &ArgMatches) {
    let Some((name, given)) = matches.subcommand().filter(|(name, _)| LOCAL_COMMANDS.contains(name)) else {
        return;
    };
    let globals: Vec<Arg> = command.get_arguments().filter(|arg| arg.is_global_set()).cloned().collect();
    let unread = globals
        .iter()
        .find(|arg| given.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine));
    if let Some(arg) = unread {
        let flag = arg.get_long().unwrap_or_else(|| arg.get_id().as_str());
        command
            .error(
                ErrorKind::ArgumentConflict,
                format!("`holdfast {name}` asks no cluster, so it takes no --{flag}"),
            )
            .exit();
    }
}

/// Says to the person at the terminal why a command failed.
fn explain(fatal: &Fatal) -> ExitCode {
    if fatal.ending != Ending::ReaderGone {
        output::complaint(&format!("error: {fatal}"));
    }
    ExitCode::from(fatal.ending.code())
}

/// The signals to stop: Ctrl-C, or SIGTERM as Kubernetes sends it. From its making on, a signal no longer kills the
/// process but waits to be asked for.
pub(crate) struct StopSignal {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignal {
    /// Catches the signals.
    ///
    /// # Errors
    /// [`Fatal`] when signals cannot be caught.
    pub(crate) fn catch() -> Result<Self, Fatal> {
        let failed =
            |error: std::io::Error| Fatal::new(Ending::Usage, format!("cannot catch signals: {error}"));
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
        })
    }

    /// Waits until one has come.
    pub(crate) async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::command;

    /// Every command under its full name.
    fn all(command: &clap::Command, name: String) -> Vec<(String, clap::Command)> {
        let mut found = vec![(name.clone(), command.clone())];
        for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
            found.extend(all(subcommand, format!("{name} {}", subcommand.get_name())));
        }
        found
    }

    fn built() -> clap::Command {
        let mut command = command();
        command.build();
        command
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_command_and_every_flag_has_a_help_text() {
        for (name, command) in all(&built(), "holdfast".to_owned()) {
            assert!(command.get_about().is_some(), "{name} has none");
            for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                assert!(arg.get_help().is_some(), "{} of {name} has none", arg.get_id());
            }
        }
    }

    #[test]
    fn every_command_that_does_something_shows_an_example_of_itself() {
        for (name, command) in all(&built(), "holdfast".to_owned()) {
            if !command.has_subcommands() {
                let examples = command.get_after_long_help().or_else(|| command.get_after_help());
                let examples = examples.map(ToString::to_string).unwrap_or_default();
                assert!(examples.contains(&name), "{name}: {examples}");
            }
        }
    }

    #[test]
    fn help_fits_a_terminal() {
        for (name, mut command) in all(&built(), "holdfast".to_owned()) {
            let help = command.render_long_help().to_string();
            let longest = help.lines().max_by_key(|line| line.chars().count()).unwrap_or_default();
            assert!(longest.chars().count() <= 110, "{name}: {longest}");
        }
    }

    #[test]
    fn global_flags_are_taken_before_and_after_every_command_that_asks_a_cluster() {
        for line in [
            "holdfast -n a --endpoint b -o yaml lock get x",
            "holdfast lock -n a --endpoint b get x -o yaml",
            "holdfast lock get x -n a --endpoint b -o yaml",
            "holdfast -n a session list -o json",
        ] {
            let parsed = command().try_get_matches_from(line.split(' '));
            assert!(parsed.is_ok(), "{line}: {:?}", parsed.err());
        }
    }
}
