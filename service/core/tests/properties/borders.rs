//! Where batches begin and end, and whether a replica wrote its rows itself or was given them, changes no byte.

use holdfast_core::domain::{Applied, Machine, MemoryTables};
use holdfast_core::testing::{Random, members};

use crate::cases::{History, for_each_history};
use crate::replica::{Replica, Step};

fn steps(seed: u64, log: &History) -> Vec<Step<'_>> {
    let steps = log.iter().enumerate();
    steps.map(|(at, (leader, proposal))| (leader, proposal, members(seed, at))).collect()
}

/// Applies a log in batches of these lengths, again and again from the first.
fn run(replica: &mut Replica, steps: &[Step<'_>], lengths: &[usize]) -> Result<Vec<Applied>, String> {
    let mut answers = Vec::new();
    let mut rest = steps;
    let mut lengths = lengths.iter().cycle();
    while !rest.is_empty() {
        let length = *lengths.next().unwrap_or(&1);
        let (batch, later) = rest.split_at(length.clamp(1, rest.len()));
        answers.extend(replica.batch(batch).map_err(|fault| fault.to_string())?);
        let loaded = Machine::load(&replica.tables).map_err(|fault| fault.to_string())?;
        if loaded.meta() != replica.machine.meta() {
            return Err(format!("loaded {:?}, running {:?}", loaded.meta(), replica.machine.meta()));
        }
        rest = later;
    }
    Ok(answers)
}

fn first_difference(one: &MemoryTables, other: &MemoryTables) -> String {
    let rows = |tables: &MemoryTables| -> Vec<String> {
        let show = |(table, key, value): (_, &[u8], &[u8])| {
            format!("{table:?} {} = {}", key.escape_ascii(), value.escape_ascii())
        };
        tables.rows().map(show).collect()
    };
    let (one, other) = (rows(one), rows(other));
    let only_one: Vec<_> = one.iter().filter(|row| !other.contains(row)).take(4).collect();
    let only_other: Vec<_> = other.iter().filter(|row| !one.contains(row)).take(4).collect();
    format!("rows of the first only: {only_one:#?}; of the second only: {only_other:#?}")
}

fn equal(
    what: &str,
    (one, one_answers): (&Replica, &[Applied]),
    (other, other_answers): (&Replica, &[Applied]),
) -> Result<(), String> {
    if let Some(at) = (0..one_answers.len()).find(|at| one_answers.get(*at) != other_answers.get(*at)) {
        let (one, other) = (one_answers.get(at), other_answers.get(at));
        return Err(format!("{what}: entry {at} answers {one:?} and {other:?}"));
    }
    if one.tables != other.tables {
        return Err(format!("{what}: {}", first_difference(&one.tables, &other.tables)));
    }
    Ok(())
}

fn borders_change_nothing(seed: u64, log: &History) -> Result<(), String> {
    let steps = steps(seed, log);
    let mut singly = Replica::new();
    let singly_answers = run(&mut singly, &steps, &[1])?;
    let mut random = Random::new(seed);
    let random_lengths: Vec<_> = (0..17).map(|_| 1 + random.index(12)).collect();
    for lengths in [&[usize::MAX][..], &[2], &random_lengths] {
        let mut batched = Replica::new();
        let answers = run(&mut batched, &steps, lengths)?;
        equal(&format!("batches of {lengths:?}"), (&singly, &singly_answers), (&batched, &answers))?;
    }
    Ok(())
}

#[test]
fn any_batch_borders_give_equal_answers_and_rows() {
    for_each_history(borders_change_nothing);
}

fn a_restored_replica_goes_on_equally(seed: u64, log: &History) -> Result<(), String> {
    let steps = steps(seed, log);
    let at = Random::new(seed).index(log.len());
    let (before, after) = steps.split_at(at);
    let mut original = Replica::new();
    let _ = run(&mut original, before, &[3])?;
    // A snapshot is the rows as bytes; what is restored from it shares nothing else with the original.
    let rows =
        original.tables.rows().map(|(table, key, value)| ((table, key.to_vec()), Some(value.to_vec())));
    let mut copy = MemoryTables::default();
    copy.write(rows.collect());
    let mut restored = Replica::restored(copy);
    let original_answers = run(&mut original, after, &[3])?;
    let restored_answers = run(&mut restored, after, &[2, 5])?;
    equal(
        &format!("restored after {at} entries"),
        (&original, &original_answers),
        (&restored, &restored_answers),
    )
}

#[test]
fn a_replica_restored_from_rows_goes_on_as_the_original() {
    for_each_history(a_restored_replica_goes_on_equally);
}

/// A batch that is dropped, as when its write fails, leaves the machine and the rows as they were.
#[test]
fn a_dropped_batch_never_was() {
    for_each_history(|seed, log| {
        let steps = steps(seed, log);
        let mut steady = Replica::new();
        let steady_answers = run(&mut steady, &steps, &[4])?;
        let mut interrupted = Replica::new();
        let mut answers = Vec::new();
        for batch in steps.chunks(4) {
            let mut dropped = interrupted.machine.batch(&interrupted.tables);
            for (leader, proposal, _) in batch {
                let _ = dropped.apply(**leader, proposal).map_err(|fault| fault.to_string())?;
            }
            drop(dropped);
            answers.extend(interrupted.batch(batch).map_err(|fault| fault.to_string())?);
        }
        equal("dropped batches", (&steady, &steady_answers), (&interrupted, &answers))
    });
}
