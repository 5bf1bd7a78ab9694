//! SIGKILL to leaders and to whole clusters under load.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use holdfast_tests::harness::{Cluster, serial};
use tokio::task::JoinSet;

use crate::durability::load::{Done, Load, LoadOptions, NAMESPACE, Route};

/// Leaders killed by one scenario.
const LEADER_KILLS: usize = 20;
/// What must be acknowledged for the scenario to count.
const GOAL: Done = Done { writes: 5_000, grants: 1_000 };
/// What is acknowledged between two kills, so that each of them hits a busy cluster.
const BETWEEN_KILLS: Done = Done { writes: 50, grants: 10 };
/// The same for kills of the whole cluster.
const BETWEEN_CLUSTER_KILLS: Done = Done { writes: 300, grants: 30 };
/// The longest time without a leader that serves.
const OUTAGE_MAX: Duration = Duration::from_millis(2_500);
/// How long the probes look for an acknowledgement before the scenario fails for another reason than slowness.
const PROBE_LIMIT: Duration = Duration::from_secs(60);
/// Pause of a probe whose write was refused.
const PROBE_PAUSE: Duration = Duration::from_millis(5);
/// How often the whole cluster is killed.
const CLUSTER_KILLS: usize = 3;

const LOAD: LoadOptions =
    LoadOptions { route: Route::EveryNode, writers: 9, takers: 6, pace: Duration::from_millis(15) };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_killed_leaders_lose_nothing_acknowledged_and_are_replaced_in_time() -> Result<()> {
    let _turn = serial().await;
    let mut cluster = Cluster::start(3).await?;
    let result = kill_leaders(&mut cluster).await;
    result.map_err(|error| cluster.explain(error))
}

async fn kill_leaders(cluster: &mut Cluster) -> Result<()> {
    let mut load = Load::start(&cluster.endpoints(), LOAD);
    let mut outages = Vec::new();
    for _ in 0..LEADER_KILLS {
        load.advance(BETWEEN_KILLS).await?;
        outages.push(kill_leader(cluster).await?);
    }
    load.reach(GOAL).await?;
    let evidence = load.finish().await?;
    outages.sort_unstable();
    let (median, worst) = (outages[outages.len() / 2], outages[outages.len() - 1]);
    let (writes, grants) = (evidence.writes.len(), evidence.grants.len());
    // Not through `println!`, which the test runner keeps to itself.
    writeln!(
        std::io::stdout(),
        "failover: {LEADER_KILLS} leader kills, first acknowledged write after {} ms in the median, {} ms at worst; \
         {writes} writes and {grants} grants acknowledged",
        median.as_millis(),
        worst.as_millis(),
    )?;
    evidence.came_through_all_nodes(cluster.nodes().len())?;
    evidence.check_tokens()?;
    evidence.find_on_every_node(&cluster.endpoints()).await?;
    ensure!(worst < OUTAGE_MAX, "no acknowledged write for {worst:?} after a kill; all: {outages:?}");
    Ok(())
}

/// Kills the leader, and restarts it once another one has acknowledged a write: how long that took.
async fn kill_leader(cluster: &mut Cluster) -> Result<Duration> {
    let leader = cluster.wait_leader().await?;
    let term = cluster.status(leader).await?.term;
    cluster.node_mut(leader).kill()?;
    let killed = Instant::now();
    let outage = first_acknowledgement(cluster, leader).await?.duration_since(killed);
    let successor = cluster.wait_leader().await?;
    let successor_term = cluster.status(successor).await?.term;
    ensure!(
        successor != leader && term < successor_term,
        "the killed node {leader} led in term {term:?}, node {successor} leads in {successor_term:?}"
    );
    cluster.node_mut(leader).start()?;
    cluster.wait_serving().await?;
    Ok(outage)
}

/// When a write that was sent after this call was first acknowledged, through any node but `dead`.
async fn first_acknowledgement(cluster: &Cluster, dead: usize) -> Result<Instant> {
    let mut probes = JoinSet::new();
    for (index, endpoint) in cluster.endpoints().into_iter().enumerate() {
        if index != dead {
            probes.spawn(acknowledged(cluster.http().clone(), endpoint));
        }
    }
    let first = tokio::time::timeout(PROBE_LIMIT, probes.join_next()).await;
    let first = first.with_context(|| format!("no write acknowledged within {PROBE_LIMIT:?} of a kill"))?;
    Ok(first.context("there is no other node")??)
}

async fn acknowledged(http: reqwest::Client, endpoint: String) -> Instant {
    let url = format!("{endpoint}/v1/namespaces/{NAMESPACE}/config/probe");
    loop {
        let answer = http.put(&url).header("Content-Type", "text/plain").body("probe").send().await;
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            return Instant::now();
        }
        tokio::time::sleep(PROBE_PAUSE).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_killed_as_a_whole_comes_back_with_everything_acknowledged() -> Result<()> {
    let _turn = serial().await;
    let mut cluster = Cluster::start(3).await?;
    let result = kill_cluster(&mut cluster).await;
    result.map_err(|error| cluster.explain(error))
}

async fn kill_cluster(cluster: &mut Cluster) -> Result<()> {
    let mut load = Load::start(&cluster.endpoints(), LOAD);
    for _ in 0..CLUSTER_KILLS {
        load.advance(BETWEEN_CLUSTER_KILLS).await?;
        cluster.kill_all()?;
        cluster.start_all()?;
        cluster.wait_serving().await?;
    }
    load.advance(BETWEEN_KILLS).await?;
    let evidence = load.finish().await?;
    evidence.came_through_all_nodes(cluster.nodes().len())?;
    evidence.check_tokens()?;
    evidence.find_on_every_node(&cluster.endpoints()).await
}
