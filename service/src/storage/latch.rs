//! The first failure of a disk, kept for ever.
//!
//! After a failed fsync the kernel may have dropped the dirty pages, so that a second fsync succeeds although the data is
//! gone. Hence nothing is retried: whoever comes after the first failure gets the same error, and the process ends.

use crate::storage::record::RecordError;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Why a database of this node can no longer be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StorageError {
    /// RocksDB or the file system refused.
    #[error("{action} in {}: {detail}", path.display())]
    Failed {
        /// What was tried.
        action: &'static str,
        /// The database's directory, or the file.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
    /// A row is damaged or newer than this build.
    #[error("in {}: {source}", path.display())]
    Record {
        /// The database's directory.
        path: PathBuf,
        /// Which record.
        source: RecordError,
    },
    /// The log has no entry where one must be.
    #[error("in {}: log entry {index} is missing", path.display())]
    Missing {
        /// The database's directory.
        path: PathBuf,
        /// The index of the hole.
        index: u64,
    },
    /// An append that would leave a hole or overwrite an entry.
    #[error("in {}: append of entry {found} where {expected} is next", path.display())]
    NotNext {
        /// The database's directory.
        path: PathBuf,
        /// The index after the last one.
        expected: u64,
        /// The index of the first row to append.
        found: u64,
    },
    /// The thread that makes writes durable has ended.
    #[error("the sync thread of {} has ended", path.display())]
    Stopped {
        /// The database's directory.
        path: PathBuf,
    },
}

impl StorageError {
    pub(super) fn failed(action: &'static str, path: &Path, error: &impl ToString) -> Self {
        Self::Failed { action, path: path.to_owned(), detail: error.to_string() }
    }
}

impl From<StorageError> for std::io::Error {
    fn from(error: StorageError) -> Self {
        Self::other(error)
    }
}

/// Holds the first [`StorageError`]; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Latch(Arc<OnceLock<StorageError>>);

impl Latch {
    /// The failure, if there was one.
    pub(crate) fn error(&self) -> Option<&StorageError> {
        self.0.get()
    }

    /// Refuses when there was a failure.
    pub(crate) fn check(&self) -> Result<(), StorageError> {
        self.error().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Keeps `error` unless there was one before, and returns the first.
    pub(crate) fn fail(&self, error: StorageError) -> StorageError {
        self.0.get_or_init(|| error).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::{Latch, StorageError};
    use std::path::Path;

    #[test]
    fn the_first_failure_stays() {
        let latch = Latch::default();
        assert_eq!(latch.check(), Ok(()));
        let first = StorageError::failed("flush", Path::new("/log"), &"input/output error");
        assert_eq!(latch.fail(first.clone()), first);
        let second = StorageError::Stopped { path: "/log".into() };
        assert_eq!(latch.fail(second), first);
        assert_eq!(latch.check().unwrap_err().to_string(), "flush in /log: input/output error");
    }
}
