//! `holdfast session`: who lives, what it owns, and how to end it.

use clap::{Args, Subcommand};
use holdfast_api::query::ReadQuery;
use holdfast_api::sessions::{ClaimRef, LiveState, SessionList, SessionView};

use crate::cli::target::Target;
use crate::cli::{duration, output, pages};
use crate::exit::Fatal;

/// The flags of `holdfast session`.
#[derive(Debug, Args)]
pub(super) struct SessionArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the sessions that live
    ///
    /// LEFT is what remains of the TTL unless a keepalive comes; the leader knows it.
    #[command(
        verbatim_doc_comment,
        after_help = "Examples:
  holdfast session list
  holdfast session list -o json | jq -r '.items[] | select(.claims == []) | .id'"
    )]
    List {
        /// Only those whose id begins with this
        #[arg(value_name = "PREFIX")]
        prefix: Option<String>,
    },
    /// Show one session with its claims
    #[command(after_help = "Example:
  holdfast session get 2f0c8a")]
    Get {
        /// Its id
        #[arg(value_name = "ID")]
        id: String,
    },
    /// End a session: its locks are released, its places in queues are left
    ///
    /// The program that owns the session may go on believing that it holds its locks until
    /// its next request. Only what checks fencing tokens is safe from it.
    #[command(
        verbatim_doc_comment,
        after_help = "Example:
  holdfast session end 2f0c8a"
    )]
    End {
        /// Its id
        #[arg(value_name = "ID")]
        id: String,
    },
}

/// Runs the command.
///
/// # Errors
/// [`Fatal`] says what failed, where, and what to do.
pub(super) async fn run(args: SessionArgs, target: &Target) -> Result<(), Fatal> {
    match args.command {
        Command::List { prefix } => list(target, prefix).await,
        Command::Get { id } => get(target, &id).await,
        Command::End { id } => end(target, &id).await,
    }
}

async fn list(target: &Target, prefix: Option<String>) -> Result<(), Fatal> {
    let list = pages::all(prefix, async |query| {
        let page = target.client().list_sessions(&query).await;
        Ok(page.map_err(|error| target.failed("list the sessions", &error))?.value)
    });
    output::answer(target.output, &list.await?, |list: &SessionList| {
        let rows: Vec<Vec<String>> = list.items.iter().map(row).collect();
        output::table(&["ID", "NAME", "TTL", "LEFT", "HOLDS", "WAITS FOR"], &rows)
    })
}

fn row(session: &SessionView) -> Vec<String> {
    let count = |state| session.claims.iter().filter(|claim| claim.state == state).count().to_string();
    vec![
        session.id.clone(),
        session.name.clone().unwrap_or_else(|| "-".to_owned()),
        duration::brief(session.ttl_ms),
        session.remaining_ms.map_or_else(|| "-".to_owned(), duration::brief),
        count(LiveState::Held),
        count(LiveState::Queued),
    ]
}

async fn get(target: &Target, id: &str) -> Result<(), Fatal> {
    let view = target.client().get_session(id, &ReadQuery::default()).await;
    let view = view.map_err(|error| target.failed(&format!("look at session {id}"), &error))?.value;
    output::answer(target.output, &view, show)
}

fn show(session: &SessionView) -> Result<(), Fatal> {
    let mut lines = vec![format!("session     {}", session.id)];
    lines.extend(session.name.iter().map(|name| format!("name        {}", output::printable(name))));
    let left = session.remaining_ms.map_or_else(String::new, |ms| format!(", {} left", duration::brief(ms)));
    lines.push(format!("ttl         {}{left}", duration::brief(session.ttl_ms)));
    lines.push(format!("lock delay  {}", duration::brief(session.lock_delay_ms)));
    let label = |(key, value): (&String, &String)| output::printable(&format!("label       {key}={value}"));
    lines.extend(session.labels.iter().map(label));
    lines.push(format!("created at  revision {}", session.create_revision));
    lines.push(format!("keys        {}", session.keys));
    output::line(&lines.join("\n"))?;
    if session.claims.is_empty() {
        return output::line("\nIt owns no claims.");
    }
    output::line("")?;
    let row = |claim: &ClaimRef| {
        vec![
            claim.namespace.clone(),
            claim.contest.kind().to_string(),
            claim.contest.as_str().to_owned(),
            match claim.state {
                LiveState::Held => "held".to_owned(),
                LiveState::Queued => "queued".to_owned(),
            },
            claim.fencing_token.map_or_else(|| "-".to_owned(), |token| token.to_string()),
            claim.claim.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = session.claims.iter().map(row).collect();
    output::table(&["NAMESPACE", "KIND", "NAME", "STATE", "TOKEN", "CLAIM"], &rows)
}

async fn end(target: &Target, id: &str) -> Result<(), Fatal> {
    let ended = target.client().delete_session(id).await;
    ended.map_err(|error| target.failed(&format!("end session {id}"), &error))?;
    output::done(target.output, &format!("session {id} is ended, and all that it owned is released"))
}
