//! One run of the binary that must end by itself, and what it leaves behind.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use holdfast_tests::harness::{Addresses, Binary, PortReservation, Seen, poll};
use serde_json::Value;

/// A refusal is immediate; a process that still runs was not refused.
const LIMIT: Duration = Duration::from_secs(20);

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stderr: String,
}

impl Ended {
    /// The message of the one JSON line that says why, with its exit code and ending.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, ending: &str) -> String {
        assert_eq!(self.code, Some(code), "{ending} expected: {}", self.stderr);
        let reasons: Vec<Value> = self
            .stderr
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(|line: &Value| line["ending"].is_string())
            .collect();
        let [reason] = reasons.as_slice() else {
            panic!("one line with an ending expected: {}", self.stderr)
        };
        assert_eq!((&reason["ending"], &reason["exit_code"]), (&Value::from(ending), &Value::from(code)));
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        reason["message"].as_str().unwrap_or_else(|| panic!("no message: {reason}")).to_owned()
    }
}

/// Four addresses that nobody uses.
pub(crate) fn addresses() -> Addresses {
    let ports = PortReservation::take(4).and_then(PortReservation::release).expect("free ports");
    Addresses { api: ports[0], peer: ports[1], gossip: ports[2], ops: ports[3] }
}

/// The arguments of a node that could run.
pub(crate) fn serve(name: &str, data_dir: &Path, addresses: Addresses) -> Vec<String> {
    let flag = |flag: &str, value: String| [format!("--{flag}"), value];
    let mut args = vec!["serve".to_owned()];
    args.extend(flag("name", name.to_owned()));
    args.extend(flag("data-dir", data_dir.to_str().expect("the path is text").to_owned()));
    args.extend(flag("api-addr", addresses.api.to_string()));
    args.extend(flag("peer-addr", addresses.peer.to_string()));
    args.extend(flag("gossip-addr", addresses.gossip.to_string()));
    args.extend(flag("ops-addr", addresses.ops.to_string()));
    args.extend(flag("log-format", "json".to_owned()));
    args
}

/// Runs the binary until it ends by itself.
pub(crate) async fn run(args: &[String], env: &[(&str, &str)]) -> Ended {
    let binary = Binary::locate().unwrap_or_else(|error| panic!("{error:#}"));
    let mut stderr = tempfile::tempfile().expect("a file for its output");
    let mut command = Command::new(binary.path());
    command.args(args).envs(env.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(stderr.try_clone().expect("a second handle"));
    let mut child = command.spawn().expect("the binary starts");
    let ended = poll("the process to end", LIMIT, async || match child.try_wait() {
        Ok(Some(status)) => Seen::Ready(status),
        Ok(None) => Seen::NotYet("it runs".to_owned()),
        Err(error) => Seen::NotYet(error.to_string()),
    });
    let ended = ended.await;
    if ended.is_err() {
        child.kill().expect("it can be killed");
        child.wait().expect("it is reaped");
    }
    let mut bytes = Vec::new();
    std::io::Seek::rewind(&mut stderr).expect("the file can be read again");
    std::io::Read::read_to_end(&mut stderr, &mut bytes).expect("the output is read");
    let stderr = String::from_utf8_lossy(&bytes).into_owned();
    let status = ended.unwrap_or_else(|error| panic!("{args:?}: {error:#}: {stderr}"));
    Ended { code: status.code(), stderr }
}

/// Every file below a directory with its bytes, every directory without.
pub(crate) fn tree(root: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).expect("the directory is read") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(root).expect("it is below").to_owned();
            if path.is_dir() {
                found.insert(name, None);
                open.push(path);
            } else {
                found.insert(name, Some(std::fs::read(&path).expect("the file is read")));
            }
        }
    }
    found
}

/// Fails if two trees differ, with the names that do.
#[track_caller]
pub(crate) fn assert_unchanged(before: &BTreeMap<PathBuf, Option<Vec<u8>>>, root: &Path, what: &str) {
    let after = tree(root);
    let names = before.keys().chain(after.keys());
    let differ: Vec<_> = names.filter(|name| before.get(*name) != after.get(*name)).collect();
    assert!(differ.is_empty(), "{what}: the refusal changed {differ:?}");
}
