//! The replicated state machine: commands in, outcomes and events out, rows changed in between.

mod command;
mod event;
mod outcome;
mod proposal;
mod settings;
mod table;

pub use command::{
    Acquire, ClaimOwner, ClaimRef, Command, DeleteConfig, Expire, Guard, IfHeld, LEVEL, Level, LockMode,
    LockRef, Precondition, Proposal, PutConfig, ReplayKey, SessionRef, SessionSpec, WaitRef,
};
pub use event::{Change, Event};
pub use outcome::{Applied, EndReason, Holder, Outcome, Rejection, Success};
pub use proposal::ProposalError;
pub use settings::Settings;
pub use table::{Changes, Fault, MemoryTables, Row, Table, Tables};
