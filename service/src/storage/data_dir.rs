//! The data directory of one node: who may use it, whose it is, and which state is the live one.
//!
//! A first start is bracketed by the file `FIRST_START`: while it exists nothing in the directory was ever used, so the
//! next start removes all and begins again. Without it, a directory that has an identity must have everything else too;
//! what is missing is never made up for by an empty database.

use crate::storage::durable::{self, TEMPORARY};
use crate::storage::latch::StorageError;
use crate::storage::log_db::LogDb;
use crate::storage::record::{Kind, RecordError};
use crate::storage::state_db::StateDb;
use bytes::Bytes;
use holdfast_core::NodeId;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

const LOCK: &str = "LOCK";
const IDENTITY: &str = "identity";
const FIRST_START: &str = "FIRST_START";
const CURRENT_STATE: &str = "CURRENT_STATE";
const LOG: &str = "log";
const STATE: &str = "state";
const SNAPSHOTS: &str = "snapshots";
/// What `mkfs` leaves in a volume of its own.
const LOST_AND_FOUND: &str = "lost+found";

/// The version of the whole directory's layout is the identity's, with it that of the state's rows and the log's commands.
pub(crate) const IDENTITY_RECORD: Kind = Kind { what: "data directory", version: 3 };
/// The oldest layout that this build reads: those before were written by builds that were never released.
const LAYOUT_OLDEST: u8 = 3;
const POINTER_RECORD: Kind = Kind { what: "state pointer", version: 1 };

/// Whose directory it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Drawn at the first start, kept for ever.
    pub(crate) node_id: NodeId,
    /// The label the node had at its first start.
    pub(crate) name: String,
    /// The cluster it belongs to, once it belongs to one.
    pub(crate) cluster_id: Option<String>,
    /// Whether it began that cluster. Only a founder may go on with a foundation that was cut off; a node that joined
    /// would make a second cluster of the same name.
    pub(crate) founder: bool,
}

/// What the caller knows of the directory it asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Refuse a directory that belongs to another cluster.
    pub(crate) cluster_id: Option<String>,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// Another process holds its lock.
    #[error("data directory {} is in use by another process", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// It cannot be written: a matter of mounts, permissions or room, not of lost data.
    #[error("{} is not writable: {source}", path.display())]
    Unwritable {
        /// The directory, or what is in it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It belongs to another cluster than the caller expects.
    #[error("data directory {} belongs to cluster {found}, not to {expected}", path.display())]
    AnotherCluster {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// What was asked for.
        expected: String,
    },
    /// It is another node's: it was first used under another name.
    #[error(
        "data directory {} belongs to node {node}, which is named {found}, not {expected}: start it as {found}, or use another directory",
        path.display()
    )]
    AnotherNode {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        node: NodeId,
        /// Its name.
        found: String,
        /// What was asked for.
        expected: String,
    },
    /// Written by a newer build.
    #[error("{}: {source}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Which format.
        source: RecordError,
    },
    /// Written by a build that is too old.
    #[error(
        "{}: data directory format {found} is older than {LAYOUT_OLDEST}, the oldest this build reads; a build before the first \
         release wrote it: start on an empty directory and join the cluster again",
        path.display()
    )]
    Older {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u8,
    },
    /// A file is not what was written there.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Something that every used directory has is not there.
    #[error("{} is missing", path.display())]
    Missing {
        /// The file or directory.
        path: PathBuf,
    },
    /// It holds something, but no identity.
    #[error("{} is in the way: its directory is neither empty nor a data directory", path.display())]
    NotOurs {
        /// The first name that does not belong there.
        path: PathBuf,
    },
    /// An operation failed.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An empty database could not be created.
    #[error(transparent)]
    Create(#[from] StorageError),
}

/// A data directory that this process holds the lock of.
#[derive(Debug)]
pub(crate) struct DataDir {
    root: PathBuf,
    identity: Mutex<Identity>,
    /// Held, not read.
    _lock: File,
}

impl DataDir {
    /// Locks and checks the directory `root`, makes it a data directory of a new node named `name` if it is empty, and
    /// removes what crashes left behind.
    ///
    /// # Errors
    /// [`OpenError`], each with the path it is about.
    pub(crate) fn open(root: &Path, name: &str, expected: &Expected) -> Result<Self, OpenError> {
        // What is not ours is left as it is: not even the lock's file is made in it.
        if root.is_dir() {
            check_ours(root, &names_in(root)?)?;
        }
        let lock = lock(root)?;
        let names = names_in(root)?;
        check_ours(root, &names)?;
        let has = |wanted: &str| names.iter().any(|name| name == wanted);
        let identity = if has(IDENTITY) && !has(FIRST_START) {
            let identity = read_identity(root)?;
            check_name(root, &identity, name)?;
            check_expected(root, &identity, expected)?;
            identity
        } else {
            first_start(root, name, expected)?
        };
        let dir = Self { root: root.to_owned(), identity: Mutex::new(identity), _lock: lock };
        dir.check_complete()?;
        dir.remove_leftovers()?;
        Ok(dir)
    }

    /// The directory itself.
    #[cfg(test)]
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Whose it is.
    pub(crate) fn identity(&self) -> Identity {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The cluster that the node belongs to, once it belongs to one.
    pub(crate) fn cluster_id(&self) -> Option<String> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner).cluster_id.clone()
    }

    /// Makes the node the founder of the cluster `cluster_id`, durably and for ever; the same id again changes nothing.
    ///
    /// # Errors
    /// [`OpenError::AnotherCluster`] when it belongs to another one, or joined this one; [`OpenError::Io`].
    pub(crate) fn found_cluster(&self, cluster_id: &str) -> Result<(), OpenError> {
        self.enter_cluster(cluster_id, true)
    }

    /// Makes the node a member of the cluster `cluster_id`, durably and for ever; the same id again changes nothing.
    ///
    /// # Errors
    /// [`OpenError::AnotherCluster`] when it belongs to another one; [`OpenError::Io`].
    pub(crate) fn join_cluster(&self, cluster_id: &str) -> Result<(), OpenError> {
        self.enter_cluster(cluster_id, false)
    }

    fn enter_cluster(&self, cluster_id: &str, founder: bool) -> Result<(), OpenError> {
        let mut identity = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = &identity.cluster_id {
            if founder && !identity.founder {
                let (found, expected) = (found.clone(), cluster_id.to_owned());
                return Err(OpenError::AnotherCluster { path: self.root.clone(), found, expected });
            }
            return check_cluster(&self.root, found, cluster_id);
        }
        let entered = Identity { cluster_id: Some(cluster_id.to_owned()), founder, ..identity.clone() };
        write_identity(&self.root, &entered)?;
        *identity = entered;
        Ok(())
    }

    /// The directory of the Raft log.
    pub(crate) fn log_dir(&self) -> PathBuf {
        self.root.join(LOG)
    }

    /// The directory of the snapshots.
    pub(crate) fn snapshots_dir(&self) -> PathBuf {
        self.root.join(SNAPSHOTS)
    }

    /// The directory of the live state.
    ///
    /// # Errors
    /// When the pointer to it is damaged or unreadable.
    pub(crate) fn current_state_dir(&self) -> Result<PathBuf, OpenError> {
        Ok(self.root.join(STATE).join(read_pointer(&self.root)?))
    }

    /// A name for another state's directory, which does not exist.
    pub(crate) fn unused_state_dir(&self) -> Result<PathBuf, OpenError> {
        let dir = self.root.join(STATE);
        let last = names_in(&dir)?.iter().filter_map(|name| durable::number_of(name)).max();
        Ok(dir.join(durable::numbered(last.map_or(1, |last| last + 1))))
    }

    /// Makes `state`, a complete and synced directory from [`Self::unused_state_dir`], the live one. It is when this
    /// returns, and after any crash from then on.
    ///
    /// # Errors
    /// [`OpenError::Io`]; then it is unknown which state is the live one, and the process must end.
    pub(crate) fn switch_state(&self, state: &Path) -> Result<(), OpenError> {
        let name = state.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let state_root = self.root.join(STATE);
        durable::sync_dir(&state_root).map_err(|source| io_error("sync", &state_root, source))?;
        write_pointer(&self.root, name)
    }

    fn check_complete(&self) -> Result<(), OpenError> {
        for path in [self.log_dir(), self.snapshots_dir(), self.current_state_dir()?] {
            if !path.is_dir() {
                return Err(OpenError::Missing { path });
            }
        }
        Ok(())
    }

    fn remove_leftovers(&self) -> Result<(), OpenError> {
        let live = self.current_state_dir()?;
        let temporary = |name: &str| name.ends_with(&format!(".{TEMPORARY}"));
        for name in names_in(&self.root)?.into_iter().filter(|name| temporary(name)) {
            remove(&self.root.join(name))?;
        }
        for name in names_in(&self.snapshots_dir())?.into_iter().filter(|name| temporary(name)) {
            remove(&self.snapshots_dir().join(name))?;
        }
        let state_root = self.root.join(STATE);
        for name in names_in(&state_root)? {
            let path = state_root.join(name);
            if path != live {
                remove(&path)?;
            }
        }
        Ok(())
    }
}

fn lock(root: &Path) -> Result<File, OpenError> {
    let unwritable = |source| OpenError::Unwritable { path: root.to_owned(), source };
    fs::create_dir_all(root).map_err(unwritable)?;
    let path = root.join(LOCK);
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let file = options.map_err(unwritable)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::InUse { path: root.to_owned() }),
        Err(error) => Err(io_error("lock", &path, error.into())),
    }
}

fn first_start(root: &Path, name: &str, expected: &Expected) -> Result<Identity, OpenError> {
    let node_id =
        NodeId::new(rand::random_range(1..=NodeId::MAX.as_u64())).expect("the range is that of node ids");
    let identity = Identity { node_id, name: name.to_owned(), cluster_id: None, founder: false };
    check_expected(root, &identity, expected)?;
    write(root, FIRST_START, &[])?;
    for name in names_in(root)? {
        if ![LOCK, LOST_AND_FOUND, FIRST_START].contains(&&*name) {
            remove(&root.join(name))?;
        }
    }
    LogDb::create(&root.join(LOG))?;
    let state_root = root.join(STATE);
    let state = durable::numbered(1);
    for dir in [&state_root, &root.join(SNAPSHOTS)] {
        fs::create_dir(dir).map_err(|source| io_error("create", dir, source))?;
    }
    StateDb::create(&state_root.join(&state))?;
    durable::sync_dir(&state_root).map_err(|source| io_error("sync", &state_root, source))?;
    write_pointer(root, &state)?;
    write_identity(root, &identity)?;
    remove(&root.join(FIRST_START))?;
    durable::sync_dir(root).map_err(|source| io_error("sync", root, source))?;
    Ok(identity)
}

/// Whether the directory is a node's, a first start's, or empty.
fn check_ours(root: &Path, names: &[String]) -> Result<(), OpenError> {
    if names.iter().any(|name| name == IDENTITY || name == FIRST_START) {
        return Ok(());
    }
    check_empty(root, names)
}

fn check_empty(root: &Path, names: &[String]) -> Result<(), OpenError> {
    let ours =
        |name: &str| [LOCK, LOST_AND_FOUND].contains(&name) || name == format!("{FIRST_START}.{TEMPORARY}");
    match names.iter().find(|name| !ours(name)) {
        None => Ok(()),
        Some(name) if [LOG, STATE, SNAPSHOTS, CURRENT_STATE].contains(&&**name) => {
            Err(OpenError::Missing { path: root.join(IDENTITY) })
        }
        Some(name) => Err(OpenError::NotOurs { path: root.join(name) }),
    }
}

fn check_name(root: &Path, identity: &Identity, name: &str) -> Result<(), OpenError> {
    if identity.name == name {
        return Ok(());
    }
    let (found, expected) = (identity.name.clone(), name.to_owned());
    Err(OpenError::AnotherNode { path: root.to_owned(), node: identity.node_id, found, expected })
}

fn check_expected(root: &Path, identity: &Identity, expected: &Expected) -> Result<(), OpenError> {
    match (&identity.cluster_id, &expected.cluster_id) {
        (Some(found), Some(expected)) => check_cluster(root, found, expected),
        (None, _) | (_, None) => Ok(()),
    }
}

fn check_cluster(root: &Path, found: &str, expected: &str) -> Result<(), OpenError> {
    if found == expected {
        return Ok(());
    }
    let (found, expected) = (found.to_owned(), expected.to_owned());
    Err(OpenError::AnotherCluster { path: root.to_owned(), found, expected })
}

fn read_identity(root: &Path) -> Result<Identity, OpenError> {
    let (version, payload) = read(root, IDENTITY, IDENTITY_RECORD)?;
    let path = root.join(IDENTITY);
    if version < LAYOUT_OLDEST {
        return Err(OpenError::Older { path, found: version });
    }
    let damaged = |reason| OpenError::Damaged { path: path.clone(), reason };
    let identity: Identity = postcard::from_bytes(&payload).map_err(|_| damaged("not an identity"))?;
    // Deserialisation does not pass the validating constructor.
    NodeId::new(identity.node_id.as_u64()).map_err(|_| damaged("not a node id"))?;
    Ok(identity)
}

fn write_identity(root: &Path, identity: &Identity) -> Result<(), OpenError> {
    let payload = postcard::to_stdvec(identity).expect("an identity is a few strings and numbers");
    write(root, IDENTITY, &IDENTITY_RECORD.seal(IDENTITY.as_bytes(), |out| out.extend_from_slice(&payload)))
}

fn read_pointer(root: &Path) -> Result<String, OpenError> {
    let (_, payload) = read(root, CURRENT_STATE, POINTER_RECORD)?;
    let name = String::from_utf8(payload.into()).ok().filter(|name| durable::number_of(name).is_some());
    name.ok_or_else(|| OpenError::Damaged { path: root.join(CURRENT_STATE), reason: "names no state" })
}

fn write_pointer(root: &Path, name: &str) -> Result<(), OpenError> {
    let record = POINTER_RECORD.seal(CURRENT_STATE.as_bytes(), |out| out.extend_from_slice(name.as_bytes()));
    write(root, CURRENT_STATE, &record)
}

/// The version and the payload of a record that is a file.
fn read(root: &Path, name: &str, kind: Kind) -> Result<(u8, Bytes), OpenError> {
    let path = root.join(name);
    let record = match fs::read(&path) {
        Ok(record) => Bytes::from(record),
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(OpenError::Missing { path }),
        Err(source) => return Err(io_error("read", &path, source)),
    };
    kind.open_any(name.as_bytes(), &record).map_err(|error| match error {
        source @ RecordError::Newer { .. } => OpenError::Newer { path, source },
        RecordError::Damaged { .. } => OpenError::Damaged { path, reason: "bad checksum" },
    })
}

fn write(root: &Path, name: &str, bytes: &[u8]) -> Result<(), OpenError> {
    durable::replace_file(root, name, bytes).map_err(|source| io_error("write", &root.join(name), source))
}

fn remove(path: &Path) -> Result<(), OpenError> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(|source| io_error("remove", path, source))
}

fn names_in(dir: &Path) -> Result<Vec<String>, OpenError> {
    durable::names_in(dir).map_err(|source| io_error("list", dir, source))
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> OpenError {
    let path = path.to_owned();
    let no_write = [ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem, ErrorKind::StorageFull];
    if no_write.contains(&source.kind()) {
        return OpenError::Unwritable { path, source };
    }
    OpenError::Io { action, path, source }
}

#[cfg(test)]
mod data_dir_test;
