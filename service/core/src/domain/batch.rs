//! A batch of entries: they see each other's writes, and nothing reaches the tables before `finish`.

use std::collections::BTreeSet;

use crate::domain::entry::Entry;
use crate::domain::machine::{Machine, Oldest};
use crate::domain::overlay::Overlay;
use crate::domain::{Applied, Changes, Fault, Meta, Proposal, Table, Tables, key};
use crate::{LeaderId, NodeId, Revision};

use serde::{Deserialize, Serialize};

/// Entries being applied. Neither outcomes nor state depend on where batches begin and end.
#[derive(Debug)]
pub struct Batch<'a, T> {
    pub(crate) machine: &'a mut Machine,
    pub(crate) rows: Overlay<'a, T>,
    pub(crate) meta: Meta,
    pub(crate) oldest: Oldest,
}

/// A node that was a member once. Its id is refused for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RemovedNode {
    /// The store's revision when it was removed.
    pub(crate) revision: Revision,
}

impl<T: Tables> Batch<'_, T> {
    /// Applies one entry; `leader` is the leadership that the log gives for it.
    ///
    /// # Errors
    /// [`Fault`] when the store cannot go on. The batch must then be dropped: it may hold half of the entry.
    pub fn apply(&mut self, leader: LeaderId, proposal: &Proposal) -> Result<Applied, Fault> {
        let entry = Entry {
            rows: &mut self.rows,
            meta: &mut self.meta,
            oldest: &mut self.oldest,
            events: Vec::new(),
            unsettled: BTreeSet::new(),
            #[cfg(feature = "seeded-bugs")]
            bugs: self.machine.bugs,
        };
        entry.run(leader, proposal)
    }

    /// Remembers a membership: who was a member before and is none in it is removed for ever. `members` are all of its
    /// nodes, learners and both halves of a joint membership included.
    ///
    /// # Errors
    /// As [`Batch::apply`].
    pub fn note_membership(&mut self, members: &BTreeSet<NodeId>) -> Result<(), Fault> {
        for id in self.meta.members.difference(members) {
            let key = key::removed_node(*id);
            if self.rows.read::<RemovedNode>(Table::RemovedNode, &key)?.is_none() {
                self.rows.put(Table::RemovedNode, key, &RemovedNode { revision: self.meta.revision });
            }
        }
        self.meta.members.clone_from(members);
        Ok(())
    }

    /// All rows that the batch changed, to be written at once together with the log index.
    #[must_use]
    pub fn finish(mut self) -> Changes {
        if self.meta != self.machine.meta {
            self.rows.put(Table::Meta, key::META.to_vec(), &self.meta);
        }
        self.machine.meta = self.meta;
        self.machine.oldest = self.oldest;
        self.rows.into_changes()
    }
}
