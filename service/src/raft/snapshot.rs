//! Snapshots of the state: built from a checkpoint, sent as files, installed as a whole.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use openraft::storage::RaftSnapshotBuilder;

use crate::raft::codec;
use crate::raft::counters::RaftCounters;
use crate::raft::state_machine::applied_row;
use crate::raft::types::{SnapshotMeta, StoredSnapshot, TypeConfig};
use crate::storage::snapshot_store::{Incoming, Snapshot, SnapshotStore};
use crate::storage::state_db::StateHandle;

/// The files of a snapshot, kept here or just received.
pub(crate) enum SnapshotFiles {
    /// One of this node's.
    Kept(Arc<Snapshot>),
    /// Received from the leader, with all its files, and not verified yet.
    Received(Incoming),
}

impl std::fmt::Debug for SnapshotFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kept(snapshot) => write!(f, "Kept({})", snapshot.path().display()),
            Self::Received(_) => f.write_str("Received"),
        }
    }
}

impl SnapshotFiles {
    /// The manifest and the files, to send: (name, path).
    ///
    /// # Errors
    /// When it was received and is not this node's own.
    pub(super) fn to_send(&self) -> io::Result<(Bytes, Vec<(String, PathBuf)>)> {
        match self {
            Self::Kept(snapshot) => {
                let files = snapshot.files().iter().map(|file| (file.name.clone(), snapshot.file_path(file)));
                Ok((snapshot.manifest().clone(), files.collect()))
            }
            Self::Received(_) => Err(io::Error::other("a snapshot that is not installed yet cannot be sent")),
        }
    }
}

/// Builds snapshots beside the running state machine.
pub(crate) struct SnapshotBuilder {
    state: StateHandle,
    store: Arc<SnapshotStore>,
    counters: Arc<RaftCounters>,
}

impl SnapshotBuilder {
    pub(super) fn new(state: StateHandle, store: Arc<SnapshotStore>, counters: Arc<RaftCounters>) -> Self {
        Self { state, store, counters }
    }
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotFiles;

    async fn build_snapshot(&mut self) -> Result<StoredSnapshot, io::Error> {
        let (state, store) = (self.state.current(), Arc::clone(&self.store));
        let built = tokio::task::spawn_blocking(move || {
            // What the snapshot contains is read from the checkpoint itself: the state goes on meanwhile.
            store.build(&state, |checkpoint| {
                let row = applied_row(|key| checkpoint.get(key))?;
                Ok(codec::encode(&[], &row))
            })
        });
        let snapshot = built.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
        self.counters.snapshot_built();
        tracing::debug!(bytes = snapshot.size(), "built a snapshot");
        stored(snapshot)
    }
}

/// A kept snapshot as the consensus knows it.
pub(super) fn stored(snapshot: Arc<Snapshot>) -> io::Result<StoredSnapshot> {
    let meta = meta_of(snapshot.meta())?;
    Ok(StoredSnapshot { meta, snapshot: SnapshotFiles::Kept(snapshot) })
}

/// What a manifest says that its snapshot contains.
pub(super) fn meta_of(meta: &Bytes) -> io::Result<SnapshotMeta> {
    codec::decode(&[], meta).map_err(io::Error::other)
}
