//! A cluster that nobody uses.

use std::time::Duration;

use anyhow::Result;

use crate::bench::closed_loop::{Window, spent};
use crate::bench::figures::{Figure, Run};
use crate::bench::system::System;

const SETTLE: Duration = Duration::from_secs(5);
const MEASURED: Duration = Duration::from_secs(60);

/// Waits a minute.
pub(super) async fn measure(system: &System) -> Result<Vec<Run>> {
    let window = Window::after(SETTLE, MEASURED);
    let spent = spent(system, window).await?;
    let percent = |cpu_seconds: f64| 100.0 * cpu_seconds / window.seconds();
    Ok(vec![Run {
        case: "idle".to_owned(),
        system: system.kind(),
        figures: vec![
            (Figure::ServersCpuPercent, percent(spent.after.servers_since(&spent.before))),
            (Figure::NodeCpuPercent, percent(spent.after.busiest_since(&spent.before))),
            (Figure::MemoryMb, system.memory_mb()?),
        ],
        succeeded: 1,
        failed: 0,
        first_failure: None,
    }])
}
