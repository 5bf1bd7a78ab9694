//! Flags, environment and configuration file: what is wrong is named, exit code 2, and nothing is made.

use std::net::TcpListener;

use super::refusal::{addresses, run, serve};

/// The usable arguments with these instead of, or after, their like.
fn with(args: &[String], flag: &str, value: &str) -> Vec<String> {
    let mut args = args.to_vec();
    match args.iter().position(|arg| arg == flag) {
        Some(at) => args[at + 1] = value.to_owned(),
        None => args.extend([flag.to_owned(), value.to_owned()]),
    }
    args
}

#[tokio::test]
async fn a_bad_flag_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let good = serve("n0", &data, addresses());
    let long = "x".repeat(254);
    for (flag, value, told) in [
        ("--api-addr", "nonsense", "--api-addr"),
        ("--api-addr", "127.0.0.1:99999", "--api-addr"),
        ("--api-addr", "0.0.0.0:7700", "--advertise-host"),
        ("--peer-addr", "127.0.0.1", "--peer-addr"),
        ("--peer-addr", "[::]:7701", "--advertise-host"),
        ("--gossip-addr", ":", "--gossip-addr"),
        ("--ops-addr", "", "--ops-addr"),
        ("--name", "", "--name"),
        ("--name", "two words", "--name"),
        ("--name", &long, "--name"),
        ("--advertise-host", "a/b", "--advertise-host"),
        ("--log-level", "info,=,", "--log-level"),
        ("--raft-heartbeat-ms", "5", "--raft-heartbeat-ms"),
        ("--raft-election-ms-min", "200", "--raft-election-ms-min"),
        ("--raft-election-ms-max", "400", "--raft-election-ms-max"),
        ("--raft-election-ms-max", "60001", "--raft-election-ms-max"),
        ("--raft-snapshot-entries", "0", "--raft-snapshot-entries"),
        ("--compaction-period-ms", "1", "--compaction-period-ms"),
        ("--found-history-versions", "0", "--found-history-versions"),
        ("--found-history-bytes", "0", "--found-history-bytes"),
        ("--found-events-ms", "0", "--found-events-ms"),
        ("--config", "/nonexistent/holdfast.yaml", "/nonexistent/holdfast.yaml"),
    ] {
        let ended = run(&with(&good, flag, value), &[]).await;
        let message = ended.refused(2, "usage");
        assert!(message.contains(told), "{flag} {value:?}: {message}");
        assert!(message.contains(value), "{flag} {value:?}: {message}");
    }
    assert!(!data.exists(), "a refused flag made a data directory");
}

#[tokio::test]
async fn a_flag_that_does_not_exist_or_cannot_be_read_is_a_usage_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let good = serve("n0", &data, addresses());
    for (args, told) in [
        (with(&good, "--no-such-flag", "1"), "--no-such-flag"),
        (with(&good, "--raft-heartbeat-ms", "soon"), "--raft-heartbeat-ms"),
        (with(&good, "--log-format", "yaml"), "--log-format"),
        (vec!["sevre".to_owned()], "sevre"),
        (vec!["serve".to_owned(), "stray".to_owned()], "stray"),
        (vec!["serve".to_owned(), "--data-dir".to_owned()], "--data-dir"),
    ] {
        let ended = run(&args, &[]).await;
        assert_eq!(ended.code, Some(2), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(told), "{args:?}: {}", ended.stderr);
    }
    let ended = run(&good, &[("HOLDFAST_RAFT_HEARTBEAT_MS", "soon")]).await;
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("soon"), "{}", ended.stderr);
    assert!(!data.exists(), "a refused flag made a data directory");
}

#[tokio::test]
async fn a_bad_configuration_file_is_named_with_its_field_and_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let file = dir.path().join("holdfast.yaml");
    let path = file.to_str().expect("the path is text");
    let good = with(&serve("n0", &data, addresses()), "--config", path);
    for (text, told) in [
        ("name: n0\nnmae: n1\n", &["nmae", "line 2"][..]),
        ("raft:\n  heartbeat: 5\n", &["heartbeat", "line 2"]),
        ("name: [a]\n", &["name", "line 1"]),
        ("log-format: yaml\n", &["log-format", "yaml"]),
        ("name: n0\n  bad: [\n", &["line 2"]),
        ("just text", &["just text"]),
        ("raft:\n  heartbeat-ms: 5\n", &["raft-heartbeat-ms", "5"]),
    ] {
        std::fs::write(&file, text).expect("the file is written");
        let message = run(&good, &[]).await.refused(2, "usage");
        for told in told {
            assert!(message.contains(told), "{text:?}: {told} expected in {message}");
        }
        if !text.contains("heartbeat-ms") {
            assert!(message.contains(path), "{message}");
        }
    }
    assert!(!data.exists(), "a refused file made a data directory");
}

#[tokio::test]
async fn a_busy_port_is_named_and_no_data_is_made() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    for flag in ["--api-addr", "--peer-addr", "--ops-addr"] {
        let holder = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let busy = holder.local_addr().expect("its address").to_string();
        let ended = run(&with(&serve("n0", &data, addresses()), flag, &busy), &[]).await;
        let message = ended.refused(15, "address-in-use");
        assert!(message.contains(flag) && message.contains(&busy), "{message}");
        assert!(!data.exists(), "{flag}: a data directory was made");
    }
}
