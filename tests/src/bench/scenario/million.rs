//! A million keys: what they take in memory and on the disk, and how long a cluster with them takes to start.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::Instant;

use crate::bench::figures::{Figure, Run, count};
use crate::bench::options::Options;
use crate::bench::scenario::{VALUE_BYTES, key, load};
use crate::bench::system::{NODES, System};

const WRITERS: usize = 8;
/// How long the cluster rests before its memory is read.
const REST: Duration = Duration::from_secs(5);
/// Between two attempts to read after a restart, and how long one may take.
const ATTEMPT: Duration = Duration::from_millis(10);
const ATTEMPT_MAX: Duration = Duration::from_secs(1);
/// How long a restart may take.
const RESTART_MAX: Duration = Duration::from_secs(120);

/// Writes the keys, kills all nodes and starts them.
pub(super) async fn measure(system: &mut System, options: &Options) -> Result<Vec<Run>> {
    let began = Instant::now();
    load(system, options.keys, WRITERS).await?;
    let loading = began.elapsed();
    tokio::time::sleep(REST).await;
    let (memory, disk) = (system.memory_mb()?, system.disk_mb()?);
    for node in 0..NODES {
        system.kill(node)?;
    }
    let began = Instant::now();
    for node in 0..NODES {
        system.start_node(node)?;
    }
    wait_read(system, options.keys - 1).await?;
    let restart = began.elapsed();
    system.wait_serving().await?;
    tokio::time::sleep(REST).await;
    Ok(vec![Run {
        case: format!("{} keys", options.keys),
        system: system.kind(),
        figures: vec![
            (Figure::PerSecond, count(options.keys) / loading.as_secs_f64()),
            (Figure::MemoryMb, memory),
            (Figure::DiskMb, disk),
            (Figure::RestartSeconds, restart.as_secs_f64()),
            (Figure::MemoryAfterRestartMb, system.memory_mb()?),
        ],
        succeeded: options.keys,
        failed: 0,
        first_failure: None,
    }])
}

/// Waits until some node answers a linearizable read.
async fn wait_read(system: &System, newest: usize) -> Result<()> {
    let began = Instant::now();
    for node in (0..NODES).cycle() {
        let mut client = system.client(node)?;
        if let Ok(Ok(found)) = tokio::time::timeout(ATTEMPT_MAX, client.get(&key(newest))).await {
            ensure!(found.len() == VALUE_BYTES, "a value of {} bytes", found.len());
            break;
        }
        ensure!(began.elapsed() < RESTART_MAX, "no read within {RESTART_MAX:?} of the start");
        tokio::time::sleep(ATTEMPT).await;
    }
    Ok(())
}
