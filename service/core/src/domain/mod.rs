//! The replicated state machine: commands in, outcomes and events out, rows changed in between.
//!
//! ```text
//!   Proposal ──▶ Batch::apply ──▶ Applied { outcome, events }      View ──▶ answers
//!                    │                                              │
//!                    ▼                                              ▼
//!                 Overlay ──finish──▶ Changes ──written by──▶ Tables (memory, RocksDB)
//! ```
//!
//! It never reads a clock, draws a number or waits; what it needs is in the entry or in the tables.

mod command;
mod event;
mod outcome;
mod proposal;
mod settings;
mod table;

pub mod invariants;

mod batch;
mod entry;
mod machine;
mod meta;
mod overlay;
mod view;

mod claim;
mod compaction;
mod config;
mod deadlock;
mod election;
mod event_log;
mod expire;
mod lock;
mod lock_set;
mod namespace;
mod replay;
mod session;
mod tombstone;
mod txn;

mod key;
mod record;

pub use batch::Batch;
pub use command::{
    Acquire, AcquireSet, ClaimOwner, ClaimRef, Command, Compact, Compare, Comparison, DeleteConfig, Expire,
    Guard, IfHeld, KeyTest, LEVEL, Level, LockKind, LockMode, LockRef, Precondition, Proclaim, Proposal,
    PutConfig, ReplayKey, RollbackConfig, SessionRef, SessionSpec, Txn, TxnOp, WaitRef,
};
pub use event::{Change, Event};
pub use machine::Machine;
#[cfg(feature = "seeded-bugs")]
pub use machine::SeededBugs;
pub use meta::{Counters, Meta};
pub use outcome::{Applied, EndReason, Holder, Outcome, Rejection, StuckWait, Success, TxnResult};
pub use proposal::{FORMAT as PROPOSAL_FORMAT, ProposalError};
pub use record::FORMAT as ROW_FORMAT;
pub use settings::Settings;
pub use table::{Changes, Fault, MemoryTables, Row, Table, Tables};
pub use view::{
    ClaimState, ClaimView, ConfigAt, ConfigEntry, ConfigHistory, ConfigItem, ConfigQuery, ConfigVersionView,
    ElectionValueView, EventPage, LiveSession, LockSetState, LockSummary, LockView, NamespaceView, Page,
    QueuedWait, SessionState, SessionView, View, Waiter,
};

#[cfg(test)]
pub(crate) mod tests;
