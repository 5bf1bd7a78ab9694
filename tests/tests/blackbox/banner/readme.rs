//! README.md against the program: the blocks for the shell that it shows are run as they stand there.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use holdfast_tests::harness::{Binary, Cluster, PortReservation, Scratch, Seen, Shell, poll};

/// Where the README's nodes listen: this, then the node's digit, then the port's.
const README_PORTS: &str = "127.0.0.1:77";
/// Ranges of ports tried, should another process take one in between.
const START_ATTEMPTS: usize = 5;
/// Bound on the way of a change to a watch on a loaded machine.
const SHOWN_LIMIT: Duration = Duration::from_secs(60);
/// What a node says whose address is taken.
const ADDRESS_IN_USE: &str = "address-in-use";

/// The whole README.
pub(super) fn readme() -> Result<String> {
    // Asked for when it runs: a binary in a shared target directory may be another checkout's.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or(env!("CARGO_MANIFEST_DIR").into());
    let path = Path::new(&package).join("../README.md");
    std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

/// The one block for the shell with this text in it.
pub(super) fn block_with(readme: &str, part: &str) -> Result<String> {
    let blocks = readme.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let found: Vec<&str> = blocks.filter(|block| block.contains(part)).collect();
    let [block] = found[..] else { bail!("{} blocks of README.md have {part:?}", found.len()) };
    Ok(block.to_owned())
}

/// The first three digits of a hundred ports that are free, as far as the block of nodes uses them.
fn free_hundred() -> Result<String> {
    for _ in 0..100 {
        let [start] = PortReservation::take(1)?.release()?[..] else { bail!("asked for one port") };
        let hundred = start.port() / 100;
        let used = (0..3).flat_map(|node| (0..4).map(move |port| hundred * 100 + node * 10 + port));
        if used.into_iter().all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()) {
            return Ok(hundred.to_string());
        }
    }
    bail!("no free hundred of ports")
}

/// A shell that is to run this script, with `holdfast` in its path and this endpoint in its environment.
fn bash(script: &str, endpoint: &str) -> Result<Command> {
    let binary = Binary::locate()?;
    let folder = binary.path().parent().context("the binary is in a folder")?.to_owned();
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(folder).chain(std::env::split_paths(&inherited)))?;
    let mut command = Command::new("bash");
    command
        .args(["-c", &format!("set -euo pipefail\n{script}")])
        .env("PATH", path)
        .env("HOLDFAST_ENDPOINT", endpoint)
        .env_remove("HOLDFAST_NAMESPACE")
        .stdin(Stdio::null());
    Ok(command)
}

/// Runs a block whose nodes get other ports. What it leaves in the background is stopped at its end.
fn run_nodes(block: &str, hundred: &str, scratch: &Scratch) -> Result<Output> {
    let block = block.replace(README_PORTS, &format!("127.0.0.1:{hundred}"));
    ensure!(!block.contains(":77"), "a port of the README is left: {block}");
    let script = format!("trap 'kill $(jobs -p); wait' EXIT\n{block}");
    let mut command = bash(&script, &format!("http://127.0.0.1:{hundred}00"))?;
    command.current_dir(scratch.path()).output().context("run bash")
}

#[test]
fn the_nodes_of_the_readme_form_the_cluster_that_it_shows() -> Result<()> {
    let block = block_with(&readme()?, "holdfast serve")?;
    for _ in 0..START_ATTEMPTS {
        let scratch = Scratch::new()?;
        let output = run_nodes(&block, &free_hundred()?, &scratch)?;
        let (shown, complaints) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if complaints.contains(ADDRESS_IN_USE) {
            continue;
        }
        ensure!(output.status.success(), "{}: {shown}{complaints}", output.status);
        for name in ["n0", "n1", "n2"] {
            let row = shown.lines().find(|line| line.split_whitespace().nth(1) == Some(name));
            let row = row.with_context(|| format!("the status lacks {name}: {shown}"))?;
            ensure!(row.contains("leader") || row.contains("voter"), "{row}");
        }
        return Ok(());
    }
    bail!("{START_ATTEMPTS} ranges of ports were taken by others")
}

/// A command that goes on until it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_commands_of_the_readme_do_what_it_says_while_its_watch_shows_them() -> Result<()> {
    let (tour, watch) =
        (block_with(&readme()?, "holdfast lock run nightly")?, block_with(&readme()?, "config watch")?);
    let cluster = Cluster::start(3).await?;
    let endpoint = &cluster.endpoints()[0];
    let scratch = Scratch::new()?;
    let seen = scratch.path().join("seen");
    Shell::at(&cluster.endpoints())?.text(&["config", "put", "app/first", "here"])?;
    // The shell becomes the command, so that the end of the one is the end of the other.
    let watching = bash(&format!("exec {watch}"), endpoint)?.stdout(File::create(&seen)?).spawn();
    let _watching = Running(watching.context("run bash")?);
    shown(&seen, &["state   app/first  here"]).await?;

    let output = bash(&tour, endpoint)?.output().context("run bash")?;
    let (text, complaints) = (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{}: {text}{complaints}", output.status);
    let token = text.lines().find_map(|line| line.strip_prefix("my fencing token is "));
    let token: u64 = token.context("the command ran")?.parse()?;
    ensure!(
        text.contains("state       free\n") && text.contains(&format!("last token  {token}\n")),
        "{text}"
    );
    ensure!(text.ends_with("blue"), "the value is back: {text}");
    shown(&seen, &["put     app/color  blue", "put     app/color  green", "put     app/color  blue"]).await
}

/// Waits until a file has lines that end in this way, in this order.
async fn shown(file: &Path, ends: &[&str]) -> Result<()> {
    poll("the watch to show the changes", SHOWN_LIMIT, async || {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let mut lines = text.lines();
        let found = ends.iter().all(|end| lines.any(|line| line.ends_with(end)));
        if found { Seen::Ready(()) } else { Seen::NotYet(text.clone()) }
    })
    .await
}
