//! Clients that send one request after another, and what comes of it.

use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::bench::client::Client;
use crate::bench::figures::{Figure, Latencies, Run, count};
use crate::bench::system::{Counters, System};

/// When a load begins to count and when it ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// From here on requests count.
    pub(super) begin: Instant,
    /// Nothing is begun after this.
    pub(super) end: Instant,
}

impl Window {
    /// A window after a warm-up from now.
    pub(super) fn after(warmup: Duration, measured: Duration) -> Self {
        let begin = Instant::now() + warmup;
        Self { begin, end: begin + measured }
    }

    /// How long it lasts.
    pub(super) fn seconds(&self) -> f64 {
        (self.end - self.begin).as_secs_f64()
    }
}

/// The requests of one client or of many.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Of requests that succeeded and ended within the window.
    pub(super) latencies: Latencies,
    /// Those that failed within it.
    pub(super) failed: usize,
    /// What the first of them was told.
    pub(super) first_failure: Option<String>,
}

impl Tally {
    /// Counts a request, if it ended within the window.
    pub(super) fn count(&mut self, window: Window, began: Instant, result: Result<()>) {
        let ended = Instant::now();
        if ended < window.begin || window.end < ended {
            return;
        }
        match result {
            Ok(()) => self.latencies.record(ended - began),
            Err(error) => {
                self.failed += 1;
                self.first_failure.get_or_insert_with(|| format!("{error:#}"));
            }
        }
    }

    /// Adds that of another client.
    pub(super) fn add(&mut self, other: Self) {
        self.latencies.extend(&other.latencies);
        self.failed += other.failed;
        if self.first_failure.is_none() {
            self.first_failure = other.first_failure;
        }
    }
}

/// How long a client pauses after a failure, so that failures do not take the machine.
const FAILURE_PAUSE: Duration = Duration::from_millis(10);

/// Lets every client repeat `work` until the window ends; `work` gets the client and its number.
pub(super) async fn drive<W>(clients: Vec<Client>, window: Window, work: W) -> Result<Tally>
where
    W: AsyncWork,
{
    let mut running = JoinSet::new();
    for (number, mut client) in clients.into_iter().enumerate() {
        let mut work = work.clone();
        running.spawn(async move {
            let mut tally = Tally::default();
            while Instant::now() < window.end {
                let began = Instant::now();
                let result = work.once(&mut client, number).await;
                let failed = result.is_err();
                tally.count(window, began, result);
                if failed {
                    tokio::time::sleep(FAILURE_PAUSE).await;
                }
            }
            tally
        });
    }
    let mut all = Tally::default();
    while let Some(tally) = running.join_next().await {
        all.add(tally?);
    }
    Ok(all)
}

/// What a client does again and again.
pub(super) trait AsyncWork: Clone + Send + 'static {
    /// One request, or one cycle of them.
    fn once(&mut self, client: &mut Client, number: usize) -> impl Future<Output = Result<()>> + Send;
}

/// What a system counted within a window.
#[derive(Clone, Debug)]
pub(super) struct Spent {
    pub(super) before: Counters,
    pub(super) after: Counters,
}

/// Reads the counters at both ends of a window.
pub(super) async fn spent(system: &System, window: Window) -> Result<Spent> {
    tokio::time::sleep_until(window.begin).await;
    let before = system.counters().await?;
    tokio::time::sleep_until(window.end).await;
    Ok(Spent { before, after: system.counters().await? })
}

/// The run of a load: rates, latencies, and what both sides spent.
pub(super) fn run(case: String, system: &System, window: Window, mut tally: Tally, spent: &Spent) -> Run {
    let [median, p99, p999] = tally.latencies.quantiles_ms([0.5, 0.99, 0.999]);
    let succeeded = tally.latencies.len();
    let thousands = count(succeeded) / 1e3;
    let Spent { before, after } = spent;
    let figures = vec![
        (Figure::PerSecond, count(succeeded) / window.seconds()),
        (Figure::MedianMs, median),
        (Figure::P99Ms, p99),
        (Figure::P999Ms, p999),
        (Figure::ServersCpuPerThousand, after.servers_since(before) / thousands),
        (
            Figure::GeneratorCpuPerThousand,
            (after.generator_cpu_seconds - before.generator_cpu_seconds) / thousands,
        ),
        (Figure::SyncsPerThousand, (after.log_syncs - before.log_syncs) / thousands),
    ];
    let Tally { latencies: _, failed, first_failure } = tally;
    Run { case, system: system.kind(), figures, succeeded, failed, first_failure }
}
