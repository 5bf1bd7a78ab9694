//! The core's tables over the state database: a row's key on disk is its table's number, then its key.

use std::ops::{Bound, ControlFlow};

use holdfast_core::domain::{Changes, Fault, Row, Table, Tables};

use crate::storage::latch::StorageError;
use crate::storage::state_db::{StateDb, StateView};

/// The first byte of the rows that belong to the consensus and not to the core. No table has this number.
pub(super) const RAFT_ROWS: u8 = 0xf0;

/// The tables at one moment.
pub(crate) struct StateReader<'a> {
    view: &'a StateView<'a>,
}

impl<'a> StateReader<'a> {
    /// The tables of a view.
    pub(super) fn new(view: &'a StateView<'a>) -> Self {
        Self { view }
    }
}

/// The tables as they are, for the one writer: nobody else changes them while it reads.
pub(super) struct LiveReader<'a>(pub(super) &'a StateDb);

fn fault(table: Table, error: &StorageError) -> Fault {
    Fault::Read { table, reason: error.to_string() }
}

fn row_key(table: Table, key: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(1 + key.len());
    full.push(table.number());
    full.extend_from_slice(key);
    full
}

/// The first key at or after a lower bound.
fn start(table: Table, from: Bound<&[u8]>) -> Vec<u8> {
    match from {
        Bound::Included(key) => row_key(table, key),
        Bound::Excluded(key) => successor(row_key(table, key)),
        Bound::Unbounded => vec![table.number()],
    }
}

/// The first key that an upper bound leaves out.
fn end(table: Table, to: Bound<&[u8]>) -> Vec<u8> {
    match to {
        Bound::Included(key) => successor(row_key(table, key)),
        Bound::Excluded(key) => row_key(table, key),
        Bound::Unbounded => vec![table.number() + 1],
    }
}

/// The smallest key above `key`.
fn successor(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

/// What a scan of the database calls with each pair.
type Visit<'v> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'v;

/// Up to `limit` rows of a range; `scan` gets its first key and the key after its last one.
fn range(
    table: Table,
    from: Bound<&[u8]>,
    to: Bound<&[u8]>,
    limit: usize,
    scan: impl FnOnce(&[u8], &[u8], &mut Visit<'_>) -> Result<(), StorageError>,
) -> Result<Vec<Row>, Fault> {
    let mut rows = Vec::new();
    if limit == 0 {
        return Ok(rows);
    }
    let mut visit = |key: &[u8], value: &[u8]| {
        rows.push((key[1..].to_vec(), value.to_vec()));
        if rows.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    scan(&start(table, from), &end(table, to), &mut visit).map_err(|error| fault(table, &error))?;
    Ok(rows)
}

impl Tables for StateReader<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        self.view.get(&row_key(table, key)).map_err(|error| fault(table, &error))
    }

    fn range(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, Fault> {
        range(table, from, to, limit, |start, end, visit| self.view.scan(start, end, visit))
    }

    fn range_back(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, Fault> {
        range(table, from, to, limit, |start, end, visit| self.view.scan_back(start, end, visit))
    }
}

impl Tables for LiveReader<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        self.0.get(&row_key(table, key)).map_err(|error| fault(table, &error))
    }

    fn range(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, Fault> {
        range(table, from, to, limit, |start, end, visit| self.0.scan(start, end, visit))
    }

    fn range_back(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, Fault> {
        range(table, from, to, limit, |start, end, visit| self.0.scan_back(start, end, visit))
    }
}

/// A batch's rows as the database takes them, in the order of their keys.
pub(super) fn rows(changes: Changes) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)> {
    changes.into_iter().map(|((table, key), value)| (row_key(table, &key), value))
}
