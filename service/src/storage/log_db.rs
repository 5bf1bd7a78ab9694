//! The Raft log in a RocksDB instance of its own.
//!
//! Rows are the caller's bytes: entries under their big-endian index, so that keys sort as indexes do, and a few metadata
//! rows (the vote and two positions). Every write is one `WriteBatch`, and writes are ordered by one lock, so the
//! write-ahead log is the history of this database and a crash leaves a prefix of it.
//!
//! Invariants:
//! 1. The entries are contiguous, from the one after the purge position to the last.
//! 2. The flushed index never counts an entry that is not durable, truncations included.
//! 3. A write-ahead log is synced as a whole before the next one is started (see [`crate::storage::wal_check`]).

use crate::seeded_bugs::{SeededBug, active};
use crate::storage::latch::{Latch, StorageError};
use crate::storage::log_sync::{FlushCallback, LogSync, Request, SyncStats, Wal};
use crate::storage::record::{Kind, RecordError};
use crate::storage::wal_check::{self, WalError};
use bytes::Bytes;
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DBRawIterator, DBRecoveryMode, FlushOptions, LogLevel,
    Options, ReadOptions, WriteBatch,
};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// RocksDB would switch to another memtable, and with it to another write-ahead log, at this size. It never comes to that.
const MEMTABLE_BYTES_MAX: usize = 128 << 20;
/// At this size the sync thread switches, at a moment when everything is synced.
const MEMTABLE_BYTES_SWITCH: u64 = 48 << 20;
/// What a row costs in a memtable beyond its bytes: an upper estimate of RocksDB's key encoding and skip list node.
const ROW_OVERHEAD_BYTES: u64 = 128;
/// Replication and apply read what was just appended: these many bytes of it need no look into RocksDB.
const TAIL_CACHE_BYTES_MAX: usize = 32 << 20;
const BLOCK_CACHE_BYTES: usize = 8 << 20;
const OPEN_FILES_MAX: i32 = 64;
const INFO_LOG_BYTES_MAX: usize = 1 << 20;

/// Ends every write. A record of a write-ahead log is thus never followed by zeros of its own, which lets
/// [`wal_check`] tell a missing end from a damaged one; no single flipped bit makes it zero.
const WRITE_END: &[u8] = &[0xe5];

const ENTRY_PREFIX: u8 = b'e';
const PURGED_INDEX_KEY: &[u8] = b"mpurged_index";
const PURGED_INDEX: Kind = Kind { what: "purge position", version: 1 };

/// The key of an entry's row; the row's checksum covers it.
pub(crate) fn entry_key(index: u64) -> [u8; 9] {
    let mut key = [ENTRY_PREFIX; 9];
    key[1..].copy_from_slice(&index.to_be_bytes());
    key
}

fn index_of(key: &[u8]) -> Option<u64> {
    let (prefix, index) = key.split_first_chunk::<1>()?;
    if *prefix == [ENTRY_PREFIX] { Some(u64::from_be_bytes(index.try_into().ok()?)) } else { None }
}

/// A row that is not an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MetaRow {
    /// For whom this node voted.
    Vote,
    /// Up to where it knows the log to be committed.
    Committed,
    /// Up to where the log was purged.
    Purged,
}

impl MetaRow {
    /// The row's key; the row's checksum covers it.
    pub(crate) const fn key(self) -> &'static [u8] {
        match self {
            Self::Vote => b"mvote",
            Self::Committed => b"mcommitted",
            Self::Purged => b"mpurged",
        }
    }
}

/// Why the log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogOpenError {
    /// There is no database where one must be: creating an empty one would forget the log.
    #[error("there is no log in {}", path.display())]
    Absent {
        /// The database's directory.
        path: PathBuf,
    },
    /// A file of the database is damaged or unreadable.
    #[error(transparent)]
    Files(#[from] WalError),
    /// RocksDB refuses, or an entry is damaged or missing.
    #[error(transparent)]
    Rows(#[from] StorageError),
}

/// What the log holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LogBounds {
    /// Everything up to here was purged.
    pub(crate) purged: Option<u64>,
    /// The first entry present.
    pub(crate) first: Option<u64>,
    /// The last entry present.
    pub(crate) last: Option<u64>,
}

/// The open log. Reads and writes may come from any thread and take no longer than a copy of the bytes, except that a
/// write may wait for one fsync when the memtable is full.
pub(crate) struct LogDb {
    // Declared first: the sync thread ends before the database is closed.
    sync: LogSync,
    log: Arc<Log>,
}

struct Log {
    path: PathBuf,
    db: DB,
    latch: Latch,
    writer: Mutex<Writer>,
    tail: Mutex<Tail>,
    flushed: watch::Sender<Option<u64>>,
}

/// What the order of writes depends on. Whoever writes holds the lock until the write is queued for the sync thread.
#[derive(Debug, Default)]
struct Writer {
    bounds: LogBounds,
    /// The last entry that the flush under way will make durable; a truncation lowers it.
    marked: Option<u64>,
    memtable_bytes: u64,
    /// Something was written since the last mark.
    unsynced: bool,
}

impl LogDb {
    /// Creates an empty log in the directory `path`, which must not exist, and closes it.
    ///
    /// # Errors
    /// When RocksDB cannot create it.
    pub(crate) fn create(path: &Path) -> Result<(), StorageError> {
        let mut options = options();
        options.create_if_missing(true);
        options.set_error_if_exists(true);
        DB::open(&options, path)
            .map(drop)
            .map_err(|error| StorageError::failed("create the log", path, &error))
    }

    /// Opens the log in `path` and checks every record of its write-ahead log and every entry. `entries` is the kind of
    /// the entries' rows.
    ///
    /// What a crash left of an unfinished write is cut. What the open log then holds is durable: RocksDB writes what it
    /// recovered to a synced file before it returns.
    ///
    /// # Errors
    /// [`LogOpenError`], which names the damaged file or entry.
    pub(crate) fn open(path: &Path, entries: Kind) -> Result<Self, LogOpenError> {
        if !path.join("CURRENT").exists() {
            return Err(LogOpenError::Absent { path: path.to_owned() });
        }
        if let Some(cut) = wal_check::check_and_cut(path)? {
            let wal_check::Cut { path, offset, bytes } = cut;
            tracing::info!(path = %path.display(), offset, bytes, "cut an unfinished write from the log");
        }
        let db =
            DB::open(&options(), path).map_err(|error| StorageError::failed("open the log", path, &error))?;
        let bounds = check_rows(&db, path, entries)?;
        let latch = Latch::default();
        let end = bounds.last.or(bounds.purged).map_or(0, |last| last + 1);
        let log = Arc::new(Log {
            path: path.to_owned(),
            db,
            latch: latch.clone(),
            writer: Mutex::new(Writer { bounds, ..Writer::default() }),
            tail: Mutex::new(Tail { start: end, ..Tail::default() }),
            flushed: watch::Sender::new(bounds.last.or(bounds.purged)),
        });
        let sync = LogSync::start(Arc::clone(&log), latch, path)?;
        Ok(Self { sync, log })
    }

    /// The first failure of this database, for ever.
    pub(crate) fn latch(&self) -> &Latch {
        &self.log.latch
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.log.path
    }

    /// The error of an append at `found` where `expected` is next.
    pub(crate) fn not_next(&self, expected: u64, found: u64) -> StorageError {
        self.log.not_next(expected, found)
    }

    /// What the log holds now.
    pub(crate) fn bounds(&self) -> LogBounds {
        self.log.writer().bounds
    }

    /// The last entry that is durable here (or purged); it goes back when entries are truncated. An entry may be applied
    /// only when it is at or below this: otherwise a crash could leave a state that is ahead of the log.
    pub(crate) fn flushed(&self) -> watch::Receiver<Option<u64>> {
        self.log.flushed.subscribe()
    }

    /// Counters of the sync thread.
    pub(crate) fn stats(&self) -> Arc<SyncStats> {
        self.sync.stats()
    }

    /// Appends `rows` from index `first` on. They can be read when this returns; `done` is called when they are durable.
    ///
    /// # Errors
    /// When the rows do not follow the last one, and when the database has failed; then `done` is called with an error too.
    pub(crate) fn append(
        &self,
        first: u64,
        rows: Vec<Bytes>,
        done: FlushCallback,
    ) -> Result<(), StorageError> {
        let mut writer = self.log.writer();
        let appended = self.log.append(&mut writer, first, rows);
        match &appended {
            Ok(()) => self.sync.request(Request::Append(done)),
            Err(error) => done(Err(error.clone())),
        }
        appended
    }

    /// The rows from `start` to before `end`, as far as they exist: at least one, and no more after `bytes_max` bytes.
    ///
    /// # Errors
    /// [`StorageError::Missing`] for a hole, and what RocksDB reports.
    pub(crate) fn read(
        &self,
        start: u64,
        end: u64,
        bytes_max: usize,
    ) -> Result<Vec<(u64, Bytes)>, StorageError> {
        self.log.latch.check()?;
        if end <= start {
            return Ok(Vec::new());
        }
        if let Some(rows) = self.log.tail().read(start, end, bytes_max) {
            return Ok(rows);
        }
        self.log.read(start, end, bytes_max).map_err(|error| self.log.latch.fail(error))
    }

    /// Removes every entry after `index`, or all of them. Not synced: ordered before whatever is written next.
    ///
    /// # Errors
    /// When the database fails or has failed.
    pub(crate) fn truncate_after(&self, index: Option<u64>) -> Result<(), StorageError> {
        let mut writer = self.log.writer();
        let start = index.map_or(0, |index| index.saturating_add(1));
        let mut batch = WriteBatch::default();
        batch.delete_range(entry_key(start).as_slice(), &[ENTRY_PREFIX + 1]);
        self.log.write(&mut writer, batch)?;
        self.log.tail().truncate(start);
        let LogBounds { purged, first, last } = &mut writer.bounds;
        *last = last.and_then(|last| if last < start { Some(last) } else { index });
        if *last < *first {
            (*first, *last) = (None, None);
        }
        let durable_at_most = index.max(*purged);
        writer.marked = writer.marked.min(durable_at_most);
        self.log.flushed.send_if_modified(|flushed| {
            let lower = *flushed > durable_at_most;
            *flushed = (*flushed).min(durable_at_most);
            lower
        });
        Ok(())
    }

    /// Removes every entry up to `index` and keeps `row` as [`MetaRow::Purged`]. The caller has made sure that a durable
    /// state or snapshot holds them. Not synced. A position below an earlier one changes nothing.
    ///
    /// # Errors
    /// When the database fails or has failed.
    pub(crate) fn purge(&self, index: u64, row: &[u8]) -> Result<(), StorageError> {
        let mut writer = self.log.writer();
        if Some(index) <= writer.bounds.purged {
            return Ok(());
        }
        let mut batch = WriteBatch::default();
        batch.delete_range(entry_key(0).as_slice(), &entry_key(index.saturating_add(1)));
        batch.put(MetaRow::Purged.key(), row);
        let position = PURGED_INDEX.seal(PURGED_INDEX_KEY, |out| out.extend_from_slice(&index.to_le_bytes()));
        batch.put(PURGED_INDEX_KEY, position);
        self.log.write(&mut writer, batch)?;
        self.log.tail().purge(index.saturating_add(1));
        let LogBounds { purged, first, last } = &mut writer.bounds;
        *purged = Some(index);
        if *last <= Some(index) {
            (*first, *last) = (None, None);
        } else {
            *first = Some(index + 1);
        }
        writer.marked = writer.marked.max(Some(index));
        self.log.flushed.send_if_modified(|flushed| {
            let higher = *flushed < Some(index);
            *flushed = (*flushed).max(Some(index));
            higher
        });
        Ok(())
    }

    /// Writes a metadata row. Not synced: ordered before whatever is written next.
    ///
    /// # Errors
    /// When the database fails or has failed.
    pub(crate) fn put_meta(&self, row: MetaRow, value: &[u8]) -> Result<(), StorageError> {
        let mut writer = self.log.writer();
        let mut batch = WriteBatch::default();
        batch.put(row.key(), value);
        self.log.write(&mut writer, batch)
    }

    /// A metadata row.
    ///
    /// # Errors
    /// When the database fails or has failed.
    pub(crate) fn meta(&self, row: MetaRow) -> Result<Option<Bytes>, StorageError> {
        self.log.latch.check()?;
        let value = self.log.db.get(row.key()).map_err(|error| self.log.fail("read metadata", &error))?;
        Ok(value.map(Bytes::from))
    }

    /// Writes the vote; `done` is called when it is durable, and with it everything written before.
    pub(crate) fn save_vote(&self, vote: &[u8], done: FlushCallback) {
        if active(SeededBug::VoteNotFsynced) {
            return done(self.log.put_outside_wal(MetaRow::Vote.key(), vote));
        }
        match self.put_meta(MetaRow::Vote, vote) {
            Ok(()) => self.sync(done),
            Err(error) => done(Err(error)),
        }
    }

    /// Calls `done` when everything written so far is durable, truncations and purges included.
    pub(crate) fn sync(&self, done: FlushCallback) {
        self.sync.request(Request::Other(done));
    }
}

impl Log {
    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, action: &'static str, error: &rocksdb::Error) -> StorageError {
        self.latch.fail(StorageError::failed(action, &self.path, error))
    }

    fn not_next(&self, expected: u64, found: u64) -> StorageError {
        StorageError::NotNext { path: self.path.clone(), expected, found }
    }

    /// The one place where the log is written.
    fn write(&self, writer: &mut Writer, mut batch: WriteBatch) -> Result<(), StorageError> {
        self.latch.check()?;
        batch.put_log_data(WRITE_END);
        let bytes = u64::try_from(batch.size_in_bytes()).unwrap_or(u64::MAX);
        let rows = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        self.db.write(batch).map_err(|error| self.fail("write the log", &error))?;
        writer.memtable_bytes += bytes + rows * ROW_OVERHEAD_BYTES;
        writer.unsynced = true;
        Ok(())
    }

    fn append(&self, writer: &mut Writer, first: u64, rows: Vec<Bytes>) -> Result<(), StorageError> {
        let bounds = writer.bounds;
        if let Some(before) = bounds.last.or(bounds.purged)
            && first != before + 1
        {
            return Err(self.not_next(before + 1, first));
        }
        if rows.is_empty() {
            return self.latch.check();
        }
        let mut batch = WriteBatch::default();
        let mut last = first;
        for (index, row) in (first..).zip(&rows) {
            batch.put(entry_key(index), row);
            last = index;
        }
        self.write(writer, batch)?;
        self.tail().append(first, rows);
        writer.bounds.first.get_or_insert(first);
        writer.bounds.last = Some(last);
        Ok(())
    }

    fn read(&self, start: u64, end: u64, bytes_max: usize) -> Result<Vec<(u64, Bytes)>, StorageError> {
        // The bounds and the iterator's view belong together, or a concurrent truncation would look like a hole.
        let (iterator, range) = {
            let writer = self.writer();
            let LogBounds { purged: _, first, last } = writer.bounds;
            let (Some(first), Some(last)) = (first, last) else { return Ok(Vec::new()) };
            (self.entries(), first.max(start)..end.min(last + 1))
        };
        let mut iterator = iterator;
        let mut rows = Vec::new();
        let mut bytes = 0;
        iterator.seek(entry_key(range.start));
        for index in range {
            if !rows.is_empty() && bytes_max <= bytes {
                break;
            }
            let Some((key, row)) = iterator.item() else {
                iterator
                    .status()
                    .map_err(|error| StorageError::failed("read the log", &self.path, &error))?;
                return Err(StorageError::Missing { path: self.path.clone(), index });
            };
            if index_of(key) != Some(index) {
                return Err(StorageError::Missing { path: self.path.clone(), index });
            }
            bytes += row.len();
            rows.push((index, Bytes::copy_from_slice(row)));
            iterator.next();
        }
        Ok(rows)
    }

    fn entries(&self) -> DBRawIterator<'_> {
        entries_of(&self.db)
    }

    fn put_outside_wal(&self, key: &[u8], value: &[u8]) -> Result<(), StorageError> {
        let mut batch = WriteBatch::default();
        batch.put(key, value);
        self.db.write_without_wal(batch).map_err(|error| self.fail("write the log", &error))
    }

    fn flush_wal(&self) -> Result<(), StorageError> {
        self.db.flush_wal(true).map_err(|error| StorageError::failed("flush the log", &self.path, &error))
    }
}

impl Wal for Log {
    fn mark(&self) {
        let mut writer = self.writer();
        writer.marked = writer.bounds.last.or(writer.bounds.purged);
        writer.unsynced = false;
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.flush_wal()
    }

    fn publish(&self) {
        // The lock is held, so that no truncation falls between its look at the mark and the announcement.
        let writer = self.writer();
        self.flushed.send_if_modified(|flushed| {
            let higher = *flushed < writer.marked;
            *flushed = (*flushed).max(writer.marked);
            higher
        });
    }

    /// Switches to another memtable and write-ahead log before RocksDB would, with everything in the old one synced.
    fn tidy(&self) -> Result<(), StorageError> {
        let mut writer = self.writer();
        let due = MEMTABLE_BYTES_SWITCH <= writer.memtable_bytes;
        // Between two bursts it costs no extra fsync; at twice the size it cannot wait for that.
        if !due || (writer.unsynced && writer.memtable_bytes < 2 * MEMTABLE_BYTES_SWITCH) {
            return Ok(());
        }
        if writer.unsynced {
            self.flush_wal()?;
        }
        let mut options = FlushOptions::default();
        options.set_wait(false);
        self.db
            .flush_opt(&options)
            .map_err(|error| StorageError::failed("switch the write-ahead log", &self.path, &error))?;
        writer.memtable_bytes = 0;
        Ok(())
    }
}

/// The newest entries, in memory. Invariant: `rows` are the entries from `start` to the last one of the log.
#[derive(Debug, Default)]
struct Tail {
    start: u64,
    rows: VecDeque<Bytes>,
    bytes: usize,
}

impl Tail {
    fn end(&self) -> u64 {
        self.start + u64::try_from(self.rows.len()).unwrap_or(u64::MAX)
    }

    fn append(&mut self, first: u64, rows: Vec<Bytes>) {
        if first != self.end() {
            *self = Self { start: first, ..Self::default() };
        }
        self.bytes += rows.iter().map(Bytes::len).sum::<usize>();
        self.rows.extend(rows);
        while TAIL_CACHE_BYTES_MAX < self.bytes {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some(row) = self.rows.pop_front() {
            self.bytes -= row.len();
            self.start += 1;
        }
    }

    fn truncate(&mut self, end: u64) {
        while end < self.end() && !self.rows.is_empty() {
            self.bytes -= self.rows.pop_back().map_or(0, |row| row.len());
        }
        self.start = self.start.min(end);
    }

    fn purge(&mut self, start: u64) {
        while self.start < start && !self.rows.is_empty() {
            self.drop_first();
        }
        self.start = self.start.max(start);
    }

    /// `None` when the rows begin before the tail.
    fn read(&self, start: u64, end: u64, bytes_max: usize) -> Option<Vec<(u64, Bytes)>> {
        let skip = usize::try_from(start.checked_sub(self.start)?).unwrap_or(usize::MAX);
        let mut rows = Vec::new();
        let mut bytes = 0;
        for (index, row) in (start..end).zip(self.rows.iter().skip(skip)) {
            if !rows.is_empty() && bytes_max <= bytes {
                break;
            }
            bytes += row.len();
            rows.push((index, row.clone()));
        }
        Some(rows)
    }
}

fn entries_of(db: &DB) -> DBRawIterator<'_> {
    let mut options = ReadOptions::default();
    options.set_iterate_upper_bound([ENTRY_PREFIX + 1]);
    options.fill_cache(false);
    db.raw_iterator_opt(options)
}

/// Reads every entry: that none is missing, that each is intact. Memory is bounded by one row.
fn check_rows(db: &DB, path: &Path, entries: Kind) -> Result<LogBounds, StorageError> {
    let failed = |error: &rocksdb::Error| StorageError::failed("check the log", path, error);
    let damaged = |source: RecordError| StorageError::Record { path: path.to_owned(), source };
    let purged = match db.get(PURGED_INDEX_KEY).map_err(|error| failed(&error))? {
        None => None,
        Some(row) => {
            let payload = PURGED_INDEX.open(PURGED_INDEX_KEY, &row.into()).map_err(damaged)?;
            let index = payload.as_ref().try_into().map_err(|_| damaged(PURGED_INDEX.damaged(None)))?;
            Some(u64::from_le_bytes(index))
        }
    };
    let mut bounds = LogBounds { purged, first: None, last: None };
    let mut next = purged.map_or(0, |purged| purged + 1);
    let mut iterator = entries_of(db);
    iterator.seek([ENTRY_PREFIX]);
    while let Some((key, row)) = iterator.item() {
        if index_of(key) != Some(next) {
            return Err(StorageError::Missing { path: path.to_owned(), index: next });
        }
        match entries.check(key, row) {
            Ok(()) => {}
            Err(RecordError::Damaged { .. }) => return Err(damaged(entries.damaged(Some(next)))),
            Err(newer @ RecordError::Newer { .. }) => return Err(damaged(newer)),
        }
        bounds.first.get_or_insert(next);
        bounds.last = Some(next);
        next += 1;
        iterator.next();
    }
    iterator.status().map_err(|error| failed(&error))?;
    Ok(bounds)
}

fn options() -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(BLOCK_CACHE_BYTES));
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_manual_wal_flush(true);
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_paranoid_checks(true);
    options.set_compression_type(DBCompressionType::None);
    options.set_write_buffer_size(MEMTABLE_BYTES_MAX);
    options.set_max_write_buffer_number(3);
    // Writes are ordered by one lock.
    options.set_allow_concurrent_memtable_write(false);
    options.set_max_background_jobs(2);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(INFO_LOG_BYTES_MAX);
    options
}

#[cfg(test)]
mod log_db_test;
