//! What this node answers its peers: the other half of `network`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use holdfast_core::NodeId;

use crate::peer::{CallChannel, FileSpec, Hello, PeerPool, PeerService, Refusal};
use crate::raft::codec;
use crate::raft::network::{
    KIND_APPEND, KIND_PRE_VOTE, KIND_TRANSFER, KIND_VOTE, SnapshotHeader, answer, refuse,
};
use crate::raft::snapshot::{SnapshotFiles, meta_of};
use crate::raft::types::StoredSnapshot;
use crate::raft::{Handle, HoldfastRaft};
use crate::storage::data_dir::DataDir;
use crate::storage::snapshot_store::{Incoming, SnapshotStore};

/// Serves Raft to the other members.
pub(crate) struct RaftPeers {
    handle: Handle,
    pool: PeerPool,
    data: Arc<DataDir>,
    snapshots: Arc<SnapshotStore>,
    /// Snapshots on their way, by the directory of their files.
    incoming: Mutex<HashMap<PathBuf, Incoming>>,
}

impl RaftPeers {
    /// The service of one node.
    pub(crate) fn new(
        handle: Handle,
        pool: PeerPool,
        data: Arc<DataDir>,
        snapshots: Arc<SnapshotStore>,
    ) -> Self {
        Self { handle, pool, data, snapshots, incoming: Mutex::default() }
    }

    fn incoming(&self) -> MutexGuard<'_, HashMap<PathBuf, Incoming>> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn raft(&self) -> &HoldfastRaft {
        &self.handle.raft
    }

    async fn call(
        &self,
        kind: u8,
        payload: &Bytes,
    ) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
        Ok(match kind {
            KIND_APPEND => {
                let request = codec::decode_append(payload)?;
                self.handle.hear_leader();
                answer(&self.raft().append_entries(request).await?)
            }
            KIND_VOTE => answer(&self.raft().vote(codec::decode(&[], payload)?).await?),
            KIND_PRE_VOTE => answer(&self.raft().pre_vote(codec::decode(&[], payload)?).await?),
            KIND_TRANSFER => answer(&self.raft().handle_transfer_leader(codec::decode(&[], payload)?).await?),
            unknown => refuse(&format_args!("messages of kind {unknown} are not known here")),
        })
    }

    async fn install(
        &self,
        header: &Bytes,
        dir: &Path,
    ) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
        let SnapshotHeader { vote, manifest: _ } = codec::decode(&[], header)?;
        let incoming = self.incoming().remove(dir).ok_or("the transfer was given up")?;
        let meta = meta_of(incoming.meta())?;
        let snapshot = StoredSnapshot { meta, snapshot: SnapshotFiles::Received(incoming) };
        Ok(answer(&self.raft().install_full_snapshot(vote, snapshot).await?))
    }
}

impl PeerService for RaftPeers {
    async fn admit(&self, hello: &Hello) -> Result<(), Refusal> {
        let node = self.handle.status().node;
        if hello.to != node {
            return Err(Refusal::WrongNode { actual: node });
        }
        match self.handle.look(|view| view.is_removed(hello.from)) {
            Ok(false) => {}
            Ok(true) => return Err(Refusal::Removed),
            Err(_) => return Err(Refusal::NotAccepting),
        }
        if let Some(own) = self.data.cluster_id() {
            return if own == hello.cluster_id { Ok(()) } else { Err(Refusal::WrongCluster { actual: own }) };
        }
        if hello.cluster_id.is_empty() {
            return Err(Refusal::NotAccepting);
        }
        // The cluster's id is on the disk before the first message is answered: this disk never serves another cluster.
        let (data, cluster_id) = (Arc::clone(&self.data), hello.cluster_id.clone());
        let adopted = tokio::task::spawn_blocking(move || data.join_cluster(&cluster_id)).await;
        match adopted {
            Ok(Ok(())) => {
                self.pool
                    .join_cluster(&hello.cluster_id)
                    .map_err(|actual| Refusal::WrongCluster { actual })?;
                tracing::info!(cluster_id = hello.cluster_id, "adopted by a cluster");
                Ok(())
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "failed to store the cluster's id");
                Err(Refusal::NotAccepting)
            }
            Err(_) => Err(Refusal::NotAccepting),
        }
    }

    async fn handle(&self, _from: NodeId, _channel: CallChannel, kind: u8, payload: Bytes) -> Bytes {
        match self.call(kind, &payload).await {
            Ok(answered) => answered,
            Err(error) => refuse(&error),
        }
    }

    async fn snapshot_begin(
        &self,
        from: NodeId,
        header: &Bytes,
        files: &[FileSpec],
    ) -> Result<PathBuf, String> {
        let header: SnapshotHeader = codec::decode(&[], header).map_err(|error| error.to_string())?;
        let store = Arc::clone(&self.snapshots);
        let incoming = tokio::task::spawn_blocking(move || store.receive(header.manifest)).await;
        let incoming = incoming.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let announced = files.iter().map(|file| (file.name.as_str(), file.bytes));
        if !announced.eq(incoming.files().iter().map(|file| (file.name.as_str(), file.size))) {
            return Err("the announced files are not those of the manifest".to_owned());
        }
        tracing::info!(%from, files = files.len(), "receiving a snapshot");
        let dir = incoming.files_dir();
        self.incoming().insert(dir.clone(), incoming);
        Ok(dir)
    }

    async fn snapshot_finish(&self, _from: NodeId, header: &Bytes, dir: &Path) -> Bytes {
        match self.install(header, dir).await {
            Ok(answered) => answered,
            Err(error) => {
                tracing::warn!(%error, "failed to install a received snapshot");
                refuse(&error)
            }
        }
    }

    async fn snapshot_abort(&self, dir: &Path) {
        // Dropping what was received removes its directory.
        drop(self.incoming().remove(dir));
    }
}
