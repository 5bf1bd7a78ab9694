//! One node: opens its disk, connects the parts, and takes them apart in order.
//!
//! ```text
//!   data directory ─► consensus ─► Notice ─► leases, waits, feed
//!        peers ◄────────┘  └─► Handle ─► REST API, ops port
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use holdfast_core::domain::Command;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::auth::Policy;
use crate::compaction;
use crate::config::NodeConfig;
use crate::drain::{DrainControl, DrainStage, drain};
use crate::exit::{Ending, Fatal};
use crate::http::{self, App};
use crate::leases::Leases;
use crate::metrics::Metrics;
use crate::peer::{self, PeerIdentity, PeerMetrics, PeerPool};
use crate::raft::{self, Handle, RaftCounters, RaftPeers, StartError, Started};
use crate::storage::data_dir::{DataDir, Expected, OpenError};
use crate::storage::latch::StorageError;
use crate::storage::log_db::LogOpenError;
use crate::storage::snapshot_store::SnapshotError;
use crate::waits::Waits;
use crate::watch::Feed;

/// How long the node stays unready before it takes no new requests: load balancers need that to look elsewhere.
const ENDPOINTS_PATIENCE: Duration = Duration::from_secs(2);
/// How long the consensus may take to stop.
const CONSENSUS_STOP_PATIENCE: Duration = Duration::from_secs(5);

/// How often the node looks whether its state can still be read.
const STORAGE_LOOK_PERIOD: Duration = Duration::from_millis(500);

/// A running node.
pub(crate) struct Node {
    app: Arc<App>,
    control: DrainControl,
    /// The HTTP servers: they end when they are told to.
    servers: JoinSet<()>,
    /// What runs for the life of the node.
    loops: JoinSet<()>,
    stop_http: CancellationToken,
    stop_peers: CancellationToken,
    peer_server: tokio::task::JoinHandle<()>,
}

impl Node {
    /// Starts a node.
    ///
    /// # Errors
    /// [`Fatal`] says what was refused; nothing was changed then.
    pub(crate) async fn start(config: NodeConfig) -> Result<Self, Fatal> {
        let listeners = Listeners::bind(&config).await.map_err(|error| not_listening(&error))?;
        Self::start_on(listeners, config).await
    }

    /// Starts a node on addresses that were taken before.
    ///
    /// # Errors
    /// [`Fatal`] says what was refused; nothing was changed then.
    pub(crate) async fn start_on(listeners: Listeners, config: NodeConfig) -> Result<Self, Fatal> {
        let Listeners { api, ops, peers } = listeners;
        let data = open_data(&config).await?;
        let identity = data.identity();
        let peer_metrics = Arc::new(PeerMetrics::default());
        let software = format!("holdfast/{}", env!("CARGO_PKG_VERSION"));
        let pool =
            PeerPool::new(PeerIdentity { node: identity.node_id, software }, Arc::clone(&peer_metrics));
        if let Some(cluster) = &identity.cluster_id {
            pool.join_cluster(cluster).map_err(|other| Fatal::new(Ending::DataForeign, other))?;
        }
        let counters = Arc::new(RaftCounters::default());
        let started = raft::start(Arc::clone(&data), &config.raft, pool.clone(), Arc::clone(&counters)).await;
        let Started { handle, notices, snapshots, watcher, rounds } =
            started.map_err(|error| start_failed(&config, error))?;
        let (control, drain) = drain();
        let (leases, waits) = (Leases::default(), Waits::default());
        // What is applied by now is not told again; whoever asks for it is answered from the state.
        let feed = Feed::new(handle.applied().revision);
        let stop_peers = CancellationToken::new();
        let service = Arc::new(RaftPeers::new(handle.clone(), pool.clone(), Arc::clone(&data), snapshots));
        let peer_server = peer::serve(peers, service, Arc::clone(&peer_metrics), stop_peers.clone());
        let metrics = Arc::new(Metrics::new(&identity.node_id.to_string(), counters, peer_metrics));
        let app = Arc::new(App {
            node_id: identity.node_id,
            config,
            data,
            raft: handle.clone(),
            leases: leases.clone(),
            waits: waits.clone(),
            feed: feed.clone(),
            forward: forward_client()?,
            drain,
            policy: Policy::Open,
            metrics,
            peers: pool,
        });
        let stop_http = CancellationToken::new();
        let (mut servers, mut loops) = (JoinSet::new(), JoinSet::new());
        loops.spawn(leases.clone().follow(handle.clone(), waits, feed.clone(), notices));
        loops.spawn(feed.wake());
        loops.spawn(leases.expire(handle.clone()));
        loops.spawn(handle.clone().finish_left_changes());
        loops.spawn(forget_removed(handle.clone(), app.peers.clone()));
        let (compacted, period) = (Arc::clone(&app.metrics), app.config.compaction_period);
        loops.spawn(compaction::run(handle.clone(), compacted, period));
        loops.spawn(found(handle, Arc::clone(&app)));
        loops.spawn(async { drop(watcher.await) });
        loops.spawn(async { drop(rounds.await) });
        servers.spawn(http::serve(api, http::router(Arc::clone(&app)), stop_http.clone()));
        servers.spawn(http::serve(ops, http::ops_router(Arc::clone(&app)), stop_http.clone()));
        Ok(Self { app, control, servers, loops, stop_http, stop_peers, peer_server })
    }

    /// What its handlers work with.
    pub(crate) fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Waits until the node cannot go on.
    pub(crate) async fn failed(&self) -> Fatal {
        let mut status = self.app.raft.watch_status();
        let mut look = tokio::time::interval(STORAGE_LOOK_PERIOD);
        let (ending, reason) = loop {
            tokio::select! {
                changed = status.changed() => {
                    if let Some(reason) = status.borrow_and_update().fatal.clone() {
                        break (Ending::ConsensusStopped, reason);
                    }
                    if changed.is_err() {
                        break (Ending::ConsensusStopped, "it ended".to_owned());
                    }
                }
                _ = look.tick() => {
                    if let Some(reason) = self.app.raft.storage_failure() {
                        break (Ending::StorageFailed, reason);
                    }
                }
            }
        };
        let ending = if self.app.raft.storage_failure().is_some() || reason.contains("Storage") {
            Ending::StorageFailed
        } else {
            ending
        };
        Fatal::new(ending, format!("this node cannot go on: {reason}; nothing that was acknowledged is lost"))
    }

    /// Stops in order: unready and leadership handed over, then no new requests, then what waits ends, then the disk.
    pub(crate) async fn stop(mut self) {
        self.control.advance(DrainStage::HandingOver);
        let had_cluster = !self.app.raft.status().membership.members.is_empty();
        let alone = self.app.raft.status().membership.members.len() <= 1;
        if self.app.raft.status().leading.is_some() && !alone {
            match self.app.raft.transfer(None).await {
                Ok(status) => {
                    tracing::info!(leader = ?status.leader.map(|id| id.to_string()), "handed the leadership over")
                }
                Err(error) => tracing::warn!(%error, "the leadership was not handed over"),
            }
        }
        if had_cluster && !alone {
            tokio::time::sleep(ENDPOINTS_PATIENCE).await;
        }
        self.end().await;
    }

    /// Stops at once, in order.
    pub(crate) async fn end(&mut self) {
        self.control.advance(DrainStage::Closing);
        self.stop_http.cancel();
        self.stop_peers.cancel();
        self.app.peers.close().await;
        if tokio::time::timeout(CONSENSUS_STOP_PATIENCE, self.app.raft.shutdown()).await.is_err() {
            tracing::warn!("the consensus did not stop in time");
        }
        // Each server bounds what it waits for.
        while self.servers.join_next().await.is_some() {}
        self.loops.shutdown().await;
        if (&mut self.peer_server).await.is_err() {
            tracing::debug!("the peers' server was gone already");
        }
        self.app.raft.flush().await;
    }
}

/// The addresses that a node listens on, taken and not served yet.
pub(crate) struct Listeners {
    api: TcpListener,
    ops: TcpListener,
    peers: TcpListener,
}

impl Listeners {
    /// Takes the addresses of a node; writes nothing.
    ///
    /// # Errors
    /// [`ListenError`] names the address that cannot be taken.
    pub(crate) async fn bind(config: &NodeConfig) -> Result<Self, ListenError> {
        Ok(Self {
            api: listen("api-addr", config.api_addr).await?,
            ops: listen("ops-addr", config.ops_addr).await?,
            peers: listen("peer-addr", config.peer_addr).await?,
        })
    }
}

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub(crate) struct ListenError {
    /// The flag that sets it.
    pub(crate) field: &'static str,
    /// The address.
    pub(crate) address: SocketAddr,
    /// What the system said.
    pub(crate) source: std::io::Error,
}

async fn listen(field: &'static str, address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| ListenError { field, address, source })
}

fn not_listening(error: &ListenError) -> Fatal {
    let ListenError { field, address, source } = error;
    Fatal::new(
        Ending::AddressInUse,
        format!(
            "cannot listen on {address} (--{field}): {source}; stop what uses it, or choose another address"
        ),
    )
}

async fn open_data(config: &NodeConfig) -> Result<Arc<DataDir>, Fatal> {
    let (dir, name) = (config.data_dir.clone(), config.name.clone());
    let expected = Expected { cluster_id: config.cluster_id.clone() };
    let opened = tokio::task::spawn_blocking(move || DataDir::open(&dir, &name, &expected)).await;
    match opened {
        Ok(Ok(data)) => Ok(Arc::new(data)),
        Ok(Err(error)) => Err(data_refused(&error)),
        Err(error) => Err(Fatal::new(Ending::DataDamaged, error.to_string())),
    }
}

fn data_refused(error: &OpenError) -> Fatal {
    let ending = match error {
        OpenError::InUse { .. } => Ending::DataInUse,
        OpenError::Unwritable { .. } | OpenError::Io { .. } | OpenError::Create(_) => Ending::DataUnwritable,
        OpenError::AnotherCluster { .. } | OpenError::AnotherNode { .. } | OpenError::NotOurs { .. } => {
            Ending::DataForeign
        }
        OpenError::Newer { .. } => Ending::DataNewer,
        OpenError::Older { .. } => Ending::DataOlder,
        OpenError::Damaged { .. } | OpenError::Missing { .. } => Ending::DataDamaged,
    };
    Fatal::new(ending, format!("{error}; nothing in it was changed"))
}

fn start_failed(config: &NodeConfig, error: StartError) -> Fatal {
    if let StartError::Data(error) = &error {
        return data_refused(error);
    }
    let text = error.to_string();
    let newer = text.contains("is newer than");
    let damaged = matches!(
        error,
        StartError::Log(
            LogOpenError::Files(_)
                | LogOpenError::Absent { .. }
                | LogOpenError::Rows(StorageError::Record { .. } | StorageError::Missing { .. })
        ) | StartError::Snapshot(SnapshotError::Damaged { .. })
            | StartError::Load(_)
            | StartError::State(_)
    );
    let ending = match (newer, damaged) {
        (true, _) => Ending::DataNewer,
        (false, true) => Ending::DataDamaged,
        (false, false) => Ending::StorageFailed,
    };
    Fatal::new(
        ending,
        format!(
            "cannot start on {}: {text}; nothing was changed. If the cluster has a majority without this node, remove it from \
             the cluster and start a new one on an empty directory",
            config.data_dir.display()
        ),
    )
}

fn forward_client() -> Result<reqwest::Client, Fatal> {
    reqwest::Client::builder()
        .no_proxy()
        .tcp_nodelay(true)
        .tcp_keepalive(Duration::from_secs(10))
        .tcp_user_timeout(Duration::from_secs(10))
        .connect_timeout(Duration::from_secs(2))
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| Fatal::new(Ending::Usage, format!("cannot make the client to other nodes: {error}")))
}

/// Closes the connections to nodes that are no longer members. Runs for the life of the node.
async fn forget_removed(handle: Handle, peers: PeerPool) {
    let mut status = handle.watch_status();
    let mut seen = None;
    loop {
        let members = status.borrow_and_update().membership.clone();
        if seen.as_ref() != Some(&members.log_id) {
            peers.retain(|node| members.members.contains_key(&node));
            seen = Some(members.log_id);
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}

/// Gives a new store its identity: whoever leads a store without one proposes it. Ends once it is there.
async fn found(handle: Handle, app: Arc<App>) {
    let mut status = handle.watch_status();
    loop {
        if status.wait_for(|status| status.leading.is_some()).await.is_err() {
            return;
        }
        let founded = handle.look(|view| Ok(view.meta()?.is_founded()));
        if !matches!(founded, Ok(false)) {
            return;
        }
        let Some(cluster_id) = app.data.cluster_id() else { return };
        // 53 bits, so that a client that reads it as a number reads it exactly.
        let history_id = rand::random::<u64>() >> 11;
        let command = Command::Found { cluster_id, history_id, settings: app.config.founding.clone() };
        if let Err(error) = handle.propose(command, None).await {
            tracing::debug!(%error, "the store has no identity yet");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
