//! What is dropped of the past, and what reads say then. Each test has a cluster of its own that keeps little.

use std::net::SocketAddr;
use std::time::Duration;

use holdfast_tests::harness::{Cluster, Metrics, NodeOptions, Seen, poll};
use serde_json::{Value, json};

use super::wire::{Ask, Reply, ask, exchange};

const NAMESPACE: &str = "/v1/namespaces/default";
/// A compaction is due at once; a loaded machine needs a while for it.
const PATIENCE: Duration = Duration::from_secs(30);

async fn cluster(size: usize, kept: &[&str]) -> Cluster {
    let often = ["--compaction-period-ms", "100"];
    let args = often.iter().chain(kept).map(|arg| (*arg).to_owned()).collect();
    let options = NodeOptions { args, env: vec![] };
    Cluster::start_with(size, &options).await.unwrap_or_else(|error| panic!("{error:#}"))
}

async fn send(api: SocketAddr, request: Ask) -> Reply {
    exchange(api, &request.bytes()).await.unwrap_or_else(|error| panic!("{request:?}: {error}"))
}

async fn put(api: SocketAddr, key: &str, value: &str) -> u64 {
    let reply = send(api, ask("PUT", format!("{NAMESPACE}/config/{key}")).body(value)).await;
    assert!([200, 201].contains(&reply.status), "{}", reply.shown());
    reply.etag()
}

/// The revisions of a key's versions, the oldest first; none when it has no past.
async fn past(api: SocketAddr, key: &str) -> Vec<u64> {
    let reply = send(api, ask("GET", format!("{NAMESPACE}/history/{key}"))).await;
    if reply.status == 404 {
        reply.refused(404, "key-not-found");
        return Vec::new();
    }
    let body = reply.expect(200).value();
    let versions = body["versions"].as_array().expect("versions").iter().rev();
    versions.map(|version| version["mod_revision"].as_u64().expect("a revision")).collect()
}

async fn wait_past(api: SocketAddr, key: &str, expected: &[u64]) {
    let reached = poll("the compaction", PATIENCE, async || {
        let found = past(api, key).await;
        if found == expected { Seen::Ready(()) } else { Seen::NotYet(format!("{found:?}")) }
    });
    reached.await.unwrap_or_else(|error| panic!("{error:#}"));
}

fn at(key: &str, revision: u64) -> Ask {
    ask("GET", format!("{NAMESPACE}/config/{key}?at_revision={revision}"))
}

#[tokio::test]
async fn what_is_dropped_is_gone_with_the_oldest_revision_told_and_what_is_kept_is_read() {
    let cluster = cluster(3, &["--found-history-versions", "2", "--found-history-ms", "1"]).await;
    let nodes = cluster.nodes();
    let api = nodes[0].addresses().api;
    let kept = put(api, "kept", "for ever").await;
    put(api, "gone", "soon").await;
    let mut busy = Vec::new();
    for n in 1..=6 {
        busy.push(put(api, "busy", &format!("v{n}")).await);
    }
    send(api, ask("DELETE", format!("{NAMESPACE}/config/gone"))).await.expect(204);
    // The newest two are kept for their number; of a deleted key only its age keeps anything.
    wait_past(api, "busy", &busy[4..]).await;
    wait_past(api, "gone", &[]).await;
    let compacted =
        send(api, at("busy", busy[0])).await.refused(410, "revision-compacted")["revision"].clone();
    let compacted = compacted.as_u64().expect("the oldest readable revision");
    assert!(busy[5] < compacted, "the delete was dropped with what it deleted");

    for node in nodes {
        let api = node.addresses().api;
        let gone = |reply: Reply| assert_eq!(reply.refused(410, "revision-compacted")["revision"], compacted);
        for revision in [1, busy[0], busy[3]] {
            gone(send(api, at("busy", revision)).await);
        }
        gone(send(api, at("gone", busy[0])).await);
        // Whether a key without a version at a revision existed then is not known, but a version that is there is right.
        gone(send(api, at("never", busy[0])).await);
        send(api, at("never", compacted)).await.refused(404, "key-not-found");
        for (key, revision, value) in
            [("kept", kept, "for ever"), ("busy", busy[4], "v5"), ("busy", compacted, "v6")]
        {
            let read = send(api, at(key, revision)).await.expect(200);
            assert_eq!(read.text(), value, "{key} at {revision}");
        }
        gone(send(api, ask("GET", format!("{NAMESPACE}/config?at_revision={}", busy[5]))).await);
        gone(send(api, ask("GET", format!("{NAMESPACE}/config?cursor={}.a", busy[5]))).await);
        let list = send(api, ask("GET", format!("{NAMESPACE}/config?at_revision={compacted}"))).await;
        assert_eq!(list.expect(200).value()["items"].as_array().map(Vec::len), Some(2));
        let diff = |from: u64, to: u64| ask("GET", format!("{NAMESPACE}/diff/busy?from={from}&to={to}"));
        gone(send(api, diff(busy[0], busy[5])).await);
        gone(send(api, diff(busy[5], busy[0])).await);
        assert_eq!(send(api, diff(busy[4], busy[5])).await.expect(200).value()["equal"], false);
        let rollback = |to: u64| {
            let body = json!({ "to_revision": to });
            ask("POST", format!("{NAMESPACE}/rollback/busy")).json(&body).header("If-Match", "*")
        };
        gone(send(api, rollback(busy[0])).await);
    }
    let rolled = ask("POST", format!("{NAMESPACE}/rollback/kept")).json(&json!({ "to_revision": kept }));
    let rolled = send(api, rolled).await.expect(200);
    assert_eq!(rolled.value()["version"], 2);

    let mut slices = 0.0;
    for node in nodes {
        let caught_up = format!("{NAMESPACE}/config/kept?min_revision={}", rolled.etag());
        send(node.addresses().api, ask("GET", caught_up)).await.expect(200);
        let metrics = Metrics::scrape(cluster.http(), &node.ops_url()).await.expect("metrics");
        let gauge = |name: &str| metrics.value(name, &[]).unwrap_or_else(|| panic!("no {name}"));
        slices += gauge("holdfast_compaction_slices_total");
        let revision = gauge("holdfast_config_compacted_revision");
        assert!(f64::from(u32::try_from(compacted).expect("a small revision")) <= revision, "{revision}");
        assert!(1.0 <= gauge("holdfast_config_superseded_versions"));
        assert!(1.0 <= gauge("holdfast_config_history_bytes"));
    }
    assert!(1.0 <= slices, "nobody proposed a compaction");
}

#[tokio::test]
async fn the_oldest_versions_go_first_when_all_of_them_are_too_large() {
    let cluster = cluster(1, &["--found-history-bytes", "2000"]).await;
    let api = cluster.nodes()[0].addresses().api;
    let value = "v".repeat(500);
    let mut written = Vec::new();
    for n in 0..10 {
        written.push(put(api, if n % 2 == 0 { "even" } else { "odd" }, &value).await);
    }
    // Three superseded values with their keys fit into 2,000 bytes, beside the two that are not superseded.
    wait_past(api, "even", &[written[6], written[8]]).await;
    wait_past(api, "odd", &[written[5], written[7], written[9]]).await;
    let read = |key: &'static str, revision: u64| send(api, at(key, revision));
    assert_eq!(read("odd", written[5]).await.expect(200).text(), value);
    let oldest: Value = read("even", written[4]).await.refused(410, "revision-compacted")["revision"].clone();
    assert_eq!(oldest, written[6], "where the newest of the dropped ones was superseded");
}
