//! What the command gets: its arguments, its standard streams, its environment; and what becomes of what it starts.

use std::ffi::OsString;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStringExt;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_api::client::Client;
use holdfast_api::query::ReadQuery;
use holdfast_tests::harness::{Seen, poll};
use tokio::io::AsyncWriteExt;

use crate::lock_run::program::{one_node, texts};
use crate::lock_run::watched::Watched;

#[tokio::test]
async fn arguments_reach_the_command_as_they_are_and_no_shell_reads_them() -> Result<()> {
    let (_cluster, program) = one_node().await?;
    let arguments = ["plain", "--", "printf", "%s|", "a b", "$HOME", "*", ";", "'", "--ttl", ""];
    let output = program.output(arguments).await?;
    let (out, complaints) = texts(&output);
    ensure!(output.status.success(), "{complaints}");
    ensure!(out == "a b|$HOME|*|;|'|--ttl||", "{out}");
    ensure!(complaints.is_empty(), "{complaints}");

    let bytes = OsString::from_vec(vec![b'x', 0xff, b'y']);
    let output = program
        .output(["bytes", "--", "printf", "%s"].map(OsString::from).into_iter().chain([bytes]))
        .await?;
    ensure!(output.stdout == [b'x', 0xff, b'y'], "{:?}", output.stdout);
    Ok(())
}

#[tokio::test]
async fn standard_input_is_the_commands_own() -> Result<()> {
    let (_cluster, program) = one_node().await?;

    // A pipe, read while it is written.
    let mut command =
        program.command(["piped", "--", "sh", "-c", "while read line; do echo got $line; done"]);
    let mut child = command.stdin(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("its input")?;
    stdin.write_all(b"one\ntwo\n").await?;
    drop(stdin);
    let output = child.wait_with_output().await?;
    ensure!(texts(&output).0 == "got one\ngot two\n", "{output:?}");

    // A file with its position: what the command leaves unread is left for the next reader.
    let mut file = tempfile::tempfile()?;
    file.write_all(b"header\nfirst\nsecond\n")?;
    file.seek(SeekFrom::Start(7))?;
    let mut command = program.command(["file", "--", "sh", "-c", "read line; echo got $line"]);
    let output = command.stdin(Stdio::from(file.try_clone()?)).output().await?;
    ensure!(texts(&output).0 == "got first\n", "{output:?}");
    ensure!(file.stream_position()? == 13, "at {}", file.stream_position()?);
    Ok(())
}

#[tokio::test]
async fn the_environment_says_what_is_held_and_by_which_token() -> Result<()> {
    let (cluster, program) = one_node().await?;
    let script = "for name in LOCK NAMESPACE FENCING_TOKEN SESSION CLAIM ENDPOINT; do eval echo \\$HOLDFAST_$name; done; \
                  echo $KEPT; read end";
    let mut command = program.command(["jobs/nightly", "--label", "backup", "--", "sh", "-c", script]);
    command.stdin(Stdio::piped()).env("KEPT", "kept");
    let mut child = command.spawn()?;
    let client = Client::new(cluster.endpoints())?;
    let holder = poll("the lock to be held", Duration::from_secs(60), async || {
        match client.get_lock("default", "jobs/nightly", &ReadQuery::default()).await {
            Ok(view) => match view.value.holders.into_iter().next() {
                Some(holder) => Seen::Ready(holder),
                None => Seen::NotYet("nobody holds it".to_owned()),
            },
            Err(error) => Seen::NotYet(error.to_string()),
        }
    });
    let holder = holder.await?;
    drop(child.stdin.take());
    let output = child.wait_with_output().await?;
    let (out, complaints) = texts(&output);
    let expected = format!(
        "jobs/nightly\ndefault\n{}\n{}\n{}\n{}\nkept\n",
        holder.fencing_token,
        holder.session,
        holder.claim,
        program.endpoints()
    );
    ensure!(out == expected, "{out}{complaints}");
    ensure!(holder.label.as_deref() == Some("backup"), "{holder:?}");
    ensure!(holder.session_name.is_some_and(|name| name.contains(':')), "host and process id");
    Ok(())
}

#[tokio::test]
async fn what_the_command_leaves_behind_dies_with_it_and_the_lock_is_free_at_once() -> Result<()> {
    let (_cluster, program) = one_node().await?;
    let mut run =
        program.start(["litter", "--", "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!; exit 3"])?;
    let left_behind = Watched::new(&run.line().await?);
    ensure!(run.exit_code().await? == 3);
    // It may have been gone before it could be watched.
    if let Ok(mut left_behind) = left_behind {
        left_behind.died_at().await?;
    }
    let next = program.output(["litter", "--wait", "0", "--", "true"]).await?;
    ensure!(next.status.success(), "{next:?}");
    Ok(())
}
