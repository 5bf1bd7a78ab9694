//! The order of the runs: every scenario of both systems in turn, A B and then B A, each on a cluster of its own.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::bench::figures::Run;
use crate::bench::options::{Options, SystemKind};
use crate::bench::process;
use crate::bench::report::{self, Machine};
use crate::bench::scenario::Scenario;
use crate::bench::system::{Binaries, System, etcd_on_path};
use crate::harness::{Binary, Scratch};

/// Rest between two clusters, in which the disk finishes what the last one left.
const REST: Duration = Duration::from_secs(1);

/// Runs the benchmark; the exit code of the program.
pub fn main(options: &Options) -> ExitCode {
    process::raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let measured = runtime.context("start the runtime").and_then(|runtime| {
        runtime.block_on(async {
            tokio::select! {
                measured = measure(options) => measured,
                signal = stopped() => bail!("stopped by {}", signal?),
            }
        })
    });
    match measured {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            report::complain(&format!("holdfast-bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The clusters end and their data goes when the measurement is dropped, so signals do no more than that.
async fn stopped() -> Result<&'static str> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => Ok("SIGINT"),
        _ = terminate.recv() => Ok("SIGTERM"),
    }
}

/// Whether every run was valid.
async fn measure(options: &Options) -> Result<bool> {
    let binaries = binaries(options)?;
    let machine = Machine::look(Scratch::durable()?.path(), &binaries);
    report::progress(&machine.line());
    let mut systems = options.systems.clone();
    systems.dedup();
    if binaries.etcd.is_none() {
        systems.retain(|system| *system != SystemKind::Etcd);
        report::progress("no etcd found: measuring Holdfast alone");
    }
    let scenarios =
        if options.scenarios.is_empty() { Scenario::value_variants() } else { &options.scenarios };
    let mut runs = Vec::new();
    for scenario in scenarios {
        let repeats = if scenario.is_measured_once() { 1 } else { options.repeats };
        for repeat in 0..repeats {
            let mut order = systems.clone();
            if !repeat.is_multiple_of(2) {
                order.reverse();
            }
            for system in order.into_iter().filter(|system| scenario.is_for(*system)) {
                runs.extend(measure_one(*scenario, system, &binaries, options).await?);
            }
        }
    }
    report::print(&machine, &runs, options.json)?;
    let invalid = runs.iter().filter(|run| run.is_invalid()).count();
    if invalid != 0 {
        report::complain(&format!("{invalid} runs are invalid: too many of their requests failed"));
    }
    Ok(invalid == 0)
}

async fn measure_one(
    scenario: Scenario,
    kind: SystemKind,
    binaries: &Binaries,
    options: &Options,
) -> Result<Vec<Run>> {
    let mut system = System::start(kind, binaries).await.with_context(|| format!("start {}", kind.name()))?;
    let measured = scenario.measure(&mut system, options).await;
    let runs = measured.with_context(|| format!("measure {scenario:?} of {}", kind.name()))?;
    drop(system);
    runs.iter().for_each(|run| report::progress(&report::run_line(run)));
    tokio::time::sleep(REST).await;
    Ok(runs)
}

fn binaries(options: &Options) -> Result<Binaries> {
    let holdfast = match &options.holdfast {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("holdfast"),
    };
    let etcd = options.etcd.clone().or_else(etcd_on_path);
    if let Some(named) = options.etcd.as_ref().filter(|named| !named.is_file()) {
        bail!("no etcd binary at {}", named.display());
    }
    Ok(Binaries { holdfast: Binary::at(holdfast)?, etcd })
}
