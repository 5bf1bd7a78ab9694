//! The one place where a byte stream between two nodes is made.
//!
//! Everything else is generic over `AsyncRead + AsyncWrite`: TLS will wrap the socket here, on both sides.

use crate::peer::limits::{CONNECT_TIMEOUT, WRITE_STALL};
use crate::socket::prepare;
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;

/// A connection to a peer.
pub(super) type PeerStream = TcpStream;

/// Resolves `address` (`host:port`) and connects to the first of its addresses that answers. Resolved each
/// time: a pod that was restarted has another address under the same name.
///
/// `stall_max` is how long the peer may take no byte. The kernel counts a full receive window too, not only a
/// dead host.
///
/// # Errors
/// What the resolver or the kernel says; `TimedOut` after [`CONNECT_TIMEOUT`].
pub(super) async fn connect(address: &str, stall_max: Duration) -> io::Result<PeerStream> {
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
    let socket = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    prepare(&socket, stall_max)?;
    Ok(socket)
}

/// A stream from an accepted socket.
///
/// # Errors
/// The socket died already.
pub(super) fn accepted(socket: TcpStream) -> io::Result<PeerStream> {
    prepare(&socket, WRITE_STALL)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::{accepted, connect};
    use rustix::net::sockopt;
    use std::time::Duration;
    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn both_ends_send_at_once_and_notice_a_dead_host() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let dialed = connect(&address, Duration::from_secs(30)).await.unwrap();
        let taken = accepted(listener.accept().await.unwrap().0).unwrap();
        check(&dialed, 30_000);
        check(&taken, 10_000);
    }

    fn check(socket: &TcpStream, user_timeout_ms: u32) {
        assert!(socket.nodelay().unwrap());
        assert!(sockopt::socket_keepalive(socket).unwrap());
        assert_eq!(sockopt::tcp_keepidle(socket).unwrap(), Duration::from_secs(10));
        assert_eq!(sockopt::tcp_keepintvl(socket).unwrap(), Duration::from_secs(3));
        assert_eq!(sockopt::tcp_keepcnt(socket).unwrap(), 3);
        assert_eq!(sockopt::tcp_user_timeout(socket).unwrap(), user_timeout_ms);
    }
}
