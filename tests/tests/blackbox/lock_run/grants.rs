//! When the service granted a claim, as the nodes' logs have it.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use holdfast_tests::harness::{Cluster, NodeOptions, Seen, poll};
use serde_json::Value;

/// Bound on a grant that must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes nodes log every grant.
pub(super) fn logging_grants() -> NodeOptions {
    NodeOptions {
        args: vec!["--log-level".to_owned(), "info,holdfast::leases=debug".to_owned()],
        env: vec![],
    }
}

/// Waits until a claim is granted; the earliest time that any node's log has for it.
pub(super) async fn granted_at(cluster: &Cluster, claim: &str) -> Result<SystemTime> {
    poll(&format!("the grant of claim {claim}"), PATIENCE, async || {
        let each = cluster.nodes().iter().map(|node| in_log(node.log(), claim));
        match each.collect::<Result<Vec<_>>>() {
            Ok(times) => match times.into_iter().flatten().min() {
                Some(time) => Seen::Ready(time),
                None => Seen::NotYet("no node has logged it".to_owned()),
            },
            Err(error) => Seen::NotYet(format!("{error:#}")),
        }
    })
    .await
}

/// The first grant of a claim in a log.
fn in_log(log: &Path, claim: &str) -> Result<Option<SystemTime>> {
    let text = std::fs::read_to_string(log).with_context(|| format!("read {}", log.display()))?;
    // A line that is being written has no end yet, and what is not JSON is a panic's message.
    let mut lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n') && line.contains(claim));
    let grant = lines.find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        (line["message"] == "granted" && line["claim"] == claim).then(|| line["timestamp"].clone())
    });
    grant.map(|timestamp| system_time(timestamp.as_str().unwrap_or_default())).transpose()
}

/// A time as logs have it: `2026-11-25T14:35:28.123456Z`.
fn system_time(text: &str) -> Result<SystemTime> {
    parsed(text).with_context(|| format!("no time: {text:?}"))
}

fn parsed(text: &str) -> Option<SystemTime> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let (time, fraction) = time.split_once('.')?;
    let date: Vec<i64> = date.split('-').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let time: Vec<u64> = time.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let ([year, month, day], [hours, minutes, seconds]) = (date.as_slice(), time.as_slice()) else {
        return None;
    };
    let micros: u64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    let days = u64::try_from(days_since_1970(*year, *month, *day)).ok()?;
    let seconds = days * 86_400 + hours * 3_600 + minutes * 60 + seconds;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(micros))
}

/// Days of the Gregorian calendar; the year is counted from March, so that the leap day is its last.
const fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

#[test]
fn a_time_of_a_log_is_read_to_the_microsecond() {
    let at = |seconds, micros: u32| SystemTime::UNIX_EPOCH + Duration::new(seconds, micros * 1_000);
    assert_eq!(parsed("1970-01-01T00:00:00.000000Z"), Some(at(0, 0)));
    assert_eq!(parsed("2000-02-29T23:59:59.5Z"), Some(at(951_868_799, 500_000)));
    assert_eq!(parsed("2026-11-25T14:35:28.123456789Z"), Some(at(1_795_617_328, 123_456)));
    assert_eq!(parsed("2026-11-25 14:35:28"), None);
}
