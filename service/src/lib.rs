//! Holdfast: a distributed lock and config service. This crate is the IO shell around `holdfast-core` and the one binary.
//!
//! Reading order, from the disk to the client:
//!
//! ```text
//!   storage   what is on the disk: the only module that names RocksDB
//!   peer      frames between nodes
//!   raft      the consensus: the only module that names openraft
//!   leases    the leader's deadlines in real time      waits   who waits for a claim here
//!   compaction  what the leader drops of the past, and when
//!   http      the REST API and the ops port            auth    who may do what
//!   node      the composition root: starts and stops one node
//!   cli       the commands
//! ```
//!
//! Invariants 3 to 5 of Holdfast (the first two are `holdfast-core`'s): a client is answered only after the entry that
//! carries its answer is durable on a majority and applied; a fencing token is the revision of one grant, tokens strictly
//! increase and are never shared; `raft` never imports `http`, the root connects them by channels.

mod storage;

mod peer;
mod socket;

mod raft;

mod compaction;
mod leases;
mod waits;
mod watch;

mod auth;
mod http;
mod metrics;
mod ready;

mod config;
mod drain;
mod exit;
mod node;
mod seeded_bugs;
mod telemetry;

pub mod cli;
