//! Every seeded bug of the core breaks a property: the properties can fail, and for the right reasons.

use holdfast_core::domain::SeededBugs;

use crate::cases::fails_within;
use crate::comparison::{equals_model, rows_stay_sound};
use crate::contract::promises_hold;
use crate::replica::Replica;

/// Seeds within which each bug must show.
const SEEDS: u64 = 40;

fn bugs() -> [(&'static str, SeededBugs); 11] {
    let none = SeededBugs::default();
    [
        ("session check dropped", SeededBugs { session_check_dropped: true, ..none }),
        ("expiry without leader check", SeededBugs { expiry_without_leader_check: true, ..none }),
        ("fifo by arrival", SeededBugs { fifo_by_arrival: true, ..none }),
        ("release by lock name", SeededBugs { release_by_lock_name: true, ..none }),
        ("replay re-evaluated", SeededBugs { replay_reevaluated: true, ..none }),
        ("window one short", SeededBugs { window_one_short: true, ..none }),
        ("compacted too low", SeededBugs { compacted_too_low: true, ..none }),
        ("a queue is passed", SeededBugs { queue_passed: true, ..none }),
        ("deadlock by holders only", SeededBugs { deadlock_by_holders: true, ..none }),
        ("a set is granted piecemeal", SeededBugs { set_piecemeal: true, ..none }),
        ("a revision for each write of a transaction", SeededBugs { txn_revision_each: true, ..none }),
    ]
}

#[test]
fn the_comparison_with_the_model_finds_every_seeded_bug() {
    for (name, bugs) in bugs() {
        assert!(
            fails_within(SEEDS, |seed, log| equals_model(Replica::with_bugs(bugs), seed, log)),
            "the model agrees with: {name}"
        );
    }
}

#[test]
fn the_lock_contract_finds_a_dropped_session_check() {
    let bugs = SeededBugs { session_check_dropped: true, ..SeededBugs::default() };
    assert!(fails_within(SEEDS, |_, log| promises_hold(Replica::with_bugs(bugs), log)));
}

#[test]
fn the_invariants_find_a_dropped_session_check() {
    let bugs = SeededBugs { session_check_dropped: true, ..SeededBugs::default() };
    assert!(fails_within(SEEDS, |_, log| rows_stay_sound(Replica::with_bugs(bugs), log)));
}

#[test]
fn a_machine_without_bugs_passes_the_same_seeds() {
    let none = SeededBugs::default();
    assert!(!fails_within(SEEDS, |seed, log| equals_model(Replica::with_bugs(none), seed, log)));
    assert!(!fails_within(SEEDS, |_, log| promises_hold(Replica::with_bugs(none), log)));
}
