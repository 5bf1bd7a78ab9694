//! One lock that everybody wants: how fast it goes from hand to hand, and how fairly.
//!
//! A hand-off lasts from the moment at which its holder sends the release to the moment at which the next one has the
//! answer that it holds the lock.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::bench::client::Client;
use crate::bench::closed_loop::{Tally, Window, run, spent};
use crate::bench::figures::{Figure, Run, count};
use crate::bench::options::Options;
use crate::bench::scenario::lock_cycle::SESSION_SECONDS;
use crate::bench::system::System;

const CLIENTS: [usize; 3] = [2, 16, 100];

/// When the lock was last released.
type Released = Arc<Mutex<Option<Instant>>>;

/// Measures hand-offs with each number of clients.
pub(super) async fn measure(system: &System, options: &Options) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    for number in CLIENTS {
        let mut clients = system.clients(number, options.target).await?;
        for client in &mut clients {
            client.open_session(SESSION_SECONDS).await?;
        }
        let window = Window::after(options.warmup(), options.measured());
        let lock = format!("wanted-by-{number}");
        let (contest, spent) = tokio::try_join!(contest(clients, window, &lock), spent(system, window))?;
        let mut run = run(format!("one lock, {number} clients"), system, window, contest.0, &spent);
        run.figures.push((Figure::Fairness, contest.1));
        runs.push(run);
    }
    Ok(runs)
}

/// Lets the clients contend; returns the hand-offs, and the most grants of a client over the fewest.
async fn contest(clients: Vec<Client>, window: Window, lock: &str) -> Result<(Tally, f64)> {
    let released = Released::default();
    let mut running = JoinSet::new();
    for client in clients {
        running.spawn(contend(client, window, lock.to_owned(), Arc::clone(&released)));
    }
    let (mut all, mut grants) = (Tally::default(), Vec::new());
    while let Some(ended) = running.join_next().await {
        let tally = ended?;
        grants.push(tally.latencies.len());
        all.add(tally);
    }
    let most = grants.iter().max().context("there are clients")?;
    let fewest = grants.iter().min().context("there are clients")?;
    Ok((all, count(*most) / count(*fewest)))
}

async fn contend(mut client: Client, window: Window, lock: String, released: Released) -> Tally {
    let mut tally = Tally::default();
    while Instant::now() < window.end {
        let waited_from = Instant::now();
        let held = match client.lock(&lock).await {
            Ok(held) => held,
            Err(error) => {
                tally.count(window, waited_from, Err(error));
                continue;
            }
        };
        let handed_on = released.lock().unwrap_or_else(PoisonError::into_inner).replace(Instant::now());
        tally.count(window, handed_on.unwrap_or(waited_from).max(waited_from), Ok(()));
        let began = Instant::now();
        if let Err(error) = client.unlock(&held).await {
            tally.count(window, began, Err(error));
        }
    }
    tally
}
