//! What a node has applied, and what happened in it: the only ways by which the state machine speaks to the rest.

use holdfast_core::domain::Event;
use holdfast_core::{LeaderId, LogTime, Revision};

/// How far a node has applied the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct AppliedMark {
    /// The leadership of the last applied entry.
    pub(crate) leader: Option<LeaderId>,
    /// Its index.
    pub(crate) index: Option<u64>,
    /// The store's revision there.
    pub(crate) revision: Revision,
    /// The replicated clock there.
    pub(crate) time: LogTime,
}

/// One message about the state, in the order in which it changed.
#[derive(Debug)]
pub(crate) enum Notice {
    /// Entries were applied and written.
    Applied {
        /// What happened in them.
        events: Vec<Event>,
        /// The store's revision after them.
        revision: Revision,
    },
    /// The whole state was replaced by a snapshot: whoever waits must look again.
    Replaced,
}
