//! The ordered tables that hold the state, behind a trait with two implementations: in memory and RocksDB.

use std::collections::BTreeMap;
use std::ops::Bound;

/// One table. The number is the first byte of a row's key on disk, so it is a format: never renumber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// One row: revision, clock, level, settings, identity, counters.
    Meta = 0x01,
    /// Namespace name → namespace.
    Namespace = 0x02,
    /// Session id → live session.
    Session = 0x03,
    /// (session, namespace, lock, claim) → (): what a live session owns.
    SessionClaim = 0x04,
    /// Session id → ended session.
    SessionTombstone = 0x05,
    /// (namespace, lock) → lock that is in use or was recently.
    Lock = 0x06,
    /// (namespace, lock, token) → claim: who holds.
    Holder = 0x07,
    /// (namespace, lock, enqueue revision) → claim: who waits, in order.
    Queue = 0x08,
    /// (namespace, lock, claim) → live claim.
    Claim = 0x09,
    /// (namespace, lock, claim) → ended claim.
    ClaimTombstone = 0x0a,
    /// (session, revision, namespace, lock, claim) → (): tombstones that live as long as their explicit session.
    SessionClaimTombstone = 0x0b,
    /// (class, time, revision, kind, key) → (): tombstones by age, then idle locks by age.
    Age = 0x0c,
    /// (due time, namespace, lock) → (): running lock delays.
    LockDelay = 0x0d,
    /// (namespace, key) → the newest version's metadata, absent when deleted.
    ConfigHead = 0x0e,
    /// (namespace, key, revision) → a version or a delete, with its bytes.
    ConfigVersion = 0x0f,
    /// Scope → idempotency record.
    Replay = 0x10,
    /// Sequence number → scope: idempotency records by age.
    ReplayAge = 0x11,
    /// Node id → removed node, refused for ever.
    RemovedNode = 0x12,
    /// (revision, namespace, key) → (): what config changed, for those who watch.
    ConfigChange = 0x13,
    /// (revision, namespace, key) → the version that this revision superseded, while that is kept.
    Superseded = 0x14,
    /// (revision, namespace, key) → (): superseded versions that only their age still keeps.
    Prunable = 0x15,
    /// (session, namespace, key) → (): the config keys that a live session owns.
    SessionKey = 0x16,
    /// (revision, ordinal) → a change of locks or sessions, for those who watch.
    Event = 0x17,
    /// (namespace, election) → what its leader published.
    ElectionValue = 0x18,
}

impl Table {
    /// All tables, in the order of their numbers.
    pub const ALL: [Self; 24] = [
        Self::Meta,
        Self::Namespace,
        Self::Session,
        Self::SessionClaim,
        Self::SessionTombstone,
        Self::Lock,
        Self::Holder,
        Self::Queue,
        Self::Claim,
        Self::ClaimTombstone,
        Self::SessionClaimTombstone,
        Self::Age,
        Self::LockDelay,
        Self::ConfigHead,
        Self::ConfigVersion,
        Self::Replay,
        Self::ReplayAge,
        Self::RemovedNode,
        Self::ConfigChange,
        Self::Superseded,
        Self::Prunable,
        Self::SessionKey,
        Self::Event,
        Self::ElectionValue,
    ];

    /// The table's number on disk.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The table's place in [`Table::ALL`].
    #[must_use]
    pub(crate) const fn index(self) -> usize {
        self as usize - 1
    }
}

/// A row: its key within the table, and its sealed value.
pub type Row = (Vec<u8>, Vec<u8>);

/// Reads of the tables at one moment.
pub trait Tables {
    /// The value of a row.
    ///
    /// # Errors
    /// [`Fault`] when the store cannot answer; the node stops.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Fault>;

    /// The first `limit` rows of a range, in the order of keys.
    ///
    /// # Errors
    /// As [`Tables::get`].
    fn range(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, Fault>;

    /// The last `limit` rows of a range, the last one first.
    ///
    /// # Errors
    /// As [`Tables::get`].
    fn range_back(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, Fault>;
}

/// The store cannot go on: its bytes are damaged, of an unknown format, or cannot be read. Never a refusal: the node
/// stops, and nothing of the batch is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The store below failed.
    #[error("read table {table:?}: {reason}")]
    Read {
        /// Which table.
        table: Table,
        /// What the store said.
        reason: String,
    },
    /// A row's checksum or encoding is wrong.
    #[error("row {key} of table {table:?} is damaged: {what}")]
    Damaged {
        /// Which table.
        table: Table,
        /// The row's key, escaped.
        key: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A row is written in a newer format.
    #[error("table {table:?} has format {found}, the newest this build reads is {known}")]
    NewerFormat {
        /// Which table.
        table: Table,
        /// The format found.
        found: u8,
        /// The newest known.
        known: u8,
    },
    /// A proposal is damaged or written in a newer format.
    #[error("the proposal cannot be read: {0}")]
    Proposal(#[from] crate::domain::ProposalError),
    /// The entry needs behaviour that this build does not have.
    #[error("the entry needs level {needed}, this build applies up to {known}: run a newer version")]
    LevelTooHigh {
        /// What it needs.
        needed: u32,
        /// What this build has.
        known: u32,
    },
}

/// What a batch writes: for each row its new value, or none when it is deleted.
pub type Changes = BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>>;

/// The tables in memory: for the model, simulation and tests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryTables {
    rows: [BTreeMap<Vec<u8>, Vec<u8>>; Table::ALL.len()],
}

impl MemoryTables {
    /// Writes a batch.
    pub fn write(&mut self, changes: Changes) {
        for ((table, key), value) in changes {
            let rows = &mut self.rows[table.index()];
            match value {
                Some(value) => rows.insert(key, value),
                None => rows.remove(&key),
            };
        }
    }

    /// All rows, in order.
    pub fn rows(&self) -> impl Iterator<Item = (Table, &[u8], &[u8])> {
        Table::ALL.into_iter().flat_map(|table| {
            self.rows[table.index()].iter().map(move |(key, value)| (table, key.as_slice(), value.as_slice()))
        })
    }
}

/// Whether a range can hold anything. `BTreeMap::range` panics on a range that ends before it starts.
pub(crate) fn is_range(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => true,
        (Bound::Included(from), Bound::Included(to)) => from <= to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => {
            from < to
        }
    }
}

impl Tables for MemoryTables {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.rows[table.index()].get(key).cloned())
    }

    fn range(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, Fault> {
        if !is_range(from, to) {
            return Ok(Vec::new());
        }
        let rows = self.rows[table.index()].range::<[u8], _>((from, to));
        Ok(rows.take(limit).map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    fn range_back(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, Fault> {
        if !is_range(from, to) {
            return Ok(Vec::new());
        }
        let rows = self.rows[table.index()].range::<[u8], _>((from, to));
        Ok(rows.rev().take(limit).map(|(k, v)| (k.clone(), v.clone())).collect())
    }
}
