//! `holdfast elect run`: the same on an election, whose name space is its own.

use anyhow::{Context, Result, ensure};
use holdfast_api::client::Client;
use holdfast_api::query::ReadQuery;
use rustix::process::Signal;

use crate::lock_run::program::{one_node, texts};
use crate::lock_run::watched::Watched;

/// Names the election and its token, and stays.
const LEADER: &str =
    "echo $$ $HOLDFAST_ELECTION $HOLDFAST_FENCING_TOKEN ${HOLDFAST_LOCK-unset}; exec sleep 1000";

#[tokio::test]
async fn candidates_lead_in_turn_and_a_lock_of_the_same_name_is_not_in_the_way() -> Result<()> {
    let (cluster, program) = one_node().await?;
    let mut lock = program.start(["boss", "--", "sh", "-c", "echo up; exec sleep 1000"])?;
    ensure!(lock.line().await? == "up");

    let program = program.for_elections();
    let mut first = program.start(["boss", "--label", "first", "--", "sh", "-c", LEADER])?;
    let line = first.line().await?;
    let [pid, election, token, no_lock] = line.split(' ').collect::<Vec<_>>()[..] else {
        anyhow::bail!("four words, not {line}");
    };
    ensure!(election == "boss" && no_lock == "unset", "{line}");
    let view =
        Client::new(cluster.endpoints())?.get_election("default", "boss", &ReadQuery::default()).await?;
    let leader = view.value.leader.context("a leader")?;
    ensure!(leader.label.as_deref() == Some("first"), "{leader:?}");
    ensure!(leader.fencing_token.to_string() == token, "{leader:?}, {line}");

    let refused = program.output(["boss", "--wait", "0", "--", "echo", "ran"]).await?;
    let (out, complaints) = texts(&refused);
    ensure!(refused.status.code() == Some(120) && out.is_empty(), "{refused:?}");
    ensure!(complaints.contains("election boss is held by first"), "{complaints}");

    // Killed, the first takes its command along, and the stand-by takes over when the session has run out.
    let mut command = Watched::new(pid)?;
    let mut second = program.start(["boss", "--wait", "forever", "--", "sh", "-c", LEADER])?;
    second.complaint("waiting for election boss: position 1, held by first").await?;
    first.signal(Signal::KILL)?;
    command.died_at().await?;
    ensure!(second.line().await?.contains(" boss "));
    second.complaint("election boss granted after").await?;
    Ok(())
}
