//! The commands of the binary.

mod output;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::ServeArgs;
use crate::exit::{Ending, Fatal};

/// A distributed lock and config service.
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one node until it is told to stop
    Serve(Box<ServeArgs>),
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
            Command::Serve(args) => serve::run(*args).await,
        }
        .map_or_else(|fatal| fatal.report(), |()| ExitCode::SUCCESS)
    });
    // Blocking work that is left is reading files; it must not hold the process.
    runtime.shutdown_background();
    outcome
}

/// Waits for the signal to stop: Ctrl-C, or SIGTERM as Kubernetes sends it.
///
/// # Errors
/// [`Fatal`] when signals cannot be caught.
pub(crate) async fn stop_signal() -> Result<(), Fatal> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |error: std::io::Error| Fatal::new(Ending::Usage, format!("cannot catch signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
