//! The commands of the binary.
//!
//! ```text
//!   dev, serve           run nodes in this process
//!   lock, session,       ask a cluster over the client, by the global flags:  target
//!   namespace, cluster   what they print: output, progress, duration; how they fail: failure
//! ```

mod dev;
mod serve;

mod cluster;
mod elect;
mod lock;
mod lock_run;
mod namespace;
mod session;

mod target;

mod banner;
mod duration;
mod failure;
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
use crate::cli::dev::DevArgs;
use crate::cli::elect::ElectArgs;
use crate::cli::lock::LockArgs;
use crate::cli::namespace::NamespaceArgs;
use crate::cli::session::SessionArgs;
use crate::cli::target::{GlobalArgs, Target};
use crate::config::ServeArgs;
use crate::exit::{Ending, Fatal};

/// A distributed lock and config service.
///
/// Locks with fencing tokens and configuration values over REST, kept by a cluster of nodes that loses nothing when a
/// minority of them is lost.
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, about, max_term_width = 100, after_long_help = failure::exit_codes())]
struct Cli {
    #[command(flatten)]
    globals: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a command under a lock, and look at locks and at who waits for them
    Lock(LockArgs),
    /// Run a command while leading an election
    Elect(ElectArgs),
    /// Look at the sessions that own locks, and end one
    Session(SessionArgs),
    /// List, create and delete namespaces
    Namespace(NamespaceArgs),
    /// Form a cluster of running nodes, look at it, and change who belongs to it
    Cluster(ClusterArgs),
    /// Try Holdfast: run a whole cluster in one process, and print what to send it
    Dev(DevArgs),
    /// Run one node until it is told to stop
    Serve(Box<ServeArgs>),
}

/// Commands that ask no cluster: a global flag after or before one of them is a mistake.
const LOCAL_COMMANDS: [&str; 2] = ["dev", "serve"];
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
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return Fatal::new(Ending::ConsensusStopped, format!("cannot start threads: {error}")).report();
        }
    };
    match command {
        Command::Lock(args) => ask(runtime, globals, async |target| lock::run(args, &target).await),
        Command::Elect(args) => ask(runtime, globals, async |target| elect::run(args, &target).await),
        Command::Session(args) => ask(runtime, globals, async |target| session::run(args, &target).await),
        Command::Namespace(args) => ask(runtime, globals, async |target| namespace::run(args, &target).await),
        Command::Cluster(args) => ask(runtime, globals, async |target| cluster::run(args, target).await),
        Command::Dev(args) => serve_until_end(runtime, dev::run(args), explain),
        Command::Serve(args) => serve_until_end(runtime, serve::run(*args), Fatal::report),
    }
}

/// Runs a command that asks a cluster. One that has more to say than "done" gives an exit code.
fn ask<T: Termination>(
    runtime: Runtime,
    globals: GlobalArgs,
    command: impl AsyncFnOnce(Target) -> Result<T, Fatal>,
) -> ExitCode {
    let outcome = Target::of(globals).and_then(|target| runtime.block_on(Box::pin(command(target))));
    // Nothing that is left of a client command is worth waiting for, and a read of the terminal would never end.
    runtime.shutdown_background();
    outcome.map_or_else(|fatal| explain(&fatal), T::report)
}

/// Runs a command that has databases open.
fn serve_until_end(
    runtime: Runtime,
    command: impl Future<Output = Result<(), Fatal>>,
    tell: impl FnOnce(&Fatal) -> ExitCode,
) -> ExitCode {
    let outcome = runtime.block_on(Box::pin(command));
    // Work on the databases that is still under way ends before the process does: RocksDB does not survive its own end.
    runtime.shutdown_timeout(DISK_PATIENCE);
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
