//! How streams end.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use holdfast_tests::harness::{Metrics, Seen, poll};
use reqwest::Method;
use serde_json::json;

use crate::watch::node::{Nodes, SOON, beginning, code, data, id_of};

/// A node with open streams stops within this time: far below what it is given to stop.
const STOP_MAX: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_ends_its_streams_with_where_to_resume() -> Result<()> {
    let mut nodes = Nodes::start(3, &[]).await?;
    let path = "/v1/namespaces/default/watch";
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(nodes.open_after(1, path, None).await?);
    }
    let written = nodes.put("a", "1").await?;
    for stream in &mut streams {
        ensure!(id_of(&stream.next_telling(SOON).await?)?.revision == written, "the write is missing");
    }
    let told = Instant::now();
    nodes.cluster.node_mut(1).terminate()?;
    let mut resume = None;
    for stream in &mut streams {
        let event = stream.next_telling(SOON).await?;
        let problem = data(&event, "error")?;
        ensure!(problem["code"] == "shutting-down" && event.id.is_none(), "{event:?}");
        resume = problem["resume"].as_str().map(str::to_owned);
        ensure!(stream.next().await?.is_none(), "more after an error");
    }
    let status = nodes.cluster.node_mut(1).wait_exit(STOP_MAX).await?;
    ensure!(status.code() == Some(0) && told.elapsed() < STOP_MAX, "{status} after {:?}", told.elapsed());
    let missed = nodes.put("a", "2").await?;
    let mut resumed = nodes.open_after(2, path, resume.as_deref()).await?;
    ensure!(id_of(&resumed.next_telling(SOON).await?)?.revision == missed, "{missed} is not the next one");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_ends_with_its_namespace_and_another_of_the_name_has_no_past() -> Result<()> {
    let nodes = Nodes::start(1, &[]).await?;
    let (namespace, key) = ("/v1/namespaces/blue", "/v1/namespaces/blue/config/a");
    nodes.done(Method::PUT, namespace, json!({})).await?;
    let put = nodes.done(Method::PUT, key, crate::watch::node::Body::Bytes(b"1".to_vec())).await?;
    let mut keys = nodes.open("/v1/namespaces/blue/watch").await?;
    let mut lock = nodes.open("/v1/namespaces/blue/locks/l/events").await?;
    let seen = beginning(&mut keys).await?;
    nodes.done(Method::DELETE, key, ()).await?;
    nodes.done(Method::DELETE, namespace, ()).await?;
    ensure!(data(&keys.next_telling(SOON).await?, "change")?["changes"][0]["op"] == "delete", "no delete");
    for stream in [&mut keys, &mut lock] {
        let event = stream.next_telling(SOON).await?;
        let problem = data(&event, "error")?;
        ensure!(problem["code"] == "namespace-not-found" && problem.get("resume").is_none(), "{event:?}");
        ensure!(stream.next().await?.is_none(), "more after an error");
    }
    let again = nodes.done(Method::PUT, namespace, json!({})).await?;
    for (path, id) in [
        (format!("/v1/namespaces/blue/watch?from_revision={put}"), None),
        ("/v1/namespaces/blue/watch".to_owned(), Some(seen.to_string())),
        (format!("/v1/namespaces/blue/locks/l/events?from_revision={put}"), None),
    ] {
        let refused = nodes.refused(&path, id.as_deref()).await?;
        ensure!(code(&refused) == (410, "revision-compacted"), "{path}: {refused:?}");
        ensure!(refused.problem["revision"] == again, "{path}: {refused:?}, created at {again}");
    }
    nodes.open(&format!("/v1/namespaces/blue/watch?from_revision={again}")).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_streams_of_a_node_are_counted_and_forgotten_with_their_readers() -> Result<()> {
    let nodes = Nodes::start(1, &[]).await?;
    let ops = nodes.cluster.nodes()[0].ops_url();
    let open = async || -> Result<f64> {
        let metrics = Metrics::scrape(nodes.cluster.http(), &ops).await?;
        Ok(metrics.value("holdfast_watch_streams", &[]).unwrap_or(f64::NAN))
    };
    let mut streams = Vec::new();
    for _ in 0..5 {
        let mut stream = nodes.open("/v1/namespaces/default/watch").await?;
        beginning(&mut stream).await?;
        streams.push(stream);
    }
    ensure!((open().await? - 5.0).abs() < 0.5, "{} streams are open", open().await?);
    drop(streams);
    poll("the streams to be forgotten", SOON, async || match open().await {
        Ok(open) if open < 0.5 => Seen::Ready(()),
        other => Seen::NotYet(format!("{other:?}")),
    })
    .await
}
