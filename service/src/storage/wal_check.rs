//! Tells a write that was cut off from a damaged one, in the record files of the log's database.
//!
//! RocksDB takes some damage at the end of a write-ahead log for the end of it: a record whose length was flipped upwards
//! looks cut off, one whose type was flipped to a "recyclable" one looks left over from an older file, and both are
//! dropped without a word. For a Raft log that is the loss of an acknowledged entry. So before RocksDB opens the database,
//! every write-ahead log and the live MANIFEST are read here under one rule: **a torn tail is cut; a complete record
//! with a bad checksum is damage, even at the end.**
//!
//! A tail counts as torn only if the record at its start ends beyond the file (or beyond the last byte that is not zero:
//! some file systems extend a file with zeros), no shorter piece of it matches its checksum, and no intact record follows.
//!
//! Only the newest write-ahead log may be torn: the log's database syncs one before it starts the next, and what is torn
//! is cut before RocksDB can start another.
//!
//! The format (`db/log_format.h` of RocksDB): blocks of 32 KiB; records do not cross them; each fragment has a header of
//! masked CRC-32C (4 bytes), length (2) and type (1); the checksum covers type and payload; less than a header's room at
//! a block's end is padding.

use crate::storage::durable;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const BLOCK: usize = 32 * 1024;
const HEADER: usize = 7;

const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// Why the log's database must not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WalError {
    /// A file cannot be read or cut.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Bytes that were once written whole are not what was written.
    #[error("{} is damaged at offset {offset}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where its first bad record starts.
        offset: u64,
        /// What is wrong there.
        reason: &'static str,
    },
}

/// A write that a crash interrupted: the file was cut at `offset`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut {
    /// The write-ahead log.
    pub(crate) path: PathBuf,
    /// Its length afterwards.
    pub(crate) offset: u64,
    /// How much was cut away.
    pub(crate) bytes: u64,
}

/// Checks the MANIFEST and every write-ahead log of the database in `dir`, which must not be open, and cuts the torn end
/// of the newest write-ahead log.
///
/// # Errors
/// [`WalError::Damaged`] with file and offset; [`WalError::Io`].
pub(crate) fn check_and_cut(dir: &Path) -> Result<Option<Cut>, WalError> {
    let names = durable::names_in(dir).map_err(|source| io_error("list", dir, source))?;
    check_manifest(dir)?;
    let mut logs = Vec::new();
    for name in &names {
        if let Some(number) = name.strip_suffix(".log").and_then(|stem| stem.parse::<u64>().ok()) {
            logs.push((number, dir.join(name)));
        }
    }
    logs.sort_unstable();
    let Some((_, newest)) = logs.pop() else { return Ok(None) };
    for (_, path) in logs {
        if let End::Torn { offset } = RecordFile::open(&path, LastByte::NeverZero)?.check()? {
            let reason = "incomplete record, and a newer write-ahead log exists";
            return Err(WalError::Damaged { path, offset, reason });
        }
    }
    let file = RecordFile::open(&newest, LastByte::NeverZero)?;
    match file.check()? {
        End::Whole => Ok(None),
        End::Torn { offset } => {
            let bytes = file.len - offset;
            cut(&newest, offset).map_err(|source| io_error("cut", &newest, source))?;
            Ok(Some(Cut { path: newest, offset, bytes }))
        }
    }
}

/// A torn MANIFEST is left as it is: RocksDB ignores the torn edit and starts a new file.
fn check_manifest(dir: &Path) -> Result<(), WalError> {
    let current = dir.join("CURRENT");
    let name = std::fs::read_to_string(&current).map_err(|source| io_error("read", &current, source))?;
    let named = name.strip_suffix('\n').filter(|name| name.starts_with("MANIFEST-") && !name.contains('/'));
    let Some(manifest) = named else {
        return Err(WalError::Damaged { path: current, offset: 0, reason: "names no MANIFEST" });
    };
    RecordFile::open(&dir.join(manifest), LastByte::Any)?.check().map(drop)
}

fn cut(path: &Path, len: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(len)?;
    file.sync_all()
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> WalError {
    WalError::Io { action, path: path.to_owned(), source }
}

/// How a file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    /// From `offset` on there is a record that was not written whole.
    Torn {
        offset: u64,
    },
}

/// What the last byte of a complete logical record can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LastByte {
    /// [`crate::storage::log_db`] ends each of its writes with a byte that is not zero, and no single flip makes it so: a
    /// record with zeros up to the end of the file was not written whole.
    NeverZero,
    Any,
}

/// One physical record.
#[derive(Debug, Clone, Copy)]
struct Header {
    checksum: u32,
    len: usize,
    kind: u8,
}

impl Header {
    fn at(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, d, low, high, kind] = *bytes.first_chunk::<HEADER>()?;
        let len = usize::from(u16::from_le_bytes([low, high]));
        Some(Self { checksum: unmask(u32::from_le_bytes([a, b, c, d])), len, kind })
    }

    fn matches(self, payload: &[u8]) -> bool {
        crc32c::crc32c_append(crc32c::crc32c(&[self.kind]), payload) == self.checksum
    }

    /// Whether some beginning of `bytes` is the payload, were the type or one of its bits another: then the record was
    /// complete and its length or type is damaged.
    fn matches_a_prefix(self, bytes: &[u8]) -> bool {
        let kinds = std::iter::once(self.kind).chain((0..8).map(|bit| self.kind ^ (1 << bit)));
        for kind in kinds {
            let mut crc = crc32c::crc32c(&[kind]);
            if crc == self.checksum {
                return true;
            }
            for byte in bytes {
                crc = crc32c::crc32c_append(crc, &[*byte]);
                if crc == self.checksum {
                    return true;
                }
            }
        }
        false
    }
}

/// RocksDB stores checksums rotated and offset, because a checksum over data that contains checksums is weak.
fn unmask(masked: u32) -> u32 {
    masked.wrapping_sub(0xa282_ead8).rotate_left(15)
}

/// A file of records, read one block at a time.
struct RecordFile<'a> {
    path: &'a Path,
    file: File,
    len: u64,
    last_byte: LastByte,
}

impl<'a> RecordFile<'a> {
    fn open(path: &'a Path, last_byte: LastByte) -> Result<Self, WalError> {
        let open = || {
            let file = File::open(path)?;
            let len = file.metadata()?.len();
            Ok(Self { path, file, len, last_byte })
        };
        open().map_err(|source| io_error("open", path, source))
    }

    fn check(&self) -> Result<End, WalError> {
        let mut record_start = None;
        let mut block_start = 0;
        while block_start < self.len {
            let block = self.block(block_start)?;
            let mut at = 0;
            while at + HEADER <= BLOCK && at < block.len() {
                let offset = block_start + to_u64(at);
                let Some((kind, next)) = next_record(&block, at) else {
                    self.check_tail(&block, block_start, at)?;
                    return Ok(End::Torn { offset: record_start.unwrap_or(offset) });
                };
                record_start = match (kind, record_start) {
                    (FULL | LAST, start) if start.is_some() == (kind == LAST) => None,
                    (FIRST, None) => Some(offset),
                    (MIDDLE, Some(start)) => Some(start),
                    _ => return Err(self.damaged(offset, "fragment out of order, or of an unknown type")),
                };
                at = next;
            }
            block_start += to_u64(BLOCK);
        }
        Ok(record_start.map_or(End::Whole, |offset| End::Torn { offset }))
    }

    /// Refuses the tail that starts with a bad record at `at` in the block, unless it is what a cut-off write leaves.
    fn check_tail(&self, block: &[u8], block_start: u64, at: usize) -> Result<(), WalError> {
        let offset = block_start + to_u64(at);
        let written = self.end_of_content(offset)?;
        if written < offset + to_u64(HEADER) {
            return Ok(());
        }
        let Some(header) = Header::at(&block[at..]) else { return Ok(()) };
        let payload = at + HEADER;
        if BLOCK < payload + header.len {
            return Err(self.damaged(offset, "length beyond its block"));
        }
        let end = block_start + to_u64(payload + header.len);
        let complete = match self.last_byte {
            LastByte::NeverZero => end <= written,
            LastByte::Any => end <= self.len,
        };
        if complete {
            return Err(self.damaged(offset, "bad checksum of a complete record"));
        }
        if header.matches_a_prefix(&block[payload..]) {
            return Err(self.damaged(offset, "bad length or type of a complete record"));
        }
        self.check_no_record_after(block, block_start, at + 1)
    }

    fn check_no_record_after(&self, block: &[u8], block_start: u64, from: usize) -> Result<(), WalError> {
        self.check_no_record_in(block, block_start, from)?;
        let mut block_start = block_start + to_u64(BLOCK);
        while block_start < self.len {
            self.check_no_record_in(&self.block(block_start)?, block_start, 0)?;
            block_start += to_u64(BLOCK);
        }
        Ok(())
    }

    fn check_no_record_in(&self, block: &[u8], block_start: u64, from: usize) -> Result<(), WalError> {
        for at in from..block.len().saturating_sub(HEADER - 1) {
            if matches!(block[at + HEADER - 1], FULL | FIRST | MIDDLE | LAST)
                && next_record(block, at).is_some()
            {
                let offset = block_start + to_u64(at);
                return Err(self.damaged(offset, "intact record after an incomplete one"));
            }
        }
        Ok(())
    }

    /// The offset after the last byte that is not zero, at least `from`.
    fn end_of_content(&self, from: u64) -> Result<u64, WalError> {
        let mut block_start = self.len.saturating_sub(1) / to_u64(BLOCK) * to_u64(BLOCK);
        loop {
            let block = self.block(block_start)?;
            if let Some(last) = block.iter().rposition(|byte| *byte != 0) {
                return Ok(from.max(block_start + to_u64(last) + 1));
            }
            if block_start <= from {
                return Ok(from);
            }
            block_start -= to_u64(BLOCK);
        }
    }

    fn block(&self, start: u64) -> Result<Vec<u8>, WalError> {
        let len = self.len.saturating_sub(start).min(to_u64(BLOCK));
        let mut block = vec![0; usize::try_from(len).unwrap_or(BLOCK)];
        self.file.read_exact_at(&mut block, start).map_err(|source| io_error("read", self.path, source))?;
        Ok(block)
    }

    fn damaged(&self, offset: u64, reason: &'static str) -> WalError {
        WalError::Damaged { path: self.path.to_owned(), offset, reason }
    }
}

/// The type of the intact physical record at `at` and the offset after it, or `None` when there is none.
fn next_record(block: &[u8], at: usize) -> Option<(u8, usize)> {
    let header = Header::at(&block[at..])?;
    let payload = block.get(at + HEADER..at + HEADER + header.len)?;
    header.matches(payload).then_some((header.kind, at + HEADER + header.len))
}

fn to_u64(len: usize) -> u64 {
    u64::try_from(len).expect("a length fits in 64 bits")
}

#[cfg(test)]
mod wal_check_test;
