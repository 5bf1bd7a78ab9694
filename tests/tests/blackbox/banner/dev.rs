//! `holdfast dev` as its user sees it: the printed lines are run by `sh`, and the process is stopped by Ctrl-C.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use holdfast_tests::harness::{Binary, PortReservation, Scratch, Seen, poll};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::readme::readme;

/// Bound on a start on a loaded machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// What the command promises for its stop.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Ranges of ports tried, should another process take one in between.
const START_ATTEMPTS: usize = 5;
/// The exit code of an address in use.
const ADDRESS_IN_USE: i32 = 15;
/// The last line of the banner.
const BANNER_END: &str = "Ctrl-C stops all nodes.";
/// The ports of three nodes above the first one; gossip does not listen.
const PORTS: [u16; 9] = [0, 1, 3, 10, 11, 13, 20, 21, 23];

/// A `holdfast dev` that serves. Dropping it kills it.
struct Dev {
    child: Child,
    base_port: u16,
    banner: String,
    errors: PathBuf,
}

impl Dev {
    /// Starts it on free ports and waits for the end of its banner.
    async fn start(dir: &Path, args: &[&str]) -> Result<Self> {
        for _ in 0..START_ATTEMPTS {
            if let Some(dev) = Self::start_at(free_base_port()?, dir, args).await? {
                return Ok(dev);
            }
        }
        bail!("{START_ATTEMPTS} ranges of ports were taken by others")
    }

    /// Starts it, unless a port is taken.
    async fn start_at(base_port: u16, dir: &Path, args: &[&str]) -> Result<Option<Self>> {
        let (output, errors) = (dir.join("dev.out"), dir.join("dev.err"));
        let child = dev_command(base_port, args)?
            // A test that fails kills the process, and then nobody else removes its temporary directory.
            .env("TMPDIR", dir)
            .stdout(File::create(&output)?)
            .stderr(File::create(&errors)?)
            .spawn()
            .context("start holdfast dev")?;
        let mut dev = Self { child, base_port, banner: String::new(), errors };
        let started = poll("the banner", START_LIMIT, async || {
            let text = std::fs::read_to_string(&output).unwrap_or_default();
            match dev.child.try_wait() {
                Ok(Some(status)) => Seen::Ready((text, Some(status))),
                Ok(None) if text.contains(BANNER_END) => Seen::Ready((text, None)),
                Ok(None) => Seen::NotYet(text),
                Err(error) => Seen::NotYet(error.to_string()),
            }
        });
        match started.await? {
            (banner, None) => {
                dev.banner = banner;
                Ok(Some(dev))
            }
            (_, Some(status)) if status.code() == Some(ADDRESS_IN_USE) => Ok(None),
            (text, Some(status)) => bail!("holdfast dev ended with {status}: {text}{}", dev.complaints()),
        }
    }

    fn complaints(&self) -> String {
        std::fs::read_to_string(&self.errors).unwrap_or_default()
    }

    /// The printed lines for the shell.
    fn lines(&self) -> Vec<String> {
        curl_lines(&self.banner)
    }

    fn cluster_id(&self) -> Result<String> {
        let line = self.banner.lines().find_map(|line| line.trim().strip_prefix("cluster "));
        Ok(line.context("the banner names the cluster")?.trim().to_owned())
    }

    fn leader(&self) -> Result<&str> {
        let leads = self.banner.lines().next().and_then(|line| line.strip_suffix(" leads."));
        leads.and_then(|line| line.rsplit(' ').next()).context("the banner names the leader")
    }

    async fn stop(mut self, signal: Signal) -> Result<ExitStatus> {
        kill_process(Pid::from_child(&self.child), signal)?;
        let child = &mut self.child;
        poll("the end of holdfast dev", STOP_LIMIT, async || match child.try_wait() {
            Ok(Some(status)) => Seen::Ready(status),
            Ok(None) => Seen::NotYet("it runs".to_owned()),
            Err(error) => Seen::NotYet(error.to_string()),
        })
        .await
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn dev_command(base_port: u16, args: &[&str]) -> Result<Command> {
    let mut command = Command::new(Binary::locate()?.path());
    command.args(["dev", "--base-port", &base_port.to_string()]).args(args).stdin(Stdio::null());
    Ok(command)
}

/// A port at which a range of free ones begins.
fn free_base_port() -> Result<u16> {
    for _ in 0..100 {
        let [base] = PortReservation::take(1)?.release()?[..] else { bail!("asked for one port") };
        let is_free = |offset: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, base.port() + offset)).is_ok();
        if PORTS.iter().all(is_free) {
            return Ok(base.port());
        }
    }
    bail!("no range of free ports")
}

fn curl_lines(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.trim_start_matches("$ "));
    lines.filter(|line| line.starts_with("curl ")).map(ToOwned::to_owned).collect()
}

/// Runs a line as somebody who pastes it does, and splits what it prints into body and status.
fn paste(line: &str) -> Result<(String, u16)> {
    let output = Command::new("sh").args(["-c", line]).stdin(Stdio::null()).output().context("run sh")?;
    let printed = String::from_utf8(output.stdout)?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && complaint.is_empty(), "{line}\n{}: {complaint}", output.status);
    let (body, status) = printed.trim_end().rsplit_once(' ').with_context(|| format!("{line}: {printed}"))?;
    Ok((body.to_owned(), status.parse().with_context(|| format!("{line}: {printed}"))?))
}

/// Runs the whole list once and checks every answer. Gives the token that was granted.
fn take_the_tour(lines: &[String], stored_before: bool) -> Result<u64> {
    let [take, take_again, write, read, release, look] = lines else {
        bail!("the banner has other lines: {lines:#?}");
    };
    let (body, status) = paste(take)?;
    ensure!(status == 201, "{take}: {status} {body}");
    let held: Value = serde_json::from_str(&body)?;
    ensure!(held["state"] == "held", "{body}");
    let token = held["fencing_token"].as_u64().context("a fencing token")?;

    let (body, status) = paste(take_again)?;
    ensure!(status == 409, "{take_again}: {status} {body}");
    let problem: Value = serde_json::from_str(&body)?;
    ensure!(problem["code"] == "lock-held", "{body}");
    ensure!(problem["holders"][0]["fencing_token"] == token, "the refusal names another holder: {body}");

    let (body, status) = paste(write)?;
    ensure!(status == if stored_before { 200 } else { 201 }, "{write}: {status} {body}");
    let (body, status) = paste(read)?;
    ensure!((status, body.as_str()) == (200, r#"{"hello":"world"}"#), "{read}: {status} {body}");

    let (body, status) = paste(release)?;
    ensure!((status, body.as_str()) == (204, ""), "{release}: {status} {body}");
    let (body, status) = paste(look)?;
    let lock: Value = serde_json::from_str(&body)?;
    ensure!(status == 200 && lock["holders"] == Value::Array(vec![]), "{look}: {status} {body}");
    ensure!(lock["last_token"] == token, "{look}: {body}");
    Ok(token)
}

#[tokio::test]
async fn the_lines_of_the_banner_work_twice_and_again_on_resumed_data() -> Result<()> {
    let scratch = Scratch::new()?;
    let data = scratch.path().join("data");
    let args = ["--data-dir", data.to_str().context("a path in UTF-8")?];
    let dev = Dev::start(scratch.path(), &args).await?;
    ensure!(dev.banner.contains("Trusted network only"), "{}", dev.banner);
    ensure!(dev.banner.contains(args[1]) && !dev.banner.contains("temporary"), "{}", dev.banner);
    ensure!(["n1", "n2", "n3"].contains(&dev.leader()?), "{}", dev.banner);
    let first = take_the_tour(&dev.lines(), false)?;
    let second = take_the_tour(&dev.lines(), true)?;
    ensure!(first < second, "the second grant has token {second} after {first}");
    let (cluster_id, base_port) = (dev.cluster_id()?, dev.base_port);
    ensure!(dev.complaints().is_empty(), "a healthy cluster is quiet: {}", dev.complaints());
    ensure!(dev.stop(Signal::INT).await?.success());

    let resumed = Dev::start_at(base_port, scratch.path(), &args).await?.context("the same ports again")?;
    ensure!(resumed.cluster_id()? == cluster_id, "{}", resumed.banner);
    let (body, status) = paste(&resumed.lines()[3])?;
    ensure!((status, body.as_str()) == (200, r#"{"hello":"world"}"#), "resumed: {status} {body}");
    let third = take_the_tour(&resumed.lines(), true)?;
    ensure!(second < third, "the grant after the resumption has token {third} after {second}");
    ensure!(resumed.stop(Signal::TERM).await?.success());

    // The cluster stays the one that it is: neither smaller nor elsewhere.
    let smaller = dev_command(base_port, &["--nodes", "1", args[0], args[1]])?.output()?;
    let complaint = String::from_utf8_lossy(&smaller.stderr);
    ensure!(smaller.status.code() == Some(2) && complaint.contains("--nodes 3"), "{complaint}");
    let elsewhere = dev_command(free_base_port()?, &args)?.output()?;
    let complaint = String::from_utf8_lossy(&elsewhere.stderr);
    let advice = format!("--base-port {base_port}");
    ensure!(elsewhere.status.code() == Some(12) && complaint.contains(&advice), "{complaint}");
    Ok(())
}

#[tokio::test]
async fn the_tour_of_the_readme_is_the_one_of_the_banner() -> Result<()> {
    let scratch = Scratch::new()?;
    let dev = Dev::start(scratch.path(), &[]).await?;
    let readme = readme()?;
    let port = |index: u16| format!(":{}/", dev.base_port + 10 * index);
    let as_printed = |line: String| {
        line.replace(":7700/", &port(0)).replace(":7710/", &port(1)).replace(":7720/", &port(2))
    };
    let told: Vec<String> = curl_lines(&readme).into_iter().map(as_printed).collect();
    ensure!(told == dev.lines(), "README.md has {told:#?}, the banner {:#?}", dev.lines());
    ensure!(dev.stop(Signal::INT).await?.success());
    Ok(())
}

#[tokio::test]
async fn without_a_data_directory_the_data_is_said_to_be_temporary_and_goes_at_the_end() -> Result<()> {
    let scratch = Scratch::new()?;
    let dev = Dev::start(scratch.path(), &["--nodes", "1"]).await?;
    let line = dev.banner.lines().find_map(|line| line.trim().strip_prefix("data "));
    let (path, _) = line.and_then(|line| line.split_once(" (temporary")).context("a temporary directory")?;
    let path = PathBuf::from(path.trim());
    ensure!(path.join("n1").is_dir(), "{} holds no node", path.display());
    take_the_tour(&dev.lines(), false)?;
    ensure!(dev.stop(Signal::INT).await?.success());
    ensure!(!path.exists(), "{} is left", path.display());
    Ok(())
}

#[tokio::test]
async fn a_busy_port_is_named_before_anything_is_written() -> Result<()> {
    let scratch = Scratch::new()?;
    let data = scratch.path().join("data");
    let base_port = free_base_port()?;
    // The last of all: nothing may have begun by then.
    let busy = base_port + PORTS[PORTS.len() - 1];
    let busy_socket = TcpListener::bind((Ipv4Addr::LOCALHOST, busy));
    let args = ["--data-dir", data.to_str().context("a path in UTF-8")?];
    let output = dev_command(base_port, &args)?.output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(ADDRESS_IN_USE), "{}: {complaint}", output.status);
    ensure!(complaint.contains("n1") || complaint.contains("n2") || complaint.contains("n3"), "{complaint}");
    // Where another process took the port first, it is as busy.
    ensure!(busy_socket.is_err() || complaint.contains(&busy.to_string()), "{complaint} names not {busy}");
    ensure!(!data.exists(), "{} was made", data.display());
    Ok(())
}
