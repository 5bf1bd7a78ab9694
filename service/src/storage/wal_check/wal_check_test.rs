//! Every cut and every flipped bit of a real write-ahead log: cut writes are cut off, damage is refused, and nothing that
//! opens lacks an entry that was written whole.

use super::{BLOCK, Cut, WalError, check_and_cut};
use crate::storage::log_db::{LogDb, entry_key};
use crate::storage::record::Kind;
use crate::storage::testing::copy_dir;
use bytes::Bytes;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use tempfile::TempDir;

const ROW: Kind = Kind { what: "log entry", version: 1 };

/// A log as a crash leaves it, and what was in it.
struct Crashed {
    dir: TempDir,
    wal: PathBuf,
    bytes: Vec<u8>,
    rows: Vec<Bytes>,
    /// The length of the write-ahead log after each row.
    ends: Vec<usize>,
}

fn crashed(payloads: &[Vec<u8>]) -> Crashed {
    let dir = TempDir::new().unwrap();
    let live = dir.path().join("live");
    LogDb::create(&live).unwrap();
    let db = LogDb::open(&live, ROW).unwrap();
    let wal = newest_wal(&live);
    let (mut rows, mut ends) = (Vec::new(), Vec::new());
    for (index, payload) in (0..).zip(payloads) {
        let row: Bytes = ROW.seal(&entry_key(index), |out| out.extend_from_slice(payload)).into();
        rows.push(row.clone());
        let (done, appended) = channel();
        db.append(index, vec![row], Box::new(move |result| done.send(result).unwrap())).unwrap();
        appended.recv().unwrap().unwrap();
        ends.push(usize::try_from(fs::metadata(&wal).unwrap().len()).unwrap());
    }
    let copy = dir.path().join("crashed");
    copy_dir(&live, &copy);
    let wal = newest_wal(&copy);
    Crashed { bytes: fs::read(&wal).unwrap(), wal, dir, rows, ends }
}

fn newest_wal(dir: &Path) -> PathBuf {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "log")).max().unwrap()
}

impl Crashed {
    fn path(&self) -> PathBuf {
        self.dir.path().join("crashed")
    }

    /// Checks the log with `wal` as its write-ahead log; then the file is `wal` again.
    fn check(&self, wal: &[u8]) -> Result<Option<Cut>, WalError> {
        fs::write(&self.wal, wal).unwrap();
        let result = check_and_cut(&self.path());
        let kept = fs::read(&self.wal).unwrap();
        match &result {
            Ok(Some(cut)) => {
                assert_eq!(&cut.path, &self.wal);
                assert_eq!(kept, wal[..usize::try_from(cut.offset).unwrap()]);
                assert_eq!(cut.offset + cut.bytes, u64::try_from(wal.len()).unwrap());
            }
            Ok(None) | Err(_) => assert_eq!(kept, wal),
        }
        result
    }

    /// Opens a copy of the log with `wal` as its write-ahead log and reads all rows, or `None` when it is refused.
    fn open(&self, wal: &[u8]) -> Option<Vec<Bytes>> {
        let copy = self.dir.path().join("opened");
        fs::write(&self.wal, wal).unwrap();
        copy_dir(&self.path(), &copy);
        let rows = LogDb::open(&copy, ROW).ok().map(|db| db.read(0, u64::MAX, usize::MAX).unwrap());
        fs::remove_dir_all(&copy).unwrap();
        rows.map(|rows| rows.into_iter().map(|(_, row)| row).collect())
    }

    /// The rows whose records end at or before `len`.
    fn rows_within(&self, len: usize) -> &[Bytes] {
        let count = self.ends.iter().filter(|end| **end <= len).count();
        &self.rows[..count]
    }

    /// Flips each bit of the byte at `offset`: refused, or all rows are there.
    fn check_flips(&self, offset: usize, bits: impl Iterator<Item = u32>) {
        for bit in bits {
            let mut wal = self.bytes.clone();
            wal[offset] ^= 1 << bit;
            if self.check(&wal).is_ok() {
                let rows = self.open(&wal);
                assert!(rows.is_none_or(|rows| rows == self.rows), "bit {bit} of byte {offset} loses rows");
            }
        }
    }
}

fn small_payloads() -> Vec<Vec<u8>> {
    (0_u8..6).map(|number| vec![number; 20]).collect()
}

/// Records of more than a block, so that there are first, middle and last fragments and padding at a block's end.
fn large_payloads() -> Vec<Vec<u8>> {
    [100, BLOCK - 150, 3 * BLOCK, 50, 2 * BLOCK + 9].iter().map(|len| pattern(*len)).collect()
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at * 31 + at / 256) % 256).unwrap()).collect()
}

#[test]
fn a_write_cut_at_any_byte_is_cut_off_and_the_earlier_rows_stay() {
    let crashed = crashed(&small_payloads());
    let last = crashed.ends[4];
    assert_eq!(crashed.check(&crashed.bytes).unwrap(), None);
    for len in last..crashed.bytes.len() {
        let wal = &crashed.bytes[..len];
        let cut = crashed.check(wal).unwrap();
        assert_eq!(cut.map_or(len, |cut| usize::try_from(cut.offset).unwrap()), last, "cut at {len}");
        assert_eq!(crashed.open(wal).unwrap(), crashed.rows[..5], "cut at {len}");
    }
    assert_eq!(crashed.open(&crashed.bytes).unwrap(), crashed.rows);
}

#[test]
fn a_write_of_several_blocks_cut_anywhere_is_cut_off_as_a_whole() {
    let crashed = crashed(&large_payloads());
    let cuts =
        (0..crashed.bytes.len()).filter(|len| len % 997 == 0 || len % BLOCK < 16 || BLOCK - len % BLOCK < 16);
    for len in cuts {
        let cut = crashed.check(&crashed.bytes[..len]).unwrap();
        let kept = cut.map_or(len, |cut| usize::try_from(cut.offset).unwrap());
        assert_eq!(crashed.rows_within(kept).len(), crashed.rows_within(len).len(), "cut at {len}");
        if len % 31 == 0 {
            assert_eq!(
                crashed.open(&crashed.bytes[..len]).unwrap(),
                crashed.rows_within(len),
                "cut at {len}"
            );
        }
    }
}

#[test]
fn zeros_instead_of_the_end_of_a_write_are_cut_off() {
    let crashed = crashed(&small_payloads());
    let last = crashed.ends[4];
    for zeros_from in last..crashed.bytes.len() - 1 {
        for zeros in [0, 512, 3 * BLOCK] {
            let mut wal = crashed.bytes[..zeros_from].to_vec();
            wal.resize(crashed.bytes.len() + zeros, 0);
            let cut = crashed.check(&wal).unwrap().unwrap();
            assert_eq!(usize::try_from(cut.offset).unwrap(), last, "zeros from {zeros_from}");
        }
    }
    let mut wal = crashed.bytes[..last + 9].to_vec();
    wal.resize(2 * BLOCK, 0);
    assert_eq!(crashed.open(&wal).unwrap(), crashed.rows[..5]);
}

#[test]
fn no_flipped_bit_loses_a_row() {
    let crashed = crashed(&small_payloads());
    for offset in 0..crashed.bytes.len() {
        crashed.check_flips(offset, 0..8);
    }
}

#[test]
fn a_flipped_bit_is_named_with_file_and_offset_even_in_the_last_record() {
    let crashed = crashed(&small_payloads());
    for (record, start) in [(2, crashed.ends[1]), (5, crashed.ends[4])] {
        for offset in start..crashed.ends[record] {
            for bit in 0..8 {
                let mut wal = crashed.bytes.clone();
                wal[offset] ^= 1 << bit;
                let error = crashed.check(&wal).expect_err("damage of a complete record");
                let WalError::Damaged { path, offset: reported, reason } = error else { panic!("{error}") };
                assert_eq!(path, crashed.wal);
                assert_eq!(usize::try_from(reported).unwrap(), start, "bit {bit} of byte {offset}: {reason}");
            }
        }
    }
}

#[test]
fn no_flipped_bit_of_a_record_of_several_blocks_loses_a_row() {
    let crashed = crashed(&large_payloads());
    for offset in 0..crashed.bytes.len() {
        let near_a_header = offset % BLOCK < 16 || crashed.ends.iter().any(|end| end.abs_diff(offset) < 16);
        if near_a_header {
            crashed.check_flips(offset, 0..8);
        } else if offset % 501 == 0 {
            crashed.check_flips(offset, std::iter::once(u32::try_from(offset % 8).unwrap()));
        }
    }
}

#[test]
fn damage_to_a_row_of_zeros_is_not_taken_for_an_unfinished_write() {
    let crashed = crashed(&[vec![1; 20], vec![0; 2_000]]);
    for offset in crashed.ends[0]..crashed.bytes.len() {
        crashed.check_flips(offset, std::iter::once(u32::try_from(offset % 8).unwrap()));
    }
    let mut wal = crashed.bytes.clone();
    wal[crashed.ends[0]] ^= 1;
    assert!(matches!(crashed.check(&wal), Err(WalError::Damaged { .. })));
}

#[test]
fn an_older_write_ahead_log_must_be_complete() {
    let crashed = crashed(&small_payloads());
    let newer = crashed.path().join("999999.log");
    fs::write(&newer, []).unwrap();
    assert_eq!(crashed.check(&crashed.bytes).unwrap(), None);
    let error = crashed.check(&crashed.bytes[..crashed.bytes.len() - 1]).unwrap_err();
    assert!(matches!(error, WalError::Damaged { path, .. } if path == crashed.wal));
}

#[test]
fn no_flipped_bit_of_the_manifest_loses_a_row() {
    let crashed = crashed(&small_payloads());
    let current = fs::read_to_string(crashed.path().join("CURRENT")).unwrap();
    let manifest = crashed.path().join(current.trim_end());
    let bytes = fs::read(&manifest).unwrap();
    let mut accepted = 0;
    for offset in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[offset] ^= 1 << bit;
            fs::write(&manifest, flipped).unwrap();
            if check_and_cut(&crashed.path()).is_ok() {
                accepted += 1;
                let rows = crashed.open(&crashed.bytes);
                assert!(
                    rows.is_none_or(|rows| rows == crashed.rows),
                    "bit {bit} of byte {offset} loses rows"
                );
            }
        }
    }
    assert_eq!(accepted, 0, "every record of this file is complete");
    for len in 0..bytes.len() {
        fs::write(&manifest, &bytes[..len]).unwrap();
        check_and_cut(&crashed.path()).unwrap();
    }
}

#[test]
fn a_current_file_that_names_no_manifest_is_damage() {
    let crashed = crashed(&small_payloads());
    for text in ["", "MANIFEST-000001", "../MANIFEST-1\n"] {
        fs::write(crashed.path().join("CURRENT"), text).unwrap();
        assert!(matches!(check_and_cut(&crashed.path()), Err(WalError::Damaged { .. })), "{text:?}");
    }
}
