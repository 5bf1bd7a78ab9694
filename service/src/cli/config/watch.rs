//! `holdfast config watch`: changes as they happen, on standard output or as input of a command.

use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use holdfast_api::client::{ClientError, Watch, WatchError, WatchItem};
use holdfast_api::query::{Initial, WatchQuery};
use holdfast_api::watch::{Change, ChangeEvent, StateEvent};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use crate::cli::StopSignal;
use crate::cli::config::value::preview;
use crate::cli::output::{self, printable};
use crate::cli::target::Target;
use crate::exit::{Ending, Fatal};

/// How long the stream is gone before people are told.
const TROUBLE_TOLD_AFTER: Duration = Duration::from_secs(3);

/// The flags of `holdfast config watch`.
#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    /// Only keys that begin with one of these
    #[arg(value_name = "PREFIX")]
    prefix: Vec<String>,
    /// The first revision that is wanted [default: what comes after the command began]
    #[arg(long, value_name = "REV", conflicts_with = "initial")]
    from: Option<u64>,
    /// Begin with the keys that are there
    #[arg(long)]
    initial: bool,
    /// Run the command after -- for each change instead of printing it
    #[arg(long, requires = "command")]
    exec: bool,
    /// End with the first command that fails
    #[arg(long, requires = "exec")]
    exit_on_error: bool,
    /// The command and its arguments
    #[arg(last = true, requires = "exec", value_name = "CMD")]
    command: Vec<String>,
}

/// `holdfast config watch`.
pub(super) async fn watch(args: WatchArgs, target: &Target) -> Result<(), Fatal> {
    let WatchArgs { prefix, from, initial, exec: _, exit_on_error, command } = args;
    let initial = initial.then_some(Initial::State);
    let query = WatchQuery { prefix, from_revision: from, initial, consistency: None };
    let mut watch = target.client().watch_config(&target.namespace, &query);
    let mut stop = StopSignal::catch()?;
    let handler = Handler { namespace: target.namespace.clone(), command, exit_on_error };
    while let Some(item) = next(&mut watch, &mut stop, target).await? {
        if handler.command.is_empty() {
            print(target, item)?;
        } else if handler.handle(item, &mut stop).await? == Went::Stopped {
            return Ok(());
        }
    }
    Ok(())
}

/// The next item, or none when the command is to stop. Says when the stream is gone for long.
async fn next(
    watch: &mut Watch<Change>,
    stop: &mut StopSignal,
    target: &Target,
) -> Result<Option<WatchItem<Change>>, Fatal> {
    let mut told = false;
    loop {
        tokio::select! {
            biased;
            () = stop.received() => return Ok(None),
            item = Box::pin(watch.next()) => {
                if told && item.is_ok() {
                    output::complaint("connected again, nothing is missed");
                }
                return item.map(Some).map_err(|error| failed(target, error));
            }
            () = tokio::time::sleep(TROUBLE_TOLD_AFTER), if !told => {
                if let Some(trouble) = watch.trouble() {
                    output::complaint(&format!("no connection, trying on: {trouble}"));
                    told = true;
                }
            }
        }
    }
}

fn failed(target: &Target, error: WatchError) -> Fatal {
    let what = format!("watch the keys of namespace {}", target.namespace);
    match error {
        WatchError::Compacted(problem) => {
            let oldest = problem
                .revision
                .map(|revision| format!("--from {revision} begins with the oldest change that is left, "));
            let mut fatal = target.failed(&what, &ClientError::Problem(problem));
            let advice = format!("\n  next:  {}--initial with what is there", oldest.unwrap_or_default());
            fatal.reason.push_str(&advice);
            fatal
        }
        WatchError::HistoryChanged(problem) | WatchError::Gone(problem) => {
            target.failed(&what, &ClientError::Problem(problem))
        }
        WatchError::Ended => Fatal::new(Ending::Refused, format!("cannot {what}: {error}")),
        WatchError::Failed(error) => target.failed(&what, &error),
    }
}

fn print(target: &Target, item: WatchItem<Change>) -> Result<(), Fatal> {
    match item {
        WatchItem::State(state) if state.items.is_empty() && target.output == output::Format::Table => Ok(()),
        WatchItem::State(state) => output::event(target.output, &state, |state: &StateEvent| {
            let lines = state
                .items
                .iter()
                .map(|item| line(item.mod_revision, "state", &item.key, item.value.as_deref()));
            lines.collect::<Vec<_>>().join("\n")
        }),
        WatchItem::Change(event) => output::event(target.output, &event, |event: &ChangeEvent<Change>| {
            let lines = event
                .changes
                .iter()
                .map(|change| line(event.revision, change.op(), change.key(), value_of(change)));
            lines.collect::<Vec<_>>().join("\n")
        }),
        WatchItem::Progress(_) => Ok(()),
    }
}

fn value_of(change: &Change) -> Option<&[u8]> {
    match change {
        Change::Put(item) => item.value.as_deref(),
        Change::Delete(_) | Change::Expire(_) => None,
    }
}

fn line(revision: u64, op: &str, key: &str, value: Option<&[u8]>) -> String {
    let value = value.map(preview).unwrap_or_default();
    format!("{revision:>8}  {op:<6}  {}  {value}", printable(key)).trim_end().to_owned()
}

/// Whether to go on after a change was handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Went {
    On,
    Stopped,
}

/// The command that runs for each change.
struct Handler {
    namespace: String,
    command: Vec<String>,
    exit_on_error: bool,
}

/// What a command is told.
struct Occasion<'a> {
    key: &'a str,
    op: &'a str,
    revision: u64,
    value: &'a [u8],
}

impl Handler {
    /// Runs the command once for each change of an item, in their order; for each key of a state as if it was put.
    async fn handle(&self, item: WatchItem<Change>, stop: &mut StopSignal) -> Result<Went, Fatal> {
        match item {
            WatchItem::State(state) => {
                for item in &state.items {
                    let value = item.value.as_deref().unwrap_or_default();
                    let occasion = Occasion { key: &item.key, op: "put", revision: item.mod_revision, value };
                    if self.run(&occasion, stop).await? == Went::Stopped {
                        return Ok(Went::Stopped);
                    }
                }
            }
            WatchItem::Change(event) => {
                for change in &event.changes {
                    let value = value_of(change).unwrap_or_default();
                    let occasion =
                        Occasion { key: change.key(), op: change.op(), revision: event.revision, value };
                    if self.run(&occasion, stop).await? == Went::Stopped {
                        return Ok(Went::Stopped);
                    }
                }
            }
            WatchItem::Progress(_) => {}
        }
        Ok(Went::On)
    }

    async fn run(&self, occasion: &Occasion<'_>, stop: &mut StopSignal) -> Result<Went, Fatal> {
        let Occasion { key, op, revision, value } = occasion;
        let (program, arguments) = self.command.split_first().expect("a handler has a command");
        let child = Command::new(program)
            .args(arguments)
            .env("HOLDFAST_KEY", key)
            .env("HOLDFAST_OP", op)
            .env("HOLDFAST_REVISION", revision.to_string())
            .env("HOLDFAST_NAMESPACE", &self.namespace)
            .stdin(Stdio::piped())
            .spawn();
        let outcome = match child {
            Ok(mut child) => {
                let stdin = child.stdin.take().expect("standard input is piped");
                let feed = async {
                    let mut stdin = stdin;
                    // A command need not read what it is given.
                    let _ = stdin.write_all(value).await;
                    drop(stdin);
                    std::future::pending::<std::convert::Infallible>().await
                };
                tokio::select! {
                    biased;
                    status = child.wait() => status,
                    never = feed => match never {},
                    () = stop.received() => return end(child).await,
                }
            }
            Err(error) => Err(error),
        };
        let failure = match outcome {
            Ok(status) if status.success() => return Ok(Went::On),
            Ok(status) => format!("ended with {status}"),
            Err(error) => format!("could not be run: {error}"),
        };
        let told =
            format!("{} at {op} of {} in revision {revision}: {failure}", printable(program), printable(key));
        if self.exit_on_error {
            return Err(Fatal::new(Ending::Refused, told));
        }
        output::complaint(&told);
        Ok(Went::On)
    }
}

/// Asks a running command to end, and waits for it: no change is handled half when this program is told to stop.
async fn end(mut child: Child) -> Result<Went, Fatal> {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended at this moment.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    // How it ends does not matter: the person has asked for the end.
    let _ = child.wait().await;
    Ok(Went::Stopped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_one_line_that_cannot_drive_the_terminal() {
        assert_eq!(line(812, "put", "a", Some(b"blue\n")), "     812  put     a  blue");
        assert_eq!(line(812, "delete", "a", None), "     812  delete  a");
        assert_eq!(line(812, "put", "a\u{1b}", Some(b"b\x1b")), "     812  put     a\\u{1b}  b\\u{1b}");
    }
}
