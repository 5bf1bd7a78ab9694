//! What is measured. Each scenario gets a fresh cluster for itself and returns its runs.

mod contended;
mod failover;
mod hostile;
mod idle;
mod lock_cycle;
mod million;
mod requests;
mod sessions;
mod watching;

use std::sync::Arc;

use anyhow::Result;
use clap::ValueEnum;

use crate::bench::figures::Run;
use crate::bench::options::{Options, SystemKind};
use crate::bench::scenario::requests::Mix;
use crate::bench::system::System;

/// The length of every value.
pub(super) const VALUE_BYTES: usize = 256;
/// The keys that reads and writes choose from.
const KEYS: usize = 10_000;
/// Keys in one transaction of a load.
const TXN_KEYS: usize = 100;

/// A scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Writes of 256 bytes
    Put,
    /// Linearizable reads
    Get,
    /// As many reads as writes
    Mixed,
    /// Each client takes and releases a lock of its own
    LockCycle,
    /// Clients that all want the same lock
    Contended,
    /// One writer and a thousand watchers
    Watch,
    /// Ten thousand sessions that renew themselves
    Sessions,
    /// From the kill of a leader to the first write
    Failover,
    /// A million keys: memory, disk and restart
    Million,
    /// Nothing happens
    Idle,
    /// Writes while others send rubbish, or nothing
    Hostile,
}

impl Scenario {
    /// Whether one repeat is many measurements already, or too long for several.
    pub(super) fn is_measured_once(self) -> bool {
        match self {
            Self::Failover | Self::Million | Self::Idle => true,
            Self::Put
            | Self::Get
            | Self::Mixed
            | Self::LockCycle
            | Self::Contended
            | Self::Watch
            | Self::Sessions
            | Self::Hostile => false,
        }
    }

    /// Whether it makes sense for a system. Rubbish is told from bad requests by HTTP, which etcd does not speak.
    pub(super) fn is_for(self, system: SystemKind) -> bool {
        self != Self::Hostile || system == SystemKind::Holdfast
    }

    /// Measures a fresh cluster.
    pub(super) async fn measure(self, system: &mut System, options: &Options) -> Result<Vec<Run>> {
        match self {
            Self::Put => requests::measure(system, options, Mix::Put).await,
            Self::Get => requests::measure(system, options, Mix::Get).await,
            Self::Mixed => requests::measure(system, options, Mix::Both).await,
            Self::LockCycle => lock_cycle::measure(system, options).await,
            Self::Contended => contended::measure(system, options).await,
            Self::Watch => watching::measure(system, options).await,
            Self::Sessions => sessions::measure(system, options).await,
            Self::Failover => failover::measure(system, options).await,
            Self::Million => million::measure(system, options).await,
            Self::Idle => idle::measure(system).await,
            Self::Hostile => hostile::measure(system, options).await,
        }
    }
}

/// The name of a key.
fn key(number: usize) -> String {
    format!("bench/{number:08}")
}

/// A value: text, so that every system can show it as it is.
fn value() -> Arc<str> {
    use rand::Rng as _;
    let mut random = rand::rng();
    (0..VALUE_BYTES).map(|_| char::from(random.random_range(b'a'..=b'z'))).collect::<String>().into()
}

/// Writes the first keys, many at a time.
async fn load(system: &System, keys: usize, writers: usize) -> Result<()> {
    let leader = system.leader().await?;
    let mut running = tokio::task::JoinSet::new();
    for writer in 0..writers {
        let mut client = system.client(leader)?;
        let value = value();
        running.spawn(async move {
            let mut first = writer * TXN_KEYS;
            while first < keys {
                let names: Vec<String> = (first..keys.min(first + TXN_KEYS)).map(key).collect();
                client.put_all(&names, &value).await?;
                first += writers * TXN_KEYS;
            }
            anyhow::Ok(())
        });
    }
    while let Some(written) = running.join_next().await {
        written??;
    }
    Ok(())
}
