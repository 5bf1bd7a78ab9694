//! The commands of the binary.

mod banner;
mod cluster;
mod dev;
mod membership;
mod output;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::cluster::ClusterArgs;
use crate::cli::dev::DevArgs;
use crate::config::ServeArgs;
use crate::exit::{Ending, Fatal};

/// A distributed lock and config service.
///
/// Locks with fencing tokens and configuration values over REST, kept by a cluster of nodes that loses nothing when a
/// minority of them is lost.
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Try Holdfast: run a whole cluster in one process, and print what to send it
    Dev(DevArgs),
    /// Run one node until it is told to stop
    Serve(Box<ServeArgs>),
    /// Form a cluster of running nodes, look at it, and change who belongs to it
    Cluster(ClusterArgs),
}

/// Runs the command that the arguments name.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return Fatal::new(Ending::ConsensusStopped, format!("cannot start threads: {error}")).report();
        }
    };
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Dev(args) => Box::pin(dev::run(args)).await.map_err(|fatal| explain(&fatal)),
            Command::Serve(args) => Box::pin(serve::run(*args)).await.map_err(|fatal| fatal.report()),
            Command::Cluster(args) => Box::pin(cluster::run(args)).await.map_err(|fatal| explain(&fatal)),
        }
    });
    // Blocking work that is left is reading files; it must not hold the process.
    runtime.shutdown_background();
    outcome.err().unwrap_or(ExitCode::SUCCESS)
}

/// Says to the person at the terminal why a command failed.
fn explain(fatal: &Fatal) -> ExitCode {
    output::complaint(&format!("error: {fatal}"));
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
