//! Black-box tests of Holdfast: what a client may see, and the processes that must keep to it.
//!
//! * [`history`] is pure. It holds recorded histories of client operations and the checkers that accept or
//!   reject them: linearizability of every key and lock, and the lock contract L1–L8 and L10.
//! * [`harness`] starts real `holdfast` processes, hurts them, drives them over HTTP and records what they
//!   answered.
//! * [`mod@bench`] measures those processes, and etcd beside them; it is the program `holdfast-bench`.
//!
//! A checker that cannot fail proves nothing: `histories/bad` holds recordings that must each be rejected for
//! a named reason.

pub mod bench;
pub mod harness;
pub mod history;
