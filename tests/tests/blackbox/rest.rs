//! Every request of the REST API, with good and bad input.
//!
//! One cluster of three nodes serves all tests that run at a time. What a request changes it changes under names of
//! its own, through a follower and through the leader; tests that prove that nothing changes run alone.

mod bad_bodies;
mod bad_requests;
mod claims;
mod compaction;
mod config;
mod elections;
mod ephemeral;
mod fixture;
mod fuzz;
mod headers;
mod history;
mod lists;
mod locks;
mod media_types;
mod modes;
mod namespaces;
mod reads;
mod replays;
mod sessions;
mod sockets;
mod txn;
pub(crate) mod wire;
