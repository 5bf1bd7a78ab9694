//! The commands of configuration, against one real node.

mod editing;
mod items;
mod past;
mod transfer;
mod watching;

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};

use anyhow::{Context, Result, ensure};
use holdfast_tests::harness::{Cluster, Shell};
use serde_json::Value;

/// The documented exit codes that these commands end with.
const REFUSED: i32 = 1;
const USAGE: i32 = 2;
const NOT_FOUND: i32 = 3;
const CONFLICT: i32 = 4;

/// A node, and a user of it.
async fn node() -> Result<(Cluster, Shell)> {
    let cluster = Cluster::start(1).await?;
    let shell = Shell::at(&cluster.endpoints())?;
    Ok((cluster, shell))
}

/// Writes a value, and gives the revision of the write.
fn put(shell: &Shell, key: &str, value: &str) -> Result<u64> {
    let written = shell.json(&["config", "put", key, value])?;
    written["mod_revision"].as_u64().with_context(|| format!("{written} has a revision"))
}

/// Runs a command with this input.
fn with_input(shell: &Shell, args: &[&str], input: &[u8]) -> Result<Output> {
    let mut child =
        shell.command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // A command that refuses its input before it ends closes it.
    let _ = child.stdin.take().context("the input is piped")?.write_all(input);
    Ok(child.wait_with_output()?)
}

/// The bytes that a command prints that succeeds.
fn bytes(shell: &Shell, args: &[&str]) -> Result<Vec<u8>> {
    let output = shell.run(args)?;
    ensure!(output.status.success(), "holdfast {args:?}: {output:?}");
    Ok(output.stdout)
}

/// The keys of a list.
fn keys(list: &Value) -> Vec<&str> {
    list["items"].as_array().into_iter().flatten().filter_map(|item| item["key"].as_str()).collect()
}

/// A program of the shell, in a file of its own.
fn program(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, format!("#!/bin/sh\n{text}\n"))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o755))?;
    Ok(())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path in UTF-8")
}
