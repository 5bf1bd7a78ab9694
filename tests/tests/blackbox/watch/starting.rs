//! Where a watch may begin, and through which node.

use anyhow::{Context, Result, ensure};
use holdfast_tests::harness::{Metrics, Seen, poll};
use reqwest::Method;

use crate::watch::node::{Nodes, SOON, beginning, code, id_of};

const WATCH: &str = "/v1/namespaces/default/watch";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_cannot_begin_says_why() -> Result<()> {
    let nodes = Nodes::start(1, &[]).await?;
    let revision = nodes.put("a", "1").await?;
    let history = beginning(&mut nodes.open(WATCH).await?).await?.history_id;
    let other = format!("{:x}-{revision}", history ^ 1);
    let ahead = format!("{history:x}-{}", revision + 1);
    let from = |revision: u64| format!("{WATCH}?from_revision={revision}");
    for (path, id, expected) in [
        (from(revision + 2), None, (400, "future-revision")),
        (from(1 << 53), None, (400, "future-revision")),
        (from(u64::MAX), None, (400, "future-revision")),
        (WATCH.to_owned(), Some(ahead.as_str()), (400, "future-revision")),
        (WATCH.to_owned(), Some(other.as_str()), (410, "history-changed")),
        (WATCH.to_owned(), Some("7"), (400, "invalid-header")),
        (format!("{WATCH}?from_revision=1&initial=state"), None, (400, "invalid-field")),
        (format!("{WATCH}?initial=nothing"), None, (400, "invalid-field")),
        (format!("{WATCH}?from_revision=-1"), None, (400, "invalid-field")),
        (format!("{WATCH}?at_revision=1"), None, (400, "invalid-field")),
        (format!("{WATCH}?{}", "prefix=a&".repeat(129)), None, (400, "invalid-field")),
        ("/v1/namespaces/nothing/watch".to_owned(), None, (404, "namespace-not-found")),
        ("/v1/namespaces/nothing/locks/l/events".to_owned(), None, (404, "namespace-not-found")),
        ("/v1/sessions/nothing/events".to_owned(), None, (404, "session-not-found")),
        ("/v1/namespaces/NO/watch".to_owned(), None, (400, "invalid-name")),
    ] {
        let refused = nodes.refused(&path, id).await?;
        ensure!(code(&refused) == expected, "{path}, last seen {id:?}: {refused:?}");
    }
    // The next revision may be waited for.
    let mut stream = nodes.open(&from(revision + 1)).await?;
    beginning(&mut stream).await?;
    let next = nodes.put("a", "2").await?;
    ensure!(id_of(&stream.next_telling(SOON).await?)?.revision == next, "the next revision is missing");
    let posted = nodes.send(Method::POST, WATCH, ()).await?;
    ensure!(posted.status == 405, "{posted:?}");
    let head = nodes.send(Method::HEAD, WATCH, ()).await?;
    ensure!(head.status == 200 && head.body.is_empty(), "{head:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_compacted_cannot_be_watched_and_the_oldest_revision_is_named() -> Result<()> {
    let args = ["--compaction-period-ms", "100", "--found-history-versions", "1", "--found-history-ms", "1"];
    let nodes = Nodes::start(1, &args).await?;
    nodes.put("kept", "1").await?;
    let mut newest = 0;
    for _ in 0..5 {
        newest = nodes.put("a", "1").await?;
    }
    let ops = nodes.cluster.nodes()[0].ops_url();
    poll("the past to be compacted", SOON, async || {
        let metrics = Metrics::scrape(nodes.cluster.http(), &ops).await;
        let compacted =
            metrics.ok().and_then(|metrics| metrics.value("holdfast_config_compacted_revision", &[]));
        match compacted {
            Some(compacted) if newest as f64 <= compacted => Seen::Ready(()),
            other => Seen::NotYet(format!("compacted {other:?} of {newest}")),
        }
    })
    .await?;
    let refused = nodes.refused(&format!("{WATCH}?from_revision=1"), None).await?;
    ensure!(code(&refused) == (410, "revision-compacted"), "{refused:?}");
    let oldest = refused.problem["revision"].as_u64().context("no revision")?;
    ensure!(oldest == newest + 1, "{refused:?} at {newest}");
    nodes.open(&format!("{WATCH}?from_revision={oldest}")).await?;
    let mut state = nodes.open(&format!("{WATCH}?initial=state")).await?;
    ensure!(state.next_within(SOON).await?.data.contains("\"kept\""), "the state is not complete");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_through_any_node_begins_after_what_was_answered_before_it() -> Result<()> {
    let mut nodes = Nodes::start(3, &[]).await?;
    for round in 0..30 {
        let written = nodes.put("a", format!("{round}")).await?;
        for node in 0..3 {
            let mut stream = nodes.open_after(node, WATCH, None).await?;
            let began = beginning(&mut stream).await?.revision;
            ensure!(written == began, "through {node}: begins at {began}, {written} was answered");
        }
    }
    // A follower that is behind: what its reader has seen elsewhere is waited for, and so is what comes after it.
    let leader = nodes.cluster.wait_leader().await?;
    let behind = (leader + 1) % 3;
    let mut id = beginning(&mut nodes.open_after(leader, WATCH, None).await?).await?;
    nodes.cluster.node_mut(behind).pause()?;
    let path = "/v1/namespaces/default/config/a";
    let mut missed = 0;
    for round in 0..200 {
        let body = crate::watch::node::Body::Bytes(format!("{round}").into_bytes());
        missed = nodes.send_to(leader, Method::PUT, path, body).await?.revision;
    }
    id.revision = missed - 1;
    nodes.cluster.node_mut(behind).resume()?;
    let mut resumed = nodes.open_after(behind, WATCH, Some(&id.to_string())).await?;
    ensure!(id_of(&resumed.next_telling(SOON).await?)?.revision == missed, "{missed} is not the next one");
    let mut local = nodes.open_after(behind, &format!("{WATCH}?consistency=stale"), None).await?;
    beginning(&mut local).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_on_without_a_leader_from_what_its_node_has() -> Result<()> {
    let mut nodes = Nodes::start(3, &[]).await?;
    let mut id = beginning(&mut nodes.open(WATCH).await?).await?;
    let written = nodes.put("a", "1").await?;
    nodes.cluster.wait_serving().await?;
    nodes.open_after(1, &format!("{WATCH}?from_revision={}", written + 1), None).await?;
    nodes.cluster.node_mut(0).kill()?;
    nodes.cluster.node_mut(2).kill()?;
    id.revision = written - 1;
    let mut stream = nodes.open_after(1, WATCH, Some(&id.to_string())).await?;
    ensure!(id_of(&stream.next_telling(SOON).await?)?.revision == written, "the write is missing");
    let mut stale = nodes.open_after(1, &format!("{WATCH}?initial=state&consistency=stale"), None).await?;
    ensure!(stale.next_within(SOON).await?.kind == "state", "no state without a leader");
    Ok(())
}
