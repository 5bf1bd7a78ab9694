//! Snapshots: complete, verified, immutable copies of the state.
//!
//! ```text
//! snapshots/<number>/
//! ├── manifest    a record: the caller's metadata, and of every file the name, size and CRC-32C
//! └── db/         a RocksDB checkpoint
//! ```
//!
//! A snapshot is written under a temporary name and renamed when all of it is on the disk, so a directory without that
//! name's suffix is complete. Its metadata are read from the checkpoint itself and can thus not belong to another moment.
//! A received snapshot becomes a snapshot like any other; installing one copies it to a state directory (by hard links,
//! where files never change), and switches the data directory to that.

use crate::storage::data_dir::{DataDir, OpenError};
use crate::storage::durable::{self, TEMPORARY};
use crate::storage::latch::StorageError;
use crate::storage::record::{Kind, RecordError};
use crate::storage::state_db::{RetiredDir, StateDb, StateView};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const MANIFEST: &str = "manifest";
const DB: &str = "db";
/// So many snapshots are kept: one may still be on its way to a follower while the next one is made.
const KEPT: usize = 2;
const READ_BYTES: usize = 256 << 10;
/// A checkpoint has a few files per 64 MiB; more than this is not a manifest of ours.
const FILES_MAX: usize = 100_000;
const FILE_NAME_BYTES_MAX: usize = 64;

/// The format of a snapshot, on the disk and on its way to another node.
pub(crate) const MANIFEST_RECORD: Kind = Kind { what: "snapshot manifest", version: 1 };

/// Why a snapshot cannot be made, read, received or installed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    /// A file system operation failed.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The manifest is damaged or newer than this build.
    #[error("in {}: {source}", path.display())]
    Manifest {
        /// The snapshot's directory.
        path: PathBuf,
        /// Which.
        source: RecordError,
    },
    /// A file is not what the manifest says.
    #[error("snapshot file {} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The state's database refuses.
    #[error(transparent)]
    State(#[from] StorageError),
    /// The data directory cannot be switched to the new state. Fatal: see [`DataDir::switch_state`].
    #[error(transparent)]
    Switch(#[from] OpenError),
}

/// One file of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotFile {
    /// Its name in the checkpoint: no path.
    pub(crate) name: String,
    /// In bytes.
    pub(crate) size: u64,
    /// CRC-32C of its content.
    pub(crate) crc: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    meta: Vec<u8>,
    files: Vec<SnapshotFile>,
}

impl Manifest {
    fn encode(&self) -> Bytes {
        let payload = postcard::to_stdvec(self).expect("a manifest is a list of names and numbers");
        MANIFEST_RECORD.seal(&[], |out| out.extend_from_slice(&payload)).into()
    }

    /// Names are checked: a manifest comes from a peer, and a name must not lead out of the directory.
    fn decode(record: &Bytes) -> Result<Self, RecordError> {
        let payload = MANIFEST_RECORD.open(&[], record)?;
        let damaged = MANIFEST_RECORD.damaged(None);
        let manifest: Self = postcard::from_bytes(&payload).map_err(|_| damaged.clone())?;
        let sorted = manifest.files.is_sorted_by(|a, b| a.name < b.name);
        let named = manifest.files.iter().all(|file| is_file_name(&file.name));
        if sorted && named && manifest.files.len() <= FILES_MAX { Ok(manifest) } else { Err(damaged) }
    }
}

fn is_file_name(name: &str) -> bool {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    plain && !name.is_empty() && !name.starts_with('.') && name.len() <= FILE_NAME_BYTES_MAX
}

/// A complete snapshot. Its directory stays at least as long as this value.
pub(crate) struct Snapshot {
    number: u64,
    dir: RetiredDir,
    record: Bytes,
    meta: Bytes,
    files: Vec<SnapshotFile>,
}

impl Snapshot {
    fn load(dir: &Path, number: u64) -> Result<Self, SnapshotError> {
        let path = dir.join(MANIFEST);
        let record = Bytes::from(fs::read(&path).map_err(|source| io_error("read", &path, source))?);
        let decoded = Manifest::decode(&record);
        let Manifest { meta, files } =
            decoded.map_err(|source| SnapshotError::Manifest { path: dir.to_owned(), source })?;
        Ok(Self { number, dir: RetiredDir::new(dir), record, meta: meta.into(), files })
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.dir.path
    }

    /// What the caller read from the checkpoint when it was made.
    pub(crate) fn meta(&self) -> &Bytes {
        &self.meta
    }

    /// The manifest's bytes, to begin a transfer with.
    pub(crate) fn manifest(&self) -> &Bytes {
        &self.record
    }

    /// Its files, sorted by name.
    pub(crate) fn files(&self) -> &[SnapshotFile] {
        &self.files
    }

    /// Where the content of a file of it lies.
    pub(crate) fn file_path(&self, file: &SnapshotFile) -> PathBuf {
        self.path().join(DB).join(&file.name)
    }

    /// The size of all files, in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Size and checksum of a file at `path` that is a link to the file of this name here. Files of sorted rows never
    /// change, so one that both have need not be read twice; whether it is damaged by then is for [`Self::verify`] to say.
    fn checksum_of(&self, name: &str, path: &Path) -> Option<(u64, u32)> {
        if !is_never_changed(path) {
            return None;
        }
        let place = self.files.binary_search_by(|file| file.name.as_str().cmp(name)).ok()?;
        let file = &self.files[place];
        let (own, other) = (fs::metadata(self.file_path(file)).ok()?, fs::metadata(path).ok()?);
        let same = (own.dev(), own.ino(), own.len()) == (other.dev(), other.ino(), file.size);
        same.then_some((file.size, file.crc))
    }

    /// Reads every byte. Blocks.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] with the first file that is not what the manifest says, or is not in it.
    pub(crate) fn verify(&self) -> Result<(), SnapshotError> {
        let loaded = Self::load(self.path(), self.number)?;
        if loaded.record != self.record {
            return Err(SnapshotError::Damaged { path: self.path().join(MANIFEST) });
        }
        verify_files(&self.path().join(DB), &self.files)
    }
}

fn verify_files(dir: &Path, files: &[SnapshotFile]) -> Result<(), SnapshotError> {
    let names = durable::names_in(dir).map_err(|source| io_error("list", dir, source))?;
    let mut expected = files.iter();
    for name in names {
        let path = dir.join(&name);
        let Some(file) = expected.next().filter(|file| file.name == name) else {
            return Err(SnapshotError::Damaged { path });
        };
        if checksum(&path)? != (file.size, file.crc) {
            return Err(SnapshotError::Damaged { path });
        }
    }
    match expected.next() {
        None => Ok(()),
        Some(missing) => Err(SnapshotError::Damaged { path: dir.join(&missing.name) }),
    }
}

fn checksum(path: &Path) -> Result<(u64, u32), SnapshotError> {
    let read = || {
        let mut file = File::open(path)?;
        let mut buffer = vec![0; READ_BYTES];
        let (mut size, mut crc) = (0, 0);
        loop {
            let len = file.read(&mut buffer)?;
            if len == 0 {
                return Ok((size, crc));
            }
            size += u64::try_from(len).unwrap_or(u64::MAX);
            crc = crc32c::crc32c_append(crc, &buffer[..len]);
        }
    };
    read().map_err(|source| io_error("read", path, source))
}

/// The snapshots of this node.
pub(crate) struct SnapshotStore {
    root: PathBuf,
    next_number: AtomicU64,
    /// Oldest first.
    kept: Mutex<Vec<Arc<Snapshot>>>,
}

impl SnapshotStore {
    /// Reads the manifests in the directory `root`. Snapshots whose manifest cannot be read are returned as errors and
    /// left where they are; [`Self::build`] removes them once it has better ones.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub(crate) fn open(root: &Path) -> Result<(Self, Vec<SnapshotError>), SnapshotError> {
        let names = durable::names_in(root).map_err(|source| io_error("list", root, source))?;
        let (mut kept, mut errors, mut last) = (Vec::new(), Vec::new(), 0);
        for (number, name) in names.iter().filter_map(|name| Some((durable::number_of(name)?, name))) {
            last = last.max(number);
            match Snapshot::load(&root.join(name), number) {
                Ok(snapshot) => kept.push(Arc::new(snapshot)),
                Err(error) => errors.push(error),
            }
        }
        let next_number = AtomicU64::new(last + 1);
        Ok((Self { root: root.to_owned(), next_number, kept: Mutex::new(kept) }, errors))
    }

    /// The newest snapshot whose manifest is intact. Its files are not read.
    #[cfg(test)]
    pub(crate) fn newest(&self) -> Option<Arc<Snapshot>> {
        self.kept().last().cloned()
    }

    /// The newest snapshot of which every byte is intact, and what is wrong with newer ones. Blocks.
    pub(crate) fn newest_valid(&self) -> (Option<Arc<Snapshot>>, Vec<SnapshotError>) {
        let candidates = self.kept().clone();
        let mut errors = Vec::new();
        for snapshot in candidates.into_iter().rev() {
            match snapshot.verify() {
                Ok(()) => return (Some(snapshot), errors),
                Err(error) => errors.push(error),
            }
        }
        (None, errors)
    }

    /// Makes a snapshot of `state`; `describe` reads its metadata from the checkpoint. The state goes on being written.
    /// When this returns, the snapshot is durable. Blocks for as long as it takes to read what was written to files since
    /// the snapshot before.
    ///
    /// # Errors
    /// When a part of it fails; nothing of the snapshot is left then.
    pub(crate) fn build(
        &self,
        state: &StateDb,
        describe: impl FnOnce(&StateView<'_>) -> Result<Bytes, StorageError>,
    ) -> Result<Arc<Snapshot>, SnapshotError> {
        let work = self.unfinished()?;
        let db = work.dir.path.join(DB);
        state.checkpoint(&db)?;
        let meta = StateDb::open_checkpoint(&db)?.read(describe)?;
        let before = self.kept().last().cloned();
        let mut files = Vec::new();
        for name in durable::names_in(&db).map_err(|source| io_error("list", &db, source))? {
            let path = db.join(&name);
            // Opening the checkpoint leaves an information log behind.
            if name.starts_with("LOG") {
                fs::remove_file(&path).map_err(|source| io_error("remove", &path, source))?;
                continue;
            }
            let known = before.as_ref().and_then(|before| before.checksum_of(&name, &path));
            let (size, crc) = known.map_or_else(|| checksum(&path), Ok)?;
            files.push(SnapshotFile { name, size, crc });
        }
        self.finish(work, &Manifest { meta: meta.into(), files }.encode())
    }

    /// Begins to receive the snapshot that `manifest` describes.
    ///
    /// # Errors
    /// When the manifest is damaged or newer than this build, or the directory cannot be made.
    pub(crate) fn receive(&self, manifest: Bytes) -> Result<Incoming, SnapshotError> {
        let decoded = Manifest::decode(&manifest);
        let path = self.root.clone();
        let Manifest { meta, files } = decoded.map_err(|source| SnapshotError::Manifest { path, source })?;
        let work = self.unfinished()?;
        Ok(Incoming { work, manifest, meta: meta.into(), files })
    }

    /// Makes a received snapshot one of this node's: verified and durable when this returns. Blocks.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] with the first file that is incomplete or differs; nothing is kept then.
    pub(crate) fn accept(&self, incoming: Incoming) -> Result<Arc<Snapshot>, SnapshotError> {
        let Incoming { work, manifest, meta: _, files } = incoming;
        verify_files(&work.dir.path.join(DB), &files)?;
        self.finish(work, &manifest)
    }

    /// Verifies `snapshot`, opens a copy of it and makes that the live state of `data`, durably. The caller then gives
    /// it to [`crate::storage::state_db::StateHandle::replace`]. Truncations of the log must be synced before. Blocks.
    ///
    /// # Errors
    /// [`SnapshotError::Switch`] is fatal; after any other the state before is still the live one.
    pub(crate) fn install(snapshot: &Snapshot, data: &DataDir) -> Result<StateDb, SnapshotError> {
        snapshot.verify()?;
        let dir = data.unused_state_dir()?;
        let unused = RetiredDir::new(&dir);
        unused.retire();
        fs::create_dir(&dir).map_err(|source| io_error("create", &dir, source))?;
        for file in snapshot.files() {
            let (from, to) = (snapshot.file_path(file), dir.join(&file.name));
            copy(&from, &to).map_err(|source| io_error("copy", &from, source))?;
        }
        durable::sync_dir(&dir).map_err(|source| io_error("sync", &dir, source))?;
        let state = StateDb::open(&dir)?;
        unused.keep();
        data.switch_state(&dir)?;
        Ok(state)
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Arc<Snapshot>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unfinished(&self) -> Result<Unfinished, SnapshotError> {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join(format!("{}.{TEMPORARY}", durable::numbered(number)));
        durable::remove_dir(&path).map_err(|source| io_error("remove", &path, source))?;
        fs::create_dir(&path).map_err(|source| io_error("create", &path, source))?;
        let dir = RetiredDir::new(&path);
        dir.retire();
        Ok(Unfinished { number, dir })
    }

    /// Everything but the manifest is written: makes it durable, gives it its name, and drops the oldest.
    fn finish(&self, work: Unfinished, manifest: &[u8]) -> Result<Arc<Snapshot>, SnapshotError> {
        let path = &work.dir.path;
        let complete = self.root.join(durable::numbered(work.number));
        let sync = || {
            let db = path.join(DB);
            for name in durable::names_in(&db)? {
                durable::sync_file(&db.join(name))?;
            }
            durable::sync_dir(&db)?;
            durable::replace_file(path, MANIFEST, manifest)?;
            fs::rename(path, &complete)?;
            durable::sync_dir(&self.root)
        };
        sync().map_err(|source| io_error("complete", path, source))?;
        let snapshot = Arc::new(Snapshot::load(&complete, work.number)?);
        let mut kept = self.kept();
        kept.push(Arc::clone(&snapshot));
        kept.sort_unstable_by_key(|snapshot| snapshot.number);
        let surplus = kept.len().saturating_sub(KEPT);
        for old in kept.drain(..surplus) {
            old.dir.retire();
        }
        if let [oldest, ..] = &kept[..]
            && kept.len() == KEPT
        {
            self.remove_unreadable(oldest.number);
        }
        Ok(snapshot)
    }

    /// Removes what is older than the oldest of enough good snapshots and was never loaded. What is loaded goes with its
    /// last user.
    fn remove_unreadable(&self, before: u64) {
        for name in durable::names_in(&self.root).unwrap_or_default() {
            let path = self.root.join(&name);
            let old = durable::number_of(&name).is_some_and(|number| number < before);
            if old
                && Snapshot::load(&path, 0).is_err()
                && let Err(error) = durable::remove_dir(&path)
            {
                tracing::warn!(path = %path.display(), %error, "failed to remove an unreadable snapshot");
            }
        }
    }
}

/// Whether RocksDB writes a file once and then only reads it.
fn is_never_changed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "sst")
}

/// A file that RocksDB never changes is shared; the few small ones that it replaces or appends to are copied.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if is_never_changed(from) {
        return fs::hard_link(from, to);
    }
    fs::copy(from, to)?;
    durable::sync_file(to)
}

/// A directory that goes unless it is finished.
struct Unfinished {
    number: u64,
    dir: RetiredDir,
}

/// A snapshot on its way from another node. What was received is dropped with it, unless it is accepted.
pub(crate) struct Incoming {
    work: Unfinished,
    manifest: Bytes,
    meta: Bytes,
    files: Vec<SnapshotFile>,
}

impl Incoming {
    /// The sender's metadata.
    pub(crate) fn meta(&self) -> &Bytes {
        &self.meta
    }

    /// The files to receive, sorted by name.
    pub(crate) fn files(&self) -> &[SnapshotFile] {
        &self.files
    }

    /// The directory for the files. It does not exist yet: who receives the files creates it.
    pub(crate) fn files_dir(&self) -> PathBuf {
        self.work.dir.path.join(DB)
    }
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> SnapshotError {
    SnapshotError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod snapshot_store_test;
