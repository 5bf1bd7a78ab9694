//! The applied state in a RocksDB instance: one ordered table of byte keys.
//!
//! There is no write-ahead log: what is on the disk is whatever memtables were flushed, always a prefix of what was
//! applied because there is one column family, and the Raft log replays the rest. An entry is applied only after it is
//! durable in the log, hence the state on the disk is never ahead of the log on the disk.

use crate::storage::durable;
use crate::storage::latch::{Latch, StorageError};
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DBRawIterator, LogLevel, Options, ReadOptions, Snapshot,
    WriteBatch,
};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

const MEMTABLE_BYTES: usize = 64 << 20;
const BLOCK_CACHE_BYTES: usize = 64 << 20;
/// About one false positive in a hundred look-ups of an absent key.
const BLOOM_BITS_PER_KEY: f64 = 10.0;
const OPEN_FILES_MAX: i32 = 512;
const INFO_LOG_BYTES_MAX: usize = 1 << 20;

/// A key and its value.
#[cfg(test)]
pub(crate) type Pair = (Vec<u8>, Vec<u8>);

/// An open state. Its directory is removed when it was retired and its last user is gone.
pub(crate) struct StateDb {
    // Declared first: the database is closed before its directory goes.
    db: DB,
    dir: RetiredDir,
    latch: Latch,
}

impl StateDb {
    /// Creates an empty state in the directory `path`, which must not exist, and closes it.
    ///
    /// # Errors
    /// When RocksDB cannot create it.
    pub(crate) fn create(path: &Path) -> Result<(), StorageError> {
        let mut options = options();
        options.create_if_missing(true);
        options.set_error_if_exists(true);
        DB::open(&options, path)
            .map(drop)
            .map_err(|error| StorageError::failed("create the state", path, &error))
    }

    /// Opens the state in `path`. An absent one is an error, not an empty one.
    ///
    /// # Errors
    /// When RocksDB refuses.
    pub(crate) fn open(path: &Path) -> Result<Self, StorageError> {
        let db = DB::open(&options(), path)
            .map_err(|error| StorageError::failed("open the state", path, &error))?;
        Ok(Self { db, dir: RetiredDir::new(path), latch: Latch::default() })
    }

    /// Opens the checkpoint in `path` for reading only.
    pub(super) fn open_checkpoint(path: &Path) -> Result<Self, StorageError> {
        let db = DB::open_for_read_only(&options(), path, false)
            .map_err(|error| StorageError::failed("open the checkpoint", path, &error))?;
        Ok(Self { db, dir: RetiredDir::new(path), latch: Latch::default() })
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.dir.path
    }

    /// The first failure of this database, for ever.
    pub(crate) fn latch(&self) -> &Latch {
        &self.latch
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// When the database fails or has failed; damage counts.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.latch.check()?;
        self.db.get(key).map_err(|error| self.fail("read the state", &error))
    }

    #[cfg(test)]
    /// Up to `limit` pairs in order of their keys, from `start` to before `end`.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Pair>, StorageError> {
        self.read(|view| view.range(start, end, limit))
    }

    /// Applies one batch as a whole: `Some` puts, `None` deletes; a later row of the same key wins.
    ///
    /// Every change of the state passes here: this is where a hash over the pairs would be kept.
    ///
    /// # Errors
    /// When the database fails or has failed.
    pub(crate) fn write<K, V>(
        &self,
        rows: impl IntoIterator<Item = (K, Option<V>)>,
    ) -> Result<(), StorageError>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        self.latch.check()?;
        let mut batch = WriteBatch::default();
        for (key, value) in rows {
            match value {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        }
        self.db.write_without_wal(batch).map_err(|error| self.fail("write the state", &error))
    }

    /// Calls `read` with a view in which nothing changes.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&StateView<'_>) -> T) -> T {
        read(&StateView { state: self, snapshot: self.db.snapshot() })
    }

    /// [`StateView::scan`] of the state as it is, for the one writer: nobody else changes it meanwhile, so it costs no
    /// snapshot.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        self.latch.check()?;
        self.visit(self.db.raw_iterator_opt(bounded(start, end)), start, visit)
    }

    /// [`Self::scan`] from the last key before `end` down to `start`.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) fn scan_back(
        &self,
        start: &[u8],
        end: &[u8],
        visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        self.latch.check()?;
        self.visit_back(self.db.raw_iterator_opt(bounded(start, end)), visit)
    }

    fn visit(
        &self,
        mut iterator: DBRawIterator<'_>,
        start: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        iterator.seek(start);
        while let Some((key, value)) = iterator.item() {
            if visit(key, value).is_break() {
                return Ok(());
            }
            iterator.next();
        }
        self.ended(&iterator)
    }

    fn visit_back(
        &self,
        mut iterator: DBRawIterator<'_>,
        mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        iterator.seek_to_last();
        while let Some((key, value)) = iterator.item() {
            if visit(key, value).is_break() {
                return Ok(());
            }
            iterator.prev();
        }
        self.ended(&iterator)
    }

    fn ended(&self, iterator: &DBRawIterator<'_>) -> Result<(), StorageError> {
        iterator.status().map_err(|error| self.fail("read the state", &error))
    }

    /// Makes everything written so far durable. Blocks: not for an async worker.
    ///
    /// # Errors
    /// When the database fails or has failed.
    pub(crate) fn flush(&self) -> Result<(), StorageError> {
        self.latch.check()?;
        self.db.flush().map_err(|error| self.fail("flush the state", &error))
    }

    /// Makes a durable copy of the state at one moment in the directory `path`, which must not exist. Files are shared
    /// by hard links. Blocks for a flush, during which writes go on.
    ///
    /// # Errors
    /// When RocksDB or the file system refuses.
    pub(crate) fn checkpoint(&self, path: &Path) -> Result<(), StorageError> {
        self.latch.check()?;
        let failed = |error: &rocksdb::Error| StorageError::failed("make a checkpoint", path, error);
        let checkpoint = Checkpoint::new(&self.db).map_err(|error| failed(&error))?;
        checkpoint.create_checkpoint(path).map_err(|error| failed(&error))?;
        sync_tree(path).map_err(|error| StorageError::failed("sync the checkpoint", path, &error))
    }

    /// Lets the directory be removed once nobody uses this state any more.
    pub(crate) fn retire(&self) {
        self.dir.retire();
    }

    fn fail(&self, action: &'static str, error: &rocksdb::Error) -> StorageError {
        self.latch.fail(StorageError::failed(action, self.path(), error))
    }
}

fn sync_tree(dir: &Path) -> std::io::Result<()> {
    for name in durable::names_in(dir)? {
        durable::sync_file(&dir.join(name))?;
    }
    durable::sync_dir(dir)
}

/// What an iterator reads: from `start` to before `end`.
fn bounded(start: &[u8], end: &[u8]) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(start);
    // RocksDB takes a bound below the lower one for undefined behaviour.
    options.set_iterate_upper_bound(end.max(start));
    options
}

/// The state at one moment.
pub(crate) struct StateView<'a> {
    state: &'a StateDb,
    snapshot: Snapshot<'a>,
}

impl StateView<'_> {
    /// The value of `key`.
    ///
    /// # Errors
    /// As [`StateDb::get`].
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.state.latch.check()?;
        self.snapshot.get(key).map_err(|error| self.state.fail("read the state", &error))
    }

    #[cfg(test)]
    /// Up to `limit` pairs in order of their keys, from `start` to before `end`.
    ///
    /// # Errors
    /// As [`StateDb::get`].
    pub(crate) fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Pair>, StorageError> {
        let mut pairs = Vec::new();
        if limit == 0 {
            return Ok(pairs);
        }
        self.scan(start, end, |key, value| {
            pairs.push((key.to_vec(), value.to_vec()));
            if pairs.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(pairs)
    }

    /// Calls `visit` with each pair in order of their keys, from `start` to before `end`, until it breaks off.
    ///
    /// # Errors
    /// As [`StateDb::get`].
    pub(crate) fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        self.state.latch.check()?;
        self.state.visit(self.snapshot.raw_iterator_opt(bounded(start, end)), start, visit)
    }

    /// [`Self::scan`] from the last key before `end` down to `start`.
    ///
    /// # Errors
    /// As [`StateDb::get`].
    pub(crate) fn scan_back(
        &self,
        start: &[u8],
        end: &[u8],
        visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        self.state.latch.check()?;
        self.state.visit_back(self.snapshot.raw_iterator_opt(bounded(start, end)), visit)
    }
}

/// The live state, which the installation of a snapshot replaces as a whole.
#[derive(Clone)]
pub(crate) struct StateHandle(Arc<RwLock<Arc<StateDb>>>);

impl StateHandle {
    /// A handle of `state`.
    pub(crate) fn new(state: StateDb) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(state))))
    }

    /// The live state. Whoever keeps it goes on reading that one after a replacement.
    pub(crate) fn current(&self) -> Arc<StateDb> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes `state`, to which the data directory already points, the live one. The directory of the state before goes
    /// with its last user.
    pub(crate) fn replace(&self, state: StateDb) {
        let state = Arc::new(state);
        let before = std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), state);
        before.retire();
    }
}

/// Removes its directory when dropped after [`Self::retire`].
pub(super) struct RetiredDir {
    pub(super) path: PathBuf,
    retired: AtomicBool,
}

impl RetiredDir {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), retired: AtomicBool::new(false) }
    }

    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    pub(super) fn keep(&self) {
        self.retired.store(false, Ordering::Release);
    }
}

impl Drop for RetiredDir {
    fn drop(&mut self) {
        if !*self.retired.get_mut() {
            return;
        }
        // What stays behind is removed at the next start.
        if let Err(error) = durable::remove_dir(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "failed to remove a replaced directory");
        }
    }
}

fn options() -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(BLOCK_CACHE_BYTES));
    table.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
    table.set_cache_index_and_filter_blocks(true);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_paranoid_checks(true);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(MEMTABLE_BYTES);
    options.set_max_write_buffer_number(3);
    // There is one writer, and whoever else writes waits for it.
    options.set_allow_concurrent_memtable_write(false);
    options.set_max_background_jobs(2);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(INFO_LOG_BYTES_MAX);
    options
}

#[cfg(test)]
mod tests {
    use super::{StateDb, StateHandle};
    use crate::storage::testing::copy_dir;
    use std::ops::ControlFlow;
    use std::path::Path;
    use tempfile::TempDir;

    fn new_state(dir: &Path) -> StateDb {
        StateDb::create(dir).unwrap();
        StateDb::open(dir).unwrap()
    }

    fn put(state: &StateDb, key: &str, value: &str) {
        state.write([(key, Some(value))]).unwrap();
    }

    #[test]
    fn a_batch_puts_and_deletes_and_its_last_row_of_a_key_wins() {
        let dir = TempDir::new().unwrap();
        let state = new_state(&dir.path().join("state"));
        put(&state, "gone", "1");
        let rows = [("a", Some("1")), ("b", Some("2")), ("a", Some("3")), ("gone", None)];
        state.write(rows).unwrap();
        assert_eq!(state.get(b"gone").unwrap(), None);
        let pairs = state.range(b"a", b"z", 10).unwrap();
        assert_eq!(pairs, [(b"a".to_vec(), b"3".to_vec()), (b"b".to_vec(), b"2".to_vec())]);
    }

    #[test]
    fn a_range_ends_before_its_end_and_at_its_limit_and_scans_back() {
        let dir = TempDir::new().unwrap();
        let state = new_state(&dir.path().join("state"));
        for key in ["a", "b", "c", "d"] {
            put(&state, key, key);
        }
        let keys = |start: &str, end: &str, limit| {
            let pairs = state.range(start.as_bytes(), end.as_bytes(), limit).unwrap();
            pairs.into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect::<String>()
        };
        assert_eq!(keys("b", "d", 10), "bc");
        assert_eq!(keys("a", "z", 2), "ab");
        assert_eq!(keys("a", "z", 0), "");
        assert_eq!(keys("d", "b", 10), "");
        let mut back = Vec::new();
        let visit = |key: &[u8], _: &[u8]| {
            back.extend_from_slice(key);
            if back.len() < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        state.read(|view| view.scan_back(b"a", b"d", visit)).unwrap();
        assert_eq!(back, b"cb");
    }

    #[test]
    fn nothing_changes_in_a_view() {
        let dir = TempDir::new().unwrap();
        let state = new_state(&dir.path().join("state"));
        put(&state, "key", "old");
        state.read(|view| {
            put(&state, "key", "new");
            put(&state, "other", "new");
            assert_eq!(view.get(b"key").unwrap().unwrap(), b"old");
            assert_eq!(view.range(b"", b"z", 10).unwrap().len(), 1);
        });
        assert_eq!(state.get(b"key").unwrap().unwrap(), b"new");
    }

    #[test]
    fn a_crash_keeps_what_was_flushed_and_a_prefix_of_the_rest() {
        let dir = TempDir::new().unwrap();
        let state = new_state(&dir.path().join("state"));
        put(&state, "a", "flushed");
        state.flush().unwrap();
        put(&state, "b", "not flushed");
        copy_dir(state.path(), &dir.path().join("crashed"));
        let crashed = StateDb::open(&dir.path().join("crashed")).unwrap();
        assert_eq!(crashed.get(b"a").unwrap().unwrap(), b"flushed");
        assert_eq!(crashed.get(b"b").unwrap(), None);
    }

    #[test]
    fn a_checkpoint_is_the_state_at_its_moment() {
        let dir = TempDir::new().unwrap();
        let state = new_state(&dir.path().join("state"));
        put(&state, "a", "1");
        let path = dir.path().join("checkpoint");
        state.checkpoint(&path).unwrap();
        put(&state, "a", "2");
        assert_eq!(StateDb::open_checkpoint(&path).unwrap().get(b"a").unwrap().unwrap(), b"1");
        assert!(state.checkpoint(&path).is_err(), "the directory exists");
    }

    #[test]
    fn an_absent_state_is_not_taken_for_an_empty_one() {
        let dir = TempDir::new().unwrap();
        assert!(StateDb::open(&dir.path().join("state")).is_err());
        let state = dir.path().join("cleared");
        drop(new_state(&state));
        std::fs::remove_file(state.join("CURRENT")).unwrap();
        assert!(StateDb::open(&state).is_err());
    }

    #[test]
    fn a_replaced_state_stays_until_its_last_reader_is_gone() {
        let dir = TempDir::new().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        let handle = StateHandle::new(new_state(&old));
        put(&handle.current(), "key", "old");
        let reader = handle.current();
        handle.replace(new_state(&new));
        assert_eq!(handle.current().path(), new);
        assert_eq!(reader.get(b"key").unwrap().unwrap(), b"old");
        assert!(old.exists());
        drop(reader);
        assert!(!old.exists());
        drop(handle);
        assert!(new.exists(), "only a retired state goes");
    }
}
