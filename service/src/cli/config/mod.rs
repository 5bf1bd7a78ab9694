//! `holdfast config`: values under keys, with their past, over the client alone.
//!
//! ```text
//!   item     get, put, rm, list          past     history, diff, rollback        edit     in the user's editor
//!   watch    changes as they happen      archive  what export writes and import reads
//!   value    what values look like to people
//! ```

mod archive;
mod edit;
mod export;
mod import;
mod item;
mod past;
mod value;
mod watch;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::cli::target::Target;
use crate::exit::Fatal;

pub(super) use archive::VERSION as EXPORT_VERSION;

/// The flags of `holdfast config`.
#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the value of a key, byte for byte
    ///
    /// No line end is added. With -o json or -o yaml the whole item is printed: its
    /// value, its media type and its revisions.
    #[command(
        verbatim_doc_comment,
        after_help = "Examples:
  holdfast config get app/settings.json
  holdfast config get app/settings.json --at 812
  holdfast config get app/settings.json -o json | jq .mod_revision"
    )]
    Get(item::GetArgs),
    /// Write the value of a key
    ///
    /// Each put says everything anew: without --managed-by nobody manages the key, and
    /// without --session it is permanent.
    #[command(
        verbatim_doc_comment,
        override_usage = "holdfast config put [OPTIONS] <KEY> <VALUE|--file <FILE>>",
        after_help = "Examples:
  holdfast config put app/color blue
  holdfast config put app/settings.json -f settings.json
  generate | holdfast config put app/settings.json -
  holdfast config put app/color red --if-match 812
  holdfast config put jobs/result done --guard lock=jobs/nightly,token=42"
    )]
    Put(item::PutArgs),
    /// Change a value in your editor
    ///
    /// $VISUAL or $EDITOR opens the value; what is saved is written, if nobody else has
    /// written the key meanwhile. If somebody has, your text is kept in a file. A key
    /// that does not exist is created.
    #[command(
        verbatim_doc_comment,
        after_help = "Examples:
  holdfast config edit app/settings.json
  EDITOR='code --wait' holdfast config edit app/settings.json"
    )]
    Edit(edit::EditArgs),
    /// Delete a key; its history stays until it is compacted
    ///
    /// A key that does not exist is no failure, unless --if-match names a revision.
    #[command(
        verbatim_doc_comment,
        after_help = "Examples:
  holdfast config rm app/color
  holdfast config rm app/color --if-match 812"
    )]
    Rm(item::RemoveArgs),
    /// List keys
    ///
    /// All of them are read at one revision.
    #[command(
        verbatim_doc_comment,
        after_help = "Examples:
  holdfast config list
  holdfast config list app/ --values
  holdfast config list app/ --at 812 -o json | jq -r '.items[].key'"
    )]
    List(item::ListArgs),
    /// Show the versions of a key, newest first
    #[command(after_help = "Examples:
  holdfast config history app/settings.json
  holdfast config history app/settings.json --limit 1 -o json")]
    History(past::HistoryArgs),
    /// Show what differs between two versions of a key
    ///
    /// Ends with 0 when both are the same, and with 1 when they differ.
    #[command(
        verbatim_doc_comment,
        after_help = "Examples:
  holdfast config diff app/settings.json 812
  holdfast config diff app/settings.json 812 840"
    )]
    Diff(past::DiffArgs),
    /// Write the value that a key had at an earlier revision
    ///
    /// It becomes a new version; nothing of the history is lost. A deleted key is created
    /// again.
    #[command(
        verbatim_doc_comment,
        after_help = "Examples:
  holdfast config history app/settings.json
  holdfast config rollback app/settings.json --to 812"
    )]
    Rollback(past::RollbackArgs),
    /// Print changes as they happen, or run a command for each
    ///
    /// The watch goes on through restarts of nodes and changes of leader: each change
    /// comes once, in order, none is missed. It runs until it is stopped (Ctrl-C).
    ///
    /// With --exec a command runs for each change, one after the other, without a shell.
    /// It gets the value on standard input and in its environment
    ///   HOLDFAST_KEY        the key
    ///   HOLDFAST_OP         put, delete or expire
    ///   HOLDFAST_REVISION   the revision of the change
    ///   HOLDFAST_NAMESPACE  the namespace
    /// A command that fails is reported and does not stop the watch.
    #[command(
        verbatim_doc_comment,
        after_help = "Examples:
  holdfast config watch
  holdfast config watch app/ jobs/ -o json
  holdfast config watch app/ --initial --exec -- ./reload.sh --quiet"
    )]
    Watch(watch::WatchArgs),
    /// Write keys and values to standard output, a JSON document a line
    ///
    /// All is read at one revision. The first line says what follows; -o changes nothing.
    #[command(
        verbatim_doc_comment,
        after_help = "Examples:
  holdfast config export > config.ndjson
  holdfast config export app/ --at 812 | gzip > app.ndjson.gz
  holdfast config export -n staging | holdfast config import -n production --dry-run"
    )]
    Export(export::ExportArgs),
    /// Write what an export has and the namespace has not
    ///
    /// The file is read and checked whole before anything is written; it goes into the
    /// namespace of -n, wherever it came from. Only keys whose value, media type, manager
    /// or owner differ are written, and none that somebody else writes meanwhile: then the
    /// import ends, and the same import again does the rest.
    ///
    /// Keys that belonged to a session are left out, because that session is not there;
    /// --ephemeral permanent makes permanent keys of them. --prune deletes the keys under
    /// the exported prefix that the file does not have, except those of live sessions.
    #[command(
        verbatim_doc_comment,
        after_help = "Examples:
  holdfast config import config.ndjson --dry-run
  holdfast config import config.ndjson
  gunzip -c app.ndjson.gz | holdfast config import - -n staging --prune"
    )]
    Import(import::ImportArgs),
}

/// Runs the command.
///
/// # Errors
/// [`Fatal`] says what failed, where, and what to do.
pub(super) async fn run(args: ConfigArgs, target: &Target) -> Result<ExitCode, Fatal> {
    match args.command {
        Command::Get(args) => item::get(args, target).await?,
        Command::Put(args) => item::put(args, target).await?,
        Command::Edit(args) => edit::edit(args, target).await?,
        Command::Rm(args) => item::remove(args, target).await?,
        Command::List(args) => item::list(args, target).await?,
        Command::History(args) => past::history(args, target).await?,
        Command::Diff(args) => return past::diff(args, target).await,
        Command::Rollback(args) => past::rollback(args, target).await?,
        Command::Watch(args) => watch::watch(args, target).await?,
        Command::Export(args) => export::export(args, target).await?,
        Command::Import(args) => import::import(args, target).await?,
    }
    Ok(ExitCode::SUCCESS)
}
