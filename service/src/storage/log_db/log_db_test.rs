//! The log's database by itself: order, holes, damage, the tail in memory, and what a crash leaves.

use super::{ENTRY_PREFIX, LogBounds, LogDb, LogOpenError, MetaRow, TAIL_CACHE_BYTES_MAX, entry_key};
use crate::storage::latch::StorageError;
use crate::storage::record::Kind;
use crate::storage::testing::copy_dir;
use crate::storage::wal_check;
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use tempfile::TempDir;

const ROW: Kind = Kind { what: "log entry", version: 1 };

struct Fixture {
    dir: TempDir,
    db: LogDb,
}

fn fixture() -> Fixture {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("log");
    LogDb::create(&path).unwrap();
    Fixture { db: LogDb::open(&path, ROW).unwrap(), dir }
}

impl Fixture {
    fn append(&self, first: u64, payloads: &[&str]) {
        append(&self.db, first, payloads.iter().map(|payload| payload.as_bytes().to_vec()).collect());
    }

    fn crashed(&self, name: &str) -> PathBuf {
        let copy = self.dir.path().join(name);
        copy_dir(self.db.path(), &copy);
        copy
    }
}

fn append(db: &LogDb, first: u64, payloads: Vec<Vec<u8>>) {
    let rows = (first..).zip(payloads).map(|(index, payload)| row(index, &payload)).collect();
    wait(|done| db.append(first, rows, done).unwrap());
}

fn row(index: u64, payload: &[u8]) -> Bytes {
    ROW.seal(&entry_key(index), |out| out.extend_from_slice(payload)).into()
}

/// Calls `request` with a callback and waits until that was called.
fn wait(request: impl FnOnce(super::FlushCallback)) {
    let (done, answer) = answer();
    request(done);
    answer.recv().unwrap().unwrap();
}

fn answer() -> (super::FlushCallback, Receiver<Result<(), StorageError>>) {
    let (sender, answer) = channel();
    (Box::new(move |result| sender.send(result).unwrap()), answer)
}

fn payloads(db: &LogDb, start: u64, end: u64) -> Vec<String> {
    let rows = db.read(start, end, usize::MAX).unwrap();
    let payload = |(index, row): (u64, Bytes)| ROW.open(&entry_key(index), &row).unwrap().to_vec();
    rows.into_iter().map(|row| String::from_utf8(payload(row)).unwrap()).collect()
}

fn reopen(path: &Path) -> LogDb {
    LogDb::open(path, ROW).unwrap()
}

fn refusal(path: &Path) -> String {
    LogDb::open(path, ROW).err().unwrap().to_string()
}

#[test]
fn entries_survive_and_end_where_they_were_truncated_or_purged() {
    let Fixture { dir, db } = fixture();
    let path = dir.path().join("log");
    append(&db, 0, ["a", "b", "c", "d", "e"].map(|text| text.as_bytes().to_vec()).to_vec());
    db.truncate_after(Some(2)).unwrap();
    append(&db, 3, vec![b"D".to_vec()]);
    db.purge(0, b"purged").unwrap();
    wait(|done| db.sync(done));
    let bounds = LogBounds { purged: Some(0), first: Some(1), last: Some(3) };
    assert_eq!((db.bounds(), payloads(&db, 0, 9)), (bounds, vec!["b".into(), "c".into(), "D".into()]));
    drop(db);

    let db = reopen(&path);
    assert_eq!((db.bounds(), payloads(&db, 0, 9)), (bounds, vec!["b".into(), "c".into(), "D".into()]));
    assert_eq!(db.meta(MetaRow::Purged).unwrap().unwrap(), "purged");
    db.purge(7, b"far").unwrap();
    db.purge(5, b"back").unwrap();
    assert_eq!(db.bounds(), LogBounds { purged: Some(7), first: None, last: None });
    append(&db, 8, vec![b"i".to_vec()]);
    drop(db);
    let db = reopen(&path);
    assert_eq!(payloads(&db, 0, 99), ["i"]);
    assert_eq!(db.meta(MetaRow::Purged).unwrap().unwrap(), "far");
}

#[test]
fn an_append_that_would_leave_a_hole_is_refused() {
    let fixture = fixture();
    fixture.append(0, &["a"]);
    for first in [0, 2] {
        let (done, answer) = answer();
        let refused = fixture.db.append(first, vec![row(first, b"x")], done).unwrap_err();
        assert_eq!(
            refused,
            StorageError::NotNext { path: fixture.db.path().into(), expected: 1, found: first }
        );
        assert_eq!(answer.recv().unwrap(), Err(refused));
    }
    fixture.append(1, &["b"]);
    assert_eq!(payloads(&fixture.db, 0, 9), ["a", "b"]);
}

#[test]
fn a_read_stops_after_its_bytes_but_gives_at_least_one_row() {
    let fixture = fixture();
    fixture.append(0, &["a", "b", "c"]);
    let path = fixture.db.path().to_owned();
    let check = |db: &LogDb| {
        let read = |bytes_max| db.read(0, 3, bytes_max).unwrap().len();
        assert_eq!((read(0), read(1), read(7), read(usize::MAX)), (1, 1, 2, 3));
        assert_eq!(db.read(3, 9, usize::MAX).unwrap(), []);
        assert_eq!(db.read(2, 2, usize::MAX).unwrap(), []);
    };
    check(&fixture.db);
    drop(fixture.db);
    check(&reopen(&path));
}

#[test]
fn rows_older_than_the_tail_in_memory_are_read_from_the_database() {
    let fixture = fixture();
    fixture.db.log.db.disable_file_deletions().unwrap();
    let payload = |index: u64| vec![u8::try_from(index % 251).unwrap(); 1 << 20];
    let count = u64::try_from(TAIL_CACHE_BYTES_MAX >> 20).unwrap() + 28;
    for index in 0..count {
        append(&fixture.db, index, vec![payload(index)]);
    }
    assert!(fixture.db.log.tail().start > 0);
    assert!(fixture.db.log.tail().bytes <= TAIL_CACHE_BYTES_MAX);
    for index in 0..count {
        let rows = fixture.db.read(index, index + 1, usize::MAX).unwrap();
        assert_eq!(rows, [(index, row(index, &payload(index)))]);
    }
    // So much was written that the write-ahead log was switched, and the old one is complete.
    assert!(fixture.db.log.writer().memtable_bytes < super::MEMTABLE_BYTES_SWITCH);
    let path = fixture.db.path().to_owned();
    drop(fixture.db);
    let logs = std::fs::read_dir(&path).unwrap().filter(|entry| {
        let path = entry.as_ref().unwrap().path();
        path.extension().is_some_and(|extension| extension == "log")
    });
    assert!(1 < logs.count());
    assert_eq!(wal_check::check_and_cut(&path).unwrap(), None);
    assert_eq!(reopen(&path).bounds(), LogBounds { purged: None, first: Some(0), last: Some(count - 1) });
}

#[test]
fn a_crash_keeps_what_was_synced_and_loses_the_rest() {
    let fixture = fixture();
    fixture.append(0, &["synced"]);
    wait(|done| fixture.db.save_vote(b"vote", done));
    fixture.db.put_meta(MetaRow::Committed, b"unsynced").unwrap();
    let held = hold_sync_thread(&fixture.db);
    let (done, appended) = answer();
    fixture.db.append(1, vec![row(1, b"unsynced")], done).unwrap();
    assert_eq!(payloads(&fixture.db, 0, 9), ["synced", "unsynced"]);
    assert_eq!(*fixture.db.flushed().borrow(), Some(0));

    let crashed = reopen(&fixture.crashed("crashed"));
    assert_eq!(payloads(&crashed, 0, 9), ["synced"]);
    assert_eq!(crashed.meta(MetaRow::Vote).unwrap().unwrap(), "vote");

    assert!(appended.try_recv().is_err(), "not durable, not reported");
    held.send(()).unwrap();
    appended.recv().unwrap().unwrap();
    assert_eq!(*fixture.db.flushed().borrow(), Some(1));
    let crashed = reopen(&fixture.crashed("crashed later"));
    assert_eq!(payloads(&crashed, 0, 9), ["synced", "unsynced"]);
    assert_eq!(crashed.meta(MetaRow::Committed).unwrap().unwrap(), "unsynced");
}

/// Keeps the sync thread inside a callback until the returned sender is used.
fn hold_sync_thread(db: &LogDb) -> std::sync::mpsc::Sender<()> {
    let (release, released) = channel();
    let (done, holding) = channel();
    let hold = move |result: Result<(), StorageError>| {
        result.unwrap();
        done.send(()).unwrap();
        released.recv().unwrap();
    };
    db.sync(Box::new(hold));
    holding.recv().unwrap();
    release
}

#[test]
fn a_truncation_lowers_the_flushed_index_until_its_place_is_flushed_again() {
    let fixture = fixture();
    fixture.append(0, &["a", "b", "c"]);
    let flushed = fixture.db.flushed();
    assert_eq!(*flushed.borrow(), Some(2));
    let held = hold_sync_thread(&fixture.db);
    let (done, appended) = answer();
    fixture.db.truncate_after(Some(0)).unwrap();
    assert_eq!(*flushed.borrow(), Some(0));
    fixture.db.append(1, vec![row(1, b"B")], done).unwrap();
    assert_eq!(*flushed.borrow(), Some(0));
    held.send(()).unwrap();
    appended.recv().unwrap().unwrap();
    assert_eq!(*flushed.borrow(), Some(1));
    fixture.db.truncate_after(None).unwrap();
    assert_eq!(*flushed.borrow(), None);
    fixture.db.purge(4, b"purged").unwrap();
    assert_eq!(*flushed.borrow(), Some(4));
}

#[test]
fn a_flush_under_way_does_not_count_what_was_truncated_meanwhile() {
    use crate::storage::log_sync::Wal;

    let fixture = fixture();
    fixture.append(0, &["a"]);
    let held = hold_sync_thread(&fixture.db);
    let (done, appended) = answer();
    fixture.db.append(1, vec![row(1, b"b")], done).unwrap();
    fixture.db.log.mark();
    fixture.db.truncate_after(Some(0)).unwrap();
    fixture.db.append(1, vec![row(1, b"B")], Box::new(drop)).unwrap();
    fixture.db.log.publish();
    assert_eq!(*fixture.db.flushed().borrow(), Some(0));
    held.send(()).unwrap();
    appended.recv().unwrap().unwrap();
}

#[test]
fn a_synced_truncation_survives_a_crash() {
    let fixture = fixture();
    fixture.append(0, &["a", "b", "c"]);
    fixture.db.truncate_after(Some(0)).unwrap();
    assert_eq!(payloads(&reopen(&fixture.crashed("unsynced")), 0, 9), ["a", "b", "c"]);
    wait(|done| fixture.db.sync(done));
    assert_eq!(payloads(&reopen(&fixture.crashed("synced")), 0, 9), ["a"]);
}

#[test]
fn a_hole_is_refused_with_its_index() {
    let fixture = fixture();
    fixture.append(0, &["a", "b", "c"]);
    fixture.db.log.db.delete(entry_key(1)).unwrap();
    fixture.db.log.tail().purge(3);
    let error = fixture.db.read(0, 3, usize::MAX).unwrap_err();
    assert_eq!(error, StorageError::Missing { path: fixture.db.path().into(), index: 1 });
    assert_eq!(fixture.db.latch().check(), Err(error), "the failure is latched");
    let path = fixture.db.path().to_owned();
    drop(fixture.db);
    assert_eq!(refusal(&path), format!("in {}: log entry 1 is missing", path.display()));
}

#[test]
fn entries_that_begin_after_the_purge_position_leave_a_hole() {
    let fixture = fixture();
    fixture.append(0, &["a", "b", "c"]);
    fixture.db.purge(0, b"purged").unwrap();
    fixture.db.log.db.delete(entry_key(1)).unwrap();
    let path = fixture.db.path().to_owned();
    drop(fixture.db);
    assert_eq!(refusal(&path), format!("in {}: log entry 1 is missing", path.display()));
}

#[test]
fn a_damaged_row_is_refused_with_its_index_and_a_newer_one_by_name() {
    let fixture = fixture();
    fixture.append(0, &["a", "b", "c"]);
    let path = fixture.db.path().to_owned();
    let mut damaged = row(1, b"b").to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    fixture.db.log.db.put(entry_key(1), damaged).unwrap();
    drop(fixture.db);
    assert_eq!(refusal(&path), format!("in {}: log entry 1 is damaged", path.display()));

    let db = rocksdb::DB::open_default(&path).unwrap();
    let newer = Kind { version: 2, ..ROW };
    db.put(entry_key(1), newer.seal(&entry_key(1), |out| out.push(ENTRY_PREFIX))).unwrap();
    drop(db);
    let reason = "log entry format 2 is newer than 1, the newest this build reads";
    assert_eq!(refusal(&path), format!("in {}: {reason}", path.display()));
}

#[test]
fn a_log_that_is_gone_is_not_taken_for_an_empty_one() {
    let fixture = fixture();
    let path = fixture.db.path().to_owned();
    drop(fixture.db);
    std::fs::remove_file(path.join("CURRENT")).unwrap();
    assert!(matches!(LogDb::open(&path, ROW), Err(LogOpenError::Absent { .. })));
}
