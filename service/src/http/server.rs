//! The HTTP server: connections with bounds on what a slow or silent client may cost.

use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long a client may take to send the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// How long a client may take no byte of its answer. A client that is gone while it waits for a lock is noticed as soon.
const CLIENT_STALL: Duration = Duration::from_secs(10);
/// How long the server pauses when it cannot accept, for example without file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long requests in flight may take after the server was told to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Serves a router until `stop` fires, then lets the requests in flight end.
pub(crate) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                // A socket that cannot be prepared is dead; its connection notices that.
                let _ = crate::socket::prepare(&stream, CLIENT_STALL);
                connections.spawn(connection(stream, router.clone(), stop.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_PATIENCE, all_ended).await.is_err() {
        tracing::warn!(connections = connections.len(), "closing connections whose requests have not ended");
    }
}

async fn connection(stream: tokio::net::TcpStream, router: Router, stop: CancellationToken) {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
    let serving = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        // A client that goes away in the middle of a request is its own business.
        tracing::debug!(%error, "a connection ended early");
    }
}
