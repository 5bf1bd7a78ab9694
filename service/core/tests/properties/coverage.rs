//! The random histories are worth something: every answer that a small world can give occurs in them.

use std::collections::BTreeMap;

use holdfast_core::domain::{Change, EndReason, LockKind, Outcome, Rejection, Success};
use holdfast_core::testing::{Model, history};

use crate::cases::HISTORY_LENGTH;

/// Seeds over which every reachable answer must occur: fixed, so that the test cannot pass or fail by chance.
const SEEDS: u64 = 60;

/// An answer's name. The matches are exhaustive, so that a new answer must be named here, and thereby be generated.
fn name_of(outcome: &Outcome) -> &'static str {
    match outcome {
        Ok(success) => name_of_success(success),
        Err(rejection) => name_of_rejection(rejection),
    }
}

fn name_of_success(success: &Success) -> &'static str {
    match success {
        Success::Founded => "founded",
        Success::Ticked => "ticked",
        Success::Namespace { created: true, .. } => "namespace created",
        Success::Namespace { created: false, .. } => "namespace found",
        Success::NamespaceDeleted => "namespace deleted",
        Success::Session { created: true, .. } => "session created",
        Success::Session { created: false, .. } => "session found",
        Success::SessionEnded => "session ended",
        Success::Held { granted: true, .. } => "granted",
        Success::Held { granted: false, .. } => "held before",
        Success::Queued { queued: true, position: 0, .. } => "queued first",
        Success::Queued { queued: true, .. } => "queued behind others",
        Success::Queued { queued: false, .. } => "queued before",
        Success::WaitTimedOut => "wait timed out",
        Success::Released => "released",
        Success::ForceReleased { .. } => "force released",
        Success::ConfigPut { version: 1, .. } => "key created",
        Success::ConfigPut { .. } => "key changed",
        Success::ConfigDeleted { revision: Some(_) } => "key deleted",
        Success::ConfigDeleted { revision: None } => "key was absent",
        Success::Expired { sessions: 0, waits: 0 } => "nothing expired",
        Success::Expired { sessions: 0, .. } => "waits expired",
        Success::Expired { waits: 0, .. } => "sessions expired",
        Success::Expired { .. } => "sessions and waits expired",
        Success::ExpireVoid => "expire void",
        Success::Txn { succeeded: true, revision: Some(_), .. } => "txn succeeded and wrote",
        Success::Txn { succeeded: true, revision: None, .. } => "txn succeeded and wrote nothing",
        Success::Txn { succeeded: false, revision: Some(_), .. } => "txn failed and wrote",
        Success::Txn { succeeded: false, revision: None, .. } => "txn failed and wrote nothing",
        Success::SetHeld { granted: true, .. } => "set granted",
        Success::SetHeld { granted: false, .. } => "set held before",
        Success::SetQueued { queued: true, .. } => "set queued",
        Success::SetQueued { queued: false, .. } => "set queued before",
        Success::Proclaimed { .. } => "proclaimed",
        Success::Compacted { rows: 0, .. } => "nothing compacted",
        Success::Compacted { more: true, .. } => "a slice compacted",
        Success::Compacted { more: false, .. } => "all compacted",
    }
}

fn name_of_rejection(rejection: &Rejection) -> &'static str {
    match rejection {
        Rejection::NotFounded => "not founded",
        Rejection::NamespaceNotFound => "namespace not found",
        Rejection::NamespaceNotEmpty => "namespace not empty",
        Rejection::TooManyNamespaces { .. } => "too many namespaces",
        Rejection::SessionNotFound => "session not found",
        Rejection::SessionExpired { .. } => "session expired",
        Rejection::SessionExists => "session exists",
        Rejection::TooManySessions { .. } => "too many sessions",
        Rejection::SessionOwnsTooMuch { .. } => "session owns too much",
        Rejection::TooManyTombstones { .. } => "too many tombstones",
        Rejection::LockHeld { delay_remaining_ms: 0, .. } => "lock held",
        Rejection::LockHeld { .. } => "lock delayed",
        Rejection::SetHeld { .. } => "a lock of a set held",
        Rejection::ImpossiblePermits { .. } => "impossible permits",
        Rejection::LockSetSize { .. } => "lock set size",
        Rejection::LockModeConflict { kind: LockKind::Exclusion, .. } => "lock is no semaphore",
        Rejection::LockModeConflict { .. } => "lock is a semaphore",
        Rejection::WouldDeadlock { .. } => "would deadlock",
        Rejection::ClaimConflict => "claim conflict",
        Rejection::ClaimEnded { token: Some(_), .. } => "claim ended with a token",
        Rejection::ClaimEnded { token: None, .. } => "claim ended without a token",
        Rejection::ClaimNotFound => "claim not found",
        Rejection::QueueFull { .. } => "queue full",
        Rejection::TokenMismatch { .. } => "token mismatch",
        Rejection::StaleToken { held: Some(_) } => "stale token, held by another",
        Rejection::StaleToken { held: None } => "stale token, free",
        Rejection::RevisionMismatch { current: Some(_) } => "revision mismatch",
        Rejection::RevisionMismatch { current: None } => "revision mismatch, absent",
        Rejection::KeyNotFound => "key not found",
        Rejection::RevisionCompacted { .. } => "revision compacted",
        Rejection::FutureRevision { .. } => "future revision",
        Rejection::TxnAnswerTooLarge { .. } => "txn answer too large",
        Rejection::ReplayKeyReused => "replay key reused",
        Rejection::ReplayAnswerNotKept => "replay answer not kept",
    }
}

/// Every name above, without those whose bounds need thousands of entries or large values: `bounds.rs` reaches those.
const EXPECTED: [&str; 68] = [
    "set granted",
    "set held before",
    "set queued",
    "set queued before",
    "proclaimed",
    "a lock of a set held",
    "impossible permits",
    "lock set size",
    "lock is no semaphore",
    "lock is a semaphore",
    "would deadlock",
    "founded",
    "ticked",
    "namespace created",
    "namespace found",
    "namespace deleted",
    "session created",
    "session found",
    "session ended",
    "granted",
    "held before",
    "queued first",
    "queued behind others",
    "queued before",
    "wait timed out",
    "released",
    "force released",
    "key created",
    "key changed",
    "key deleted",
    "key was absent",
    "nothing expired",
    "waits expired",
    "sessions expired",
    "sessions and waits expired",
    "expire void",
    "txn succeeded and wrote",
    "txn succeeded and wrote nothing",
    "txn failed and wrote",
    "txn failed and wrote nothing",
    "nothing compacted",
    "a slice compacted",
    "all compacted",
    "key not found",
    "revision compacted",
    "future revision",
    "not founded",
    "namespace not found",
    "namespace not empty",
    "session not found",
    "session expired",
    "session exists",
    "too many sessions",
    "too many tombstones",
    "lock held",
    "lock delayed",
    "claim conflict",
    "claim ended with a token",
    "claim ended without a token",
    "claim not found",
    "queue full",
    "token mismatch",
    "stale token, held by another",
    "stale token, free",
    "revision mismatch",
    "revision mismatch, absent",
    "replay key reused",
    "replay answer not kept",
];

#[test]
fn the_histories_reach_every_answer() {
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..SEEDS {
        let mut model = Model::default();
        for (leader, proposal) in history(seed, HISTORY_LENGTH) {
            *seen.entry(name_of(&model.apply(leader, &proposal).outcome)).or_default() += 1;
        }
    }
    let missing: Vec<_> = EXPECTED.iter().filter(|name| seen.get(*name).is_none_or(|n| *n < 3)).collect();
    assert!(missing.is_empty(), "hardly ever or never: {missing:?}; seen: {seen:#?}");
}

#[test]
fn the_histories_grant_from_queues_for_every_reason() {
    let mut reasons: BTreeMap<EndReason, u64> = BTreeMap::new();
    let (mut from_queue, mut by_delay, mut several) = (0, 0, 0);
    for seed in 0..SEEDS {
        let mut model = Model::default();
        for (leader, proposal) in history(seed, HISTORY_LENGTH) {
            let applied = model.apply(leader, &proposal);
            // A stored answer may tell of a grant, too; only an event is one.
            let own = match applied.outcome {
                Ok(Success::Held { granted: true, token, .. }) => Some(token),
                _ => None,
            };
            let (mut grants, mut ends) = (0, 0);
            for event in &applied.events {
                match &event.change {
                    Change::ClaimGranted { token, .. } => grants += u64::from(Some(*token) != own),
                    Change::ClaimEnded { reason, .. } => {
                        ends += 1;
                        *reasons.entry(*reason).or_default() += 1;
                    }
                    Change::SessionEnded { .. }
                    | Change::NamespaceCreated { .. }
                    | Change::NamespaceDeleted { .. }
                    | Change::SessionCreated { .. }
                    | Change::ClaimQueued { .. }
                    | Change::SetQueued { .. }
                    | Change::SetGranted { .. }
                    | Change::Proclaimed { .. }
                    | Change::ConfigPut { .. }
                    | Change::ConfigDeleted { .. }
                    | Change::SessionOwns { .. } => {}
                }
            }
            from_queue += grants;
            by_delay += u64::from(0 < grants && ends == 0);
            several += u64::from(1 < grants);
        }
    }
    for reason in [
        EndReason::Released,
        EndReason::Expired,
        EndReason::TimedOut,
        EndReason::LeftQueue,
        EndReason::DeletedUnseen,
        EndReason::Forced,
    ] {
        assert!(10 < reasons.get(&reason).copied().unwrap_or(0), "{reason:?} hardly occurs: {reasons:?}");
    }
    assert!(100 < from_queue && 10 < by_delay && 10 < several, "{from_queue} {by_delay} {several}");
}

#[test]
fn a_seed_means_the_same_history_every_time() {
    assert_eq!(history(7, HISTORY_LENGTH), history(7, HISTORY_LENGTH));
    assert_ne!(history(7, HISTORY_LENGTH), history(8, HISTORY_LENGTH));
}
