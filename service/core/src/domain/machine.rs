//! The state machine: the decoded beginning of the state, and batches of entries over the tables.

use crate::LogTime;
use crate::domain::batch::Batch;
use crate::domain::overlay::Overlay;
use crate::domain::{Fault, Meta, Table, Tables, key, record};

/// Applies entries. Owns nothing but the decoded [`Meta`] row and bounds derived from the tables; all state is in the
/// tables, so a machine is loaded again whenever they are exchanged.
#[derive(Debug)]
pub struct Machine {
    pub(crate) meta: Meta,
    pub(crate) oldest: Oldest,
    #[cfg(feature = "seeded-bugs")]
    pub(crate) bugs: SeededBugs,
}

/// Times before which an index has no row, so that most entries need not look. They are derived from the tables and
/// only ever too early, so whether and when they were refreshed changes no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Oldest {
    pub(crate) tombstone: LogTime,
    pub(crate) idle_lock: LogTime,
    pub(crate) replay: LogTime,
    pub(crate) lock_delay: LogTime,
    pub(crate) event: LogTime,
}

impl Oldest {
    /// What is true of an index without rows.
    pub(crate) const NEVER: LogTime = LogTime::from_ms(u64::MAX);

    const UNKNOWN: Self = Self {
        tombstone: LogTime::ZERO,
        idle_lock: LogTime::ZERO,
        replay: LogTime::ZERO,
        lock_delay: LogTime::ZERO,
        event: LogTime::ZERO,
    };
}

/// Defects that a test plants to prove that the checkers find them. A build without the feature has no trace of them.
#[cfg(feature = "seeded-bugs")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SeededBugs {
    /// Queued claims survive their session and may be granted; an ended session may acquire.
    pub session_check_dropped: bool,
    /// An `Expire` entry is never void and does not look at `create_revision`.
    pub expiry_without_leader_check: bool,
    /// The claim that arrived last is granted first: the queue is served in another order than the log's.
    pub fifo_by_arrival: bool,
    /// Releasing any claim id of a lock ends the claim that holds it.
    pub release_by_lock_name: bool,
    /// Idempotency records are ignored: the command runs again.
    pub replay_reevaluated: bool,
    /// A version goes although its number keeps it.
    pub window_one_short: bool,
    /// Compaction notes the version that it dropped, not what superseded it: reads in between find nothing and say so.
    pub compacted_too_low: bool,
    /// Each write of a transaction takes a revision of its own.
    pub txn_revision_each: bool,
    /// A claim that fits beside the holders passes those that wait.
    pub queue_passed: bool,
    /// A claim is thought to wait for holders only, not for those ahead of it in the queue.
    pub deadlock_by_holders: bool,
    /// A part of a lock set is granted when it fits, whatever becomes of the others.
    pub set_piecemeal: bool,
}

impl Machine {
    /// The machine of these tables. Empty tables are a store without identity, at revision 0.
    ///
    /// # Errors
    /// [`Fault`] when the tables cannot be read.
    pub fn load(tables: &impl Tables) -> Result<Self, Fault> {
        Ok(Self {
            meta: record::read(tables, Table::Meta, key::META)?.unwrap_or_default(),
            oldest: Oldest::UNKNOWN,
            #[cfg(feature = "seeded-bugs")]
            bugs: SeededBugs::default(),
        })
    }

    /// Where the store stands after the last finished batch.
    #[must_use]
    pub const fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Begins a batch over `base`, which must hold exactly what the finished batches wrote. The machine moves when the
    /// batch is finished; a batch that is dropped never was.
    pub fn batch<'a, T: Tables>(&'a mut self, base: &'a T) -> Batch<'a, T> {
        let (meta, oldest) = (self.meta.clone(), self.oldest);
        Batch { machine: self, rows: Overlay::new(base), meta, oldest }
    }

    /// Plants defects.
    #[cfg(feature = "seeded-bugs")]
    pub fn seed_bugs(&mut self, bugs: SeededBugs) {
        self.bugs = bugs;
    }
}
