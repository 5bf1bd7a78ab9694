//! The accepting half of a node.

use crate::peer::frame::{Frame, FrameError, FrameType, Link};
use crate::peer::handshake::{self, CallChannel, Channel, Hello, Refusal};
use crate::peer::limits::{
    ACCEPT_PAUSE, CALLS_IN_FLIGHT_MAX, CONNECTIONS_MAX, CONNECTIONS_PER_REMOTE_MAX, REPLACE_TIMEOUT,
    TRANSFER_IDLE, WRITE_STALL,
};
use crate::peer::metrics::PeerMetrics;
use crate::peer::service::PeerService;
use crate::peer::stream::{self, PeerStream};
use crate::peer::transfer::{self, ReceiveError};
use bytes::{Buf, Bytes};
use futures_util::future::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use holdfast_core::NodeId;
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// Accepts peers until `shutdown` fires. The task ends when every connection has ended: calls are dropped at
/// once, an installation of received files runs to its end.
pub(crate) fn serve<P: PeerService>(
    listener: TcpListener,
    service: Arc<P>,
    metrics: Arc<PeerMetrics>,
    shutdown: CancellationToken,
) -> JoinHandle<()> {
    let server = Server { service, metrics, shutdown, open: Mutex::default() };
    tokio::spawn(Arc::new(server).run(listener))
}

struct Server<P> {
    service: Arc<P>,
    metrics: Arc<PeerMetrics>,
    shutdown: CancellationToken,
    open: Mutex<Open>,
}

/// The open connections.
#[derive(Default)]
struct Open {
    by_remote: HashMap<IpAddr, usize>,
    by_peer: HashMap<(NodeId, Channel), Admitted>,
}

/// The one connection of a peer and channel.
#[derive(Clone)]
struct Admitted {
    /// Asks it to end.
    stop: CancellationToken,
    /// Fires when it has ended.
    ended: CancellationToken,
}

impl<P: PeerService> Server<P> {
    async fn run(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => break,
                Some(ended) = connections.join_next(), if !connections.is_empty() => note_panic(ended),
                accepted = listener.accept() => match accepted {
                    Ok((socket, remote)) => self.accept(&mut connections, socket, remote),
                    Err(error) => {
                        tracing::warn!(%error, "failed to accept a peer");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(listener);
        while let Some(ended) = connections.join_next().await {
            note_panic(ended);
        }
    }

    fn accept(self: &Arc<Self>, connections: &mut JoinSet<()>, socket: TcpStream, remote: SocketAddr) {
        let Some(place) = Place::take(self, remote.ip()) else {
            tracing::warn!(%remote, "too many peer connections, closing this one");
            return;
        };
        connections.spawn(async move {
            let server = Arc::clone(&place.server);
            if let Err(error) = server.connection(socket).await {
                log_end(remote, &error);
            }
            drop(place);
        });
    }

    async fn connection(&self, socket: TcpStream) -> Result<(), ConnectionError> {
        let stream = stream::accepted(socket).map_err(FrameError::Io)?;
        let mut link = Link::new(stream, WRITE_STALL);
        let greeted = self.shutdown.run_until_cancelled(self.greet(&mut link)).await;
        let Some((hello, registration)) = greeted.transpose()? else { return Ok(()) };
        let Hello { from, to: _, channel, cluster_id: _, software } = hello;
        tracing::debug!(peer = %from, channel = channel.name(), software, "peer connected");
        link.opened(self.metrics.channel(channel));
        let stop = &registration.admitted.stop;
        let calls = match channel {
            Channel::Append => CallChannel::Append,
            Channel::Control => CallChannel::Control,
            Channel::Snapshot => {
                let received = transfer::receive(&*self.service, from, &mut link, TRANSFER_IDLE, stop).await;
                return received.map_err(|error| ConnectionError::Transfer { from, error });
            }
        };
        let served = serve_calls(&*self.service, from, calls, link, stop).await;
        served.map_err(|error| ConnectionError::Calls { from, channel, error })
    }

    /// The acceptor's half of the handshake.
    async fn greet(&self, link: &mut Link<PeerStream>) -> Result<(Hello, Registration<'_>), ConnectionError> {
        let decided = match handshake::read_hello(link).await? {
            Ok(hello) => self.admit(&hello).await.map(|registration| (hello, registration)),
            Err(refusal) => Err(refusal),
        };
        match decided {
            Ok(admitted) => {
                handshake::answer_hello(link, None).await?;
                Ok(admitted)
            }
            Err(refusal) => {
                self.metrics.count_refused_here(refusal.reason());
                // The dialer may have gone; the refusal is what matters here.
                let _ = handshake::answer_hello(link, Some(&refusal)).await;
                Err(ConnectionError::Refused(refusal))
            }
        }
    }

    /// The service's decision, and then the end of the peer's earlier connection of this kind: a dialer that
    /// connects again has given that one up, even if nothing here shows it yet.
    async fn admit(&self, hello: &Hello) -> Result<Registration<'_>, Refusal> {
        self.service.admit(hello).await?;
        let key = (hello.from, hello.channel);
        let earlier = lock(&self.open).by_peer.get(&key).cloned();
        if let Some(earlier) = earlier {
            earlier.stop.cancel();
            let ended = tokio::time::timeout(REPLACE_TIMEOUT, earlier.ended.cancelled()).await;
            ended.map_err(|_| Refusal::Busy)?;
        }
        let mut open = lock(&self.open);
        if open.by_peer.contains_key(&key) {
            // Several connections at once: another one was faster.
            return Err(Refusal::Busy);
        }
        let admitted = Admitted { stop: self.shutdown.child_token(), ended: CancellationToken::new() };
        open.by_peer.insert(key, admitted.clone());
        Ok(Registration { open: &self.open, key, admitted })
    }
}

/// The place of an admitted connection, given up when it is dropped.
struct Registration<'a> {
    open: &'a Mutex<Open>,
    key: (NodeId, Channel),
    admitted: Admitted,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        lock(self.open).by_peer.remove(&self.key);
        self.admitted.ended.cancel();
    }
}

/// Why an accepted connection ended, when neither side wanted it to.
#[derive(Debug)]
enum ConnectionError {
    Handshake(FrameError),
    Refused(Refusal),
    Calls { from: NodeId, channel: Channel, error: FrameError },
    Transfer { from: NodeId, error: ReceiveError },
}

impl From<FrameError> for ConnectionError {
    fn from(error: FrameError) -> Self {
        Self::Handshake(error)
    }
}

/// The one line that a failed connection gets. Refusals are counted and the dialer logs them, so that a
/// removed node which keeps knocking does not fill this log.
fn log_end(remote: SocketAddr, error: &ConnectionError) {
    match error {
        ConnectionError::Handshake(error) if error.is_garbage() => {
            tracing::warn!(%remote, %error, "closed a connection that does not speak the peer protocol");
        }
        ConnectionError::Handshake(error) => {
            tracing::debug!(%remote, %error, "peer handshake did not finish")
        }
        ConnectionError::Refused(refusal) => tracing::debug!(%remote, %refusal, "refused a peer"),
        ConnectionError::Calls { from, channel, error } if error.is_garbage() => {
            let channel = channel.name();
            tracing::warn!(%remote, peer = %from, channel, %error, "closed a damaged peer connection");
        }
        ConnectionError::Calls { from, channel, error } => {
            tracing::debug!(%remote, peer = %from, channel = channel.name(), %error, "peer connection broke");
        }
        ConnectionError::Transfer { from, error } => {
            tracing::warn!(%remote, peer = %from, %error, "failed to receive files");
        }
    }
}

fn note_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a peer connection's task died");
    }
}

/// Answers calls until the connection ends. Requests are started in the order received and answered as each
/// completes; while as many run as may, nothing more is read.
async fn serve_calls<P: PeerService>(
    service: &P,
    from: NodeId,
    channel: CallChannel,
    link: Link<PeerStream>,
    stop: &CancellationToken,
) -> Result<(), FrameError> {
    let Link { mut reader, mut writer } = link;
    let answering = async {
        let mut running: FuturesUnordered<Running<'_>> = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some((id, answer)) = running.next(), if !running.is_empty() => {
                    writer.write(FrameType::Response, id, &[], &answer).await?;
                    while let Some(Some((id, answer))) = running.next().now_or_never() {
                        writer.write(FrameType::Response, id, &[], &answer).await?;
                    }
                    writer.flush().await?;
                }
                frame = reader.next(), if running.len() < CALLS_IN_FLIGHT_MAX => {
                    let mut started = start(service, from, channel, frame?)?;
                    match first_poll(&mut started).await {
                        Poll::Ready((id, answer)) => {
                            writer.write(FrameType::Response, id, &[], &answer).await?;
                            writer.flush().await?;
                        }
                        Poll::Pending => running.push(started),
                    }
                }
            }
        }
    };
    match stop.run_until_cancelled(answering).await {
        None | Some(Err(FrameError::Closed)) => Ok(()),
        Some(ended) => ended,
    }
}

/// A request that is being answered, with its id.
type Running<'a> = Pin<Box<dyn Future<Output = (u64, Bytes)> + Send + 'a>>;

fn start<P: PeerService>(
    service: &P,
    from: NodeId,
    channel: CallChannel,
    frame: Frame,
) -> Result<Running<'_>, FrameError> {
    let Frame { kind: frame_type, id, mut payload } = frame;
    if frame_type != FrameType::Request {
        return Err(FrameError::Unexpected { kind: frame_type.code() });
    }
    let kind = payload.try_get_u8().map_err(|_| FrameError::Malformed { what: "the request" })?;
    Ok(Box::pin(async move { (id, service.handle(from, channel, kind, payload).await) }))
}

/// Lets a request take its place in line before the next one is read.
async fn first_poll(running: &mut Running<'_>) -> Poll<(u64, Bytes)> {
    poll_fn(|context| Poll::Ready(running.as_mut().poll(context))).await
}

/// A connection's share of the bounds, given back when it is dropped.
struct Place<P> {
    server: Arc<Server<P>>,
    remote: IpAddr,
}

impl<P> Place<P> {
    fn take(server: &Arc<Server<P>>, remote: IpAddr) -> Option<Self> {
        let mut open = lock(&server.open);
        let total: usize = open.by_remote.values().sum();
        let of_remote = open.by_remote.get(&remote).copied().unwrap_or_default();
        if CONNECTIONS_PER_REMOTE_MAX <= of_remote || CONNECTIONS_MAX <= total {
            return None;
        }
        open.by_remote.insert(remote, of_remote + 1);
        Some(Self { server: Arc::clone(server), remote })
    }
}

impl<P> Drop for Place<P> {
    fn drop(&mut self) {
        let mut open = lock(&self.server.open);
        if let Some(count) = open.by_remote.get_mut(&self.remote) {
            *count -= 1;
            if *count == 0 {
                open.by_remote.remove(&self.remote);
            }
        }
    }
}

fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    // Every section is one step, so the data is whole even when a holder panicked.
    open.lock().unwrap_or_else(PoisonError::into_inner)
}
