//! One entry: the order in which its steps happen, and what they share.

use std::collections::BTreeSet;

use crate::domain::machine::Oldest;
use crate::domain::overlay::Overlay;
use crate::domain::{
    Applied, Change, Command, Event, Fault, LEVEL, LockRef, Meta, Outcome, Proposal, Rejection, Settings,
    Success, Tables,
};
use crate::{LeaderId, NamespaceName, Revision};

#[cfg(feature = "seeded-bugs")]
use crate::domain::machine::SeededBugs;

/// An entry being applied. Its verbs live beside the records that they change.
#[derive(Debug)]
pub(crate) struct Entry<'e, 'a, T> {
    pub(crate) rows: &'e mut Overlay<'a, T>,
    pub(crate) meta: &'e mut Meta,
    pub(crate) oldest: &'e mut Oldest,
    pub(crate) events: Vec<Event>,
    /// Locks that lost a claim: what they owe to their queues is settled after all removals of the entry.
    pub(crate) unsettled: BTreeSet<LockRef>,
    #[cfg(feature = "seeded-bugs")]
    pub(crate) bugs: SeededBugs,
}

impl<T: Tables> Entry<'_, '_, T> {
    /// Applies the entry: clock, replay, what is due, the command, and then what is old. What merely depends on time
    /// happens in every entry of a founded store, whatever becomes of its command.
    pub(crate) fn run(mut self, leader: LeaderId, proposal: &Proposal) -> Result<Applied, Fault> {
        let Proposal { level, time, replay, command } = proposal;
        if LEVEL < *level {
            return Err(Fault::LevelTooHigh { needed: level.0, known: LEVEL.0 });
        }
        if !self.meta.is_founded() && !matches!(command, Command::Found { .. }) {
            return Ok(self.finish(Err(Rejection::NotFounded)));
        }
        self.meta.level = self.meta.level.max(*level);
        self.meta.time = self.meta.time.max(*time);
        let replayed = match replay {
            Some(replay) => self.replayed(replay)?,
            None => None,
        };
        self.end_due_lock_delays()?;
        let outcome = match replayed {
            Some(outcome) => outcome,
            None => {
                let outcome = self.execute(leader, command)?;
                self.settle_locks()?;
                if let Some(replay) = replay {
                    self.remember(replay, &outcome)?;
                }
                outcome
            }
        };
        self.log_events();
        self.drop_old()?;
        Ok(self.finish(outcome))
    }

    fn finish(self, outcome: Outcome) -> Applied {
        Applied { outcome, revision: self.meta.revision, events: self.events }
    }

    fn execute(&mut self, leader: LeaderId, command: &Command) -> Result<Outcome, Fault> {
        match command {
            Command::Found { cluster_id, history_id, settings } => {
                Ok(Ok(self.found(cluster_id, *history_id, settings)))
            }
            Command::Tick => Ok(Ok(Success::Ticked)),
            Command::CreateNamespace { name } => self.create_namespace(name),
            Command::DeleteNamespace { name } => self.delete_namespace(name),
            Command::CreateSession { id, spec } => self.create_session(id, spec),
            Command::EndSession { id } => self.end_session(id),
            Command::Acquire(acquire) => self.acquire(acquire),
            Command::CancelWait(wait) => self.cancel_wait(wait),
            Command::Release { claim } => self.release(claim),
            Command::ForceRelease { lock, token, reason: _ } => self.force_release(lock, *token),
            Command::PutConfig(put) => self.put_config(put),
            Command::DeleteConfig(delete) => self.delete_config(delete),
            Command::Expire(expire) => self.expire(leader, expire),
            Command::RollbackConfig(rollback) => self.rollback_config(rollback),
            Command::Txn(txn) => self.txn(txn),
            Command::Compact(compact) => self.compact(compact),
            Command::AcquireSet(acquire) => self.acquire_set(acquire),
            Command::Proclaim(proclaim) => self.proclaim(proclaim),
        }
    }

    fn found(&mut self, cluster_id: &str, history_id: u64, settings: &Settings) -> Success {
        if !self.meta.is_founded() {
            self.meta.cluster_id = Some(cluster_id.to_owned());
            self.meta.history_id = history_id;
            self.meta.settings = settings.clone();
            let _ = self.add_namespace(&NamespaceName::default_namespace());
        }
        Success::Founded
    }

    /// The revision of the command's own effects. Called at most once per command, when nothing can refuse it any more.
    pub(crate) fn take_revision(&mut self) -> Revision {
        self.take_next_revision()
    }

    /// The revision of a further grant.
    pub(crate) fn take_next_revision(&mut self) -> Revision {
        self.meta.revision = self.meta.revision.next();
        self.meta.revision
    }

    pub(crate) fn tell(&mut self, revision: Revision, change: Change) {
        self.events.push(Event { revision, change });
    }
}
