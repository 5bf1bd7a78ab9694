//! Every documented exit code, with what is said beside it.

use anyhow::{Context, Result, ensure};
use holdfast_api::client::Client;
use holdfast_api::locks::ForceReleaseRequest;
use holdfast_api::{ErrorCode, Problem};
use holdfast_tests::harness::{Cluster, NodeOptions, PortReservation};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::lock_run::program::{Program, one_node, texts};
use crate::lock_run::watched::Watched;

#[tokio::test]
async fn the_exit_code_is_the_commands_own() -> Result<()> {
    let (_cluster, program) = one_node().await?;
    let cases =
        [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -KILL $$", 137), ("kill -TERM $$", 143)];
    for (script, code) in cases {
        let output = program.output(["own", "--", "sh", "-c", script]).await?;
        ensure!(output.status.code() == Some(code), "{script}: {output:?}");
        ensure!(output.stderr.is_empty(), "{script}: {output:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_command_that_cannot_be_run_is_126_or_127_and_the_lock_is_let_go() -> Result<()> {
    let (_cluster, program) = one_node().await?;
    for (command, code) in [("/nonexistent/command", 127), ("no-such-command-here", 127), ("/dev/null", 126)]
    {
        let output = program.output(["run", "--wait", "0", "--", command]).await?;
        let (_, complaints) = texts(&output);
        ensure!(output.status.code() == Some(code), "{command}: {output:?}");
        ensure!(complaints.starts_with(&format!("holdfast: cannot run {command}: ")), "{complaints}");
    }
    Ok(())
}

#[tokio::test]
async fn a_held_lock_is_120_with_the_holder_named_and_the_command_does_not_run() -> Result<()> {
    let (_cluster, program) = one_node().await?;
    let mut holder = program.start([
        "held",
        "--label",
        "the-holder",
        "--",
        "sh",
        "-c",
        "echo up; read end; sleep 1000",
    ])?;
    // Standard input is empty, so the command only sleeps.
    ensure!(holder.line().await? == "up");

    let output = program.output(["held", "--wait", "0", "--", "echo", "ran"]).await?;
    let (out, complaints) = texts(&output);
    ensure!(output.status.code() == Some(120) && out.is_empty(), "{output:?}");
    ensure!(complaints.contains("lock held is held by the-holder for "), "{complaints}");

    let output = program.output(["held", "--wait", "300ms", "--", "echo", "ran"]).await?;
    let (out, complaints) = texts(&output);
    ensure!(output.status.code() == Some(120) && out.is_empty(), "{output:?}");
    ensure!(
        complaints.contains("was not granted within 300ms: position 1, held by the-holder"),
        "{complaints}"
    );

    holder.signal(Signal::TERM)?;
    ensure!(holder.exit_code().await? == 143);
    let output = program.output(["held", "--wait", "0", "--", "echo", "ran"]).await?;
    ensure!(texts(&output).0 == "ran\n", "those who gave up are not in the way: {output:?}");
    Ok(())
}

#[tokio::test]
async fn a_lock_that_is_taken_away_is_121_and_the_command_is_dead() -> Result<()> {
    let (cluster, program) = one_node().await?;
    let mut run = program.start([
        "lost",
        "--ttl",
        "2s",
        "--",
        "sh",
        "-c",
        "echo $$ $HOLDFAST_FENCING_TOKEN; sleep 1000",
    ])?;
    let line = run.line().await?;
    let (pid, token) = line.split_once(' ').context("two words")?;
    let mut command = Watched::new(pid)?;
    let request = ForceReleaseRequest { fencing_token: token.parse()?, reason: "test".to_owned() };
    Client::new(cluster.endpoints())?.force_release("default", "lost", &request).await?;
    ensure!(run.exit_code().await? == 121);
    command.died_at().await?;
    run.complaint("lost lock lost: somebody took it away; the command was ended").await?;
    run.complaint("`holdfast lock get lost` shows who has it").await?;
    Ok(())
}

#[tokio::test]
async fn a_cluster_that_does_not_answer_is_122() -> Result<()> {
    let nobody = PortReservation::take(1)?.release()?;
    let waiting = Cluster::launch(1, &NodeOptions::default()).await?;
    let unreachable = Program::asking(&nobody.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let leaderless = Program::asking(&waiting.endpoints())?;
    let (unreachable, leaderless) = tokio::join!(
        unreachable.output(["any", "--", "echo", "ran"]),
        leaderless.output(["any", "--", "echo", "ran"])
    );
    for (output, why) in [(unreachable?, "no endpoint answered"), (leaderless?, "belongs to no cluster")] {
        let (out, complaints) = texts(&output);
        ensure!(output.status.code() == Some(122) && out.is_empty(), "{output:?}");
        ensure!(complaints.contains("cannot take lock any") && complaints.contains(why), "{complaints}");
        ensure!(complaints.contains("asked: ") && complaints.contains("next: "), "{complaints}");
    }
    Ok(())
}

/// Nodes do not refuse anybody yet, so something in front of one does: it gives every request this answer.
async fn refusing(code: ErrorCode) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let problem = serde_json::to_string(&Problem::new(code, "these credentials do not do"))?;
    let answer = format!(
        "HTTP/1.1 {} No\r\nContent-Type: application/problem+json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{problem}",
        code.status(),
        problem.len()
    );
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut request = vec![0; 16 << 10];
            // The requests of this test are short: one read has all of each.
            if connection.read(&mut request).await.is_ok() {
                let _ = connection.write_all(answer.as_bytes()).await;
            }
        }
    });
    Ok(endpoint)
}

#[tokio::test]
async fn a_caller_that_may_not_is_123() -> Result<()> {
    for code in [ErrorCode::Unauthenticated, ErrorCode::Forbidden] {
        let program = Program::asking(&[refusing(code).await?])?;
        let output = program.output(["any", "--", "echo", "ran"]).await?;
        let (out, complaints) = texts(&output);
        ensure!(output.status.code() == Some(123) && out.is_empty(), "{output:?}");
        ensure!(complaints.contains("these credentials do not do"), "{complaints}");
    }
    Ok(())
}

#[tokio::test]
async fn anything_else_is_125() -> Result<()> {
    let (_cluster, program) = one_node().await?;
    let output = program.output(["any", "-n", "nowhere", "--", "echo", "ran"]).await?;
    let (out, complaints) = texts(&output);
    ensure!(output.status.code() == Some(125) && out.is_empty(), "{output:?}");
    ensure!(complaints.contains("holdfast namespace create"), "{complaints}");
    Ok(())
}

#[tokio::test]
async fn a_wrong_command_line_is_2_and_says_what_would_be_right() -> Result<()> {
    let program = Program::asking(&["127.0.0.1:1".to_owned()])?;
    let cases: [(&[&str], &str); 7] = [
        (&["any", "--ttl", "15", "--", "true"], "Add a unit, such as 15s or 15ms"),
        (&["any", "--wait", "30", "--", "true"], "Add a unit, such as 30s or 30ms"),
        (&["any", "--ttl", "500ms", "--", "true"], "must be between 1000 ms and 3600000 ms"),
        (
            &["any", "--ttl", "6s", "--kill-after", "5s", "--", "true"],
            "--kill-after 2630ms or less, or --ttl 11400ms",
        ),
        (&["any"], "-- <CMD>"),
        (&["any", "true"], "unexpected argument 'true'"),
        (&["no good name", "--", "true"], "invalid value 'no good name'"),
    ];
    for (args, message) in cases {
        let output = program.output(args).await?;
        let (_, complaints) = texts(&output);
        ensure!(output.status.code() == Some(2), "{args:?}: {output:?}");
        ensure!(complaints.contains(message), "{args:?}: {complaints}");
    }
    Ok(())
}

#[tokio::test]
async fn a_signal_that_comes_while_waiting_ends_the_wait_and_leaves_the_queue() -> Result<()> {
    let (_cluster, program) = one_node().await?;
    let mut holder = program.start(["busy", "--", "sh", "-c", "echo up; sleep 1000"])?;
    ensure!(holder.line().await? == "up");
    let mut waiter = program.start(["busy", "--wait", "forever", "--", "echo", "ran"])?;
    waiter.complaint("waiting for lock busy: position 1").await?;
    waiter.signal(Signal::TERM)?;
    ensure!(waiter.exit_code().await? == 143);
    // The next one is first in the queue at once: it does not wait for a session to run out.
    let mut next = program.start(["busy", "--wait", "forever", "--", "echo", "ran"])?;
    next.complaint("waiting for lock busy: position 1").await?;
    holder.signal(Signal::TERM)?;
    ensure!(next.line().await? == "ran");
    ensure!(next.exit_code().await? == 0);
    Ok(())
}
