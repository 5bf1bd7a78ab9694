//! The real machine with its tables in memory, applied to in whatever batches a test wants.

use std::collections::BTreeSet;

use holdfast_core::domain::{Applied, Fault, Machine, MemoryTables, Proposal, View};
use holdfast_core::{LeaderId, NodeId};

/// One replica of the store.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) tables: MemoryTables,
    pub(crate) machine: Machine,
}

/// What a log entry of a history is, with the membership that is noted after it.
pub(crate) type Step<'s> = (&'s LeaderId, &'s Proposal, Option<BTreeSet<NodeId>>);

impl Replica {
    /// An empty replica.
    pub(crate) fn new() -> Self {
        Self::restored(MemoryTables::default())
    }

    /// A replica that begins with the rows of another, as after a snapshot.
    pub(crate) fn restored(tables: MemoryTables) -> Self {
        let machine = Machine::load(&tables).expect("rows that a replica wrote load");
        Self { tables, machine }
    }

    /// An empty replica whose machine has these defects.
    #[cfg(feature = "seeded-bugs")]
    pub(crate) fn with_bugs(bugs: holdfast_core::domain::SeededBugs) -> Self {
        let mut replica = Self::new();
        replica.machine.seed_bugs(bugs);
        replica
    }

    /// Applies entries as one batch.
    pub(crate) fn batch(&mut self, steps: &[Step<'_>]) -> Result<Vec<Applied>, Fault> {
        let mut batch = self.machine.batch(&self.tables);
        let mut answers = Vec::new();
        for (leader, proposal, members) in steps {
            answers.push(batch.apply(**leader, proposal)?);
            if let Some(members) = members {
                batch.note_membership(members)?;
            }
        }
        let changes = batch.finish();
        self.tables.write(changes);
        Ok(answers)
    }

    /// Applies one entry as a batch of its own.
    pub(crate) fn apply(&mut self, leader: LeaderId, proposal: &Proposal) -> Result<Applied, Fault> {
        let mut answers = self.batch(&[(&leader, proposal, None)])?;
        Ok(answers.pop().expect("one entry has one answer"))
    }

    /// What readers see.
    pub(crate) fn view(&self) -> View<'_, MemoryTables> {
        View::new(&self.tables)
    }
}
