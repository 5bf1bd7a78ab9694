//! What every TCP connection of a node has in common: small messages leave at once, and a dead host is noticed.

use std::io;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::TcpStream;

/// An idle connection is probed after this.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
/// And then this often.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
/// So many probes without an answer end it.
const KEEPALIVE_PROBES: u32 = 3;

/// Prepares a socket. `stall_max` is how long the other side may take no byte of what was sent; the kernel counts a full
/// receive window too, not only a dead host.
///
/// # Errors
/// The socket died already.
pub(crate) fn prepare(socket: &TcpStream, stall_max: Duration) -> io::Result<()> {
    socket.set_nodelay(true)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(socket, KEEPALIVE_PROBES)?;
    let stall_ms = u32::try_from(stall_max.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(socket, stall_ms)?;
    Ok(())
}
