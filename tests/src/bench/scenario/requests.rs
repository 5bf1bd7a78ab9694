//! Single reads and writes of keys that are there.

use anyhow::{Result, ensure};
use bytes::Bytes;
use rand::Rng as _;

use crate::bench::client::Client;
use crate::bench::closed_loop::{AsyncWork, Window, drive, run, spent};
use crate::bench::figures::Run;
use crate::bench::options::Options;
use crate::bench::scenario::{KEYS, VALUE_BYTES, key, load, value};
use crate::bench::system::System;

/// What the clients ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mix {
    Put,
    Get,
    Both,
}

impl Mix {
    fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Both => "get and put",
        }
    }
}

#[derive(Clone)]
pub(super) struct Requests {
    pub(super) mix: Mix,
    pub(super) value: Bytes,
}

impl AsyncWork for Requests {
    async fn once(&mut self, client: &mut Client, _number: usize) -> Result<()> {
        let (chosen, writes) = {
            let mut random = rand::rng();
            (random.random_range(0..KEYS), random.random())
        };
        let writes = match self.mix {
            Mix::Put => true,
            Mix::Get => false,
            Mix::Both => writes,
        };
        if writes {
            return client.put(&key(chosen), self.value.clone()).await;
        }
        let found = client.get(&key(chosen)).await?;
        ensure!(found.len() == VALUE_BYTES, "a value of {} bytes", found.len());
        Ok(())
    }
}

/// Measures a mix with each number of clients.
pub(super) async fn measure(system: &System, options: &Options, mix: Mix) -> Result<Vec<Run>> {
    load(system, KEYS, 4).await?;
    let mut runs = Vec::new();
    for number in &options.clients {
        let clients = system.clients(*number, options.target).await?;
        let window = Window::after(options.warmup(), options.measured());
        let work = Requests { mix, value: Bytes::copy_from_slice(value().as_bytes()) };
        let (tally, spent) = tokio::try_join!(drive(clients, window, work), spent(system, window))?;
        runs.push(run(format!("{}, {number} clients", mix.name()), system, window, tally, &spent));
    }
    Ok(runs)
}
