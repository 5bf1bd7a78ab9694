//! SIGTERM to the leader: it hands over, and no user of the client library notices.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use holdfast_tests::harness::{Cluster, Seen, poll, serial};

use crate::durability::load::{Done, Load, LoadOptions, Route};

/// How often the leader is told to stop.
const RUNS: usize = 10;
/// The longest that a node takes to stop.
const STOP_MAX: Duration = Duration::from_secs(25);
/// Bound on a write by each of the writers.
const WRITERS_LIMIT: Duration = Duration::from_secs(30);

const LOAD: LoadOptions =
    LoadOptions { route: Route::FailOver, writers: 64, takers: 3, pace: Duration::from_millis(150) };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_sees_an_error_when_the_leader_is_told_to_stop() -> Result<()> {
    let _turn = serial().await;
    let mut cluster = Cluster::start(3).await?;
    let result = stop_leaders(&mut cluster).await;
    result.map_err(|error| cluster.explain(error))
}

async fn stop_leaders(cluster: &mut Cluster) -> Result<()> {
    let mut load = Load::start(&cluster.endpoints(), LOAD);
    let mut longest = Duration::ZERO;
    for run in 0..RUNS {
        everybody_writes(&load).await?;
        load.advance(Done { writes: 0, grants: 3 }).await?;
        let leader = cluster.wait_leader().await?;
        let before = load.done();
        let told = Instant::now();
        let status = cluster.node_mut(leader).stop().await?;
        let took = told.elapsed();
        ensure!(status.code() == Some(0), "run {run}: the leader ended with {status}");
        ensure!(took < STOP_MAX, "run {run}: the leader took {took:?} to end");
        longest = longest.max(took);
        ensure!(before.writes < load.done().writes, "run {run}: nobody wrote while the leader stopped");
        let successor = cluster.wait_leader().await?;
        ensure!(successor != leader, "run {run}: node {leader} still leads");
        everybody_writes(&load).await?;
        cluster.node_mut(leader).start()?;
        cluster.wait_serving().await?;
    }
    let evidence = load.finish().await?;
    // Not through `println!`, which the test runner keeps to itself.
    writeln!(
        std::io::stdout(),
        "hand-over: {RUNS} leaders stopped under {} writers, {} writes acknowledged, {} errors, {} ms to stop at worst",
        LOAD.writers,
        evidence.writes.len(),
        evidence.errors.len(),
        longest.as_millis(),
    )?;
    ensure!(evidence.errors.is_empty(), "clients saw {:?}", evidence.errors);
    evidence.check_tokens()?;
    evidence.find_on_every_node(&cluster.endpoints()).await
}

/// Waits until every writer has been acknowledged a write that it sent from here on or was about to send.
async fn everybody_writes(load: &Load) -> Result<()> {
    let before = load.writes_by_worker();
    let writers = usize::try_from(LOAD.writers)?;
    poll("a write by every writer", WRITERS_LIMIT, async || {
        let after = load.writes_by_worker();
        let wrote = |index: &usize| {
            let earlier = before.get(*index).copied().unwrap_or_default();
            after.get(*index).is_some_and(|count| earlier < *count)
        };
        let idle: Vec<usize> = (0..writers).filter(|index| !wrote(index)).collect();
        if idle.is_empty() { Seen::Ready(()) } else { Seen::NotYet(format!("idle: {idle:?}")) }
    })
    .await
}
