//! Waiting: in order, and with a view of who is in the way.

use anyhow::{Result, ensure};
use rustix::process::Signal;

use crate::lock_run::program::one_node;

#[tokio::test]
async fn waiters_are_told_their_place_and_the_holder_and_are_granted_in_order() -> Result<()> {
    let (_cluster, program) = one_node().await?;
    let script = "echo $0 $HOLDFAST_FENCING_TOKEN; sleep 1000";
    let start = |who: &'static str| {
        program.start(["queue", "--wait", "forever", "--label", who, "--", "sh", "-c", script, who])
    };
    let mut first = start("first")?;
    let line = first.line().await?;
    let token = line.strip_prefix("first ").unwrap_or_default().to_owned();

    let mut second = start("second")?;
    let seen = second.complaint("waiting for lock queue").await?;
    ensure!(seen.contains("position 1, held by first for "), "{seen}");
    ensure!(seen.ends_with(&format!("(token {token})")), "{seen}");
    let mut third = start("third")?;
    let seen = third.complaint("waiting for lock queue").await?;
    ensure!(seen.contains("position 2, held by first for "), "{seen}");

    first.signal(Signal::TERM)?;
    ensure!(first.exit_code().await? == 143);
    let line = second.line().await?;
    ensure!(line.starts_with("second "), "{line}");
    let granted = second.complaint("granted after").await?;
    ensure!(granted.contains("lock queue granted after "), "{granted}");
    // One line for each change.
    let seen = third.complaint("waiting for lock queue").await?;
    ensure!(seen.contains("position 1, held by second for "), "{seen}");

    second.signal(Signal::TERM)?;
    let line = third.line().await?;
    ensure!(line.starts_with("third "), "{line}");
    Ok(())
}

#[tokio::test]
async fn a_waiter_that_is_stopped_leaves_the_queue_and_does_not_get_the_lock() -> Result<()> {
    let (_cluster, program) = one_node().await?;
    let mut holder = program.start(["stale", "--", "sh", "-c", "echo up; sleep 1000"])?;
    ensure!(holder.line().await? == "up");
    let mut stopped = program.start(["stale", "--ttl", "1s", "--wait", "forever", "--", "echo", "ran"])?;
    stopped.complaint("position 1").await?;
    stopped.signal(Signal::STOP)?;
    let mut next = program.start(["stale", "--wait", "forever", "--", "echo", "ran"])?;
    next.complaint("position 2").await?;
    next.complaint("position 1").await?;
    holder.signal(Signal::TERM)?;
    ensure!(next.line().await? == "ran");
    ensure!(next.exit_code().await? == 0);
    // Awake again, it finds out that the queue has forgotten it.
    stopped.signal(Signal::CONT)?;
    let code = stopped.exit_code().await?;
    ensure!(code == 122 || code == 120, "{code}");
    Ok(())
}
