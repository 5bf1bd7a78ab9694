//! The clock of leases.
//!
//! A lease is counted on a clock that goes on during a system suspend: on one that stops, a laptop or a paused virtual
//! machine would wake up and believe that it still holds its locks.

use std::{
    fmt::Debug,
    future::Future,
    ops::Add,
    pin::Pin,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

/// A point in time on a [`LeaseClock`], counted from an arbitrary zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeaseTime(Duration);

impl LeaseTime {
    /// How much later this is than `earlier`, zero if it is not.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for LeaseTime {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

/// What a wait for a [`LeaseTime`] is.
pub type Sleep<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Tells the time for leases. It never goes back.
pub trait LeaseClock: Debug + Send + Sync + 'static {
    /// The time.
    fn now(&self) -> LeaseTime;

    /// Ends when `deadline` is reached.
    fn sleep_until(&self, deadline: LeaseTime) -> Sleep<'_>;
}

/// `CLOCK_BOOTTIME`: monotonic, and it includes the time for which the system was suspended.
#[derive(Debug, Clone, Copy, Default)]
pub struct BootClock;

/// Timers of the runtime stop during a suspend, so a sleep looks at the clock at least this often.
const SLEEP_SLICE_MAX: Duration = Duration::from_millis(500);

impl LeaseClock for BootClock {
    fn now(&self) -> LeaseTime {
        let time = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).expect("the time since boot is not negative");
        let nanos = u32::try_from(time.tv_nsec).expect("a nanosecond part is below 10^9");
        LeaseTime(Duration::new(seconds, nanos))
    }

    fn sleep_until(&self, deadline: LeaseTime) -> Sleep<'_> {
        Box::pin(async move {
            loop {
                let left = deadline.saturating_since(self.now());
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(SLEEP_SLICE_MAX)).await;
            }
        })
    }
}

/// A clock that moves only when it is told to, for tests of programs that hold leases.
#[derive(Debug)]
pub struct ManualClock {
    now: watch::Sender<LeaseTime>,
}

impl Default for ManualClock {
    fn default() -> Self {
        Self { now: watch::Sender::new(LeaseTime(Duration::ZERO)) }
    }
}

impl ManualClock {
    /// Moves the clock and wakes whoever waited for a time that is reached.
    pub fn advance(&self, by: Duration) {
        self.now.send_modify(|now| *now = *now + by);
    }
}

impl LeaseClock for ManualClock {
    fn now(&self) -> LeaseTime {
        *self.now.borrow()
    }

    fn sleep_until(&self, deadline: LeaseTime) -> Sleep<'_> {
        let mut now = self.now.subscribe();
        Box::pin(async move {
            now.wait_for(|now| deadline <= *now).await.expect("the clock outlives its own borrow");
        })
    }
}

/// A deadline of one call. Calls use the runtime's own clock: during a suspend there is nobody to answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallDeadline(Instant);

impl CallDeadline {
    pub(crate) fn after(duration: Duration) -> Self {
        let now = Instant::now();
        // A duration beyond what the clock can add is as good as the longest that it can.
        Self(now.checked_add(duration).unwrap_or(now + Duration::from_secs(u64::from(u32::MAX))))
    }

    pub(crate) fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_clock_never_goes_back() {
        let first = BootClock.now();
        assert!(first <= BootClock.now());
    }

    #[tokio::test]
    async fn a_sleep_on_the_boot_clock_ends_at_its_deadline_and_not_before() {
        let deadline = BootClock.now() + Duration::from_millis(5);
        BootClock.sleep_until(deadline).await;
        assert!(deadline <= BootClock.now());
    }

    #[tokio::test]
    async fn a_sleep_on_the_manual_clock_ends_when_the_clock_is_moved() {
        let clock = ManualClock::default();
        let deadline = clock.now() + Duration::from_secs(5);
        clock.advance(Duration::from_secs(5));
        clock.sleep_until(deadline).await;
        assert_eq!(clock.now(), deadline);
    }
}
