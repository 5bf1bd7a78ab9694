//! The terminal: the command may read from it, Ctrl-Z stops the job, and it comes back to whoever had it before.
//!
//! `script` gives the session a terminal; what it reads from its input it types there.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use holdfast_tests::harness::Scratch;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::lock_run::program::{Program, one_node};

/// Bound on what must appear on the terminal.
const PATIENCE: Duration = Duration::from_secs(60);
/// Ctrl-C and Ctrl-Z as they are typed.
const CTRL_C: &str = "\u{3}";
const CTRL_Z: &str = "\u{1a}";

/// A shell with jobs on a terminal.
struct Session {
    child: Child,
    keyboard: ChildStdin,
    screen: ChildStdout,
    /// What has appeared and was not waited for yet.
    unread: String,
    _scratch: Scratch,
}

impl Session {
    /// Runs a shell script in which `$RUN` stands for `holdfast lock run`.
    fn start(program: &Program, script: &str) -> Result<Self> {
        let scratch = Scratch::new()?;
        let file = scratch.path().join("session.sh");
        std::fs::write(&file, format!("set -m\n{script}\n"))?;
        // Whoever runs the tests in the background may have them ignore these signals, and what they start with them.
        let mut command = Command::new("env");
        command
            .args(["--default-signal=INT,QUIT", "script", "--quiet", "--return", "--command", &shell(&file)?])
            .arg("/dev/null");
        command.env("SHELL", "/bin/sh").env("TERM", "dumb").env("HOLDFAST_ENDPOINT", program.endpoints());
        command.env("RUN", format!("{} lock run", program.path().display()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
        let mut child = command.spawn().context("start script(1)")?;
        let keyboard = child.stdin.take().context("its input")?;
        let screen = child.stdout.take().context("its output")?;
        Ok(Self { child, keyboard, screen, unread: String::new(), _scratch: scratch })
    }

    async fn type_in(&mut self, keys: &str) -> Result<()> {
        self.keyboard.write_all(keys.as_bytes()).await?;
        Ok(self.keyboard.flush().await?)
    }

    /// Waits until this appears after what was waited for before.
    async fn sees(&mut self, text: &str) -> Result<()> {
        let seen = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(at) = self.unread.find(text) {
                    self.unread.drain(..at + text.len());
                    return anyhow::Ok(());
                }
                let mut bytes = [0; 4096];
                match self.screen.read(&mut bytes).await? {
                    0 => bail!("the session ended"),
                    count => self.unread.push_str(&String::from_utf8_lossy(&bytes[..count])),
                }
            }
        });
        let outcome = seen.await.unwrap_or_else(|_| bail!("it does not appear"));
        outcome.with_context(|| format!("wait for {text:?}, on the terminal: {:?}", self.unread))
    }

    async fn ends_well(mut self) -> Result<()> {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.context("it does not end")??;
        ensure!(status.success(), "the session ended with {status}");
        Ok(())
    }
}

fn shell(file: &Path) -> Result<String> {
    Ok(format!("exec sh {}", file.to_str().context("a path that is text")?))
}

#[tokio::test]
async fn the_command_reads_from_the_terminal_and_gives_it_back() -> Result<()> {
    let (_cluster, program) = one_node().await?;
    let script = r#"
        $RUN tty -- sh -c 'echo up; read line; echo "command has $line"'
        echo "ended $?"
        read line; echo "shell has $line""#;
    let mut session = Session::start(&program, script)?;
    session.sees("up").await?;
    session.type_in("one\n").await?;
    session.sees("command has one").await?;
    session.sees("ended 0").await?;
    session.type_in("two\n").await?;
    session.sees("shell has two").await?;
    session.ends_well().await
}

#[tokio::test]
async fn a_shell_without_jobs_gets_the_terminal_back_too() -> Result<()> {
    let (_cluster, program) = one_node().await?;
    // Without jobs nobody but the program itself can put this shell in the foreground again.
    let script = r#"
        set +m
        sh -c '$RUN tty -- sh -c "echo up; read line; echo command has \$line"; echo "ended $?"; read line; echo "shell has $line"'"#;
    let mut session = Session::start(&program, script)?;
    session.sees("up").await?;
    session.type_in("one\n").await?;
    session.sees("command has one").await?;
    session.sees("ended 0").await?;
    session.type_in("two\n").await?;
    session.sees("shell has two").await?;
    session.ends_well().await
}

#[tokio::test]
async fn in_a_pipeline_the_command_gets_the_terminal_only_when_it_reads_from_it() -> Result<()> {
    let (_cluster, program) = one_node().await?;
    let script = r#"
        $RUN tty -- sh -c 'echo up; read line </dev/tty; echo "command has $line"' | cat
        echo "ended $?""#;
    let mut session = Session::start(&program, script)?;
    session.sees("up").await?;
    session.type_in("one\n").await?;
    session.sees("command has one").await?;
    session.sees("ended 0").await?;
    session.ends_well().await
}

#[tokio::test]
async fn ctrl_c_ends_the_command_whoever_has_the_terminal() -> Result<()> {
    let (_cluster, program) = one_node().await?;
    // With output that goes elsewhere the terminal stays with the program, which then passes the signal on. `exec`, because
    // some shells lose a signal that comes while they start a program.
    let script = r#"
        $RUN tty -- sh -c 'echo up; exec sleep 1000'
        echo "ended $?"
        $RUN tty -- sh -c 'echo up >&2; exec sleep 1000' >/dev/null
        echo "over $?""#;
    let mut session = Session::start(&program, script)?;
    session.sees("up").await?;
    session.type_in(CTRL_C).await?;
    session.sees("ended 130").await?;
    session.sees("up").await?;
    session.type_in(CTRL_C).await?;
    session.sees("over 130").await?;
    session.ends_well().await
}

#[tokio::test]
async fn ctrl_z_stops_the_job_and_it_goes_on_in_the_foreground() -> Result<()> {
    let (_cluster, program) = one_node().await?;
    let script = r#"
        $RUN tty -- sh -c 'echo up; read line; echo "command has $line"'
        echo "shell is back"
        read line; echo "shell has $line"
        fg >/dev/null
        echo "ended $?""#;
    let mut session = Session::start(&program, script)?;
    session.sees("up").await?;
    session.type_in(CTRL_Z).await?;
    session.sees("shell is back").await?;
    session.type_in("one\n").await?;
    session.sees("shell has one").await?;
    session.type_in("two\n").await?;
    session.sees("command has two").await?;
    session.sees("ended 0").await?;
    session.ends_well().await
}

#[tokio::test]
async fn a_job_that_stays_stopped_loses_the_lock_and_its_command() -> Result<()> {
    let (_cluster, program) = one_node().await?;
    let script = r#"
        $RUN tty --ttl 4s -- sh -c 'trap "" TERM; echo up; read line; echo "command has $line"'
        echo "shell is back"
        $RUN tty -- echo "next one"
        fg >/dev/null
        echo "ended $?""#;
    let mut session = Session::start(&program, script)?;
    session.sees("up").await?;
    session.type_in(CTRL_Z).await?;
    session.sees("shell is back").await?;
    session.sees("next one").await?;
    session.sees("lost lock tty").await?;
    session.sees("ended 121").await?;
    session.ends_well().await
}
