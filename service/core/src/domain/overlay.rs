//! The writes of a batch over the tables below: reads see both, and the tables below stay as they are.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::ops::Bound;

use crate::domain::record;
use crate::domain::table::is_range;
use crate::domain::{Changes, Fault, Row, Table, Tables};

/// Rows that one read of the tables below fetches at most: what a batch deleted is read again by every scan that passes
/// it, so scans fetch more the longer they run, up to this.
const FETCH_ROWS_MAX: usize = 256;

/// What a batch changed of one table: for each row its new value, or none when it is deleted.
type TableChanges = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Changes of one table, in one direction.
type Scan<'c> = Box<dyn Iterator<Item = (&'c Vec<u8>, &'c Option<Vec<u8>>)> + 'c>;

/// The tables below and what the batch changed.
#[derive(Debug)]
pub(crate) struct Overlay<'a, T> {
    base: &'a T,
    changes: [TableChanges; Table::ALL.len()],
}

impl<'a, T: Tables> Overlay<'a, T> {
    pub(crate) fn new(base: &'a T) -> Self {
        Self { base, changes: Default::default() }
    }

    /// Writes a row.
    pub(crate) fn put<R: Serialize>(&mut self, table: Table, key: Vec<u8>, record: &R) {
        let value = record::seal(table, &key, record);
        self.change(table, key, Some(value));
    }

    /// Deletes a row.
    pub(crate) fn delete(&mut self, table: Table, key: Vec<u8>) {
        self.change(table, key, None);
    }

    /// The one place through which every change of replicated state goes: a hash over the logical rows folds the old
    /// (key, value) out and the new one in here.
    fn change(&mut self, table: Table, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.changes[table.index()].insert(key, value);
    }

    pub(crate) fn read<R: DeserializeOwned>(&self, table: Table, key: &[u8]) -> Result<Option<R>, Fault> {
        record::read(self, table, key)
    }

    pub(crate) fn into_changes(self) -> Changes {
        let tables = Table::ALL.into_iter().zip(self.changes);
        tables
            .flat_map(|(table, rows)| rows.into_iter().map(move |(key, value)| ((table, key), value)))
            .collect()
    }

    /// Rows of a range in one direction, the overlay's before the base's.
    fn merged(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<Row>, Fault> {
        let mut found = Vec::new();
        if limit == 0 || !is_range(from, to) {
            return Ok(found);
        }
        let mut own = direction.over(&self.changes[table.index()], from, to).peekable();
        let (mut from, mut to) = (from.map(<[u8]>::to_vec), to.map(<[u8]>::to_vec));
        let mut fetch = limit.min(FETCH_ROWS_MAX);
        loop {
            let (start, end) = (from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice));
            let below = match direction {
                _ if !is_range(start, end) => Vec::new(),
                Direction::Forward => self.base.range(table, start, end, fetch)?,
                Direction::Back => self.base.range_back(table, start, end, fetch)?,
            };
            let exhausted = below.len() < fetch;
            if let Some((key, _)) = below.last() {
                match direction {
                    Direction::Forward => from = Bound::Excluded(key.clone()),
                    Direction::Back => to = Bound::Excluded(key.clone()),
                }
            }
            for row in below {
                while let Some((key, value)) = own.next_if(|(key, _)| direction.before(key, &row.0)) {
                    found.extend(value.as_ref().map(|value| (key.clone(), value.clone())));
                    if found.len() == limit {
                        return Ok(found);
                    }
                }
                match own.next_if(|(key, _)| **key == row.0) {
                    Some((key, value)) => {
                        found.extend(value.as_ref().map(|value| (key.clone(), value.clone())));
                    }
                    None => found.push(row),
                }
                if found.len() == limit {
                    return Ok(found);
                }
            }
            if exhausted {
                let left = own.filter_map(|(key, value)| Some((key.clone(), value.clone()?)));
                found.extend(left.take(limit - found.len()));
                return Ok(found);
            }
            fetch = (fetch * 2).min(FETCH_ROWS_MAX);
        }
    }
}

/// Which way a scan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Back,
}

impl Direction {
    fn before(self, key: &[u8], other: &[u8]) -> bool {
        match self {
            Self::Forward => key < other,
            Self::Back => other < key,
        }
    }

    fn over<'c>(self, changes: &'c TableChanges, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Scan<'c> {
        let range = changes.range::<[u8], _>((from, to));
        match self {
            Self::Forward => Box::new(range),
            Self::Back => Box::new(range.rev()),
        }
    }
}

impl<T: Tables> Tables for Overlay<'_, T> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        match self.changes[table.index()].get(key) {
            Some(value) => Ok(value.clone()),
            None => self.base.get(table, key),
        }
    }

    fn range(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, Fault> {
        self.merged(table, from, to, limit, Direction::Forward)
    }

    fn range_back(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, Fault> {
        self.merged(table, from, to, limit, Direction::Back)
    }
}
