//! Files from one node to another, on a connection of their own.
//!
//! ```text
//!   sender                                   receiver
//!     │ TransferBegin {header, names, sizes}    │
//!     ├────────────────────────────────────────►│ names and sizes are sane? snapshot_begin names a directory
//!     │                           TransferReady │
//!     │◄────────────────────────────────────────┤
//!     │ TransferChunk … TransferFileEnd {crc}   │ write, compare, fsync; for each file in turn
//!     ├────────────────────────────────────────►│
//!     │ TransferFinish                          │ fsync the directory, snapshot_finish
//!     ├────────────────────────────────────────►│
//!     │          TransferWorking … TransferAnswer │
//!     │◄────────────────────────────────────────┤
//! ```
//!
//! TCP paces the sender. Either side may stop at any time by closing; the receiver says why with
//! `TransferFailed` when it can. What was received is then removed, and the next attempt starts from the
//! beginning.
//!
//! Payloads: begin = header (4 + n), number of files (4), for each its name (2 + n) and size (8); chunk =
//! bytes; file end = CRC-32C of the whole file (4); answer = opaque; failed = text (2 + n); the others are
//! empty.

mod receive;
mod send;

pub(super) use receive::{ReceiveError, receive};
pub(super) use send::{measure, send};

use crate::peer::frame::FrameError;
use crate::peer::handshake::{put_text, text};
use crate::peer::limits::{
    FAILURE_TEXT_BYTES_MAX, FILE_NAME_BYTES_MAX, TRANSFER_BYTES_MAX, TRANSFER_FILES_MAX,
    TRANSFER_HEADER_BYTES_MAX,
};
use crate::peer::pool::DialError;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::collections::BTreeSet;
use std::io;

/// A file of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileSpec {
    /// Its name in the receiver's directory: letters, digits, `.`, `_` and `-`; not `.` or `..`.
    pub(crate) name: String,
    /// Its size.
    pub(crate) bytes: u64,
}

/// How a transfer failed, seen by the sender. In every case the receiver keeps nothing, unless the connection
/// broke after all files were complete: then the installation may have happened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransferError {
    /// No connection could be made.
    #[error("{0}")]
    Unreachable(DialError),
    /// Another transfer to this peer is running.
    #[error("a transfer to this peer is in progress")]
    InProgress,
    /// The caller or the closing pool ended it.
    #[error("the transfer was cancelled")]
    Cancelled,
    /// A file here cannot be read.
    #[error("read file {name:?}: {cause}")]
    ReadFile { name: String, cause: io::Error },
    /// A file here has fewer bytes than at the beginning.
    #[error("file {name:?} shrank while it was sent")]
    FileShrank { name: String },
    /// The receiver would not take these files.
    #[error("{0}")]
    InvalidFiles(#[from] InvalidFiles),
    /// The receiver gave up and says why.
    #[error("the receiver gave up: {0}")]
    Refused(String),
    /// The connection broke, or stood still.
    #[error("{0}")]
    Broken(#[from] FrameError),
}

/// Why a list of files is not accepted, here and there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidFiles {
    /// Too many files.
    #[error("{count} files are more than {TRANSFER_FILES_MAX}")]
    TooMany { count: usize },
    /// Too many bytes.
    #[error("the files have more than {TRANSFER_BYTES_MAX} bytes")]
    TooLarge,
    /// A name that could leave the directory, or that not every file system has.
    #[error("{name:?} is not a name for a file of a transfer")]
    BadName { name: String },
    /// Two files of one name.
    #[error("two files have the name {name:?}")]
    Duplicate { name: String },
    /// The opaque header is too long.
    #[error("a header of {bytes} bytes is larger than {TRANSFER_HEADER_BYTES_MAX}")]
    HeaderTooLarge { bytes: usize },
}

/// The announcement of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Begin {
    pub(super) header: Bytes,
    pub(super) files: Vec<FileSpec>,
}

impl Begin {
    /// Checks every bound and name. Both sides do: the sender for a clear error, the receiver because it
    /// trusts nobody.
    ///
    /// # Errors
    /// The first thing wrong.
    pub(super) fn check(&self) -> Result<(), InvalidFiles> {
        if TRANSFER_HEADER_BYTES_MAX < self.header.len() {
            return Err(InvalidFiles::HeaderTooLarge { bytes: self.header.len() });
        }
        if TRANSFER_FILES_MAX < self.files.len() {
            return Err(InvalidFiles::TooMany { count: self.files.len() });
        }
        let mut total = 0_u64;
        let mut names = BTreeSet::new();
        for FileSpec { name, bytes } in &self.files {
            if !is_file_name(name) {
                return Err(InvalidFiles::BadName { name: name.clone() });
            }
            if !names.insert(name) {
                return Err(InvalidFiles::Duplicate { name: name.clone() });
            }
            total = total.saturating_add(*bytes);
        }
        if total <= TRANSFER_BYTES_MAX { Ok(()) } else { Err(InvalidFiles::TooLarge) }
    }

    /// The payload of the begin frame. Only for what [`Self::check`] accepts.
    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        put_count(&mut out, self.header.len());
        out.put_slice(&self.header);
        put_count(&mut out, self.files.len());
        for FileSpec { name, bytes } in &self.files {
            put_text(&mut out, name, FILE_NAME_BYTES_MAX);
            out.put_u64(*bytes);
        }
        out.freeze()
    }

    /// Reads a begin frame's payload, without [`Self::check`].
    ///
    /// # Errors
    /// [`FrameError::Malformed`].
    pub(super) fn decode(payload: Bytes) -> Result<Self, FrameError> {
        Self::read(payload).ok_or(FrameError::Malformed { what: "the beginning of a transfer" })
    }

    fn read(mut payload: Bytes) -> Option<Self> {
        let header_bytes = count(&mut payload, TRANSFER_HEADER_BYTES_MAX)?;
        if payload.len() < header_bytes {
            return None;
        }
        let header = payload.split_to(header_bytes);
        let files = count(&mut payload, TRANSFER_FILES_MAX)?;
        let files = (0..files)
            .map(|_| {
                let name = text(&mut payload, FILE_NAME_BYTES_MAX)?;
                Some(FileSpec { name, bytes: payload.try_get_u64().ok()? })
            })
            .collect::<Option<Vec<_>>>()?;
        payload.is_empty().then_some(Self { header, files })
    }
}

fn is_file_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=FILE_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain) && name != "." && name != ".."
}

/// The payload of a failure frame.
pub(super) fn encode_failure(why: &str) -> Bytes {
    let mut out = BytesMut::new();
    put_text(&mut out, why, FAILURE_TEXT_BYTES_MAX);
    out.freeze()
}

fn decode_failure(mut payload: Bytes) -> Result<String, FrameError> {
    text(&mut payload, FAILURE_TEXT_BYTES_MAX)
        .ok_or(FrameError::Malformed { what: "the failure of a transfer" })
}

/// The payload of a file's last frame.
pub(super) fn encode_file_end(crc: u32) -> [u8; 4] {
    crc.to_be_bytes()
}

fn decode_file_end(payload: &[u8]) -> Result<u32, FrameError> {
    let bytes = payload.try_into().map_err(|_| FrameError::Malformed { what: "the end of a file" })?;
    Ok(u32::from_be_bytes(bytes))
}

fn put_count(out: &mut BytesMut, count: usize) {
    out.put_u32(u32::try_from(count).expect("checked against a bound far below 2^32"));
}

fn count(payload: &mut Bytes, max: usize) -> Option<usize> {
    usize::try_from(payload.try_get_u32().ok()?).ok().filter(|count| *count <= max)
}
