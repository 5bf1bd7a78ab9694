//! Histories of many clients through all nodes under kills and pauses, checked for linearizability and the contract.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_tests::harness::{
    Cluster, Mix, Nemesis, Schedule, Scratch, Seen, Tally, Workload, WorkloadOptions, poll, serial,
};
use holdfast_tests::history::{
    Answer, Budget, Call, Condition, Header, History, Ledger, Recording, Refusal, check,
};
use tokio_util::sync::CancellationToken;

/// Overrides the seed, to repeat a failed run.
const SEED_ENV: &str = "HOLDFAST_SEED";
const SEED_DEFAULT: u64 = 20_260_101;
/// Operations that the history must have, without those that no node served.
const OPERATIONS_MIN: usize = 10_000;
/// Kills in one run, and pauses.
const STRIKES: usize = 7;
/// Bound on the time after the last strike until there are enough operations.
const OPERATIONS_LIMIT: Duration = Duration::from_secs(90);
/// Kills and pauses of the leader that a run must have had, each.
const LEADER_HITS_MIN: usize = 3;

const KILLS: Mix = Mix {
    kill_leader: 5,
    kill_node: 1,
    pause_leader: 0,
    pause_node: 0,
    kill_all: 0,
    gap_ms_max: 1_200,
    down_ms_max: 2_000,
};
const PAUSES: Mix = Mix { kill_leader: 0, kill_node: 0, pause_leader: 5, pause_node: 1, ..KILLS };

fn seed() -> Result<u64> {
    match std::env::var(SEED_ENV) {
        Ok(text) => text.parse().with_context(|| format!("parse {SEED_ENV}={text}")),
        Err(_) => Ok(SEED_DEFAULT),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_a_cluster_that_is_killed_and_paused_see_one_order_and_the_lock_contract() -> Result<()> {
    let _turn = serial().await;
    let seed = seed()?;
    let mut cluster = Cluster::start(3).await?;
    let run = run(&mut cluster, seed).await;
    let (history, nemesis) = run.map_err(|error| cluster.explain(error))?;
    let header = Header {
        about: format!("three nodes, {} strikes", nemesis.hits().len()),
        breaks: Vec::new(),
        seed: Some(seed),
    };
    let recording = Recording { header, history, ledger: Ledger::default() };
    let verdict = judge(&recording, &nemesis);
    verdict.map_err(|error| match keep(&recording) {
        Ok(path) => {
            cluster.explain(error).context(format!("seed {seed}; recording kept as {}", path.display()))
        }
        Err(unwritten) => error.context(format!("seed {seed}; the recording was not kept: {unwritten:#}")),
    })
}

/// Kills and pauses in turn, so that no seed leaves either of them out.
fn schedule(seed: u64, nodes: usize) -> Schedule {
    let kills = Schedule::seeded(seed, STRIKES, nodes, KILLS).strikes;
    let pauses = Schedule::seeded(seed ^ 1, STRIKES, nodes, PAUSES).strikes;
    Schedule { strikes: kills.into_iter().zip(pauses).flat_map(<[_; 2]>::from).collect() }
}

async fn run(cluster: &mut Cluster, seed: u64) -> Result<(History, Nemesis)> {
    let options = WorkloadOptions {
        seed,
        rounds: u32::MAX,
        pace: Duration::from_millis(10),
        ..WorkloadOptions::default()
    };
    let workload = Workload::new(options, cluster.endpoints());
    let schedule = schedule(seed, cluster.nodes().len());
    let mut nemesis = Nemesis::default();
    let (clients, strikes) = (CancellationToken::new(), CancellationToken::new());
    let leader = cluster.wait_leader().await?;
    let first_term = cluster.status(leader).await?.term.context("a leader has a term")?;
    let harm = async {
        let harm = async {
            nemesis.run(&schedule, cluster, &strikes).await?;
            poll("enough operations", OPERATIONS_LIMIT, async || match workload.recorder().telling() {
                enough if OPERATIONS_MIN <= enough => Seen::Ready(()),
                few => Seen::NotYet(format!("{few} operations")),
            })
            .await
        };
        let ended = harm.await;
        clients.cancel();
        ended
    };
    let work = async {
        let ended = workload.run(&clients).await;
        // Without clients there is nobody to hurt.
        strikes.cancel();
        ended
    };
    let (history, ended) = tokio::join!(work, harm);
    let history = history?;
    ended?;
    let leader = cluster.wait_leader().await?;
    let last_term = cluster.status(leader).await?.term.context("a leader has a term")?;
    let kills = u64::try_from(nemesis.leader_kills())?;
    ensure!(first_term + kills <= last_term, "{kills} kills led from term {first_term} to {last_term}");
    Ok((history, nemesis))
}

fn judge(recording: &Recording, nemesis: &Nemesis) -> Result<()> {
    let history = &recording.history;
    let (kills, pauses) = (nemesis.leader_kills(), nemesis.leader_pauses());
    let counts = Counts::of(history);
    // Not through `println!`, which the test runner keeps to itself.
    writeln!(
        std::io::stdout(),
        "history: seed {:?}, {kills} leader kills, {pauses} leader pauses, {:?}, {counts:?}",
        recording.header.seed,
        Tally::of(history),
    )?;
    let report = check(recording, Budget::default());
    ensure!(report.is_clean(), "the history is rejected:\n{}", report.explain(&history.operations));
    let telling = history.operations.iter().filter(|operation| operation.is_telling()).count();
    ensure!(OPERATIONS_MIN <= telling, "{telling} operations");
    ensure!(LEADER_HITS_MIN <= kills && LEADER_HITS_MIN <= pauses, "{kills} kills and {pauses} pauses");
    counts.are_enough()
}

/// Operations that tell something, by kind.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    reads: usize,
    writes: usize,
    swaps: usize,
    swaps_refused: usize,
    deletes: usize,
    fenced_writes: usize,
    grants: usize,
    tries_refused: usize,
    releases: usize,
    renewals: usize,
    looks: usize,
    unknown: usize,
}

impl Counts {
    fn of(history: &History) -> Self {
        let mut counts = Self::default();
        for operation in &history.operations {
            if operation.completed_ns().is_none() {
                counts.unknown += 1;
            }
            match operation.refusal() {
                Some(Refusal::RevisionMismatch) => counts.swaps_refused += 1,
                Some(Refusal::LockHeld) => counts.tries_refused += 1,
                Some(
                    Refusal::StaleToken
                    | Refusal::WaitTimeout
                    | Refusal::ClaimEnded
                    | Refusal::SessionExpired
                    | Refusal::NotServed { .. },
                )
                | None => {}
            }
            let Some(answer) = operation.answer() else { continue };
            match answer {
                Answer::Item { .. } | Answer::NoItem => counts.reads += 1,
                Answer::Written { .. } => counts.count_write(&operation.call),
                Answer::Deleted => counts.deletes += 1,
                Answer::Held { .. } => counts.grants += 1,
                Answer::Released => counts.releases += 1,
                Answer::Renewed => counts.renewals += 1,
                Answer::Lock { .. } => counts.looks += 1,
                Answer::SessionOpen | Answer::SessionEnded => {}
            }
        }
        counts
    }

    fn count_write(&mut self, call: &Call) {
        let Call::Write { condition, guard, .. } = call else { return };
        match (guard, condition) {
            (Some(_), _) => self.fenced_writes += 1,
            (None, Condition::Always) => self.writes += 1,
            (None, Condition::Absent | Condition::Revision(_)) => self.swaps += 1,
        }
    }

    /// Fails when a kind of operation is so rare that the history says little about it.
    fn are_enough(&self) -> Result<()> {
        for (kind, count, min) in [
            ("reads", self.reads, 1_000),
            ("writes", self.writes, 500),
            ("compare-and-sets", self.swaps, 100),
            ("refused compare-and-sets", self.swaps_refused, 100),
            ("deletes", self.deletes, 100),
            ("fenced writes", self.fenced_writes, 100),
            ("grants", self.grants, 200),
            ("refused tries", self.tries_refused, 100),
            ("releases", self.releases, 100),
            ("renewals", self.renewals, 200),
            ("looks at locks", self.looks, 20),
            ("unknown outcomes", self.unknown, 1),
        ] {
            ensure!(min <= count, "{count} {kind}, fewer than {min}: {self:?}");
        }
        Ok(())
    }
}

/// Keeps a recording where scratch directories are made, and outside of them, so that it outlives the test.
fn keep(recording: &Recording) -> Result<PathBuf> {
    let scratch = Scratch::new()?;
    let dir = scratch.path().parent().context("a scratch directory lies in another one")?;
    let path = dir.join(format!("history-{}.jsonl", recording.header.seed.unwrap_or_default()));
    let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    recording.write(BufWriter::new(file)).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}
