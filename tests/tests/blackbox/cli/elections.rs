//! `elect leader` against one real node.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};
use holdfast_api::claims::{ClaimRequest, ClaimView, HeldClaim};
use holdfast_api::client::Client;
use holdfast_tests::harness::{Binary, Cluster, Shell};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The documented exit code for what is not there.
const NOT_FOUND: i32 = 3;
/// The documented exit code for a condition that does not hold.
const CONFLICT: i32 = 4;

/// Campaigns with a session of its own, and gives the token if that leads.
async fn campaign(client: &Client, candidate: &str, label: &str) -> Result<Option<u64>> {
    let request = ClaimRequest {
        // Long enough that nothing expires during a test on a loaded machine.
        ttl_ms: Some(600_000),
        keep_waiting: true,
        wait_ms: 1,
        label: Some(label.to_owned()),
        ..ClaimRequest::default()
    };
    match client.put_candidate("default", "scheduler", candidate, &request).await?.value {
        ClaimView::Held(HeldClaim { fencing_token, .. }) => Ok(Some(fencing_token)),
        ClaimView::Queued(_) => Ok(None),
        other @ (ClaimView::Released(_) | ClaimView::Lost(_)) => {
            anyhow::bail!("a candidate leads or waits: {other:?}")
        }
    }
}

#[tokio::test]
async fn the_leader_of_an_election_is_shown_and_nobody_is_not_found() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    let client = Client::new(cluster.endpoints())?;
    let shell = Shell::at(&cluster.endpoints())?;
    let complaint = shell.refusal(NOT_FOUND, &["elect", "leader", "scheduler"])?;
    ensure!(complaint.contains("nobody leads, and nobody wants to"), "{complaint}");
    // For programs the answer is there, and the exit code too.
    let output = shell.run(&["elect", "leader", "scheduler", "-o", "json"])?;
    ensure!(output.status.code() == Some(NOT_FOUND), "{output:?}");
    ensure!(serde_json::from_slice::<Value>(&output.stdout)?["leader"] == Value::Null, "{output:?}");

    let token = campaign(&client, "alice.1", "alice").await?.context("the first candidate leads")?;
    ensure!(campaign(&client, "bob.1", "bob").await?.is_none());
    let screen = shell.screen(&["elect", "leader", "scheduler"])?;
    let row: Vec<&str> = screen.lines().nth(1).context("a row")?.split_whitespace().collect();
    ensure!(row[..2] == ["alice", &token.to_string()] && row[4] == "alice.1", "{screen}");
    for view in
        [shell.json(&["elect", "leader", "scheduler"])?, shell.yaml(&["elect", "leader", "scheduler"])?]
    {
        ensure!(view["leader"]["fencing_token"] == token && view["queue"][0]["label"] == "bob", "{view}");
    }

    let token = token.to_string();
    shell.text(&["elect", "publish", "scheduler", "10.0.0.7:80", "--token", &token])?;
    let screen = shell.screen(&["elect", "leader", "scheduler"])?;
    ensure!(screen.contains("published  10.0.0.7:80"), "{screen}");
    let complaint = shell.refusal(CONFLICT, &["elect", "publish", "scheduler", "x", "--token", "1"])?;
    ensure!(complaint.contains("stale-token"), "{complaint}");
    // The command of `elect run` has the token in its environment.
    let binary = Binary::locate()?;
    let program = binary.path().to_str().context("a path in UTF-8")?;
    let publishes = &format!("'{program}' elect publish other here && '{program}' elect leader other");
    let screen = shell.screen(&["elect", "run", "other", "--", "sh", "-c", publishes])?;
    ensure!(screen.contains("published  here"), "{screen}");
    Ok(())
}

/// A command that goes on until it is told to stop.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_watch_of_an_election_prints_each_change_of_leader_until_it_is_told_to_stop() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    let client = Client::new(cluster.endpoints())?;
    let shell = Shell::at(&cluster.endpoints())?;
    let args = ["elect", "leader", "scheduler", "--watch", "-o", "json"];
    let mut running = Running(shell.command(&args).stdout(Stdio::piped()).spawn()?);
    let mut lines = BufReader::new(running.0.stdout.take().context("its output is piped")?).lines();
    let mut leader = || -> Result<Value> {
        let line = lines.next().context("the watch goes on")??;
        Ok(serde_json::from_str::<Value>(&line)?["leader"].take())
    };
    ensure!(leader()? == Value::Null, "in the beginning nobody leads");
    let token = campaign(&client, "alice.1", "alice").await?;
    ensure!(leader()?["fencing_token"].as_u64() == token, "alice leads");
    campaign(&client, "bob.1", "bob").await?;
    client.delete_candidate("default", "scheduler", "alice.1").await?;
    ensure!(
        leader()?["label"] == "bob",
        "a candidate that waits is no change of leader, one that follows is"
    );
    client.delete_candidate("default", "scheduler", "bob.1").await?;
    ensure!(leader()? == Value::Null, "in the end nobody leads");
    kill_process(Pid::from_child(&running.0), Signal::INT)?;
    ensure!(running.0.wait()?.success());
    Ok(())
}
