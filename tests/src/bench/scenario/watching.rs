//! One writer and a thousand watchers: how many events a second reach them, and how late they are.
//!
//! The writer of the first part has only a few writes that not every watcher has seen yet, so it goes as fast as they
//! follow. The writer of the second part writes at a fixed pace: there the lag is that of a system at ease.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bench::client::{Client, Watch};
use crate::bench::closed_loop::{Tally, Window, run, spent};
use crate::bench::figures::{Figure, Latencies, Run, count};
use crate::bench::options::Options;
use crate::bench::scenario::{VALUE_BYTES, value};
use crate::bench::system::{NODES, System};

const WATCHERS: usize = 1_000;
/// Connections that are opened at the same time.
const OPENING: usize = 50;
/// Writes that not everybody has seen.
const UNSEEN_MAX: usize = 4;
const PACE: Duration = Duration::from_millis(20);
const PREFIX: &str = "watched/";
/// Digits at the begin of a value that say when it was written, in microseconds.
const STAMP_DIGITS: usize = 16;
/// How long the last events may take.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// How the writer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    AsSeen,
    Fixed,
}

/// What all watchers together have seen.
#[derive(Debug)]
struct Seen {
    origin: Instant,
    events: AtomicUsize,
    /// Rung whenever they have seen as many events more as there are watchers.
    round: Notify,
}

/// Measures both parts.
pub(super) async fn measure(system: &System, options: &Options) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    for pace in [Pace::AsSeen, Pace::Fixed] {
        runs.push(part(system, options, pace).await?);
    }
    Ok(runs)
}

async fn part(system: &System, options: &Options, pace: Pace) -> Result<Run> {
    let seen = Arc::new(Seen { origin: Instant::now(), events: AtomicUsize::new(0), round: Notify::new() });
    let watches = open(system).await?;
    let window = Window::after(options.warmup(), options.measured());
    let stop = CancellationToken::new();
    let mut followers = JoinSet::new();
    for watch in watches {
        followers.spawn(follow(watch, window, Arc::clone(&seen), stop.clone()));
    }
    let writer = system.client(system.leader().await?)?;
    let (written, spent) = tokio::try_join!(write(writer, window, pace, &seen), spent(system, window))?;
    let (tally, puts) = written;
    wait_seen(&seen, puts * WATCHERS).await?;
    stop.cancel();
    let mut lags = Latencies::default();
    while let Some(follower) = followers.join_next().await {
        lags.extend(&follower??);
    }
    let name = match pace {
        Pace::AsSeen => "as fast as they follow",
        Pace::Fixed => "50 writes/s",
    };
    let mut run = run(format!("{WATCHERS} watchers, {name}"), system, window, tally, &spent);
    let events = count(lags.len()) / window.seconds();
    let [median, p99] = lags.quantiles_ms([0.5, 0.99]);
    run.figures.splice(
        0..0,
        [(Figure::EventsPerSecond, events), (Figure::LagMedianMs, median), (Figure::LagP99Ms, p99)],
    );
    Ok(run)
}

/// Opens all watches, on the nodes in turn.
async fn open(system: &System) -> Result<Vec<Watch>> {
    let mut watches = Vec::with_capacity(WATCHERS);
    let mut opening = JoinSet::new();
    for number in 0..WATCHERS {
        let client = system.client(number % NODES)?;
        opening.spawn(async { client.watch(PREFIX).await });
        if OPENING <= opening.len()
            && let Some(opened) = opening.join_next().await
        {
            watches.push(opened??);
        }
    }
    while let Some(opened) = opening.join_next().await {
        watches.push(opened??);
    }
    Ok(watches)
}

/// Follows the changes until it is stopped; returns how late those within the window were.
async fn follow(
    mut watch: Watch,
    window: Window,
    seen: Arc<Seen>,
    stop: CancellationToken,
) -> Result<Latencies> {
    let mut lags = Latencies::default();
    let mut each = |value: &[u8]| {
        let now = Instant::now();
        let stamp =
            value.get(..STAMP_DIGITS).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        if let Some(micros) = stamp
            && window.begin <= now
            && now <= window.end
        {
            lags.record(now.saturating_duration_since(seen.origin + Duration::from_micros(micros)));
        }
        if (seen.events.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(WATCHERS) {
            seen.round.notify_one();
        }
    };
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(lags),
            told = watch.next(&mut each) => told?,
        }
    }
}

/// Writes until the window ends; returns the number of all writes with what counts.
async fn write(mut client: Client, window: Window, pace: Pace, seen: &Seen) -> Result<(Tally, usize)> {
    let (mut tally, mut puts) = (Tally::default(), 0);
    let filling = value();
    let mut ticks = tokio::time::interval(PACE);
    while Instant::now() < window.end {
        match pace {
            Pace::Fixed => drop(ticks.tick().await),
            Pace::AsSeen => {
                let round = seen.round.notified();
                if puts * WATCHERS >= seen.events.load(Ordering::Relaxed) + UNSEEN_MAX * WATCHERS {
                    // A lost watcher is found by the wait for the last events.
                    let _ = tokio::time::timeout(DRAIN_LIMIT, round).await;
                }
            }
        }
        let began = Instant::now();
        let micros = (began - seen.origin).as_micros();
        let stamped =
            format!("{micros:0width$}{}", &filling[STAMP_DIGITS..VALUE_BYTES], width = STAMP_DIGITS);
        client.put(&format!("{PREFIX}{}", puts % 100), Bytes::from(stamped)).await?;
        puts += 1;
        tally.count(window, began, Ok(()));
    }
    Ok((tally, puts))
}

async fn wait_seen(seen: &Seen, events: usize) -> Result<()> {
    let begun = Instant::now();
    while seen.events.load(Ordering::Relaxed) < events {
        let so_far = seen.events.load(Ordering::Relaxed);
        ensure!(begun.elapsed() < DRAIN_LIMIT, "the watchers saw {so_far} of {events} events");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
