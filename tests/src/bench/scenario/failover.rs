//! From the kill of a leader to the first write that is acknowledged.
//!
//! A probe is sent every few milliseconds to the nodes that are left, in turn, whatever became of the ones before: the
//! gap is not measured by clients that wait for their own time-outs.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::bench::figures::{Figure, Latencies, Run};
use crate::bench::options::Options;
use crate::bench::scenario::{key, load, value};
use crate::bench::system::{NODES, System};

/// Between two probes.
const PROBE: Duration = Duration::from_millis(5);
/// How long a cluster may take to write again.
const GAP_MAX: Duration = Duration::from_secs(30);
/// Rest between two kills, in which the killed node catches up.
const REST: Duration = Duration::from_millis(1_500);
/// Keys that are there before.
const KEYS: usize = 1_000;

/// Kills leaders, one after another.
pub(super) async fn measure(system: &mut System, options: &Options) -> Result<Vec<Run>> {
    load(system, KEYS, 1).await?;
    let mut gaps = Latencies::default();
    for _ in 0..options.kills {
        system.wait_serving().await?;
        tokio::time::sleep(REST).await;
        let leader = system.leader().await?;
        let began = Instant::now();
        system.kill(leader)?;
        let first = first_write(system, leader).await?;
        gaps.record(first - began);
        system.start_node(leader)?;
    }
    let [median, p99, worst] = gaps.quantiles_ms([0.5, 0.99, 1.0]);
    Ok(vec![Run {
        case: format!("leader killed, {} times", options.kills),
        system: system.kind(),
        figures: vec![(Figure::MedianMs, median), (Figure::P99Ms, p99), (Figure::WorstMs, worst)],
        succeeded: gaps.len(),
        failed: 0,
        first_failure: None,
    }])
}

/// When the first probe was acknowledged.
async fn first_write(system: &System, killed: usize) -> Result<Instant> {
    let (acknowledged, mut first) = mpsc::channel(1);
    let mut probes = JoinSet::new();
    let mut ticks = tokio::time::interval(PROBE);
    let deadline = Instant::now() + GAP_MAX;
    let mut nodes = (0..NODES).filter(|node| *node != killed).cycle();
    loop {
        tokio::select! {
            first = first.recv() => return first.context("a probe was acknowledged"),
            () = tokio::time::sleep_until(deadline) => anyhow::bail!("no write within {GAP_MAX:?}"),
            _ = ticks.tick() => {
                let node = nodes.next().context("nodes are left")?;
                let (mut client, acknowledged) = (system.client(node)?, acknowledged.clone());
                let (key, value) = (key(0), bytes::Bytes::copy_from_slice(value().as_bytes()));
                probes.spawn(async move {
                    if client.put(&key, value).await.is_ok() {
                        // Only the first counts.
                        let _ = acknowledged.try_send(Instant::now());
                    }
                });
            }
        }
    }
}
