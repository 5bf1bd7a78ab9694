//! The benchmark: three real processes of each system on loopback, driven by one generator.
//!
//! ```text
//!   Options ─▶ Plan (scenario × repeat × system, A B then B A) ─▶ scenario ─▶ Run ─▶ Report
//!                                                                   │
//!                              System (Holdfast or etcd) ◀── Client ┘  one connection each
//! ```
//!
//! Both systems get the same keys, values, connections and requests, sync every write to a disk, and run one at a time.
//! The generator shares the machine with them, so its processor time is told as well. A run with more failed requests
//! than `figures::FAILED_SHARE_MAX` is invalid, and the program then ends with an error.

mod client;
mod closed_loop;
mod etcd;
mod etcd_client;
mod etcd_message;
mod figures;
mod holdfast_client;
mod http;
mod options;
mod process;
mod report;
mod scenario;
mod schedule;
mod system;

pub use options::Options;
pub use schedule::main;
