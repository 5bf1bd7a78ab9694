//! The peers' transport: frames over TCP on the port that only Holdfast nodes speak to.
//!
//! It moves opaque bytes between two nodes that have checked each other's identity. It does not know what the
//! bytes mean: the consensus module encodes its messages, and nothing here names it, the storage or HTTP.
//!
//! ```text
//!   PeerPool ── Peer ──┬── Append  connection ──►┐
//!                      ├── Control connection ──►├── serve() ── PeerService
//!                      └── Snapshot, one per transfer ►┘
//! ```
//!
//! Each purpose has a TCP connection of its own, so that a peer that reads one slowly never delays another: a
//! heartbeat does not queue behind a megabyte of entries. Every connection starts with a handshake that names
//! both nodes and the cluster.
//!
//! Bytes on the wire are big endian and written by hand (`frame`, `handshake`, `transfer`), frozen by golden
//! tests. There are no optional fields: what changes gets another protocol version, agreed in the handshake.

mod connection;
mod frame;
mod handshake;
mod limits;
mod line;
mod metrics;
mod pool;
mod server;
mod service;
mod stream;
mod transfer;

#[cfg(test)]
mod call_test;
#[cfg(test)]
mod server_test;
#[cfg(test)]
mod test_support;
#[cfg(test)]
mod transfer_test;
#[cfg(test)]
mod wire_test;

#[cfg(test)]
pub(crate) use frame::FrameError;
pub(crate) use frame::PROTOCOL_VERSION;
pub(crate) use handshake::{CallChannel, Channel, Hello, Refusal, RefusalReason};
#[cfg(test)]
pub(crate) use limits::{CALL_BYTES_MAX, CALLS_IN_FLIGHT_MAX, IN_FLIGHT_BYTES_MAX};
#[cfg(test)]
pub(crate) use line::PendingCall;
pub(crate) use line::{CallError, Lost, NotSent};
#[cfg(test)]
pub(crate) use metrics::ChannelMetrics;
pub(crate) use metrics::PeerMetrics;
#[cfg(test)]
pub(crate) use pool::DialError;
pub(crate) use pool::{Peer, PeerIdentity, PeerPool};
pub(crate) use server::serve;
pub(crate) use service::PeerService;
pub(crate) use transfer::{FileSpec, TransferError};
