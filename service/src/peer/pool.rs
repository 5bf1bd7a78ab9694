//! The dialing half of a node: one [`Peer`] per node that it talks to.

use crate::peer::frame::{FrameError, Link};
use crate::peer::handshake::{self, CallChannel, Channel, GreetError, Hello, Refusal};
use crate::peer::limits::{TRANSFER_IDLE, WRITE_STALL};
use crate::peer::line::{CallError, Line, PendingCall};
use crate::peer::metrics::PeerMetrics;
use crate::peer::stream::{self, PeerStream};
use crate::peer::transfer::{self, TransferError};
use bytes::Bytes;
use holdfast_core::NodeId;
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What this node says of itself in a Hello.
#[derive(Debug, Clone)]
pub(crate) struct PeerIdentity {
    /// This node.
    pub(crate) node: NodeId,
    /// Its software version.
    pub(crate) software: String,
}

/// Why no connection could be made.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum DialError {
    /// The address does not resolve, or nothing answers there.
    #[error("connect to {address}: {cause}")]
    Unreachable { address: Arc<str>, cause: Arc<io::Error> },
    /// The node there wants no connection with this one.
    #[error("{address} refused: {refusal}")]
    Refused { address: Arc<str>, refusal: Refusal },
    /// Something answered that is no Holdfast node, or the connection broke.
    #[error("handshake with {address}: {cause}")]
    Handshake { address: Arc<str>, cause: Arc<FrameError> },
    /// Something accepted and said nothing.
    #[error("handshake with {address}: no answer")]
    Silent { address: Arc<str> },
}

/// All peers of one node. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct PeerPool {
    shared: Arc<PoolShared>,
    peers: Arc<Mutex<HashMap<NodeId, Peer>>>,
}

#[derive(Debug)]
struct PoolShared {
    identity: PeerIdentity,
    cluster_id: OnceLock<String>,
    metrics: Arc<PeerMetrics>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl PeerPool {
    /// A pool without peers, of a node without a cluster.
    pub(crate) fn new(identity: PeerIdentity, metrics: Arc<PeerMetrics>) -> Self {
        let shared = PoolShared {
            identity,
            cluster_id: OnceLock::new(),
            metrics,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        Self { shared: Arc::new(shared), peers: Arc::default() }
    }

    /// The node belongs to a cluster: every later handshake says so.
    ///
    /// # Errors
    /// The cluster that it belongs to already, when that is another one: a node never changes its cluster.
    pub(crate) fn join_cluster(&self, cluster_id: &str) -> Result<(), String> {
        let own = self.shared.cluster_id.get_or_init(|| cluster_id.to_owned());
        if own == cluster_id { Ok(()) } else { Err(own.clone()) }
    }

    /// The handle for a peer. It connects when it is first used; `address` (`host:port`) is resolved for each
    /// connection. Calls with the same id share their connections; another address for the id starts over
    /// there. Needs a tokio runtime.
    pub(crate) fn peer(&self, id: NodeId, address: &str) -> Peer {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = peers.get(&id).filter(|peer| peer.inner.dialer.address() == address) {
            return peer.clone();
        }
        let peer = Peer::new(Dialer { shared: Arc::clone(&self.shared), peer: id, address: address.into() });
        peers.insert(id, peer.clone());
        peer
    }

    /// Forgets the peers that `keep` does not name. Their connections close with the last handle.
    pub(crate) fn retain(&self, keep: impl Fn(NodeId) -> bool) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.retain(|id, _| keep(*id));
    }

    /// Closes every connection, fails every call, and waits for the tasks to end.
    pub(crate) async fn close(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

/// A node to talk to. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    inner: Arc<PeerInner>,
}

#[derive(Debug)]
struct PeerInner {
    dialer: Dialer,
    append: Line,
    control: Line,
    /// Two transfers at once would fight for the acceptor's one connection of that kind.
    transfer: tokio::sync::Mutex<()>,
}

impl Peer {
    fn new(dialer: Dialer) -> Self {
        let (append, append_task) = Line::new(CallChannel::Append, dialer.clone());
        let (control, control_task) = Line::new(CallChannel::Control, dialer.clone());
        dialer.shared.tasks.spawn(append_task.run());
        dialer.shared.tasks.spawn(control_task.run());
        Self {
            inner: Arc::new(PeerInner { dialer, append, control, transfer: tokio::sync::Mutex::default() }),
        }
    }

    /// Starts a call and returns without waiting. Calls of one channel are sent, and reach the peer's
    /// service, in the order in which they were started; a call that follows a lost one may arrive all the
    /// same.
    ///
    /// # Errors
    /// `NotSent`, when the window is full, the payload too large or the pool closed.
    pub(crate) fn start(
        &self,
        channel: CallChannel,
        kind: u8,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<PendingCall, CallError> {
        let line = match channel {
            CallChannel::Append => &self.inner.append,
            CallChannel::Control => &self.inner.control,
        };
        line.start(kind, payload, timeout)
    }

    /// Sends a request and waits for its answer, `timeout` in all: connecting is part of it.
    ///
    /// # Errors
    /// See [`CallError`]. Nothing is ever sent twice.
    pub(crate) async fn call(
        &self,
        channel: CallChannel,
        kind: u8,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, CallError> {
        self.start(channel, kind, payload, timeout)?.answer().await
    }

    /// Sends files on a connection of their own and returns what the receiver's installation answered.
    /// `header` is opaque. Each file is (name there, path here) and must not change meanwhile. There is no
    /// limit for the whole, only for standing still (30 s); a broken transfer starts again from the
    /// beginning, when and if the caller wants.
    ///
    /// # Errors
    /// See [`TransferError`].
    pub(crate) async fn send_files(
        &self,
        header: Bytes,
        files: Vec<(String, PathBuf)>,
        cancel: &CancellationToken,
    ) -> Result<Bytes, TransferError> {
        let Ok(_only) = self.inner.transfer.try_lock() else { return Err(TransferError::InProgress) };
        let stop = &self.inner.dialer.shared.stop;
        let sending = async {
            let files = transfer::measure(files).await?;
            let link = self.inner.dialer.dial(Channel::Snapshot).await.map_err(TransferError::Unreachable)?;
            transfer::send(link, &header, &files, TRANSFER_IDLE).await
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(TransferError::Cancelled),
            () = stop.cancelled() => Err(TransferError::Cancelled),
            sent = sending => sent,
        }
    }
}

/// Makes connections to one peer.
#[derive(Debug, Clone)]
pub(super) struct Dialer {
    shared: Arc<PoolShared>,
    peer: NodeId,
    address: Arc<str>,
}

impl Dialer {
    /// Connects and shakes hands.
    ///
    /// # Errors
    /// See [`DialError`].
    pub(super) async fn dial(&self, channel: Channel) -> Result<Link<PeerStream>, DialError> {
        let metrics = self.shared.metrics.channel(channel);
        let dialed = self.greet(channel).await;
        match &dialed {
            Ok(_) => metrics.connected(),
            Err(error) => {
                metrics.dial_failed();
                if let DialError::Refused { refusal, .. } = error {
                    self.shared.metrics.count_refused_there(refusal.reason());
                }
            }
        }
        let mut link = dialed?;
        link.opened(metrics);
        Ok(link)
    }

    async fn greet(&self, channel: Channel) -> Result<Link<PeerStream>, DialError> {
        let address = || Arc::clone(&self.address);
        let stall_max = stall_max(channel);
        let stream = stream::connect(&self.address, stall_max)
            .await
            .map_err(|cause| DialError::Unreachable { address: address(), cause: Arc::new(cause) })?;
        let mut link = Link::new(stream, stall_max);
        let hello = Hello {
            from: self.shared.identity.node,
            to: self.peer,
            channel,
            cluster_id: self.shared.cluster_id.get().cloned().unwrap_or_default(),
            software: self.shared.identity.software.clone(),
        };
        handshake::greet(&mut link, &hello).await.map_err(|error| match error {
            GreetError::Refused(refusal) => DialError::Refused { address: address(), refusal },
            GreetError::Broken(cause) => DialError::Handshake { address: address(), cause: Arc::new(cause) },
            GreetError::TimedOut => DialError::Silent { address: address() },
        })?;
        Ok(link)
    }

    pub(super) const fn peer(&self) -> NodeId {
        self.peer
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn metrics(&self) -> &Arc<PeerMetrics> {
        &self.shared.metrics
    }

    pub(super) fn stop(&self) -> &CancellationToken {
        &self.shared.stop
    }
}

/// How long a peer may take no byte. The receiver of files fsyncs each of them before it reads on.
const fn stall_max(channel: Channel) -> Duration {
    match channel {
        Channel::Append | Channel::Control => WRITE_STALL,
        Channel::Snapshot => TRANSFER_IDLE,
    }
}
