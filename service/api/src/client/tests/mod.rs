//! The client against a scripted server: what it sends, what it repeats, what it concludes.

mod config;
mod guard;
mod scripted;
mod session;
mod transport;
mod watch;

use std::{sync::Arc, time::Duration};

use serde::Serialize;

use crate::{
    Problem,
    claims::{ClaimView, ContestName, HeldClaim},
    client::{Client, ManualClock, tests::scripted::Server},
    sessions::{ClaimRef, KeepaliveView, LiveState, SessionView},
};
use scripted::Response;

const TTL: Duration = Duration::from_secs(10);
/// What the lease of `TTL` leaves to its holder.
const USABLE: Duration = Duration::from_millis(9_890);

/// How long something that must happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Fails instead of waiting for ever.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("this must happen soon")
}

fn client(servers: &[&Server]) -> Client {
    client_on(&Arc::new(ManualClock::default()), servers)
}

fn client_on(clock: &Arc<ManualClock>, servers: &[&Server]) -> Client {
    Client::builder(servers.iter().map(|server| server.address()))
        .clock(Arc::clone(clock) as _)
        .build()
        .unwrap()
}

/// An address that refuses connections as long as the socket lives: bound, so that nobody else gets it, but not
/// listening.
fn refusing() -> (tokio::net::TcpSocket, String) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

fn json(status: u16, body: &impl Serialize) -> Response {
    Response::new(status).header("Content-Type", "application/json").body(serde_json::to_vec(body).unwrap())
}

fn problem(problem: Problem) -> Response {
    Response::new(problem.status())
        .header("Content-Type", "application/problem+json")
        .body(serde_json::to_vec(&problem).unwrap())
}

fn session_view(id: &str) -> SessionView {
    SessionView {
        id: id.to_owned(),
        ttl_ms: 10_000,
        remaining_ms: Some(10_000),
        name: None,
        labels: std::collections::BTreeMap::new(),
        lock_delay_ms: 0,
        create_revision: 5,
        claims: Vec::new(),
        keys: 0,
    }
}

fn keepalive_view(claims: Vec<ClaimRef>) -> KeepaliveView {
    KeepaliveView { ttl_ms: 10_000, remaining_ms: 10_000, claims }
}

/// The claim of `lock` as the service grants it.
fn held(claim: &str, session: &str) -> ClaimView {
    ClaimView::Held(HeldClaim {
        claim: claim.to_owned(),
        session: session.to_owned(),
        fencing_token: 42,
        revision: 42,
        remaining_ms: Some(10_000),
        label: None,
    })
}

/// The same claim as its session lists it.
fn listed(claim: &str) -> ClaimRef {
    ClaimRef {
        namespace: "default".to_owned(),
        contest: ContestName::Lock("jobs/a".to_owned()),
        claim: claim.to_owned(),
        state: LiveState::Held,
        fencing_token: Some(42),
    }
}
