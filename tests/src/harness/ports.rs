//! Free loopback ports that stay usable over restarts.
//!
//! A port from `bind(0)` comes out of the kernel's ephemeral range: while its node is down, any outgoing
//! connection may take it, and the restart fails. Ports are therefore taken from below that range, and proved
//! free by binding them.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rand::Rng as _;

/// Where the kernel says what it hands out by itself.
const EPHEMERAL_RANGE_FILE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// Ports below this one often belong to something.
const PORT_MIN: u16 = 10_000;
/// The usual begin of the ephemeral range.
const EPHEMERAL_MIN_USUAL: u16 = 32_768;
/// Ports tried before giving up.
const ATTEMPTS_MAX: usize = 1_000;

/// How long a released port may stay taken: a child becomes another program within milliseconds.
const RELEASE_LIMIT: Duration = Duration::from_secs(5);

/// Ports that this process has handed out, so that two clusters of one test run never share one.
static HANDED_OUT: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Ports held open, for TCP and UDP, until they are released to the process that will bind them.
#[derive(Debug)]
pub struct PortReservation {
    held: Vec<(TcpListener, UdpSocket)>,
}

impl PortReservation {
    /// Reserves `count` ports on the loopback address.
    pub fn take(count: usize) -> io::Result<Self> {
        let range = fixed_ports(std::fs::read_to_string(EPHEMERAL_RANGE_FILE).ok().as_deref());
        let mut held = Vec::with_capacity(count);
        for _ in 0..ATTEMPTS_MAX {
            if held.len() == count {
                break;
            }
            let port = rand::rng().random_range(range.clone());
            if !HANDED_OUT.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(port) {
                continue;
            }
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            if let (Ok(tcp), Ok(udp)) = (TcpListener::bind(address), UdpSocket::bind(address)) {
                held.push((tcp, udp));
            }
        }
        if held.len() < count {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                format!("no {count} free ports in {range:?}"),
            ));
        }
        Ok(Self { held })
    }

    /// Frees the ports for the process that is about to bind them, and returns once they can be bound.
    ///
    /// A child that another thread starts at this moment has copies of all sockets until it becomes another program; only
    /// then are they closed for good.
    ///
    /// # Errors
    /// `AddrInUse` when a port stays taken.
    pub fn release(self) -> io::Result<Vec<SocketAddr>> {
        let addresses: Vec<SocketAddr> =
            self.held.iter().map(|(tcp, _)| tcp.local_addr()).collect::<io::Result<_>>()?;
        drop(self.held);
        for address in &addresses {
            wait_free(*address)?;
        }
        Ok(addresses)
    }
}

fn wait_free(address: SocketAddr) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        match (TcpListener::bind(address), UdpSocket::bind(address)) {
            (Ok(_), Ok(_)) => return Ok(()),
            (Err(error), _) | (_, Err(error)) if RELEASE_LIMIT < begun.elapsed() => return Err(error),
            (Err(_), _) | (_, Err(_)) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// The ports below the ephemeral range, or the usual ones if that leaves too few.
fn fixed_ports(ephemeral: Option<&str>) -> Range<u16> {
    let begin = ephemeral
        .and_then(|range| range.split_whitespace().next())
        .and_then(|begin| begin.parse().ok())
        .filter(|begin| PORT_MIN + 1_000 < *begin)
        .unwrap_or(EPHEMERAL_MIN_USUAL);
    PORT_MIN..begin
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_below_the_ephemeral_range() {
        assert_eq!(fixed_ports(Some("20000\t60999\n")), 10_000..20_000);
        assert_eq!(fixed_ports(Some("1024\t65535\n")), 10_000..32_768);
        assert_eq!(fixed_ports(None), 10_000..32_768);
    }

    #[test]
    fn reserved_ports_are_distinct_and_free_once_released() {
        let first = PortReservation::take(4).unwrap();
        let second = PortReservation::take(4).unwrap();
        let mut addresses = first.release().unwrap();
        addresses.extend(second.release().unwrap());
        let distinct: BTreeSet<_> = addresses.iter().collect();
        assert_eq!(distinct.len(), 8);
        for address in addresses {
            wait_free(address).unwrap();
        }
    }

    #[test]
    fn a_reserved_port_is_taken() {
        let reservation = PortReservation::take(1).unwrap();
        let address = reservation.held[0].0.local_addr().unwrap();
        assert_eq!(TcpListener::bind(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
