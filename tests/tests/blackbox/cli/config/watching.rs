//! watch.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_tests::harness::{Scratch, Shell};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{REFUSED, node, program, put, text};

/// How long a line may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A watch that runs, and the lines that it prints.
struct Watching {
    child: Child,
    lines: Receiver<String>,
}

impl Watching {
    fn start(shell: &Shell, args: &[&str]) -> Result<Self> {
        let mut child = shell.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let output = child.stdout.take().context("the output is piped")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // The test has failed when nobody takes the line.
                let _ = sender.send(line);
            }
        });
        Ok(Self { child, lines })
    }

    fn line(&self) -> Result<String> {
        self.lines.recv_timeout(PATIENCE).context("the watch prints a line")
    }

    fn json(&self) -> Result<Value> {
        let line = self.line()?;
        serde_json::from_str(&line).with_context(|| format!("{line} is JSON"))
    }

    /// Stops it as a person or Kubernetes does, and gives what it complained about.
    fn stop(self, signal: Signal) -> Result<String> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("it has an id")?;
        kill_process(pid, signal)?;
        let output = self.child.wait_with_output()?;
        ensure!(output.status.code() == Some(0), "{output:?}");
        Ok(String::from_utf8(output.stderr)?)
    }
}

#[tokio::test]
async fn changes_are_printed_as_they_happen() -> Result<()> {
    let (_cluster, shell) = node().await?;
    put(&shell, "app/a", "1")?;
    put(&shell, "jobs/a", "1")?;
    let watching = Watching::start(&shell, &["config", "watch", "app/", "--initial", "-o", "json"])?;
    let table = Watching::start(&shell, &["config", "watch", "app/", "jobs/", "--initial"])?;
    let state = watching.json()?;
    ensure!(super::keys(&state) == ["app/a"] && state["more"] == false, "{state}");
    let shown = [table.line()?, table.line()?];
    ensure!(shown[0].ends_with("state   app/a  1") && shown[1].ends_with("state   jobs/a  1"), "{shown:?}");

    let put_at = put(&shell, "app/b", "blue")?;
    put(&shell, "jobs/b", "2")?;
    shell.text(&["config", "rm", "app/a"])?;
    let change = watching.json()?;
    ensure!(change["revision"] == put_at && change["changes"][0]["op"] == "put", "{change}");
    ensure!(change["changes"][0]["value"] == "blue", "{change}");
    let change = watching.json()?;
    ensure!(change["changes"][0]["op"] == "delete" && change["changes"][0]["key"] == "app/a", "{change}");
    let shown = [table.line()?, table.line()?, table.line()?];
    ensure!(
        shown[0].ends_with("put     app/b  blue") && shown[1].ends_with("put     jobs/b  2"),
        "{shown:?}"
    );
    ensure!(shown[2].ends_with("delete  app/a"), "{shown:?}");
    ensure!(watching.stop(Signal::TERM)?.is_empty());
    ensure!(table.stop(Signal::INT)?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_command_runs_once_for_each_change_in_their_order() -> Result<()> {
    let (_cluster, shell) = node().await?;
    let scratch = Scratch::new()?;
    let handler = scratch.path().join("handler");
    let told = r#"printf '%s %s %s %s %s [%s]\n' "$1" "$HOLDFAST_OP" "$HOLDFAST_KEY" "$HOLDFAST_REVISION" "$HOLDFAST_NAMESPACE" "$(cat)""#;
    program(&handler, &format!("{told}\n[ \"$HOLDFAST_KEY\" != app/bad ]"))?;
    let first = put(&shell, "app/a b", "it's\n$HOME")?;
    let bad = put(&shell, "app/bad", "2")?;
    let from = first.to_string();
    let args = ["config", "watch", "app/", "--from", &from, "--exec", "--", text(&handler)?, "one word"];
    let watching = Watching::start(&shell, &args)?;
    ensure!(watching.line()? == format!("one word put app/a b {first} default [it's"));
    ensure!(watching.line()? == "$HOME]");
    ensure!(watching.line()? == format!("one word put app/bad {bad} default [2]"));
    shell.text(&["config", "rm", "app/a b"])?;
    ensure!(watching.line()?.starts_with("one word delete app/a b "));
    let complaint = watching.stop(Signal::TERM)?;
    ensure!(complaint.contains("app/bad") && complaint.contains("exit status: 1"), "{complaint}");
    ensure!(complaint.lines().count() == 1, "{complaint}");

    let first_failure = [&args[..5], &["--exec", "--exit-on-error", "--", text(&handler)?, "x"]].concat();
    let screen = shell.terminal(&first_failure)?;
    ensure!(screen.code == Some(REFUSED) && screen.text.contains("app/bad"), "{screen:?}");
    ensure!(!screen.text.contains("delete"), "nothing runs after the failure: {screen:?}");
    Ok(())
}

#[tokio::test]
async fn a_command_that_takes_no_input_and_one_that_is_told_to_end_do_not_hang() -> Result<()> {
    let (_cluster, shell) = node().await?;
    let large = "x".repeat(1 << 20);
    super::with_input(&shell, &["config", "put", "app/large", "-"], large.as_bytes())?;
    let args = ["config", "watch", "--initial", "--exec", "--", "sh", "-c", "echo ready; exec sleep 600"];
    let watching = Watching::start(&shell, &args)?;
    ensure!(watching.line()? == "ready");
    watching.stop(Signal::TERM)?;
    let args = ["config", "watch", "--initial", "--exec", "--", "echo", "done"];
    let watching = Watching::start(&shell, &args)?;
    ensure!(watching.line()? == "done");
    ensure!(watching.stop(Signal::TERM)?.is_empty(), "not reading the input is no failure");
    Ok(())
}

#[tokio::test]
async fn a_watch_that_cannot_begin_says_why() -> Result<()> {
    let (_cluster, shell) = node().await?;
    let complaint = shell.refusal(super::NOT_FOUND, &["config", "watch", "-n", "nowhere"])?;
    ensure!(complaint.contains("nowhere"), "{complaint}");
    let complaint = shell.refusal(REFUSED, &["config", "watch", "--from", "999999999"])?;
    ensure!(complaint.contains("future-revision"), "{complaint}");
    Ok(())
}
