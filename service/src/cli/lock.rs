//! `holdfast lock`: run a command under a lock, see who holds one and who waits, and take one away from its holder.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use holdfast_api::claims::{ClaimMode, ContestKind};
use holdfast_api::locks::{
    ForceReleaseRequest, HolderView, LockList, LockView, QUEUE_SHOWN_IN_LIST_MAX, QueuedView,
};
use holdfast_api::query::ReadQuery;

use crate::cli::lock_run::{self, RunArgs, ShareArgs};
use crate::cli::target::Target;
use crate::cli::{duration, output, pages};
use crate::exit::Fatal;

/// The flags of `holdfast lock`.
#[derive(Debug, Args)]
pub(super) struct LockArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a command while this process holds a lock, and never longer
    ///
    /// Waits for the lock, runs CMD, and lets go of the lock when CMD has ended. If the
    /// lock is lost, or cannot be renewed in time, CMD is ended before the cluster can give
    /// the lock to anybody else: TERM first, then KILL. That also holds when this process
    /// is stopped or killed.
    ///
    /// CMD is not run by a shell. It runs in a process group of its own, with this process'
    /// standard input, output and error, and gets the signals TERM, INT, HUP, QUIT, USR1,
    /// USR2, WINCH and TSTP that this process gets. When CMD has ended, what it left behind
    /// in its process group is killed. A program that changes its user, such as sudo, cannot
    /// be killed by another user: run `sudo holdfast lock run …` instead.
    ///
    /// CMD finds in its environment: HOLDFAST_LOCK, HOLDFAST_NAMESPACE,
    /// HOLDFAST_FENCING_TOKEN, HOLDFAST_SESSION, HOLDFAST_CLAIM, HOLDFAST_ENDPOINT. The
    /// fencing token grows with every grant: whatever CMD changes should refuse a smaller
    /// token than it has seen, because no program can promise that it is not delayed
    /// between a look and a write.
    #[command(
        verbatim_doc_comment,
        after_long_help = lock_run::notes(
            "  holdfast lock run nightly -- ./backup.sh
  holdfast lock run db/migrate --wait 10m --label \"$HOSTNAME\" -- ./migrate --all
  holdfast lock run reports --shared -- ./read-all
  holdfast lock run downloads --of 4 -- ./fetch
  holdfast lock run nightly --wait 0 -- sh -c './push --token \"$HOLDFAST_FENCING_TOKEN\"'"
        )
    )]
    Run {
        #[command(flatten)]
        args: RunArgs,
        #[command(flatten)]
        share: ShareArgs,
    },
    /// List the locks that are in use, or were recently
    ///
    /// HOLDER is the label of the claim, or the name or id of its session. QUEUE is how
    /// many wait; the list counts up to ten.
    #[command(
        verbatim_doc_comment,
        after_help = "Examples:
  holdfast lock list
  holdfast lock list jobs/ -n payments
  holdfast lock list -o json | jq -r '.items[].name'"
    )]
    List {
        /// Only those whose name begins with this
        #[arg(value_name = "PREFIX")]
        prefix: Option<String>,
    },
    /// Show one lock: who holds it, for how long, and who waits
    ///
    /// A lock that nobody has used is free, not absent.
    #[command(
        verbatim_doc_comment,
        after_help = "Examples:
  holdfast lock get jobs/nightly
  holdfast lock get jobs/nightly -o json | jq .holders[0].fencing_token"
    )]
    Get {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Take a lock away from its holder, who is not asked
    ///
    /// The holder may go on believing that it holds the lock until its next request.
    /// Only what checks the fencing token is safe from it.
    #[command(
        verbatim_doc_comment,
        after_help = "Examples:
  holdfast lock get jobs/nightly
  holdfast lock force-release jobs/nightly --token 42 --reason 'node 7 is gone for good'"
    )]
    ForceRelease {
        /// The lock
        #[arg(value_name = "NAME")]
        name: String,
        /// The holder's fencing token, so that a later holder is never hit; `holdfast lock get` shows it
        #[arg(long, value_name = "N")]
        token: u64,
        /// Why, for the record
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// Runs the command.
///
/// # Errors
/// [`Fatal`] says what failed, where, and what to do.
pub(super) async fn run(args: LockArgs, target: &Target) -> Result<ExitCode, Fatal> {
    match args.command {
        Command::Run { args, share } => return lock_run::run(args, share, ContestKind::Lock, target).await,
        Command::List { prefix } => list(target, prefix).await?,
        Command::Get { name } => get(target, &name).await?,
        Command::ForceRelease { name, token, reason } => force_release(target, &name, token, reason).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(target: &Target, prefix: Option<String>) -> Result<(), Fatal> {
    let namespace = &target.namespace;
    let list = pages::all(prefix, async |query| {
        let page = target.client().list_locks(namespace, &query).await;
        let what = format!("list the locks of namespace {namespace}");
        Ok(page.map_err(|error| target.failed(&what, &error))?.value)
    });
    output::answer(target.output, &list.await?, |list: &LockList| {
        let rows: Vec<Vec<String>> = list.items.iter().map(row).collect();
        output::table(&["NAME", "MODE", "HOLDER", "TOKEN", "HELD", "QUEUE"], &rows)
    })
}

fn row(lock: &LockView) -> Vec<String> {
    let none = || "-".to_owned();
    let first = lock.holders.first();
    let holder = match lock.holders.as_slice() {
        [] => none(),
        [only] => only.known_as().to_owned(),
        [first, more @ ..] => format!("{} and {} more", first.known_as(), more.len()),
    };
    vec![
        lock.name.clone(),
        lock.mode.map_or_else(none, |mode| mode.to_string()),
        holder,
        first.map_or_else(none, |holder| holder.fencing_token.to_string()),
        first.map_or_else(none, |holder| duration::brief(holder.held_ms)),
        queue_length(lock),
    ]
}

/// How many wait, as far as the list tells.
fn queue_length(lock: &LockView) -> String {
    let more = if lock.queue.len() < QUEUE_SHOWN_IN_LIST_MAX { "" } else { "+" };
    format!("{}{more}", lock.queue.len())
}

async fn get(target: &Target, name: &str) -> Result<(), Fatal> {
    let namespace = &target.namespace;
    let view = target.client().get_lock(namespace, name, &ReadQuery::default()).await;
    let what = format!("look at lock {name} of namespace {namespace}");
    let view = view.map_err(|error| target.failed(&what, &error))?.value;
    output::answer(target.output, &view, show)
}

/// How a claim shares its lock.
fn mode(mode: ClaimMode, permits: Option<u32>) -> String {
    match permits {
        Some(permits) => format!("{permits} {mode}"),
        None => mode.to_string(),
    }
}

fn show(lock: &LockView) -> Result<(), Fatal> {
    let state = match (lock.holders.is_empty(), lock.mode, lock.delay_remaining_ms) {
        (false, Some(ClaimMode::Permits), _) => {
            let count = |permits: Option<u32>| permits.map_or_else(|| "?".to_owned(), |n| n.to_string());
            format!("held, {} of {} permits", count(lock.permits), count(lock.of))
        }
        (false, Some(mode), _) => format!("held, {mode}"),
        (false, None, _) => "held".to_owned(),
        (true, _, Some(delay)) => format!("free, granted again in {}", duration::brief(delay)),
        (true, _, None) => "free".to_owned(),
    };
    output::line(&format!("lock        {}\nnamespace   {}", lock.name, lock.namespace))?;
    output::line(&format!("state       {state}\nlast token  {}", lock.last_token))?;
    if !lock.holders.is_empty() {
        output::line("")?;
        let row = |holder: &HolderView| {
            vec![
                holder.known_as().to_owned(),
                mode(holder.mode, holder.permits),
                holder.fencing_token.to_string(),
                duration::brief(holder.held_ms),
                holder.session.clone(),
                holder.claim.clone(),
            ]
        };
        let rows: Vec<Vec<String>> = lock.holders.iter().map(row).collect();
        output::table(&["HOLDER", "MODE", "TOKEN", "HELD", "SESSION", "CLAIM"], &rows)?;
    }
    if !lock.queue.is_empty() {
        output::line("")?;
        let row = |waiter: &QueuedView| {
            vec![
                waiter.position.to_string(),
                waiter.label.as_ref().unwrap_or(&waiter.session).clone(),
                mode(waiter.mode, waiter.permits),
                duration::brief(waiter.waiting_ms),
                waiter.session.clone(),
                waiter.claim.clone(),
            ]
        };
        let rows: Vec<Vec<String>> = lock.queue.iter().map(row).collect();
        output::table(&["QUEUE", "WAITER", "MODE", "WAITING", "SESSION", "CLAIM"], &rows)?;
    }
    Ok(())
}

async fn force_release(target: &Target, name: &str, token: u64, reason: String) -> Result<(), Fatal> {
    let request = ForceReleaseRequest { fencing_token: token, reason };
    let released = target.client().force_release(&target.namespace, name, &request).await;
    let what = format!("take lock {name} of namespace {} from the holder of token {token}", target.namespace);
    let released = released.map_err(|error| target.failed(&what, &error))?.value;
    output::answer(target.output, &released, |released| {
        output::line(&format!(
            "session {} no longer holds {name}: token {} ended at revision {}",
            released.session, released.fencing_token, released.revision
        ))
    })
}
