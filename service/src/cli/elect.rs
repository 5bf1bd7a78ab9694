//! `holdfast elect`: run a command while this process leads an election, and see who leads one.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use holdfast_api::claims::ContestKind;
use holdfast_api::client::{ClientError, Watch, WatchItem};
use holdfast_api::elections::{ElectionView, Published};
use holdfast_api::locks::HolderView;
use holdfast_api::query::{EventsQuery, Initial, ReadQuery};
use holdfast_api::watch::LockChange;

use crate::cli::lock_run::{self, RunArgs, ShareArgs};
use crate::cli::target::Target;
use crate::cli::{StopSignal, duration, output};
use crate::exit::{Ending, Fatal};

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
    /// Campaigns, runs CMD once it leads, and resigns when CMD has ended. If the leadership
    /// is lost, or cannot be renewed in time, CMD is ended before the cluster can give it to
    /// another candidate: TERM first, then KILL. That also holds when this process is stopped
    /// or killed. `--wait forever` makes a stand-by that takes over when the leader is gone.
    ///
    /// CMD gets its arguments, streams, signals and environment as from `holdfast lock run`,
    /// and the election's name in HOLDFAST_ELECTION instead of HOLDFAST_LOCK.
    #[command(
        verbatim_doc_comment,
        after_long_help = lock_run::notes(
            "  holdfast elect run scheduler --wait forever --label \"$HOSTNAME\" -- ./scheduler"
        )
    )]
    Run(RunArgs),
    /// Show who leads an election
    ///
    /// Ends with 3 when nobody does. With --watch it goes on: it prints who leads, and again
    /// whenever that changes, until it is stopped (Ctrl-C). A leader that was gone again
    /// before it could be asked about is left out.
    #[command(
        verbatim_doc_comment,
        after_help = "Examples:
  holdfast elect leader scheduler
  holdfast elect leader scheduler -o json | jq -r .leader.label
  holdfast elect leader scheduler --watch"
    )]
    Leader {
        /// The election
        #[arg(value_name = "NAME")]
        name: String,
        /// Go on, and print every change
        #[arg(long)]
        watch: bool,
    },
    /// Publish what others are to know of the leader, such as its address
    ///
    /// Only the leader may: the token is that of its leadership, which CMD of `holdfast elect
    /// run` has in its environment. The value is shown with the leader, and is gone when the
    /// leadership ends.
    #[command(
        verbatim_doc_comment,
        after_help = "Examples:
  holdfast elect run scheduler -- sh -c 'holdfast elect publish scheduler 10.0.0.7:80; ./serve'
  holdfast elect publish scheduler \"$POD_IP:80\" --token 42"
    )]
    Publish {
        /// The election
        #[arg(value_name = "NAME")]
        name: String,
        /// The value
        #[arg(value_name = "VALUE")]
        value: String,
        /// The leader's fencing token
        #[arg(long, value_name = "N", env = "HOLDFAST_FENCING_TOKEN")]
        token: u64,
        /// The media type of the value
        #[arg(long, value_name = "TYPE", default_value = "text/plain; charset=utf-8")]
        content_type: String,
    },
}

/// Runs the command.
///
/// # Errors
/// [`Fatal`] says what failed, where, and what to do.
pub(super) async fn run(args: ElectArgs, target: &Target) -> Result<ExitCode, Fatal> {
    match args.command {
        Command::Run(args) => lock_run::run(args, ShareArgs::default(), ContestKind::Election, target).await,
        Command::Leader { name, watch: false } => leader(target, &name).await.map(|()| ExitCode::SUCCESS),
        Command::Leader { name, watch: true } => follow(target, &name).await.map(|()| ExitCode::SUCCESS),
        Command::Publish { name, value, token, content_type } => {
            let published = target.client().publish(&target.namespace, &name, token, value, &content_type);
            let what = format!("publish a value of election {name} of namespace {}", target.namespace);
            published.await.map_err(|error| target.failed(&what, &error))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn leader(target: &Target, name: &str) -> Result<(), Fatal> {
    let view =
        look(target, name, None).await.map_err(|error| target.failed(&look_at(target, name), &error))?;
    output::answer(target.output, &view, |view| match &view.leader {
        Some(leader) => {
            output::table(&["LEADER", "TOKEN", "HELD", "SESSION", "CANDIDATE"], &[row(leader)])?;
            view.published.as_ref().map_or(Ok(()), |published| {
                output::line(&format!("\npublished  {}", printable_value(published)))
            })
        }
        None => Ok(()),
    })?;
    if view.leader.is_some() {
        return Ok(());
    }
    let why = match (view.queue.len(), view.delay_remaining_ms) {
        (_, Some(delay)) => format!("nobody leads; the next can lead in {}", duration::brief(delay)),
        (0, None) => "nobody leads, and nobody wants to".to_owned(),
        (waiting, None) => format!("nobody leads; {waiting} wait"),
    };
    let advice = "--watch waits for a leader; `holdfast elect run NAME -- CMD` is one";
    Err(target.refused(Ending::NotFound, &look_at(target, name), &why, advice))
}

/// A published value for people.
fn printable_value(published: &Published) -> String {
    match std::str::from_utf8(&published.value) {
        Ok(text) => output::printable(text),
        Err(_) => {
            format!("{} bytes of {}", published.value.len(), output::printable(&published.content_type))
        }
    }
}

fn row(leader: &HolderView) -> Vec<String> {
    vec![
        leader.known_as().to_owned(),
        leader.fencing_token.to_string(),
        duration::brief(leader.held_ms),
        leader.session.clone(),
        leader.claim.clone(),
    ]
}

fn look_at(target: &Target, name: &str) -> String {
    format!("look at election {name} of namespace {}", target.namespace)
}

/// The election, as it is at this revision or later.
async fn look(target: &Target, name: &str, min_revision: Option<u64>) -> Result<ElectionView, ClientError> {
    let query = ReadQuery { min_revision, ..ReadQuery::default() };
    Ok(target.client().get_election(&target.namespace, name, &query).await?.value)
}

/// Prints who leads whenever that has changed, until this process is told to stop.
async fn follow(target: &Target, name: &str) -> Result<(), Fatal> {
    let query = EventsQuery { initial: Some(Initial::State), ..EventsQuery::default() };
    let mut watch = target.client().watch_election(&target.namespace, name, &query);
    let mut stop = StopSignal::catch()?;
    let mut shown = None;
    loop {
        let view = tokio::select! {
            biased;
            () = stop.received() => return Ok(()),
            view = Box::pin(next_view(target, name, &mut watch)) => view?,
        };
        let token = view.leader.as_ref().map(|leader| leader.fencing_token);
        let now = (token, view.published.as_ref().map(|published| published.revision));
        if shown != Some(now) {
            output::event(target.output, &view, |view| match &view.leader {
                Some(leader) => {
                    let who = output::printable(leader.known_as());
                    let value = view.published.as_ref().map(printable_value);
                    let value = value.map_or_else(String::new, |value| format!(", published {value}"));
                    format!("{who} leads, token {}, session {}{value}", leader.fencing_token, leader.session)
                }
                None => "nobody leads".to_owned(),
            })?;
            shown = Some(now);
        }
    }
}

/// The election after the next event: an event names claims, and people want to see labels.
async fn next_view(
    target: &Target,
    name: &str,
    watch: &mut Watch<LockChange>,
) -> Result<ElectionView, Fatal> {
    let revision = loop {
        match watch.next().await {
            Ok(WatchItem::State(state)) => break state.revision,
            Ok(WatchItem::Change(event)) => break event.revision,
            Ok(WatchItem::Progress(_)) => {}
            Err(error) => return Err(target.watch_failed(&look_at(target, name), error)),
        }
    };
    loop {
        match look(target, name, Some(revision)).await {
            Ok(view) => return Ok(view),
            // The watch goes on through a time without a majority, and so does this.
            Err(error) if error.is_retryable() => {}
            Err(error) => return Err(target.failed(&look_at(target, name), &error)),
        }
    }
}
