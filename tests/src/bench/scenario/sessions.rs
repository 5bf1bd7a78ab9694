//! Ten thousand sessions that renew themselves and do nothing else: what that costs.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::bench::client::Client;
use crate::bench::closed_loop::{Tally, Window, run, spent};
use crate::bench::figures::{Figure, Run};
use crate::bench::options::Options;
use crate::bench::system::System;

const SESSIONS: usize = 10_000;
/// Connections that they share, as those of 64 programs would.
const CONNECTIONS: usize = 64;
const TTL_SECONDS: u32 = 10;
/// How often each renews itself.
const RENEWAL: Duration = Duration::from_secs(3);
/// The measurement is no shorter than this, or a session that expires would not be noticed.
const MEASURED_MIN: Duration = Duration::from_secs(20);

/// Opens the sessions, renews them and measures.
pub(super) async fn measure(system: &System, options: &Options) -> Result<Vec<Run>> {
    let clients = system.clients(CONNECTIONS, options.target).await?;
    let mut opening = JoinSet::new();
    for (number, client) in clients.into_iter().enumerate() {
        opening.spawn(open(client, (SESSIONS + number) / CONNECTIONS));
    }
    let mut groups = Vec::new();
    while let Some(opened) = opening.join_next().await {
        groups.push(opened??);
    }
    let window = Window::after(RENEWAL, options.measured().max(MEASURED_MIN));
    let (tally, spent) = tokio::try_join!(renew_all(groups, window), spent(system, window))?;
    let mut run = run(format!("{SESSIONS} sessions"), system, window, tally, &spent);
    let (before, after) = (&spent.before, &spent.after);
    let percent = |cpu_seconds: f64| 100.0 * cpu_seconds / window.seconds();
    run.figures.extend([
        (Figure::ServersCpuPercent, percent(after.servers_since(before))),
        (Figure::NodeCpuPercent, percent(after.busiest_since(before))),
        (Figure::GeneratorCpuPercent, percent(after.generator_cpu_seconds - before.generator_cpu_seconds)),
        (Figure::LogEntriesPerSecond, (after.log_entries - before.log_entries) / window.seconds()),
    ]);
    Ok(vec![run])
}

/// The sessions of one connection, the one that was renewed longest ago first.
struct Group {
    client: Client,
    sessions: VecDeque<(Instant, String)>,
}

/// Opens sessions, and meanwhile renews those that are due: a slow machine must not lose the first before the last is open.
async fn open(client: Client, number: usize) -> Result<Group> {
    let mut group = Group { client, sessions: VecDeque::with_capacity(number) };
    while group.sessions.len() < number {
        let began = Instant::now();
        let session = group.client.open_session(TTL_SECONDS).await?;
        group.sessions.push_back((began, session));
        while group.sessions.front().is_some_and(|(renewed, _)| RENEWAL <= renewed.elapsed()) {
            group.renew_next().await?;
        }
    }
    Ok(group)
}

impl Group {
    async fn renew_next(&mut self) -> Result<()> {
        let Some((_, session)) = self.sessions.pop_front() else { return Ok(()) };
        let began = Instant::now();
        let renewed = self.client.keep_alive(&session).await;
        self.sessions.push_back((began, session));
        renewed
    }
}

async fn renew_all(groups: Vec<Group>, window: Window) -> Result<Tally> {
    let mut running = JoinSet::new();
    for group in groups {
        running.spawn(renew(group, window));
    }
    let mut all = Tally::default();
    while let Some(tally) = running.join_next().await {
        all.add(tally?);
    }
    Ok(all)
}

/// Renews the sessions of one connection in turn, spread evenly over the time in which each is due.
async fn renew(mut group: Group, window: Window) -> Tally {
    let mut tally = Tally::default();
    let share = u32::try_from(group.sessions.len()).map_or(RENEWAL, |sessions| RENEWAL / sessions.max(1));
    let mut ticks = tokio::time::interval(share);
    loop {
        ticks.tick().await;
        let began = Instant::now();
        if window.end <= began {
            return tally;
        }
        let renewed = group.renew_next().await;
        tally.count(window, began, renewed);
    }
}
