//! README.md against the program: the blocks for the shell that it shows are run as they stand there.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};
use holdfast_tests::harness::{Binary, PortReservation, Scratch};

/// Where the README's nodes listen: this, then the node's digit, then the port's.
const README_PORTS: &str = "127.0.0.1:77";
/// Ranges of ports tried, should another process take one in between.
const START_ATTEMPTS: usize = 5;
/// What a node says whose address is taken.
const ADDRESS_IN_USE: &str = "address-in-use";

/// The whole README.
pub(super) fn readme() -> Result<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    std::fs::read_to_string(path).with_context(|| format!("read {path}"))
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

/// Runs a block in a directory, with `holdfast` in the path and its nodes on other ports. What it leaves in the
/// background is stopped at its end.
fn run_block(block: &str, hundred: &str, scratch: &Scratch) -> Result<Output> {
    let block = block.replace(README_PORTS, &format!("127.0.0.1:{hundred}"));
    ensure!(!block.contains("77${i}") && !block.contains(":77"), "a port of its own is left: {block}");
    let script = format!("set -euo pipefail\ntrap 'kill $(jobs -p); wait' EXIT\n{block}");
    let binary = Binary::locate()?;
    let folder = binary.path().parent().context("the binary is in a folder")?;
    let path = std::env::join_paths(
        [folder.to_owned()]
            .into_iter()
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    )?;
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(scratch.path())
        .env("PATH", path)
        .env("HOLDFAST_ENDPOINT", format!("http://127.0.0.1:{hundred}00"))
        .stdin(Stdio::null())
        .output();
    output.context("run bash")
}

#[test]
fn the_nodes_of_the_readme_form_the_cluster_that_it_shows() -> Result<()> {
    let block = block_with(&readme()?, "holdfast serve")?;
    for _ in 0..START_ATTEMPTS {
        let scratch = Scratch::new()?;
        let output = run_block(&block, &free_hundred()?, &scratch)?;
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
