//! When the command has to be asked to end, and when it has to be dead, so that both come before the lease can end.
//!
//! ```text
//!   renewal sent      next one sent                                                   lease ends here   at the service
//!   │◀──── ttl/3 ────▶│◀─ ttl/6 for its answer ─▶│          TERM        KILL │◀─ margin ─▶│◀ 1 % + 10 ms ▶│
//!   └─────────────────┴──────────────────────────┴───────────┴─ kill-after ─┴────────────┘
//! ```
//!
//! All times are milliseconds of `CLOCK_BOOTTIME`, which goes on while the system is suspended.

use std::time::Duration;

use holdfast_core::limits;
use rustix::time::{ClockId, clock_gettime};

/// The shortest margin: a process that is due to run and a signal that is due to kill take this long on a busy machine.
const MARGIN_MS_MIN: u64 = 100;
/// The longest that the command gets between TERM and KILL unless the flag says otherwise.
const KILL_AFTER_MS_DEFAULT: u64 = 5_000;

/// `CLOCK_BOOTTIME` in milliseconds, rounded down.
pub(super) fn boot_ms() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).expect("the time since boot is not negative");
    seconds * 1_000 + u64::try_from(time.tv_nsec).expect("a nanosecond part is not negative") / 1_000_000
}

/// The times that belong to one run. Made only by [`Timing::new`], which checks that they fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timing {
    ttl_ms: u64,
    kill_after_ms: u64,
    margin_ms: u64,
}

/// Why times cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TimingError {
    /// The service takes no such TTL.
    #[error(
        "--ttl is {ttl_ms} ms, but it must be between {} ms and {} ms",
        limits::TTL_MS_MIN,
        limits::TTL_MS_MAX
    )]
    Ttl {
        /// The TTL asked for.
        ttl_ms: u64,
    },
    /// The command would be ended before a renewal could come in time.
    #[error(
        "--kill-after {kill_after_ms}ms does not fit into --ttl {ttl_ms}ms: a renewal may come as late as {renewed_ms} ms \
         after the one before, and {margin_ms} ms before the lease ends at {lease_ms} ms the command must be dead; give \
         --kill-after {kill_after_ms_max}ms or less, or --ttl {ttl_ms_min}ms or more"
    )]
    KillAfter {
        /// The time asked for between TERM and KILL.
        kill_after_ms: u64,
        /// The TTL asked for.
        ttl_ms: u64,
        /// How late a renewal may come in normal operation.
        renewed_ms: u64,
        /// What is kept free before the end of the lease.
        margin_ms: u64,
        /// How long the lease counts after a renewal was sent.
        lease_ms: u64,
        /// The longest time between TERM and KILL with that TTL.
        kill_after_ms_max: u64,
        /// The shortest TTL with that time between TERM and KILL.
        ttl_ms_min: u64,
    },
}

const fn margin_ms(ttl_ms: u64) -> u64 {
    let share = ttl_ms / 20;
    if share < MARGIN_MS_MIN { MARGIN_MS_MIN } else { share }
}

/// How long the lease counts after a renewal was sent, as the client library has it: 1 % and 10 ms less than the TTL.
const fn lease_ms(ttl_ms: u64) -> u64 {
    (ttl_ms - ttl_ms / 100).saturating_sub(10)
}

/// How late a renewal may come in normal operation: it is sent after a third of the TTL, and one attempt may fail, which
/// takes a sixth.
const fn renewed_ms(ttl_ms: u64) -> u64 {
    ttl_ms / 2
}

/// The longest time between TERM and KILL that fits into a TTL.
const fn kill_after_ms_max(ttl_ms: u64) -> u64 {
    lease_ms(ttl_ms).saturating_sub(margin_ms(ttl_ms) + renewed_ms(ttl_ms))
}

impl Timing {
    /// The times of a run; without `kill_after` that is 5 s, or a third of a TTL below 15 s.
    ///
    /// # Errors
    /// [`TimingError`] says which times would do.
    pub(super) fn new(ttl: Duration, kill_after: Option<Duration>) -> Result<Self, TimingError> {
        let ttl_ms = whole_ms(ttl);
        if !(limits::TTL_MS_MIN..=limits::TTL_MS_MAX).contains(&ttl_ms) {
            return Err(TimingError::Ttl { ttl_ms });
        }
        let kill_after_ms = kill_after.map_or(KILL_AFTER_MS_DEFAULT.min(ttl_ms / 3), whole_ms);
        let kill_after_ms_max = kill_after_ms_max(ttl_ms);
        if kill_after_ms_max < kill_after_ms {
            return Err(TimingError::KillAfter {
                kill_after_ms,
                ttl_ms,
                renewed_ms: renewed_ms(ttl_ms),
                margin_ms: margin_ms(ttl_ms),
                lease_ms: lease_ms(ttl_ms),
                kill_after_ms_max,
                ttl_ms_min: ttl_ms_min(kill_after_ms),
            });
        }
        Ok(Self { ttl_ms, kill_after_ms, margin_ms: margin_ms(ttl_ms) })
    }

    /// The TTL of the session.
    pub(super) const fn ttl(self) -> Duration {
        Duration::from_millis(self.ttl_ms)
    }

    /// Between TERM and KILL, in milliseconds.
    pub(super) const fn kill_after_ms(self) -> u64 {
        self.kill_after_ms
    }

    /// Between KILL and the end of the lease, in milliseconds.
    pub(super) const fn margin_ms(self) -> u64 {
        self.margin_ms
    }
}

/// The shortest TTL, in tenths of a second, into which a time between TERM and KILL fits.
fn ttl_ms_min(kill_after_ms: u64) -> u64 {
    let fits = |ttl_ms: &u64| kill_after_ms <= kill_after_ms_max(*ttl_ms);
    // The longest TTL leaves 26 minutes; for what is longer than that no TTL fits and the advice is the longest one.
    (limits::TTL_MS_MIN..limits::TTL_MS_MAX).step_by(100).find(fits).unwrap_or(limits::TTL_MS_MAX)
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing before this time.
    NothingUntil(u64),
    /// TERM.
    Terminate,
    /// KILL.
    Kill,
    /// KILL was due, and was done.
    Nothing,
}

/// The end of a command, as far as it is in sight.
///
/// Invariants: 1. a renewal never brings the end nearer; 2. once TERM was due, no renewal takes the end back; 3. KILL is due
/// no later than the margin before the end of the newest lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Countdown {
    kill_after_ms: u64,
    margin_ms: u64,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The lease is renewed again and again.
    Leased { until_ms: u64 },
    /// The command was told to end.
    Ending { kill_at_ms: u64 },
    /// The command was killed.
    Killed,
}

impl Countdown {
    /// Begins with a lease.
    pub(super) const fn start(kill_after_ms: u64, margin_ms: u64, lease_end_ms: u64) -> Self {
        Self { kill_after_ms, margin_ms, phase: Phase::Leased { until_ms: lease_end_ms } }
    }

    /// A renewal was answered.
    pub(super) fn renew(&mut self, lease_end_ms: u64) {
        if let Phase::Leased { until_ms } = &mut self.phase {
            *until_ms = (*until_ms).max(lease_end_ms);
        }
    }

    /// There will be no further renewal: the command gets its time to end, if the lease has that much left.
    pub(super) fn end(&mut self, now_ms: u64) {
        if let Phase::Leased { until_ms } = self.phase {
            let kill_at_ms = (now_ms + self.kill_after_ms).min(until_ms.saturating_sub(self.margin_ms));
            self.phase = Phase::Ending { kill_at_ms };
        }
    }

    /// The lock may be another's already: no time is left.
    pub(super) fn forfeit(&mut self, now_ms: u64) {
        match &mut self.phase {
            Phase::Leased { .. } => self.phase = Phase::Ending { kill_at_ms: now_ms },
            Phase::Ending { kill_at_ms } => *kill_at_ms = now_ms.min(*kill_at_ms),
            Phase::Killed => {}
        }
    }

    /// Whether the command was told to end.
    pub(super) const fn is_over(&self) -> bool {
        match self.phase {
            Phase::Leased { .. } => false,
            Phase::Ending { .. } | Phase::Killed => true,
        }
    }

    /// What is due; it counts as done.
    pub(super) fn due(&mut self, now_ms: u64) -> Due {
        match self.phase {
            Phase::Leased { until_ms } => {
                let kill_at_ms = until_ms.saturating_sub(self.margin_ms);
                let terminate_at_ms = kill_at_ms.saturating_sub(self.kill_after_ms);
                if now_ms < terminate_at_ms {
                    return Due::NothingUntil(terminate_at_ms);
                }
                self.phase = Phase::Ending { kill_at_ms };
                Due::Terminate
            }
            Phase::Ending { kill_at_ms } if now_ms < kill_at_ms => Due::NothingUntil(kill_at_ms),
            Phase::Ending { .. } => {
                self.phase = Phase::Killed;
                Due::Kill
            }
            Phase::Killed => Due::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_default_leaves_five_seconds_or_a_third_of_a_short_ttl() {
        let timing = Timing::new(seconds(15), None).unwrap();
        assert_eq!(timing, Timing { ttl_ms: 15_000, kill_after_ms: 5_000, margin_ms: 750 });
        let timing = Timing::new(seconds(3), None).unwrap();
        assert_eq!(timing, Timing { ttl_ms: 3_000, kill_after_ms: 1_000, margin_ms: 150 });
    }

    #[test]
    fn the_default_fits_into_every_ttl() {
        for ttl_ms in (limits::TTL_MS_MIN..=60_000).chain([limits::TTL_MS_MAX]) {
            let timing = Timing::new(Duration::from_millis(ttl_ms), None);
            assert!(timing.is_ok(), "{ttl_ms}: {timing:?}");
        }
    }

    #[test]
    fn the_command_is_never_told_to_end_before_a_renewal_can_have_come() {
        for ttl_ms in (limits::TTL_MS_MIN..=60_000).step_by(50) {
            let kill_after = Duration::from_millis(kill_after_ms_max(ttl_ms));
            let timing = Timing::new(Duration::from_millis(ttl_ms), Some(kill_after)).unwrap();
            let mut countdown =
                Countdown::start(timing.kill_after_ms(), timing.margin_ms(), lease_ms(ttl_ms));
            assert_eq!(countdown.due(renewed_ms(ttl_ms) - 1), Due::NothingUntil(renewed_ms(ttl_ms)));
        }
    }

    #[test]
    fn a_time_to_kill_that_does_not_fit_is_refused_with_the_numbers_that_would() {
        let error = Timing::new(seconds(6), Some(seconds(5))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--kill-after 5000ms does not fit into --ttl 6000ms: a renewal may come as late as 3000 ms after the one \
             before, and 300 ms before the lease ends at 5930 ms the command must be dead; give --kill-after 2630ms or \
             less, or --ttl 11400ms or more"
        );
        assert!(Timing::new(seconds(6), Some(Duration::from_millis(2_630))).is_ok());
        assert!(Timing::new(Duration::from_millis(11_400), Some(seconds(5))).is_ok());
        assert!(Timing::new(Duration::from_millis(11_300), Some(seconds(5))).is_err());
    }

    #[test]
    fn a_ttl_that_the_service_would_refuse_is_refused_at_once() {
        for ttl in [Duration::from_millis(999), seconds(3_601), Duration::MAX] {
            assert!(matches!(Timing::new(ttl, None), Err(TimingError::Ttl { .. })), "{ttl:?}");
        }
    }

    #[test]
    fn without_renewal_term_comes_first_and_kill_a_margin_before_the_end_of_the_lease() {
        let mut countdown = Countdown::start(1_000, 150, 10_000);
        assert_eq!(countdown.due(8_849), Due::NothingUntil(8_850));
        assert_eq!(countdown.due(8_850), Due::Terminate);
        assert!(countdown.is_over());
        assert_eq!(countdown.due(8_850), Due::NothingUntil(9_850));
        assert_eq!(countdown.due(9_850), Due::Kill);
        assert_eq!(countdown.due(20_000), Due::Nothing);
    }

    #[test]
    fn a_renewal_moves_the_end_away_but_never_nearer_and_not_after_term() {
        let mut countdown = Countdown::start(1_000, 150, 10_000);
        countdown.renew(12_000);
        countdown.renew(11_000);
        assert_eq!(countdown.due(9_000), Due::NothingUntil(10_850));
        assert_eq!(countdown.due(10_850), Due::Terminate);
        countdown.renew(20_000);
        assert_eq!(countdown.due(11_850), Due::Kill);
    }

    #[test]
    fn an_end_without_further_renewal_gives_the_command_its_time_within_the_lease() {
        let mut countdown = Countdown::start(1_000, 150, 10_000);
        countdown.end(2_000);
        assert_eq!(countdown.due(2_999), Due::NothingUntil(3_000));
        assert_eq!(countdown.due(3_000), Due::Kill);
        let mut late = Countdown::start(1_000, 150, 10_000);
        late.end(9_500);
        assert_eq!(late.due(9_850), Due::Kill);
    }

    #[test]
    fn a_forfeited_lock_leaves_no_time() {
        let mut countdown = Countdown::start(1_000, 150, 10_000);
        countdown.forfeit(2_000);
        assert_eq!(countdown.due(2_000), Due::Kill);
        let mut ending = Countdown::start(1_000, 150, 10_000);
        ending.end(2_000);
        ending.forfeit(2_100);
        assert_eq!(ending.due(2_100), Due::Kill);
    }

    #[test]
    fn a_clock_that_jumped_past_both_ends_the_command_at_once() {
        let mut countdown = Countdown::start(1_000, 150, 10_000);
        assert_eq!(countdown.due(99_000), Due::Terminate);
        assert_eq!(countdown.due(99_000), Due::Kill);
    }
}
