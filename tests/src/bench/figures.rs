//! What one run measured: latencies, and figures with their units.

use std::time::Duration;

use serde::Serialize;

use crate::bench::options::SystemKind;

/// The share of failed requests beyond which a run is invalid.
pub(super) const FAILED_SHARE_MAX: f64 = 0.001;

/// A kind of figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Figure {
    PerSecond,
    MedianMs,
    P99Ms,
    P999Ms,
    WorstMs,
    ServersCpuPerThousand,
    GeneratorCpuPerThousand,
    SyncsPerThousand,
    Fairness,
    EventsPerSecond,
    LagMedianMs,
    LagP99Ms,
    ServersCpuPercent,
    NodeCpuPercent,
    GeneratorCpuPercent,
    LogEntriesPerSecond,
    MemoryMb,
    MemoryAfterRestartMb,
    DiskMb,
    RestartSeconds,
    P99Growth,
}

impl Figure {
    /// How a table calls it.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::PerSecond => "operations/s",
            Self::MedianMs => "p50 ms",
            Self::P99Ms => "p99 ms",
            Self::P999Ms => "p99.9 ms",
            Self::WorstMs => "worst ms",
            Self::ServersCpuPerThousand => "servers' CPU s per 1,000",
            Self::GeneratorCpuPerThousand => "generator's CPU s per 1,000",
            Self::SyncsPerThousand => "log fsyncs per 1,000, all nodes",
            Self::Fairness => "most / fewest grants of a client",
            Self::EventsPerSecond => "events/s",
            Self::LagMedianMs => "lag p50 ms",
            Self::LagP99Ms => "lag p99 ms",
            Self::ServersCpuPercent => "servers' CPU, % of a core",
            Self::NodeCpuPercent => "busiest node's CPU, % of a core",
            Self::GeneratorCpuPercent => "generator's CPU, % of a core",
            Self::LogEntriesPerSecond => "log entries/s",
            Self::MemoryMb => "memory MB, largest node",
            Self::MemoryAfterRestartMb => "memory MB after the restart",
            Self::DiskMb => "disk MB, largest node",
            Self::RestartSeconds => "restart to first read, s",
            Self::P99Growth => "p99 with / without",
        }
    }
}

/// One measurement of one system.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Run {
    /// The scenario with its parameter, such as `put, 64 clients`.
    pub(super) case: String,
    /// The system.
    #[serde(serialize_with = "system_name")]
    pub(super) system: SystemKind,
    /// What was measured.
    pub(super) figures: Vec<(Figure, f64)>,
    /// Requests that ended well.
    pub(super) succeeded: usize,
    /// Requests that did not.
    pub(super) failed: usize,
    /// What the first of them was told.
    pub(super) first_failure: Option<String>,
}

fn system_name<S: serde::Serializer>(system: &SystemKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(system.name())
}

impl Run {
    /// Whether too many requests failed for its figures to mean anything.
    pub(super) fn is_invalid(&self) -> bool {
        let all = self.succeeded + self.failed;
        all == 0 || FAILED_SHARE_MAX * count(all) < count(self.failed)
    }

    /// One figure.
    pub(super) fn figure(&self, figure: Figure) -> Option<f64> {
        self.figures.iter().find(|(kind, _)| *kind == figure).map(|(_, value)| *value)
    }
}

/// A number of things as a figure.
pub(super) fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}

/// Latencies of requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Latencies {
    micros: Vec<u32>,
}

impl Latencies {
    /// Adds one.
    pub(super) fn record(&mut self, took: Duration) {
        self.micros.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
    }

    /// Adds those of others.
    pub(super) fn extend(&mut self, others: &Self) {
        self.micros.extend_from_slice(&others.micros);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.micros.len()
    }

    /// The values in milliseconds below which these shares of them lie.
    pub(super) fn quantiles_ms<const N: usize>(&mut self, shares: [f64; N]) -> [f64; N] {
        self.micros.sort_unstable();
        shares.map(|share| {
            self.micros.get(rank(share, self.micros.len())).map_or(f64::NAN, |us| f64::from(*us) / 1e3)
        })
    }
}

/// The index of a quantile among `len` sorted values (nearest rank).
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a length is an index"
)]
fn rank(share: f64, len: usize) -> usize {
    ((share * count(len)).ceil() as usize).saturating_sub(1).min(len.saturating_sub(1))
}

/// The median.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.as_slice() {
        [] => f64::NAN,
        sorted if sorted.len() % 2 == 1 => sorted[middle],
        sorted => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        let mut latencies = Latencies::default();
        (1..=1_000).rev().for_each(|us| latencies.record(Duration::from_millis(us)));
        assert_eq!(latencies.quantiles_ms([0.5, 0.99, 0.999, 1.0]), [500.0, 990.0, 999.0, 1_000.0]);
        assert!(Latencies::default().quantiles_ms([0.5])[0].is_nan());
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn one_failure_in_a_thousand_is_allowed_and_two_are_not() {
        let run = |succeeded, failed| Run {
            case: String::new(),
            system: SystemKind::Etcd,
            figures: Vec::new(),
            succeeded,
            failed,
            first_failure: None,
        };
        assert!(!run(999, 1).is_invalid());
        assert!(run(998, 2).is_invalid());
        assert!(run(0, 0).is_invalid(), "nothing was measured");
    }
}
