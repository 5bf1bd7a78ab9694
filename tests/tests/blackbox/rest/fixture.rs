//! One cluster of three nodes that all tests of this module share while any of them runs.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use holdfast_tests::harness::{Addresses, Cluster, NodeOptions};
use serde_json::{Value, json};
use tokio::sync::{Mutex, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use super::wire::{Ask, NoReply, Reply, ask, exchange};

/// The cluster of the tests that run now; it ends with the last of them.
static SHARED: Mutex<Weak<Shared>> = Mutex::const_new(Weak::new());

#[derive(Debug)]
struct Shared {
    cluster: Cluster,
    doors: Vec<Door>,
    /// Held for reading by tests that change the store, for writing by those that prove that nothing changes.
    changes: Arc<RwLock<()>>,
}

/// One node of the shared cluster, as a client sees it.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    /// What it is at the moment: `leader` or `follower`. Names of a test carry it, so that the two never meet.
    pub(crate) via: &'static str,
    pub(crate) addresses: Addresses,
    node_id: String,
    node_ids: Arc<[String]>,
    cluster_id: String,
}

/// The shared cluster, as long as a test needs it.
#[derive(Debug)]
pub(crate) struct Fixture {
    shared: Arc<Shared>,
    _changes: Changes,
}

#[derive(Debug)]
enum Changes {
    Mine { _guard: OwnedRwLockReadGuard<()> },
    Nobodys { _guard: OwnedRwLockWriteGuard<()> },
}

impl Fixture {
    /// The cluster, for a test that changes the store beside others.
    pub(crate) async fn shared() -> Self {
        let shared = shared().await;
        let guard = Arc::clone(&shared.changes).read_owned().await;
        Self { shared, _changes: Changes::Mine { _guard: guard } }
    }

    /// The cluster, while nobody else changes the store.
    pub(crate) async fn alone() -> Self {
        let shared = shared().await;
        let guard = Arc::clone(&shared.changes).write_owned().await;
        Self { shared, _changes: Changes::Nobodys { _guard: guard } }
    }

    /// All nodes, the leader first.
    pub(crate) async fn doors(&self) -> Vec<Door> {
        let mut doors = self.shared.doors.clone();
        let leader = loop {
            let view = doors[0].send(ask("GET", "/v1/cluster")).await.value();
            if let Some(leader) = view["leader"].as_str() {
                break leader.to_owned();
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        };
        for door in &mut doors {
            door.via = if door.node_id == leader { "leader" } else { "follower" };
        }
        doors.sort_by_key(|door| door.via == "follower");
        assert_eq!(doors[0].via, "leader", "{leader} is no node of this cluster");
        doors
    }

    /// A follower and the leader.
    pub(crate) async fn both(&self) -> [Door; 2] {
        let doors = self.doors().await;
        [doors[1].clone(), doors[0].clone()]
    }

    /// What all nodes have logged.
    pub(crate) fn logs(&self) -> Vec<String> {
        let nodes = self.shared.cluster.nodes().iter();
        nodes.map(|node| String::from_utf8_lossy(&std::fs::read(node.log()).unwrap()).into_owned()).collect()
    }

    /// Fails if a node has panicked, or ends, or is not ready.
    pub(crate) async fn assert_healthy(&self) {
        for log in self.logs() {
            let panic = log.lines().find(|line| line.contains("panicked at"));
            assert_eq!(panic, None, "a node panicked");
        }
        for door in &self.shared.doors {
            let ready = exchange(door.addresses.ops, &ask("GET", "/readyz").bytes()).await.unwrap();
            assert_eq!((ready.status, ready.text().as_str()), (200, "ok\n"));
            door.send(ask("GET", "/v1/namespaces/default")).await.expect(200);
        }
    }
}

async fn shared() -> Arc<Shared> {
    let mut slot = SHARED.lock().await;
    if let Some(running) = slot.upgrade() {
        return running;
    }
    let options = NodeOptions { args: vec!["--log-level".to_owned(), "debug".to_owned()], env: vec![] };
    let cluster = Cluster::start_with(3, &options).await.unwrap_or_else(|error| panic!("{error:#}"));
    let mut seen = Vec::new();
    for node in cluster.nodes() {
        let answer = exchange(node.addresses().api, &ask("GET", "/v1/cluster").bytes()).await.unwrap();
        seen.push((node.addresses(), answer.value()));
    }
    let text = |view: &Value, member: &str| view[member].as_str().expect("a text").to_owned();
    let node_ids: Arc<[String]> = seen.iter().map(|(_, view)| text(view, "node_id")).collect();
    let doors = seen.iter().map(|(addresses, view)| Door {
        via: "node",
        addresses: *addresses,
        node_id: text(view, "node_id"),
        node_ids: Arc::clone(&node_ids),
        cluster_id: text(view, "cluster_id"),
    });
    let shared = Arc::new(Shared { doors: doors.collect(), cluster, changes: Arc::new(RwLock::new(())) });
    *slot = Arc::downgrade(&shared);
    shared
}

impl Door {
    /// Where the API listens.
    pub(crate) fn api(&self) -> SocketAddr {
        self.addresses.api
    }

    /// Sends a request and checks the headers that every answer has.
    pub(crate) async fn send(&self, request: Ask) -> Reply {
        match self.try_send(&request).await {
            Ok(reply) => reply,
            Err(error) => panic!("{} {} through a {}: {error}", request.method, request.target, self.via),
        }
    }

    /// The same where no answer is an answer, too.
    pub(crate) async fn try_send(&self, request: &Ask) -> Result<Reply, NoReply> {
        let reply = exchange(self.api(), &request.bytes()).await?;
        self.check_headers(&reply);
        Ok(reply)
    }

    /// Every answer says who gave it and what it reflects.
    pub(crate) fn check_headers(&self, reply: &Reply) {
        assert!(0 < reply.revision(), "{}", reply.shown());
        assert_eq!(reply.header("Cluster-Id"), Some(self.cluster_id.as_str()), "{}", reply.shown());
        let served_by =
            reply.header("Served-By").unwrap_or_else(|| panic!("no Served-By: {}", reply.shown()));
        assert!(self.node_ids.iter().any(|id| id == served_by), "{served_by} is no member");
        assert!(reply.header("Request-Id").is_some_and(|id| !id.is_empty()), "{}", reply.shown());
    }

    /// This node's id.
    pub(crate) fn node_id(&self) -> &str {
        &self.node_id
    }

    /// The store's revision, as the leader confirms it.
    pub(crate) async fn revision(&self) -> u64 {
        self.send(ask("GET", "/v1/namespaces/default")).await.expect(200).revision()
    }

    /// Creates a session that outlives its test.
    pub(crate) async fn session(&self, id: &str) {
        let body = json!({ "ttl_ms": 3_600_000 });
        self.send(ask("PUT", format!("/v1/sessions/{id}")).json(&body)).await.expect(201);
    }
}
