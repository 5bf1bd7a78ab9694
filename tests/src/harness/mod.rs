//! Real `holdfast` processes: started, driven, hurt and observed from the outside.
//!
//! ```text
//!   Scratch ─▶ Cluster ─▶ Node × n ─▶ child processes      Nemesis kills and pauses them by a seeded schedule
//!                 │                        ▲
//!                 ├── endpoints ─▶ Workload ┘ plain HTTP    every call and answer goes to the Recorder
//!                 └── endpoints ─▶ Shell                    one user's commands, as data and on a terminal
//! ```
//!
//! Every wait polls a condition until a deadline; when it passes, the error says what was seen last and shows
//! the ends of the nodes' logs. No process outlives the value that started it.

mod binary;
mod client;
mod cluster;
mod event_stream;
mod log_tail;
mod metrics;
mod nemesis;
mod node;
mod poll;
mod ports;
mod recorder;
mod scratch;
mod serial;
mod shell;
mod workload;

pub use binary::Binary;
pub use client::{CallClient, CallError};
pub use cluster::{Cluster, ClusterStatus, Member, SelfRecord};
pub use event_stream::{EventStream, RefusedStream, SentEvent};
pub use metrics::{Metrics, MetricsError, Sample};
pub use nemesis::{Action, Hit, Mix, Nemesis, Schedule, Strike};
pub use node::{Addresses, Node, NodeOptions};
pub use poll::{Seen, poll};
pub use ports::PortReservation;
pub use recorder::Recorder;
pub use scratch::Scratch;
pub use serial::{Serial, serial};
pub use shell::{Screen, Shell};
pub use workload::{Tally, Workload, WorkloadOptions};
