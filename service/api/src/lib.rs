//! The REST API of Holdfast as types: what goes over the wire, and nothing about how it is served.
//!
//! ```text
//!   error       the closed list of codes; the problem document; what a status says about the effect
//!   header      header names            path   request paths           query   parameters of reads and lists
//!   namespaces  sessions  claims  locks  lock_sets  elections  config  cluster    bodies, one module per resource
//!   watch       what event streams carry
//!   client      (feature `client`) the typed client: fail-over, replay, sessions and lock guards
//! ```
//!
//! Request bodies refuse unknown fields; answers may gain fields, so clients ignore what they do not know. Revisions and
//! fencing tokens stay below 2⁵³ and are JSON numbers. Durations are milliseconds and end in `_ms`.

pub mod error;
pub mod header;
pub mod path;
pub mod query;

pub mod namespaces;
pub mod sessions;

pub mod claims;
pub mod elections;
pub mod lock_sets;
pub mod locks;

pub mod config;

pub mod watch;

pub mod cluster;

#[cfg(feature = "client")]
pub mod client;

pub use error::{Applied, ErrorCode, Problem};
