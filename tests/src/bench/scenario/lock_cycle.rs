//! Locks without contention: every client takes and releases one of its own.

use anyhow::Result;

use crate::bench::client::Client;
use crate::bench::closed_loop::{AsyncWork, Window, drive, run, spent};
use crate::bench::figures::Run;
use crate::bench::options::Options;
use crate::bench::system::System;

/// Sessions outlive the measurement without being renewed.
pub(super) const SESSION_SECONDS: u32 = 3_600;

#[derive(Clone)]
struct Cycle;

impl AsyncWork for Cycle {
    async fn once(&mut self, client: &mut Client, number: usize) -> Result<()> {
        let held = client.lock(&format!("own-{number}")).await?;
        client.unlock(&held).await
    }
}

/// Measures acquire and release, as one operation, with each number of clients.
pub(super) async fn measure(system: &System, options: &Options) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    for number in &options.clients {
        let mut clients = system.clients(*number, options.target).await?;
        for client in &mut clients {
            client.open_session(SESSION_SECONDS).await?;
        }
        let window = Window::after(options.warmup(), options.measured());
        let (tally, spent) = tokio::try_join!(drive(clients, window, Cycle), spent(system, window))?;
        runs.push(run(format!("lock and unlock, {number} clients"), system, window, tally, &spent));
    }
    Ok(runs)
}
