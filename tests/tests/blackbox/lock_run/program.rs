//! `holdfast lock run` as a user calls it.

use std::ffi::OsStr;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use holdfast_tests::harness::{Binary, Cluster, NodeOptions};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::timeout;

/// Bound on everything that a test waits for; far above what it takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program, and the cluster that it asks.
#[derive(Debug, Clone)]
pub(super) struct Program {
    binary: Binary,
    endpoints: String,
    env: Vec<(String, String)>,
    /// `lock` or `elect`.
    group: &'static str,
}

impl Program {
    /// The binary under test and these endpoints.
    pub(super) fn asking(endpoints: &[String]) -> Result<Self> {
        Ok(Self::of(Binary::locate()?, endpoints))
    }

    pub(super) fn of(binary: Binary, endpoints: &[String]) -> Self {
        Self { binary, endpoints: endpoints.join(","), env: Vec::new(), group: "lock" }
    }

    pub(super) fn with_env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same for elections: `holdfast elect run`.
    pub(super) fn for_elections(mut self) -> Self {
        self.group = "elect";
        self
    }

    /// `holdfast lock run` with these arguments, to be started.
    pub(super) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(self.binary.path());
        command.args([self.group, "run"]).args(args).env("HOLDFAST_ENDPOINT", &self.endpoints);
        command.env_remove("HOLDFAST_NAMESPACE").envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// The path of the binary.
    pub(super) fn path(&self) -> &std::path::Path {
        self.binary.path()
    }

    /// The endpoints as the flag takes them.
    pub(super) fn endpoints(&self) -> &str {
        &self.endpoints
    }

    /// Runs it to its end.
    pub(super) async fn output<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<Output> {
        let ended = timeout(PATIENCE, self.command(args).output()).await;
        Ok(ended.context("it does not end")??)
    }

    /// Starts it.
    pub(super) fn start<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<Running> {
        Running::start(self.command(args))
    }
}

/// One run under way. Dropping it kills it, and the guard then kills its command.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    complaints: Lines<BufReader<ChildStderr>>,
}

impl Running {
    pub(super) fn start(mut command: Command) -> Result<Self> {
        let mut child = command.spawn().context("start holdfast lock run")?;
        let out = child.stdout.take().context("its output")?;
        let complaints = child.stderr.take().context("its standard error")?;
        let (out, complaints) = (BufReader::new(out).lines(), BufReader::new(complaints).lines());
        Ok(Self { child, out, complaints })
    }

    /// Its process id.
    pub(super) fn pid(&self) -> Result<Pid> {
        let id = self.child.id().context("it has ended")?;
        Pid::from_raw(i32::try_from(id)?).context("no process id")
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.pid()?, signal).context("signal holdfast lock run")
    }

    /// The next line that the command prints.
    pub(super) async fn line(&mut self) -> Result<String> {
        match next_line(&mut self.out).await? {
            Some(line) => Ok(line),
            None => bail!("the command printed nothing more; {}", self.last_words().await),
        }
    }

    /// The next line on standard error that contains this.
    pub(super) async fn complaint(&mut self, with: &str) -> Result<String> {
        while let Some(line) = next_line(&mut self.complaints).await? {
            if line.contains(with) {
                return Ok(line);
            }
        }
        bail!("standard error ended without {with:?}")
    }

    /// Its exit code, once it has ended.
    pub(super) async fn exit_code(&mut self) -> Result<i32> {
        let status = timeout(PATIENCE, self.child.wait()).await.context("it does not end")??;
        status.code().with_context(|| format!("it has no exit code: {status}"))
    }

    async fn last_words(&mut self) -> String {
        let mut words = Vec::new();
        while let Ok(Some(line)) = next_line(&mut self.complaints).await {
            words.push(line);
        }
        words.join("\n")
    }
}

async fn next_line<R: AsyncRead + Unpin>(lines: &mut Lines<BufReader<R>>) -> Result<Option<String>> {
    Ok(timeout(PATIENCE, lines.next_line()).await.context("no further line")??)
}

/// One node and the program that asks it.
pub(super) async fn one_node() -> Result<(Cluster, Program)> {
    let cluster = Cluster::start_with(1, &NodeOptions::default()).await?;
    let program = Program::asking(&cluster.endpoints())?;
    Ok((cluster, program))
}

/// What a finished run printed.
pub(super) fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}
