//! What is printed: every run as it ends, to standard error; medians and their ratios, or JSON, to standard output.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use serde::Serialize;

use crate::bench::figures::{Figure, Run, median};
use crate::bench::options::SystemKind;
use crate::bench::system::Binaries;

/// What was measured on.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    processor: String,
    cores: usize,
    memory_mb: u64,
    kernel: String,
    /// The kind of the file system that holds the data.
    file_system: String,
    holdfast: String,
    etcd: Option<String>,
    /// The load of the last minute when the benchmark began.
    load: String,
}

impl Machine {
    /// Looks at this machine.
    pub(super) fn look(data: &Path, binaries: &Binaries) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split(':').nth(1).unwrap_or_default().trim().to_owned()
        };
        let memory_kib = field(&read("/proc/meminfo"), "MemTotal");
        let memory_kib: u64 = memory_kib.trim_end_matches(" kB").parse().unwrap_or_default();
        Self {
            processor: field(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mb: memory_kib * 1_024 / 1_000_000,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            file_system: file_system(data),
            holdfast: version(binaries.holdfast.path()),
            etcd: binaries.etcd.as_deref().map(version),
            load: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
        }
    }

    /// On one line.
    pub(super) fn line(&self) -> String {
        let Self { processor, cores, memory_mb, kernel, file_system, holdfast, etcd, load } = self;
        let etcd = etcd.as_deref().unwrap_or("no etcd");
        format!(
            "{holdfast}; {etcd}; {processor}, {cores} cores, {memory_mb} MB, Linux {kernel}, data on {file_system}; load {load}"
        )
    }
}

fn version(binary: &Path) -> String {
    let output = Command::new(binary).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("unknown version").to_owned()
}

/// The type of the file system of a directory, as the table of mounts calls it.
fn file_system(dir: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let fields = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let holding = fields.filter(|(point, _)| dir.starts_with(point)).max_by_key(|(point, _)| point.len());
    holding.map_or_else(|| "unknown".to_owned(), |(_, kind)| kind.to_owned())
}

/// Tells how the benchmark goes.
#[expect(clippy::print_stderr, reason = "it is a program whose results go to standard output")]
pub(super) fn progress(line: &str) {
    eprintln!("{line}");
}

/// Tells what is wrong.
pub(super) fn complain(line: &str) {
    progress(line);
}

/// One run on one line.
pub(super) fn run_line(run: &Run) -> String {
    let figures: Vec<String> =
        run.figures.iter().map(|(figure, value)| format!("{} {}", figure.label(), rounded(*value))).collect();
    let mut line = format!("{:8} {}: {}", run.system.name(), run.case, figures.join(", "));
    if run.failed != 0 {
        let first = run.first_failure.as_deref().unwrap_or_default();
        write!(line, "; {} of {} failed: {first}", run.failed, run.failed + run.succeeded)
            .expect("a string takes all");
    }
    if run.is_invalid() {
        line.push_str("; INVALID");
    }
    line
}

/// Prints the results.
pub(super) fn print(machine: &Machine, runs: &[Run], as_json: bool) -> Result<()> {
    let summary = summarize(runs);
    let text = if as_json {
        let all = serde_json::json!({ "machine": machine, "medians": summary, "runs": runs });
        format!("{all:#}\n")
    } else {
        format!("{}\n\n{}", machine.line(), table(&summary))
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

/// A figure of a case: the medians of the valid runs, and their ratio.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Summary {
    case: String,
    figure: Figure,
    holdfast: Option<f64>,
    etcd: Option<f64>,
    ratio: Option<f64>,
}

fn summarize(runs: &[Run]) -> Vec<Summary> {
    let mut rows: Vec<(&str, Figure)> = Vec::new();
    for run in runs {
        for (figure, _) in &run.figures {
            if !rows.contains(&(run.case.as_str(), *figure)) {
                rows.push((&run.case, *figure));
            }
        }
    }
    let of = |case: &str, figure: Figure, system: SystemKind| {
        let valid = runs.iter().filter(|run| run.case == case && run.system == system && !run.is_invalid());
        let values: Vec<f64> = valid.filter_map(|run| run.figure(figure)).collect();
        (!values.is_empty()).then(|| median(&values))
    };
    let summary = |(case, figure): (&str, Figure)| {
        let holdfast = of(case, figure, SystemKind::Holdfast);
        let etcd = of(case, figure, SystemKind::Etcd);
        let ratio = holdfast.zip(etcd).map(|(holdfast, etcd)| holdfast / etcd);
        Summary { case: case.to_owned(), figure, holdfast, etcd, ratio }
    };
    let mut summaries: Vec<Summary> = rows.into_iter().map(summary).collect();
    // The figures of a case stand together, in the order in which the cases came.
    let mut cases: Vec<String> = Vec::new();
    summaries.iter().for_each(|row| {
        if !cases.contains(&row.case) {
            cases.push(row.case.clone());
        }
    });
    summaries.sort_by_key(|row| cases.iter().position(|case| *case == row.case));
    summaries
}

fn table(summaries: &[Summary]) -> String {
    let mut text = String::new();
    let mut case = "";
    for row in summaries {
        if row.case != case {
            case = &row.case;
            writeln!(text, "{case:<44} {:>12} {:>12} {:>8}", "holdfast", "etcd", "ratio")
                .expect("a string takes all");
        }
        let cell = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), rounded);
        writeln!(
            text,
            "  {:<42} {:>12} {:>12} {:>8}",
            row.figure.label(),
            cell(row.holdfast),
            cell(row.etcd),
            cell(row.ratio)
        )
        .expect("a string takes all");
    }
    text
}

/// Three digits that count.
fn rounded(value: f64) -> String {
    match value.abs() {
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(system: SystemKind, per_second: f64, failed: usize) -> Run {
        Run {
            case: "put".to_owned(),
            system,
            figures: vec![(Figure::PerSecond, per_second)],
            succeeded: 1_000,
            failed,
            first_failure: None,
        }
    }

    #[test]
    fn medians_are_of_valid_runs_and_their_ratio_is_told() {
        let runs = [
            run(SystemKind::Holdfast, 300.0, 0),
            run(SystemKind::Etcd, 100.0, 0),
            run(SystemKind::Etcd, 120.0, 0),
            run(SystemKind::Holdfast, 9_999.0, 500),
            run(SystemKind::Holdfast, 360.0, 0),
        ];
        let summaries = summarize(&runs);
        let [only] = summaries.as_slice() else { panic!("{summaries:?}") };
        assert_eq!((only.holdfast, only.etcd, only.ratio), (Some(330.0), Some(110.0), Some(3.0)));
        assert!(table(&summaries).contains("operations/s"), "{}", table(&summaries));
    }

    #[test]
    fn a_run_with_failures_says_so() {
        let line = run_line(&run(SystemKind::Etcd, 1.0, 500));
        assert!(line.contains("500 of 1500 failed") && line.ends_with("INVALID"), "{line}");
    }
}
