//! Who would wait for ever, worked out on the whole state again and again.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{ClaimRef, LockMode, LockRef, Rejection, StuckWait};
use crate::{Revision, SessionId, limits};

use super::Model;
use super::claims::fits_beside;

/// A claim or a set that waits. None queued the one in question yet, and it is the last.
#[derive(Debug, Clone)]
struct Wait {
    enqueued: Option<Revision>,
    session: SessionId,
    parts: BTreeMap<LockRef, LockMode>,
}

/// Who holds and who waits, while all who can let go do so.
#[derive(Debug, Clone, Default)]
struct Rest {
    holds: Vec<(LockRef, SessionId, LockMode)>,
    waits: Vec<Wait>,
}

impl Rest {
    fn head(&self, lock: &LockRef) -> Option<usize> {
        self.waits.iter().position(|w| w.parts.contains_key(lock))
    }

    fn fits(&self, wait: usize, lock: &LockRef) -> bool {
        let held: Vec<_> = self.holds.iter().filter(|(l, ..)| l == lock).map(|(.., mode)| *mode).collect();
        self.head(lock) == Some(wait) && fits_beside(&held, self.waits[wait].parts[lock])
    }

    /// Lets go and lets in until nothing changes.
    fn reduce(&mut self) {
        loop {
            let waiting: BTreeSet<_> = self.waits.iter().map(|w| w.session.clone()).collect();
            let before = self.holds.len() + self.waits.len();
            self.holds.retain(|(_, session, _)| waiting.contains(session));
            let next = (0..self.waits.len())
                .find(|wait| self.waits[*wait].parts.keys().all(|lock| self.fits(*wait, lock)));
            if let Some(next) = next {
                let Wait { session, parts, .. } = self.waits.remove(next);
                self.holds.extend(parts.into_iter().map(|(lock, mode)| (lock, session.clone(), mode)));
            } else if before == self.holds.len() + self.waits.len() {
                return;
            }
        }
    }

    /// What holds up a wait at a lock: the head of its queue, or the oldest wait of the first session that holds it.
    fn held_up_by(&self, wait: usize, lock: &LockRef) -> Option<usize> {
        if self.head(lock) != Some(wait) {
            return self.head(lock);
        }
        let holders: BTreeSet<_> = self.holds.iter().filter(|(l, ..)| l == lock).map(|(_, s, _)| s).collect();
        self.waits.iter().position(|w| Some(&w.session) == holders.first().copied())
    }
}

impl Model {
    fn rest(&self) -> Rest {
        let mut rest = Rest::default();
        for claim in &self.claims {
            let (lock, session) = (claim.claim.lock.clone(), claim.session.clone());
            match claim.enqueued() {
                None => rest.holds.push((lock, session, claim.mode)),
                Some(_) if claim.in_set => {}
                Some(enqueued) => {
                    let parts = BTreeMap::from([(lock, claim.mode)]);
                    rest.waits.push(Wait { enqueued: Some(enqueued), session, parts });
                }
            }
        }
        for set in self.sets.iter().filter(|s| s.enqueued.is_some()) {
            let lock = |name| ClaimRef::of_lock(&set.claim, name).lock;
            let parts = set.locks.iter().map(|(name, mode)| (lock(name), *mode)).collect();
            rest.waits.push(Wait { enqueued: set.enqueued, session: set.session.clone(), parts });
        }
        rest.waits.sort_by_key(|w| w.enqueued);
        rest
    }

    /// Refuses a wait that would never end.
    pub(super) fn check_deadlock(
        &self,
        session: &SessionId,
        wanted: &BTreeMap<LockRef, LockMode>,
    ) -> Result<(), Rejection> {
        let mut rest = self.rest();
        rest.waits.push(Wait { enqueued: None, session: session.clone(), parts: wanted.clone() });
        rest.reduce();
        let mut at = rest.waits.iter().position(|w| w.enqueued.is_none());
        if at.is_none() {
            return Ok(());
        }
        let (mut stuck, mut passed) = (Vec::new(), BTreeSet::new());
        while let Some(wait) = at.filter(|wait| passed.insert(*wait)) {
            let Wait { session, parts, .. } = &rest.waits[wait];
            let closed = parts.keys().find(|lock| !rest.fits(wait, lock));
            let Some(lock) = closed.filter(|_| stuck.len() < limits::STUCK_SHOWN_MAX) else { break };
            stuck.push(StuckWait {
                session: session.clone(),
                session_name: self.session(session).map(|s| s.spec.name.clone()).unwrap_or_default(),
                lock: lock.lock.clone(),
                namespace: lock.namespace.clone(),
            });
            at = rest.held_up_by(wait, lock);
        }
        Err(Rejection::WouldDeadlock { stuck })
    }
}
