//! The same log gives the same bytes on both stores, whatever the batch borders, and after a snapshot and its
//! installation. The histories are the core's own random ones.

use holdfast_core::LeaderId;
use holdfast_core::domain::{Applied, Machine, MemoryTables, Proposal, Table, Tables};
use holdfast_core::testing::{Random, history, members};
use std::ops::{Bound, ControlFlow};
use tempfile::TempDir;

use crate::raft::tables::{LiveReader, rows};
use crate::storage::data_dir::{DataDir, Expected};
use crate::storage::snapshot_store::SnapshotStore;
use crate::storage::state_db::StateDb;

type Log = [(LeaderId, Proposal)];

/// Applies a log to the database in batches of random lengths.
fn apply_to_disk(state: &StateDb, seed: u64, first: usize, log: &Log) -> Vec<Applied> {
    let mut machine = Machine::load(&LiveReader(state)).unwrap();
    let mut random = Random::new(seed ^ 0x5eed);
    let mut answers = Vec::new();
    let mut at = 0;
    while at < log.len() {
        let end = log.len().min(at + 1 + random.index(9));
        let reader = LiveReader(state);
        let mut batch = machine.batch(&reader);
        for (offset, (leader, proposal)) in log[at..end].iter().enumerate() {
            answers.push(batch.apply(*leader, proposal).unwrap());
            if let Some(members) = members(seed, first + at + offset) {
                batch.note_membership(&members).unwrap();
            }
        }
        state.write(rows(batch.finish())).unwrap();
        at = end;
    }
    answers
}

/// Applies a log in memory, an entry at a time.
fn apply_in_memory(seed: u64, log: &Log) -> (MemoryTables, Vec<Applied>) {
    let mut tables = MemoryTables::default();
    let mut machine = Machine::load(&tables).unwrap();
    let mut answers = Vec::new();
    for (at, (leader, proposal)) in log.iter().enumerate() {
        let mut batch = machine.batch(&tables);
        answers.push(batch.apply(*leader, proposal).unwrap());
        if let Some(members) = members(seed, at) {
            batch.note_membership(&members).unwrap();
        }
        let changes = batch.finish();
        tables.write(changes);
    }
    (tables, answers)
}

fn disk_rows(state: &StateDb) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    let visit = |key: &[u8], value: &[u8]| {
        found.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    };
    state.read(|view| view.scan(&[], &[0xff], visit)).unwrap();
    found
}

fn memory_rows(tables: &MemoryTables) -> Vec<(Vec<u8>, Vec<u8>)> {
    tables.rows().map(|(table, key, value)| ([&[table.number()], key].concat(), value.to_vec())).collect()
}

#[test]
fn both_stores_hold_equal_bytes_after_any_batches_and_after_a_snapshot() {
    let mut rows_seen = 0;
    for seed in 0..12 {
        let log = history(seed, 240);
        let (memory, expected) = apply_in_memory(seed, &log);
        let dir = TempDir::new().unwrap();
        let data = DataDir::open(&dir.path().join("node"), "node", &Expected::default()).unwrap();
        let state = StateDb::open(&data.current_state_dir().unwrap()).unwrap();
        let half = log.len() / 2;
        let mut answers = apply_to_disk(&state, seed, 0, &log[..half]);
        // The second half goes to the state that a snapshot of the first was installed as, and to the original.
        let (store, _) = SnapshotStore::open(&data.snapshots_dir()).unwrap();
        let snapshot = store.build(&state, |_| Ok(bytes::Bytes::new())).unwrap();
        let installed = SnapshotStore::install(&snapshot, &data).unwrap();
        assert_eq!(disk_rows(&installed), disk_rows(&state), "seed {seed}: the snapshot");
        let original = apply_to_disk(&state, seed, half, &log[half..]);
        let restored = apply_to_disk(&installed, seed, half, &log[half..]);
        assert_eq!(restored, original, "seed {seed}: the answers of the installed state");
        assert_eq!(disk_rows(&installed), disk_rows(&state), "seed {seed}: the rows of the installed state");
        answers.extend(original);
        assert_eq!(answers, expected, "seed {seed}: the answers");
        assert_eq!(disk_rows(&state), memory_rows(&memory), "seed {seed}: the rows");
        rows_seen += disk_rows(&state).len();
    }
    assert!(500 < rows_seen, "the histories left only {rows_seen} rows");
}

#[test]
fn ranges_of_the_database_equal_ranges_in_memory() {
    let log = history(7, 300);
    let (memory, _) = apply_in_memory(7, &log);
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("state");
    StateDb::create(&path).unwrap();
    let state = StateDb::open(&path).unwrap();
    let _ = apply_to_disk(&state, 7, 0, &log);
    let disk = LiveReader(&state);
    let mut compared = 0;
    for table in Table::ALL {
        let keys: Vec<Vec<u8>> = memory
            .range(table, Bound::Unbounded, Bound::Unbounded, 50)
            .unwrap()
            .into_iter()
            .map(|row| row.0)
            .collect();
        let bounds: Vec<Bound<&[u8]>> = keys
            .iter()
            .flat_map(|key| [Bound::Included(key.as_slice()), Bound::Excluded(key.as_slice())])
            .chain([Bound::Unbounded])
            .collect();
        for from in bounds.iter().take(12) {
            for to in bounds.iter().rev().take(12) {
                for limit in [0, 1, 3, 1_000] {
                    assert_eq!(disk.range(table, *from, *to, limit), memory.range(table, *from, *to, limit));
                    assert_eq!(
                        disk.range_back(table, *from, *to, limit),
                        memory.range_back(table, *from, *to, limit)
                    );
                    compared += 1;
                }
            }
        }
    }
    assert!(1_000 < compared);
}
