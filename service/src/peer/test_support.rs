//! A second implementation of [`PeerService`], and peers that speak the protocol by hand.

use crate::peer::frame::{Frame, FrameType, Link};
use crate::peer::handshake;
use crate::peer::limits::WRITE_STALL;
use crate::peer::{
    CallChannel, Channel, FileSpec, Hello, PeerIdentity, PeerMetrics, PeerPool, PeerService, Refusal,
};
use bytes::Bytes;
use holdfast_core::NodeId;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Long enough for any step on a loaded machine; no test waits for it when it passes.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) const CLUSTER: &str = "cluster-a";

/// Answers with the payload.
pub(super) const ECHO: u8 = 1;
/// Notes its payload, then answers with it when the gate has a permit.
pub(super) const WAIT: u8 = 2;
/// Never answers.
pub(super) const NEVER: u8 = 3;
/// Panics.
pub(super) const PANIC: u8 = 4;

pub(super) fn id(n: u64) -> NodeId {
    NodeId::new(n).unwrap()
}

/// What a [`TestService`] has done with transfers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) begun: usize,
    pub(super) finishing: usize,
    pub(super) installed: usize,
    pub(super) aborted: usize,
}

pub(super) struct TestService {
    node: NodeId,
    pub(super) refuse: Mutex<Option<Refusal>>,
    pub(super) gate: Semaphore,
    pub(super) noted: Mutex<Vec<Bytes>>,
    pub(super) admitted: Mutex<Vec<Hello>>,
    pub(super) seen: watch::Sender<Seen>,
    root: TempDir,
}

impl TestService {
    pub(super) fn new(node: NodeId) -> Self {
        Self {
            node,
            refuse: Mutex::default(),
            gate: Semaphore::new(0),
            noted: Mutex::default(),
            admitted: Mutex::default(),
            seen: watch::Sender::default(),
            root: TempDir::new().unwrap(),
        }
    }

    /// Names and contents of what was installed last; nothing when nothing was.
    pub(super) fn installed(&self) -> BTreeMap<String, Vec<u8>> {
        let Ok(entries) = std::fs::read_dir(self.root.path().join("installed")) else {
            return BTreeMap::new();
        };
        entries
            .map(|entry| {
                let entry = entry.unwrap();
                (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
            })
            .collect()
    }

    /// Directories of transfers that are neither installed nor removed.
    pub(super) fn leftovers(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.root.path()).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.file_name().unwrap() != "installed").collect()
    }

    pub(super) async fn until(&self, reached: impl Fn(&Seen) -> bool) -> Seen {
        let mut seen = self.seen.subscribe();
        *tokio::time::timeout(PATIENCE, seen.wait_for(|now| reached(now))).await.unwrap().unwrap()
    }
}

impl PeerService for TestService {
    async fn admit(&self, hello: &Hello) -> Result<(), Refusal> {
        if let Some(refusal) = self.refuse.lock().unwrap().clone() {
            return Err(refusal);
        }
        if hello.to != self.node {
            return Err(Refusal::WrongNode { actual: self.node });
        }
        if hello.cluster_id != CLUSTER {
            return Err(Refusal::WrongCluster { actual: CLUSTER.to_owned() });
        }
        self.admitted.lock().unwrap().push(hello.clone());
        Ok(())
    }

    async fn handle(&self, _from: NodeId, _channel: CallChannel, kind: u8, payload: Bytes) -> Bytes {
        match kind {
            ECHO => {}
            WAIT => {
                self.noted.lock().unwrap().push(payload.clone());
                self.gate.acquire().await.unwrap().forget();
            }
            NEVER => std::future::pending().await,
            PANIC => panic!("a handler that panics on purpose"),
            other => return Bytes::from(format!("unknown kind {other}")),
        }
        payload
    }

    async fn snapshot_begin(
        &self,
        _from: NodeId,
        header: &Bytes,
        _files: &[FileSpec],
    ) -> Result<PathBuf, String> {
        if &header[..] == b"refuse" {
            return Err("the disk is full".to_owned());
        }
        let mut name = 0;
        self.seen.send_modify(|seen| {
            seen.begun += 1;
            name = seen.begun;
        });
        Ok(self.root.path().join(format!("incoming-{name}")))
    }

    async fn snapshot_finish(&self, _from: NodeId, header: &Bytes, dir: &Path) -> Bytes {
        self.seen.send_modify(|seen| seen.finishing += 1);
        if &header[..] == b"gated" {
            self.gate.acquire().await.unwrap().forget();
        }
        let installed = self.root.path().join("installed");
        if installed.exists() {
            std::fs::remove_dir_all(&installed).unwrap();
        }
        std::fs::rename(dir, &installed).unwrap();
        self.seen.send_modify(|seen| seen.installed += 1);
        Bytes::from([b"installed ", &header[..]].concat())
    }

    async fn snapshot_abort(&self, dir: &Path) {
        std::fs::remove_dir_all(dir).unwrap();
        self.seen.send_modify(|seen| seen.aborted += 1);
    }
}

/// A node that serves on a port of its own.
pub(super) struct TestNode {
    pub(super) service: Arc<TestService>,
    pub(super) metrics: Arc<PeerMetrics>,
    pub(super) address: SocketAddr,
    shutdown: CancellationToken,
    server: JoinHandle<()>,
}

impl TestNode {
    pub(super) async fn start(node: NodeId) -> Self {
        Self::start_at(node, "127.0.0.1:0".parse().unwrap()).await
    }

    pub(super) async fn start_at(node: NodeId, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = Arc::new(TestService::new(node));
        let metrics = Arc::<PeerMetrics>::default();
        let shutdown = CancellationToken::new();
        let server =
            crate::peer::serve(listener, Arc::clone(&service), Arc::clone(&metrics), shutdown.clone());
        Self { service, metrics, address, shutdown, server }
    }

    pub(super) fn begin_shutdown(&self) {
        self.shutdown.cancel();
    }

    pub(super) async fn stop(self) -> Arc<TestService> {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.server).await.unwrap().unwrap();
        self.service
    }
}

/// A pool of node `node` in [`CLUSTER`], with its metrics.
pub(super) fn pool(node: NodeId) -> (PeerPool, Arc<PeerMetrics>) {
    let metrics = Arc::<PeerMetrics>::default();
    let pool = PeerPool::new(PeerIdentity { node, software: "0.1.0".to_owned() }, Arc::clone(&metrics));
    pool.join_cluster(CLUSTER).unwrap();
    (pool, metrics)
}

pub(super) fn hello(from: NodeId, to: NodeId, channel: Channel) -> Hello {
    Hello { from, to, channel, cluster_id: CLUSTER.to_owned(), software: "0.1.0".to_owned() }
}

/// A dialer that has shaken hands and now says what the test wants.
pub(super) async fn greeted(address: SocketAddr, hello: &Hello) -> Link<TcpStream> {
    let mut link = Link::new(TcpStream::connect(address).await.unwrap(), WRITE_STALL);
    handshake::greet(&mut link, hello).await.unwrap();
    link.opened(&Arc::default());
    link
}

/// Accepts one connection and agrees to whatever its hello says.
pub(super) async fn accept(listener: &TcpListener) -> (Hello, Link<TcpStream>) {
    let (socket, _) = listener.accept().await.unwrap();
    let mut link = Link::new(socket, WRITE_STALL);
    let hello = handshake::read_hello(&mut link).await.unwrap().unwrap();
    handshake::answer_hello(&mut link, None).await.unwrap();
    link.opened(&Arc::default());
    (hello, link)
}

pub(super) async fn send(link: &mut Link<TcpStream>, kind: FrameType, payload: &[u8]) {
    link.writer.write(kind, 0, &[], payload).await.unwrap();
    link.writer.flush().await.unwrap();
}

pub(super) async fn receive(link: &mut Link<TcpStream>) -> Frame {
    tokio::time::timeout(PATIENCE, link.reader.next()).await.unwrap().unwrap()
}
