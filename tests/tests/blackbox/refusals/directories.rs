//! Data directories that are not this node's to use: each refused with its path, and left as it was.

use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast_tests::harness::{Cluster, NodeOptions, Seen, poll};
use serde_json::json;

use super::refusal::{Ended, addresses, assert_unchanged, run, serve, tree};

/// The directory of a node that founded a cluster, wrote a few values and stopped in order.
struct Used {
    cluster: Cluster,
    cluster_id: String,
}

/// Values that a used directory holds.
const VALUES: usize = 40;

/// Values that do not compress away.
fn value(index: usize) -> String {
    (0..125).map(|part: usize| format!("{:04x}", (index * 7_919 + part * part * 104_729) % 65_521)).collect()
}

impl Used {
    async fn with(options: NodeOptions) -> Self {
        let mut cluster = Cluster::start_with(1, &options).await.unwrap_or_else(|error| panic!("{error:#}"));
        let url = cluster.nodes()[0].api_url();
        let http = cluster.http().clone();
        let view: serde_json::Value = http
            .get(format!("{url}/v1/cluster"))
            .send()
            .await
            .expect("an answer")
            .json()
            .await
            .expect("JSON");
        let cluster_id = view["cluster_id"].as_str().expect("an id").to_owned();
        for index in 0..VALUES {
            let put = http.put(format!("{url}/v1/namespaces/default/config/key-{index}")).body(value(index));
            assert!(put.send().await.expect("an answer").status().is_success());
        }
        let status = cluster.node_mut(0).stop().await.unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(status.code(), Some(0), "{status} on SIGTERM: {}", cluster.nodes()[0].describe());
        Self { cluster, cluster_id }
    }

    /// How many of the values are read back; fails when another value comes.
    async fn right_values(&self) -> usize {
        let url = self.cluster.nodes()[0].api_url();
        let mut right = 0;
        for index in 0..VALUES {
            let read = self.cluster.http().get(format!("{url}/v1/namespaces/default/config/key-{index}"));
            let Ok(answer) = read.send().await else { continue };
            if answer.status().is_success() {
                assert_eq!(answer.text().await.expect("text"), value(index), "key-{index}");
                right += 1;
            } else {
                assert!(answer.status().is_server_error(), "key-{index}: {}", answer.status());
            }
        }
        right
    }

    async fn new() -> Self {
        Self::with(NodeOptions::default()).await
    }

    fn dir(&self) -> PathBuf {
        self.cluster.nodes()[0].data_dir().to_owned()
    }

    /// Starts a node on the directory, with its own name and these further arguments.
    async fn start(&self, more: &[&str]) -> Ended {
        let mut args = serve("n0", &self.dir(), addresses());
        args.extend(more.iter().map(|arg| (*arg).to_owned()));
        run(&args, &[]).await
    }

    /// Fails unless it is refused in this way, with the path named and nothing changed.
    async fn refused(&self, more: &[&str], code: i32, ending: &str, named: &Path) -> String {
        let before = tree(&self.dir());
        let message = self.start(more).await.refused(code, ending);
        let named = named.to_str().expect("the path is text");
        assert!(message.contains(named), "{named} expected in {message}");
        assert_unchanged(&before, &self.dir(), ending);
        message
    }
}

/// CRC-32C (RFC 3720), bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 },
        )
    })
}

#[test]
fn the_checksum_of_these_tests_is_the_known_one() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).expect("the file is read");
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).expect("the file is written");
}

#[tokio::test]
async fn a_directory_in_use_is_refused() {
    let cluster =
        Cluster::launch(1, &NodeOptions::default()).await.unwrap_or_else(|error| panic!("{error:#}"));
    let dir = cluster.nodes()[0].data_dir().to_owned();
    let message = run(&serve("n0", &dir, addresses()), &[]).await.refused(10, "data-in-use");
    assert!(message.contains(dir.to_str().expect("the path is text")), "{message}");
    let view = cluster.status(0).await.unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(view.phase, "waiting", "the first process is not disturbed");
}

#[tokio::test]
async fn a_directory_of_another_node_or_cluster_is_refused() {
    let used = Used::new().await;
    let dir = used.dir();
    let message = used.refused(&["--cluster-id", "another"], 12, "data-foreign", &dir).await;
    assert!(message.contains(&used.cluster_id) && message.contains("another"), "{message}");

    let before = tree(&dir);
    let message = run(&serve("n1", &dir, addresses()), &[]).await.refused(12, "data-foreign");
    for told in [dir.to_str().expect("the path is text"), "n0", "n1"] {
        assert!(message.contains(told), "{told} expected in {message}");
    }
    assert_unchanged(&before, &dir, "another name");
}

#[tokio::test]
async fn a_directory_that_holds_something_else_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("thesis.txt"), "years of work").expect("the file is written");
    let before = tree(dir.path());
    let message = run(&serve("n0", dir.path(), addresses()), &[]).await.refused(12, "data-foreign");
    assert!(message.contains("thesis.txt"), "{message}");
    assert_unchanged(&before, dir.path(), "a foreign directory");
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_not_lost_data() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    std::fs::write(&file, "not a directory").expect("the file is written");
    let below = file.join("data");
    for path in [&file, &below] {
        let message = run(&serve("n0", path, addresses()), &[]).await.refused(11, "data-unwritable");
        assert!(message.contains(path.to_str().expect("the path is text")), "{message}");
    }
    assert_eq!(std::fs::read(&file).expect("the file is read"), b"not a directory");
}

#[tokio::test]
async fn a_newer_older_or_damaged_identity_is_refused_by_name() {
    let used = Used::new().await;
    let identity = used.dir().join("identity");
    let good = std::fs::read(&identity).expect("the identity");
    // Version, checksum over name, version and payload, payload.
    let own = crc32c(&[b"identity".as_slice(), &good[..1], &good[5..]].concat());
    assert_eq!(good[1..5], own.to_le_bytes(), "the format of the identity is another one");
    for (version, code, ending, told) in [
        (good[0] + 1, 13, "data-newer", "format 4 is newer than 3"),
        (good[0] - 1, 16, "data-older", "format 2 is older than 3"),
    ] {
        let mut other = good.clone();
        other[0] = version;
        let sum = crc32c(&[b"identity".as_slice(), &other[..1], &other[5..]].concat());
        other[1..5].copy_from_slice(&sum.to_le_bytes());
        std::fs::write(&identity, &other).expect("the identity is written");
        let message = used.refused(&[], code, ending, &identity).await;
        assert!(message.contains(told), "{told} expected in {message}");
    }

    for at in 0..good.len() {
        // Each start costs some time; the first bytes are the envelope, and all others are alike.
        if 8 < at && !at.is_multiple_of(7) {
            continue;
        }
        std::fs::write(&identity, &good).expect("the identity is written");
        flip(&identity, at);
        used.refused(&[], 14, "data-damaged", &identity).await;
    }
    std::fs::write(&identity, &good[..good.len() - 1]).expect("the identity is written");
    used.refused(&[], 14, "data-damaged", &identity).await;
    std::fs::remove_file(&identity).expect("the identity is removed");
    used.refused(&[], 14, "data-damaged", &identity).await;
}

#[tokio::test]
async fn a_flipped_bit_in_the_middle_of_the_log_is_refused_with_file_and_offset() {
    let used = Used::new().await;
    let log = used.dir().join("log");
    let newest = std::fs::read_dir(&log).expect("the log").filter_map(|entry| {
        let path = entry.expect("an entry").path();
        let is_wal = path.extension().is_some_and(|extension| extension == "log");
        is_wal.then(|| (path.metadata().expect("its size").len(), path))
    });
    let (length, wal) = newest.max().expect("a write-ahead log");
    assert!(20_000 < length, "40 values of 500 bytes are in the log, not {length} bytes");
    let good = std::fs::read(&wal).expect("the log is read");
    let length = good.len();
    for at in [length / 4, length / 2, length - length / 4] {
        std::fs::write(&wal, &good).expect("the log is written");
        flip(&wal, at);
        let message = used.refused(&[], 14, "data-damaged", &wal).await;
        let told =
            message.split("offset ").nth(1).and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
        let offset: usize =
            told.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no offset: {message}"));
        assert!(offset <= at && at < offset + 40_000, "byte {at} was flipped: {message}");
    }
}

/// The files below a directory that hold something.
fn files_with_bytes(dir: &Path) -> Vec<PathBuf> {
    let files =
        tree(dir).into_iter().filter(|(_, bytes)| bytes.as_ref().is_some_and(|bytes| !bytes.is_empty()));
    files.map(|(name, _)| dir.join(name)).collect()
}

/// Small snapshots, soon.
fn with_snapshots() -> NodeOptions {
    NodeOptions {
        args: ["--raft-snapshot-entries", "10", "--raft-keep-entries", "2"].map(str::to_owned).into(),
        env: vec![],
    }
}

/// The newest snapshot that is complete.
fn newest_snapshot(snapshots: &Path) -> Option<PathBuf> {
    let all =
        std::fs::read_dir(snapshots).expect("the snapshots").map(|entry| entry.expect("an entry").path());
    all.filter(|path| path.extension().is_none()).max()
}

impl Used {
    /// Runs the node until it has made a snapshot after `before`, and kills it.
    async fn make_snapshot(&mut self, before: Option<&Path>) -> PathBuf {
        if !self.cluster.node_mut(0).is_running().expect("the process is looked after") {
            self.cluster.node_mut(0).start().unwrap_or_else(|error| panic!("{error:#}"));
        }
        self.cluster.wait_node_serving(0).await.unwrap_or_else(|error| panic!("{error:#}"));
        let url = self.cluster.nodes()[0].api_url();
        let snapshots = self.dir().join("snapshots");
        let made = poll("a snapshot", Duration::from_secs(20), async || {
            let put = self.cluster.http().put(format!("{url}/v1/namespaces/default/config/more")).body("x");
            assert!(put.send().await.expect("an answer").status().is_success());
            match newest_snapshot(&snapshots) {
                Some(path) if before.is_none_or(|before| before < path.as_path()) => Seen::Ready(path),
                found => Seen::NotYet(format!("{found:?}")),
            }
        });
        let made = made.await.unwrap_or_else(|error| panic!("{error:#}"));
        self.cluster.node_mut(0).kill().unwrap_or_else(|error| panic!("{error:#}"));
        newest_snapshot(&snapshots).unwrap_or(made)
    }
}

#[tokio::test]
async fn a_flipped_bit_in_a_snapshot_is_named_and_the_snapshot_is_not_used() {
    let mut used = Used::with(with_snapshots()).await;
    let mut snapshot = used.make_snapshot(None).await;
    let count = files_with_bytes(&snapshot).len();
    assert!(3 < count, "a snapshot has a manifest and a checkpoint, not {count} files");
    for index in 0..count {
        let files = files_with_bytes(&snapshot);
        // The last is the manifest; later snapshots may have more files, so it is counted from the end.
        let file = &files[files.len() - 1 - index % files.len()];
        // A file of its own: a checkpoint shares its files with the live state.
        let mut bytes = std::fs::read(file).expect("the file is read");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        std::fs::remove_file(file).expect("the link is removed");
        std::fs::write(file, &bytes).expect("the file is written");
        used.cluster.node_mut(0).start().unwrap_or_else(|error| panic!("{error:#}"));
        used.cluster.wait_node_serving(0).await.unwrap_or_else(|error| panic!("{error:#}"));
        let node = &used.cluster.nodes()[0];
        let log = std::fs::read_to_string(node.log()).expect("the log");
        let named = file.to_str().expect("the path is text");
        let problem = match named.strip_suffix("/manifest") {
            Some(snapshot) => format!("in {snapshot}: snapshot manifest is damaged"),
            None => format!("snapshot file {named} is damaged"),
        };
        let told = log.lines().any(|line| line.contains(&problem));
        assert!(told, "{named} is not named: {}", node.log_tail());
        assert_eq!(used.right_values().await, VALUES, "the live state is whole");
        snapshot = used.make_snapshot(Some(&snapshot)).await;
    }
}

#[tokio::test]
async fn a_flipped_bit_in_the_state_is_never_read_as_a_value() {
    let mut used = Used::with(with_snapshots()).await;
    let tables: Vec<PathBuf> = files_with_bytes(&used.dir().join("state"))
        .into_iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "sst"))
        .collect();
    assert!(!tables.is_empty(), "snapshots write tables");
    let mut unanswered = 0;
    for table in tables {
        let good = std::fs::read(&table).expect("the table is read");
        flip(&table, good.len() / 3);
        used.cluster.node_mut(0).start().unwrap_or_else(|error| panic!("{error:#}"));
        let ended_or_serves = poll("the node to serve or to end", Duration::from_secs(20), async || {
            if !used.cluster.node_mut(0).is_running().expect("the process is looked after") {
                return Seen::Ready(false);
            }
            match used.cluster.status(0).await {
                Ok(status) if status.phase == "serving" => Seen::Ready(true),
                other => Seen::NotYet(format!("{other:?}")),
            }
        });
        // Each value is right or not answered; a wrong one fails in here.
        let serves = ended_or_serves.await.unwrap_or_else(|error| panic!("{error:#}"));
        unanswered += if serves { VALUES - used.right_values().await } else { VALUES };
        if used.cluster.node_mut(0).is_running().expect("the process is looked after") {
            used.cluster.node_mut(0).kill().unwrap_or_else(|error| panic!("{error:#}"));
        }
        std::fs::write(&table, &good).expect("the table is written");
    }
    assert!(0 < unanswered, "no flipped bit was in what was read");
}

#[tokio::test]
async fn a_node_that_stopped_in_order_goes_on() {
    let mut used = Used::new().await;
    used.cluster.node_mut(0).start().unwrap_or_else(|error| panic!("{error:#}"));
    used.cluster.wait_node_serving(0).await.unwrap_or_else(|error| panic!("{error:#}"));
    let url = used.cluster.nodes()[0].api_url();
    assert_eq!(used.right_values().await, VALUES);
    let again = poll("the cluster to be the same", Duration::from_secs(10), async || {
        let answer = used.cluster.http().get(format!("{url}/v1/cluster")).send().await.expect("an answer");
        let view: serde_json::Value = answer.json().await.expect("JSON");
        if view["cluster_id"] == json!(used.cluster_id) {
            Seen::Ready(())
        } else {
            Seen::NotYet(view.to_string())
        }
    });
    again.await.unwrap_or_else(|error| panic!("{error:#}"));
}
