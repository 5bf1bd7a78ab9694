//! The promise, measured: the command is dead before the service grants the lock to the next one.
//!
//! A trial is one lock that is held by a run whose command ignores TERM and has a child. The next claim is queued. Then the
//! harm is done. The grant of the next claim is read from the nodes' logs, the deaths are seen by this process, and both are
//! on the same clock. A death is seen after it happened, so an error of the measurement counts against the program.
//!
//! Harm comes to 25 locks at a time, at whatever point of its own renewals each of them is.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use holdfast_api::claims::{ClaimRequest, ClaimView};
use holdfast_api::client::Client;
use holdfast_api::sessions::SessionRequest;
use holdfast_tests::harness::{Binary, Cluster, serial};
use rustix::process::{Pid, Signal, kill_process};

use crate::lock_run::grants::{granted_at, logging_grants};
use crate::lock_run::program::{Program, Running};
use crate::lock_run::proxy::Proxy;
use crate::lock_run::watched::Watched;

/// Rounds of a scenario, and locks of a round: 100 trials.
const ROUNDS: usize = 4;
const LOCKS: usize = 25;
/// Runs that are started together: each is three programs, and they must not take the time from those that renew.
const STARTED_AT_ONCE: usize = 5;
/// The TTL of the runs: short, so that a scenario is soon over, and long enough for a busy machine to renew in time.
const TTL: Duration = Duration::from_secs(5);
/// The TTL of those who wait: they live through a round without keepalives.
const WAITER_TTL_MS: u64 = 600_000;
/// What the runs are told: the command ignores TERM, so KILL is what ends it.
const FLAGS: [&str; 4] = ["--ttl", "5s", "--kill-after", "500ms"];
/// Says who it is and what it started, and stays.
const STUBBORN: &str = "trap '' TERM; sleep 1000 & echo $$ $!; wait";

/// One lock with its holder and the claim that waits for it.
struct Trial {
    run: Running,
    /// The command and its child.
    processes: Vec<Watched>,
    command: Pid,
    next_claim: String,
}

impl Trial {
    async fn start(program: Program, name: String) -> Result<Self> {
        let mut run =
            program.start([&[name.as_str()], &FLAGS[..], &["--", "sh", "-c", STUBBORN]].concat())?;
        let line = run.line().await?;
        let processes = line.split(' ').map(Watched::new).collect::<Result<Vec<_>>>()?;
        let command = line.split(' ').next().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
        let command = command.context("no process id")?;
        Ok(Self { run, processes, command, next_claim: format!("next-{name}") })
    }

    /// The guard is the parent of the command.
    fn guard(&self) -> Result<Pid> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.command.as_raw_nonzero()))?;
        let parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1));
        parent.and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw).context("no parent")
    }

    /// When the last of its processes died.
    async fn died_at(&mut self) -> Result<SystemTime> {
        let mut last = SystemTime::UNIX_EPOCH;
        for process in &mut self.processes {
            last = last.max(process.died_at().await?);
        }
        Ok(last)
    }

    fn is_untouched(&self) -> bool {
        !self.processes.iter().any(Watched::is_dead)
    }
}

/// Takes `count` locks by runs and queues the next claim for each.
///
/// On a machine that is too busy for a run to renew its lease, that run ends its command by itself, as it should. Such a
/// trial proves nothing about the harm to come, and another one takes its place.
async fn start(cluster: &Cluster, program: &Program, round: &str, count: usize) -> Result<Vec<Trial>> {
    let client = Client::new(cluster.endpoints())?;
    let waiter = format!("waiter-{round}");
    let session = SessionRequest { ttl_ms: Some(WAITER_TTL_MS), ..SessionRequest::default() };
    client.put_session(&waiter, &session).await?;
    let queue = ClaimRequest { session: Some(waiter), keep_waiting: true, ..ClaimRequest::default() };
    let mut trials: Vec<Trial> = Vec::with_capacity(count);
    let mut names = (0..count * 3).map(|index| format!("{round}-{index}"));
    while trials.len() < count {
        let batch = names.by_ref().take(STARTED_AT_ONCE.min(count - trials.len()));
        let starting: Vec<_> =
            batch.map(|name| (name.clone(), tokio::spawn(Trial::start(program.clone(), name)))).collect();
        ensure!(!starting.is_empty(), "the runs cannot keep their leases: the machine is too busy");
        for (name, started) in starting {
            let Ok(trial) = started.await? else { continue };
            let answer = client.put_claim("default", &name, &trial.next_claim, &queue).await?.value;
            if matches!(answer, ClaimView::Queued(_)) {
                trials.push(trial);
            }
        }
        trials.retain(Trial::is_untouched);
    }
    Ok(trials)
}

/// Waits for the grants and the deaths, and compares them: an account of each trial in which something of the command was
/// alive when the next claim was granted.
async fn judge(cluster: &Cluster, trials: &mut [Trial]) -> Result<Vec<String>> {
    let mut breaches = Vec::new();
    for (lock, trial) in trials.iter_mut().enumerate() {
        let granted_at = granted_at(cluster, &trial.next_claim).await?;
        if !trial.processes.iter().all(Watched::is_dead) {
            breaches.push(format!("lock {lock}: runs on"));
            continue;
        }
        if let Ok(late) = trial.died_at().await?.duration_since(granted_at)
            && !late.is_zero()
        {
            breaches.push(format!("lock {lock}: died {late:?} late"));
        }
    }
    Ok(breaches)
}

/// 100 trials on a cluster of three, none of which may be a breach.
async fn hundred(scenario: &str, harm: impl AsyncFn(&mut Cluster, &[Trial]) -> Result<()>) -> Result<()> {
    let _turn = serial().await;
    let mut cluster = Cluster::start_with(3, &logging_grants()).await?;
    let program = Program::asking(&cluster.endpoints())?;
    for round in 0..ROUNDS {
        let mut trials = start(&cluster, &program, &format!("{scenario}-{round}"), LOCKS).await?;
        harm(&mut cluster, &trials).await?;
        let breaches = judge(&cluster, &mut trials).await?;
        if !breaches.is_empty() {
            let error =
                anyhow::anyhow!("{scenario}, round {round}: alive after the next grant: {breaches:?}");
            return Err(cluster.explain(error));
        }
    }
    Ok(())
}

fn signal_all(trials: &[Trial], signal: Signal) -> Result<()> {
    trials.iter().try_for_each(|trial| trial.run.signal(signal))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_is_dead_before_the_next_grant_when_the_process_is_stopped() -> Result<()> {
    hundred("stopped", async |_, trials| signal_all(trials, Signal::STOP)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_is_dead_before_the_next_grant_when_the_process_is_killed() -> Result<()> {
    hundred("killed", async |_, trials| signal_all(trials, Signal::KILL)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_is_dead_before_the_next_grant_when_its_guard_is_killed() -> Result<()> {
    hundred("unguarded", async |_, trials| {
        for trial in trials {
            kill_process(trial.guard()?, Signal::KILL)?;
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_is_dead_before_its_lease_ends_when_the_cluster_is_lost() -> Result<()> {
    let _turn = serial().await;
    let mut cluster = Cluster::start_with(3, &logging_grants()).await?;
    let program = Program::asking(&cluster.endpoints())?;
    for round in 0..ROUNDS {
        let mut trials = start(&cluster, &program, &format!("lost-{round}"), LOCKS).await?;
        cluster.kill_all()?;
        // No keepalive can have been sent after this and answered.
        let last_lease_end = SystemTime::now() + TTL;
        for (lock, trial) in trials.iter_mut().enumerate() {
            let late = trial.died_at().await?.duration_since(last_lease_end);
            ensure!(late.is_err(), "round {round}: lock {lock} ran on after its lease, by {late:?}");
            let code = trial.run.exit_code().await?;
            ensure!(code == 121, "round {round}: lock {lock} ended with {code}");
        }
        cluster.start_all()?;
        cluster.wait_serving().await?;
        let breaches = judge(&cluster, &mut trials).await?;
        ensure!(breaches.is_empty(), "round {round}: alive after the next grant: {breaches:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_is_dead_before_the_next_grant_when_the_network_is_cut() -> Result<()> {
    let _turn = serial().await;
    let cluster = Cluster::start_with(3, &logging_grants()).await?;
    for round in 0..ROUNDS {
        // Each through another node, so that leaders and followers have their turns.
        let node = cluster.nodes()[round % cluster.nodes().len()].addresses().api;
        let proxy = Proxy::start(node).await?;
        let program = Program::asking(&[proxy.endpoint()])?;
        let mut trials = start(&cluster, &program, &format!("cut-{round}"), LOCKS).await?;
        proxy.cut();
        let breaches = judge(&cluster, &mut trials).await?;
        ensure!(breaches.is_empty(), "round {round}: alive after the next grant: {breaches:?}");
        for trial in &mut trials {
            ensure!(trial.run.exit_code().await? == 121, "the run does not say that it lost the lock");
        }
    }
    Ok(())
}

/// The measurement can fail: with a guard that ignores the end of the lease it does.
#[tokio::test(flavor = "multi_thread")]
async fn a_guard_that_ignores_the_end_of_the_lease_is_caught() -> Result<()> {
    let _turn = serial().await;
    let cluster = Cluster::start_with(3, &logging_grants()).await?;
    let program = Program::of(Binary::locate_seeded()?, &cluster.endpoints())
        .with_env("HOLDFAST_SEEDED_BUG", "guard-ignores-deadline");
    let mut trials = start(&cluster, &program, "seeded", 5).await?;
    signal_all(&trials, Signal::STOP)?;
    let breaches = judge(&cluster, &mut trials).await?;
    if breaches.len() != trials.len() {
        bail!("of {} commands that ran on, {breaches:?} were noticed", trials.len());
    }
    Ok(())
}
