//! Known bugs that can be put back, one at a time, to show that the checkers notice them.
//!
//! Only a build with the feature `seeded-bugs` can do so, and then `HOLDFAST_SEEDED_BUG` chooses; in every other build
//! [`active`] is the constant `false`.

/// A bug that some version of some lock service really had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(any(feature = "seeded-bugs", test)),
    expect(dead_code, reason = "the core's bugs are named only where they can be chosen")
)]
pub(crate) enum SeededBug {
    /// The vote's row is written outside the write-ahead log: a crash forgets for whom this node voted.
    VoteNotFsynced,
    /// An append is reported durable before it is.
    AnswerBeforeFsync,
    /// A claim is granted without a look at its session.
    SessionCheckDropped,
    /// An expiry counts although another node leads.
    ExpiryWithoutLeaderCheck,
    /// A queue is ordered by the arrival of requests instead of by the log.
    FifoByArrival,
    /// A release names the lock instead of the claim.
    ReleaseByLockName,
    /// A replayed request is evaluated again instead of answered from its record.
    ReplayReevaluated,
    /// A guard is checked when its request is proposed instead of when it is applied.
    GuardBeforePropose,
    /// A keepalive is answered from the leader's memory, without a leadership round.
    KeepaliveFromMemory,
    /// The guard of `lock run` lets the command run on whatever becomes of the lease.
    GuardIgnoresDeadline,
    /// A stream that is behind the ring goes on with the oldest revision in it.
    WatchPastSkipped,
    /// A stream that is resumed is told its last event again.
    WatchResumeInclusive,
}

#[cfg(any(feature = "seeded-bugs", test))]
impl SeededBug {
    const ALL: [Self; 12] = [
        Self::VoteNotFsynced,
        Self::AnswerBeforeFsync,
        Self::SessionCheckDropped,
        Self::ExpiryWithoutLeaderCheck,
        Self::FifoByArrival,
        Self::ReleaseByLockName,
        Self::ReplayReevaluated,
        Self::GuardBeforePropose,
        Self::KeepaliveFromMemory,
        Self::GuardIgnoresDeadline,
        Self::WatchPastSkipped,
        Self::WatchResumeInclusive,
    ];

    /// The value of `HOLDFAST_SEEDED_BUG` that chooses it.
    const fn name(self) -> &'static str {
        match self {
            Self::VoteNotFsynced => "vote-not-fsynced",
            Self::AnswerBeforeFsync => "answer-before-fsync",
            Self::SessionCheckDropped => "session-check-dropped",
            Self::ExpiryWithoutLeaderCheck => "expiry-without-leader-check",
            Self::FifoByArrival => "fifo-by-arrival",
            Self::ReleaseByLockName => "release-by-lock-name",
            Self::ReplayReevaluated => "replay-reevaluated",
            Self::GuardBeforePropose => "guard-before-propose",
            Self::KeepaliveFromMemory => "keepalive-from-memory",
            Self::GuardIgnoresDeadline => "guard-ignores-deadline",
            Self::WatchPastSkipped => "watch-past-skipped",
            Self::WatchResumeInclusive => "watch-resume-inclusive",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| bug.name() == name)
    }
}

/// Whether `bug` is put back in this process. Read once.
///
/// # Panics
/// When `HOLDFAST_SEEDED_BUG` names no known bug: a checker's test must not pass because of a typing error.
#[cfg(feature = "seeded-bugs")]
pub(crate) fn active(bug: SeededBug) -> bool {
    static CHOSEN: std::sync::LazyLock<Option<SeededBug>> = std::sync::LazyLock::new(|| {
        let name = std::env::var("HOLDFAST_SEEDED_BUG").ok().filter(|name| !name.is_empty())?;
        Some(
            SeededBug::named(&name)
                .unwrap_or_else(|| panic!("HOLDFAST_SEEDED_BUG names no known bug: {name}")),
        )
    });
    *CHOSEN == Some(bug)
}

/// What the core's part of the bugs is.
#[cfg(feature = "seeded-bugs")]
pub(crate) fn core_bugs() -> holdfast_core::domain::SeededBugs {
    holdfast_core::domain::SeededBugs {
        session_check_dropped: active(SeededBug::SessionCheckDropped),
        expiry_without_leader_check: active(SeededBug::ExpiryWithoutLeaderCheck),
        fifo_by_arrival: active(SeededBug::FifoByArrival),
        release_by_lock_name: active(SeededBug::ReleaseByLockName),
        replay_reevaluated: active(SeededBug::ReplayReevaluated),
        // The others show in the core's own properties alone.
        ..holdfast_core::domain::SeededBugs::default()
    }
}

/// Always `false`: this build has no seeded bugs.
#[cfg(not(feature = "seeded-bugs"))]
pub(crate) const fn active(_bug: SeededBug) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::SeededBug;

    #[test]
    fn every_bug_has_a_name_of_its_own() {
        for bug in SeededBug::ALL {
            assert_eq!(SeededBug::named(bug.name()), Some(bug));
        }
        assert_eq!(SeededBug::named("vote-fsynced"), None);
    }
}
