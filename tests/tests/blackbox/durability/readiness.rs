//! What the probes say of a node that waits, that lost its quorum, that stops, and that was paused.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use holdfast_api::client::{Client, WriteOptions};
use holdfast_api::query::ReadQuery;
use holdfast_tests::harness::{Cluster, NodeOptions, Seen, poll, serial};
use reqwest::StatusCode;

use crate::durability::load::NAMESPACE;

/// Bound on a change of what a probe says; the quorum counts as lost long before.
const PROBE_LIMIT: Duration = Duration::from_secs(20);
/// Bound on a write through one given node.
const WRITE_LIMIT: Duration = Duration::from_secs(20);

/// What `/livez` and `/readyz` answer.
#[derive(Debug)]
struct Probes {
    live: StatusCode,
    ready: StatusCode,
    reasons: String,
}

async fn probe(cluster: &Cluster, index: usize) -> Result<Probes> {
    let url = cluster.nodes()[index].ops_url();
    let live = cluster.http().get(format!("{url}/livez")).send().await?.status();
    let ready = cluster.http().get(format!("{url}/readyz")).send().await?;
    let (ready, reasons) = (ready.status(), ready.text().await?);
    Ok(Probes { live, ready, reasons })
}

/// Waits until `/readyz` answers `wanted`; `/livez` must answer 200 at every look. What readiness said.
async fn wait_ready(cluster: &Cluster, index: usize, wanted: StatusCode) -> Result<String> {
    let what = format!("/readyz of node {index} to answer {wanted}");
    poll(&what, PROBE_LIMIT, async || match probe(cluster, index).await {
        Ok(probes) if probes.live != StatusCode::OK => Seen::Ready(Err(probes)),
        Ok(probes) if probes.ready == wanted => Seen::Ready(Ok(probes.reasons)),
        Ok(probes) => Seen::NotYet(format!("{probes:?}")),
        Err(error) => Seen::NotYet(format!("{error:#}")),
    })
    .await?
    .map_err(|probes| anyhow::anyhow!("the node is not live: {probes:?}"))
}

async fn wait_all_ready(cluster: &Cluster) -> Result<()> {
    for index in 0..cluster.nodes().len() {
        wait_ready(cluster, index, StatusCode::OK).await?;
    }
    Ok(())
}

/// Writes through one node and reads it back there.
async fn serves(cluster: &Cluster, index: usize, value: &str) -> Result<()> {
    let client = Client::builder([cluster.nodes()[index].api_url()]).deadline(WRITE_LIMIT).build()?;
    let options = WriteOptions::default();
    client.put_config(NAMESPACE, "probe", value.to_owned(), "text/plain", &options).await?;
    let read = client.get_config(NAMESPACE, "probe", &ReadQuery::default()).await?;
    ensure!(read.value.bytes == value.as_bytes(), "{value} reads as {read:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_belongs_to_no_cluster_is_live_and_not_ready() -> Result<()> {
    let cluster = Cluster::launch(1, &NodeOptions::default()).await?;
    let reasons = wait_ready(&cluster, 0, StatusCode::SERVICE_UNAVAILABLE).await?;
    ensure!(reasons.contains("no cluster"), "{reasons}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_follows_the_quorum_and_liveness_does_not() -> Result<()> {
    let _turn = serial().await;
    let mut cluster = Cluster::start(3).await?;
    let result = lose_quorum(&mut cluster).await;
    result.map_err(|error| cluster.explain(error))
}

async fn lose_quorum(cluster: &mut Cluster) -> Result<()> {
    wait_all_ready(cluster).await?;
    let leader = cluster.wait_leader().await?;
    let (second, third) = ((leader + 1) % 3, (leader + 2) % 3);

    for paused in [second, third] {
        cluster.node_mut(paused).pause()?;
    }
    wait_ready(cluster, leader, StatusCode::SERVICE_UNAVAILABLE).await.context("a leader on its own")?;
    for paused in [second, third] {
        cluster.node_mut(paused).resume()?;
    }
    wait_all_ready(cluster).await.context("after the followers' pause")?;
    for node in [second, third, leader] {
        serves(cluster, node, &format!("after the followers' pause {node}")).await?;
    }

    let leader = cluster.wait_leader().await?;
    let (second, third) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.node_mut(leader).pause()?;
    cluster.node_mut(second).kill()?;
    wait_ready(cluster, third, StatusCode::SERVICE_UNAVAILABLE).await.context("a follower on its own")?;
    cluster.node_mut(leader).resume()?;
    wait_ready(cluster, third, StatusCode::OK).await.context("with the resumed leader")?;
    wait_ready(cluster, leader, StatusCode::OK).await.context("the resumed leader")?;
    serves(cluster, leader, "after the leader's pause").await?;
    cluster.node_mut(second).start()?;
    wait_all_ready(cluster).await.context("with all nodes")?;
    serves(cluster, second, "with all nodes").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_leader_is_replaced_and_serves_again_when_it_is_resumed() -> Result<()> {
    let _turn = serial().await;
    let mut cluster = Cluster::start(3).await?;
    let result = pause_leader(&mut cluster).await;
    result.map_err(|error| cluster.explain(error))
}

async fn pause_leader(cluster: &mut Cluster) -> Result<()> {
    let leader = cluster.wait_leader().await?;
    let term = cluster.status(leader).await?.term;
    cluster.node_mut(leader).pause()?;
    let other = (leader + 1) % 3;
    serves(cluster, other, "while the leader is paused").await?;
    ensure!(term < cluster.status(other).await?.term, "nobody took over");
    cluster.node_mut(leader).resume()?;
    // The first answer after the pause must not be from before it.
    let client = Client::builder([cluster.nodes()[leader].api_url()]).deadline(WRITE_LIMIT).build()?;
    let read = client.get_config(NAMESPACE, "probe", &ReadQuery::default()).await?;
    ensure!(read.value.bytes == "while the leader is paused".as_bytes(), "{read:?}");
    wait_ready(cluster, leader, StatusCode::OK).await?;
    serves(cluster, leader, "after the pause").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_told_to_stop_is_unready_and_live_until_it_ends() -> Result<()> {
    let _turn = serial().await;
    let mut cluster = Cluster::start(3).await?;
    let result = drain(&mut cluster).await;
    result.map_err(|error| cluster.explain(error))
}

async fn drain(cluster: &mut Cluster) -> Result<()> {
    wait_all_ready(cluster).await?;
    let leader = cluster.wait_leader().await?;
    cluster.node_mut(leader).terminate()?;
    let reasons = wait_ready(cluster, leader, StatusCode::SERVICE_UNAVAILABLE).await?;
    ensure!(reasons.contains("shutting down"), "{reasons}");
    for other in (0..3).filter(|index| *index != leader) {
        wait_ready(cluster, other, StatusCode::OK).await?;
    }
    // The node still takes requests while others learn that it leaves.
    serves(cluster, leader, "while it stops").await?;
    match cluster.node_mut(leader).wait_exit(Duration::from_secs(25)).await?.code() {
        Some(0) => Ok(()),
        code => bail!("ended with {code:?}"),
    }
}
