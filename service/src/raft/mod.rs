//! The consensus: openraft over our own log, state machine, network and encodings.
//!
//! Only this module names openraft, and none of its types leaves: the rest of the program proposes, reads and looks through
//! [`Handle`]. This module knows nothing of HTTP, leases or waits; what happens in the state leaves through a channel of
//! [`Notice`]s that the composition root connects.
//!
//! ```text
//!   Handle ── propose ──► openraft ──► log_store ──► storage::log_db   (fsync, then acknowledged)
//!                            │  └────► network ────► peer              (followers, the same bytes)
//!                            └───────► state_machine ──► storage::state_db ──► Notice, answers
//! ```

mod applied;
mod codec;
mod counters;
mod handle;
mod log_store;
mod membership;
mod network;
mod peers;
mod rounds;
mod snapshot;
mod start;
mod state_machine;
mod status;
mod tables;
#[cfg(test)]
mod tables_test;
mod types;

pub(crate) use applied::Notice;
pub(crate) use codec::ENTRY as LOG_ENTRY_RECORD;
pub(crate) use counters::RaftCounters;
pub(crate) use handle::{Handle, ProposeError, ReadError};
pub(crate) use membership::MembershipError;
pub(crate) use peers::RaftPeers;
pub(crate) use start::{StartError, Started, start};
#[cfg(test)]
pub(crate) use status::Membership;
pub(crate) use status::{Role, Status};
pub(crate) use tables::StateReader;

/// The running consensus.
type HoldfastRaft = openraft::Raft<types::TypeConfig, state_machine::StateMachine>;
