//! Two hundred watchers, and a cluster that is hurt in every way: each watcher is told every change once, in order, without a
//! gap.
//!
//! ```text
//!   Writers, takers ──▶ cluster: kills, a restart, a snapshot installed under open streams, a compaction every second
//!        │                  │
//!        │ what was         └──▶ Watchers: config keys, locks, sessions, on all nodes; resumed by the id of the last event
//!        ▼ acknowledged                                        │ what they were told
//!      Verdict ◀──────────────────────────────────────────────┘
//! ```

mod takers;
mod verdict;
mod watchers;
mod writers;

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use holdfast_tests::harness::{
    Binary, Cluster, Metrics, Mix, Nemesis, NodeOptions, Schedule, Seen, poll, serial,
};
use tokio_util::sync::CancellationToken;

use takers::Takers;
use verdict::{Evidence, Missed};
use watchers::{Begin, Home, Subject, Watchers};
use writers::{PREFIXES, Writers};

/// Decides who is killed when, and what is written.
const SEED: u64 = 20;
/// A short log, so that a node that stays away needs a snapshot, and a past that is kept for little longer than that takes.
const OPTIONS: [&str; 14] = [
    "--raft-snapshot-entries",
    "200",
    "--raft-keep-entries",
    "50",
    "--compaction-period-ms",
    "1000",
    "--found-history-versions",
    "10",
    "--found-history-ms",
    "20000",
    "--found-events-ms",
    "20000",
    "--found-events",
    "20000",
];
/// The longest that a node stays away: less than the past is kept for.
const AWAY_MAX: Duration = Duration::from_secs(15);
/// Watchers of config keys that read only at the node that gets a snapshot.
const PINNED: usize = 20;
/// Bound on the last watcher's arrival at the last revision.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(60);
/// How far back the watchers begin that begin late.
const LATE_BY: u64 = 200;

/// How much is done.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Watchers of config keys, at first; others come later.
    keys: usize,
    /// Watchers of each lock, and of each session.
    each: usize,
    /// Watchers that begin late, at a node that was restarted.
    late: usize,
    kills: usize,
    snapshot: bool,
}

const ALL: Plan = Plan { keys: 170, each: 2, late: 20, kills: 20, snapshot: true };
const PART: Plan = Plan { keys: 20, each: 1, late: 5, kills: 3, snapshot: false };

/// What the nodes went through.
#[derive(Debug, Default)]
struct Ordeal {
    kills: usize,
    leader_kills: usize,
    snapshots_installed: f64,
    /// Streams that were open on the node before and after it got the snapshot.
    unbroken: usize,
    away_ms: u64,
    compacted_revision: f64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_watchers_are_told_every_change_once_and_in_order_through_everything() -> Result<()> {
    let _turn = serial().await;
    let began = Instant::now();
    let mut cluster = Cluster::start_with(3, &options(None)).await?;
    let result = run(&mut cluster, ALL).await;
    let (ordeal, evidence) = result.map_err(|error| cluster.explain(error))?;
    let summary = evidence.judge()?;
    // Not through `println!`, which the test runner keeps to itself.
    writeln!(std::io::stdout(), "watch: {summary}; {ordeal:?}; {} s", began.elapsed().as_secs())?;
    ensure!(200 <= summary.watchers, "{} watchers", summary.watchers);
    ensure!(ALL.kills <= ordeal.kills && 5 <= ordeal.leader_kills, "{ordeal:?}");
    ensure!(0.5 < ordeal.snapshots_installed && 10 <= ordeal.unbroken, "{ordeal:?}");
    ensure!(0.5 < ordeal.compacted_revision, "nothing was compacted: {ordeal:?}");
    ensure!(200 <= summary.resumptions && 2_000 <= summary.writes && 100 <= summary.grants, "{summary}");
    ensure!(50_000 <= summary.changes, "{summary}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_skips_what_is_not_in_memory_is_caught() -> Result<()> {
    caught("watch-past-skipped").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_repeats_the_last_event_is_caught() -> Result<()> {
    caught("watch-resume-inclusive").await
}

async fn caught(bug: &str) -> Result<()> {
    let _turn = serial().await;
    let mut cluster = Cluster::start_binary(&Binary::locate_seeded()?, 3, &options(Some(bug))).await?;
    let (_, evidence) = run(&mut cluster, PART).await.map_err(|error| cluster.explain(error))?;
    match evidence.judge() {
        Err(error) if error.is::<Missed>() => Ok(()),
        Err(error) => Err(error.context(format!("{bug} was not judged"))),
        Ok(summary) => bail!("{bug} was not noticed: {summary}"),
    }
}

fn options(bug: Option<&str>) -> NodeOptions {
    let env = bug.map(|bug| ("HOLDFAST_SEEDED_BUG".to_owned(), bug.to_owned()));
    NodeOptions { args: OPTIONS.map(str::to_owned).to_vec(), env: env.into_iter().collect() }
}

async fn run(cluster: &mut Cluster, plan: Plan) -> Result<(Ordeal, Evidence)> {
    let endpoints = cluster.endpoints();
    let mut takers = Takers::new(&endpoints).await?;
    let mut watchers = Watchers::new(&endpoints)?;
    for number in 0..plan.keys {
        watchers.add(subject(number), Home::Any(number % 3), Begin::Now);
    }
    for number in 0..plan.each * takers::LOCKS {
        watchers.add(Subject::Lock(number % takers::LOCKS), Home::Any(number % 3), Begin::Now);
    }
    for number in 0..plan.each * takers::SESSIONS {
        watchers.add(Subject::Session(number % takers::SESSIONS), Home::Any(number % 3), Begin::Now);
    }
    watchers.all_began().await?;
    takers.start();
    let mut writers = Writers::start(&endpoints, SEED)?;
    let mut ordeal = Ordeal::default();

    let mut nemesis = Nemesis::default();
    let mix = Mix {
        kill_leader: 3,
        kill_node: 2,
        pause_leader: 0,
        pause_node: 0,
        kill_all: 0,
        gap_ms_max: 400,
        down_ms_max: 800,
    };
    let schedule = Schedule::seeded(SEED, plan.kills, 3, mix);
    nemesis.run(&schedule, cluster, &CancellationToken::new()).await?;
    (ordeal.kills, ordeal.leader_kills) = (nemesis.hits().len(), nemesis.leader_kills());

    restart(cluster, &mut watchers, &writers, plan.late).await?;
    if plan.snapshot {
        install_snapshot(cluster, &mut watchers, &mut writers, &mut ordeal).await?;
    }
    let (written, state) = writers.finish(&endpoints).await?;
    let (taken, last) = takers.finish().await?;
    let told = watchers.finish(last, ARRIVAL_LIMIT).await?;
    let leader = cluster.wait_leader().await?;
    ordeal.compacted_revision = metric(cluster, leader, "holdfast_config_compacted_revision").await?;
    Ok((ordeal, Evidence { written, state, taken, told, last }))
}

/// Its own set of prefixes for each watcher of config keys; the first few see every key.
fn subject(number: usize) -> Subject {
    let prefix = |number: usize| writers::prefix(number % PREFIXES);
    match number {
        0..6 => Subject::Keys(Vec::new()),
        _ => {
            let count = 1 + number % 4;
            let prefixes = (0..count).map(|more| prefix(number + more * (1 + number / PREFIXES)));
            Subject::Keys(prefixes.collect())
        }
    }
}

/// Restarts a node in order, and lets watchers begin there before what it has in memory.
async fn restart(
    cluster: &mut Cluster,
    watchers: &mut Watchers,
    writers: &Writers,
    count: usize,
) -> Result<()> {
    let leader = cluster.wait_leader().await?;
    let node = (leader + 1) % 3;
    let before = writers.last_revision().saturating_sub(LATE_BY).max(1);
    let status = cluster.node_mut(node).stop().await?;
    ensure!(status.code() == Some(0), "the node ended with {status}");
    cluster.node_mut(node).start()?;
    cluster.wait_serving().await?;
    for number in 0..count {
        watchers.add(subject(number), Home::Only(node), Begin::From(before));
    }
    for number in 0..count.min(4) {
        watchers.add(Subject::Lock(number % takers::LOCKS), Home::Only(node), Begin::From(before));
    }
    watchers.all_began().await
}

/// Takes a follower away until the others have purged what it lacks, and holds those still while it comes back: so the streams
/// are open on it that are read nowhere else, when it gets a snapshot from them.
async fn install_snapshot(
    cluster: &mut Cluster,
    watchers: &mut Watchers,
    writers: &mut Writers,
    ordeal: &mut Ordeal,
) -> Result<()> {
    let leader = cluster.wait_leader().await?;
    let node = (leader + 1) % 3;
    for number in 0..PINNED {
        watchers.add(subject(number + 2), Home::Only(node), Begin::Now);
    }
    for number in 0..takers::LOCKS {
        watchers.add(Subject::Lock(number), Home::Only(node), Begin::Now);
    }
    watchers.all_began().await?;
    // In order, so that it has on its disk all that its readers were told and needs nobody to go on.
    let status = cluster.node_mut(node).stop().await?;
    ensure!(status.code() == Some(0), "the node ended with {status}");
    let last_index = metric(cluster, cluster.wait_leader().await?, "holdfast_raft_last_log_index").await?;
    let hurry = writers.hurry();
    let away = Instant::now();
    let purged = poll("the others to purge what the node lacks", AWAY_MAX, async || {
        let purged = async {
            let leader = cluster.wait_leader().await?;
            metric(cluster, leader, "holdfast_raft_purged_index").await
        };
        match purged.await {
            Ok(purged) if last_index < purged => Seen::Ready(()),
            other => Seen::NotYet(format!("purged {other:?}, the node ends before {last_index}")),
        }
    });
    purged.await.with_context(|| format!("away for {:?}", away.elapsed()))?;
    drop(hurry);

    let others = [(node + 1) % 3, (node + 2) % 3];
    for other in others {
        cluster.node_mut(other).pause()?;
    }
    cluster.node_mut(node).start()?;
    let open = poll("streams on the node", ARRIVAL_LIMIT, async || {
        let connections = watchers.connections(node);
        if PINNED <= connections.len() {
            Seen::Ready(connections)
        } else {
            Seen::NotYet(connections.len().to_string())
        }
    });
    let open = open.await?;
    for other in others {
        cluster.node_mut(other).resume()?;
    }
    let installed = poll("a snapshot to be installed", ARRIVAL_LIMIT, async || {
        match metric(cluster, node, "holdfast_raft_snapshots_installed").await {
            Ok(installed) if 0.5 < installed => Seen::Ready(installed),
            other => Seen::NotYet(format!("installed {other:?}")),
        }
    });
    ordeal.snapshots_installed = installed.await?;
    cluster.wait_serving().await?;
    ordeal.unbroken = watchers.connections(node).intersection(&open).count();
    ordeal.away_ms = u64::try_from(away.elapsed().as_millis())?;
    Ok(())
}

async fn metric(cluster: &Cluster, node: usize, name: &str) -> Result<f64> {
    let metrics = Metrics::scrape(cluster.http(), &cluster.nodes()[node].ops_url()).await?;
    metrics.value(name, &[]).with_context(|| format!("no metric {name}"))
}
