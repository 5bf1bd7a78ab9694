//! Recorded histories and their checkers.
//!
//! ```text
//!   workload ──▶ Recording ──▶ linearizability   every key and every lock, one at a time
//!                    │     ──▶ revisions         one counter for the store, never back
//!                    └─────▶  contract           L1–L8, L10, from answers and from the ledger
//! ```
//!
//! Nothing here reads a clock, except the search, which has to stop when its time budget is spent. What cannot
//! be decided within the budget counts as a failure: see [`Report::is_clean`].

mod check;
mod contract;
mod holds;
mod ledger;
mod linearizability;
mod mutex;
mod operation;
mod recording;
mod register;
mod revisions;
mod search;

#[cfg(test)]
mod check_test;
#[cfg(test)]
mod contract_test;
#[cfg(test)]
mod linearizability_test;

pub use check::{Report, Rule, Undecided, Violation, check};
pub use contract::check_contract;
pub use ledger::{End, EndCause, Grant, Ledger, SessionEnd, Wait};
pub use linearizability::{ObjectVerdict, Verdict, check_key, check_linearizability, check_lock};
pub use operation::{
    Answer, Call, ClaimName, ClientId, Condition, Guard, HeldClaim, History, Key, LockName, Operation,
    Outcome, Refusal, SessionName, ValueId,
};
pub use recording::{Header, Recording, RecordingError};
pub use revisions::check_revisions;
pub use search::Budget;
