//! How many histories a property tries, and how a failing one is made small enough to read.

use holdfast_core::LeaderId;
use holdfast_core::domain::Proposal;
use holdfast_core::testing::history;

/// Entries of one history: long enough that retention, limits and re-used names come into play.
pub(crate) const HISTORY_LENGTH: usize = 220;

/// Histories that each property tries by default: the whole suite stays below a minute.
const CASES_DEFAULT: u64 = 120;

/// A log as its entries, each with the leadership that it is committed under.
pub(crate) type History = Vec<(LeaderId, Proposal)>;

/// How many histories to try.
pub(crate) fn cases() -> u64 {
    std::env::var("HOLDFAST_PROPERTY_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(CASES_DEFAULT)
}

/// Checks a property of histories on many seeds. The first that fails is made small, and shown.
pub(crate) fn for_each_history(property: impl Fn(u64, &History) -> Result<(), String>) {
    for seed in 0..cases() {
        let log = history(seed, HISTORY_LENGTH);
        if let Err(why) = property(seed, &log) {
            let small = smallest_failing(&log, |log| property(seed, log).is_err());
            let last = property(seed, &small).err().unwrap_or(why);
            panic!("seed {seed}: {last}\nin the history of {} entries:\n{}", small.len(), show(&small));
        }
    }
}

/// Whether the property fails for one of the first seeds.
#[cfg(feature = "seeded-bugs")]
pub(crate) fn fails_within(seeds: u64, property: impl Fn(u64, &History) -> Result<(), String>) -> bool {
    (0..seeds).any(|seed| property(seed, &history(seed, HISTORY_LENGTH)).is_err())
}

/// Leaves out entries, in ever smaller pieces, as long as the history still fails.
fn smallest_failing(log: &History, fails: impl Fn(&History) -> bool) -> History {
    let mut small = log.clone();
    let mut piece = small.len() / 2;
    while 0 < piece {
        let mut at = 0;
        while at < small.len() {
            let end = small.len().min(at + piece);
            let mut shorter = small.clone();
            shorter.drain(at..end);
            if fails(&shorter) {
                small = shorter;
            } else {
                at = end;
            }
        }
        piece /= 2;
    }
    small
}

/// One line for each entry; long texts are cut.
fn show(log: &History) -> String {
    let line = |(at, (leader, proposal)): (usize, &(LeaderId, Proposal))| {
        let keyed = proposal.replay.map(|k| (k.scope[0], k.fingerprint[0]));
        let mut text = format!("{:?}", proposal.command);
        if 600 < text.len() {
            text.truncate((0..=600).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0));
        }
        let time = proposal.time.as_ms();
        format!("  {at}: t={time} term={} node={} key={keyed:?} {text}\n", leader.term.0, leader.node)
    };
    log.iter().enumerate().map(line).collect()
}
