//! Deadlocks, found before they begin: a claim that would wait for ever is refused.
//!
//! Sessions that wait for nothing will let go of all they have, so they are taken out; queues move up, which lets further
//! sessions get all they wait for, until nothing changes (the reduction of a general resource graph: Holt, "Some Deadlock
//! Properties of Computer Systems", 1972). What then still waits, waits for ever. Queues are first in, first out, so the
//! claims ahead in a queue hold up a claim as holders do. Whatever is let in only ever grows while others let go, so the
//! order of the steps does not matter.
//!
//! Only a claim that begins to wait can close a circle, and only through its own session. So nothing is looked at when
//! nobody waits for that session, which is nearly always. Lock delays end by themselves and hold up nobody for ever.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::claim::{Claim, Standing, Takes};
use crate::domain::entry::Entry;
use crate::domain::key::{KeyRange, KeyReader};
use crate::domain::lock::{Lock, Place};
use crate::domain::session::Session;
use crate::domain::{ClaimRef, Fault, LockMode, LockRef, Rejection, StuckWait, Table, Tables, key, record};
use crate::limits::{DEADLOCK_VISITED_MAX, PAGE_ROWS_MAX, STUCK_SHOWN_MAX};
use crate::{LockName, NamespaceName, Revision, SessionId};

impl<T: Tables> Entry<'_, '_, T> {
    /// Why a session may not wait for these locks, if so.
    pub(crate) fn refuse_deadlock(
        &self,
        session: &SessionId,
        namespace: &NamespaceName,
        wanted: &BTreeMap<LockName, LockMode>,
    ) -> Result<Option<Rejection>, Fault> {
        let of = |name: &LockName| LockRef { namespace: namespace.clone(), lock: name.clone() };
        let wanted = wanted.iter().map(|(name, mode)| (of(name), *mode)).collect();
        if !self.is_waited_for(session, &wanted)? {
            return Ok(None);
        }
        let Some(mut graph) = self.wait_graph(session, wanted)? else {
            return Ok(None);
        };
        #[cfg(feature = "seeded-bugs")]
        if self.bugs.deadlock_by_holders {
            graph.forget_queues();
        }
        if graph.reduce() {
            return Ok(None);
        }
        let mut stuck = Vec::new();
        for (session, LockRef { namespace, lock }) in graph.stuck() {
            let session_name = self.session(&session)?.map(|row| row.spec.name).unwrap_or_default();
            stuck.push(StuckWait { session, session_name, lock, namespace });
        }
        Ok(Some(Rejection::WouldDeadlock { stuck }))
    }

    /// Whether a claim may wait for what the session has, the wanted one included.
    fn is_waited_for(&self, id: &SessionId, wanted: &BTreeMap<LockRef, LockMode>) -> Result<bool, Fault> {
        for claim_ref in self.claims_of(id)? {
            let claim = self.live(&claim_ref)?;
            if matches!(claim.takes, Takes::Set(_)) {
                continue;
            }
            if wanted.contains_key(&claim_ref.lock) {
                return Ok(true);
            }
            let behind = match claim.standing {
                Standing::Held { .. } => self.used_lock(&claim_ref.lock)?.queued != 0,
                Standing::Queued { enqueued, .. } => {
                    let range = KeyRange::prefix(key::lock_prefix(&claim_ref.lock));
                    let last = self.rows.range_back(Table::Queue, range.from(), range.to(), 1)?;
                    last.first().is_some_and(|(row, _)| *row != key::queue(&claim_ref.lock, enqueued))
                }
            };
            if behind {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn live(&self, claim_ref: &ClaimRef) -> Result<Claim, Fault> {
        let missing =
            || Fault::damaged(Table::Claim, &key::claim(claim_ref), "it is missing while it has a place");
        self.claim(claim_ref)?.ok_or_else(missing)
    }

    /// Everything that the wanted wait may wait for; none when that is more than may be looked at.
    fn wait_graph(
        &self,
        session: &SessionId,
        wanted: BTreeMap<LockRef, LockMode>,
    ) -> Result<Option<Graph>, Fault> {
        let mut graph = Graph::default();
        let mut todo: Vec<(LockRef, Option<Revision>)> =
            wanted.keys().map(|lock| (lock.clone(), None)).collect();
        self.visit_session(session, &mut graph, &mut todo)?;
        while let Some((lock, up_to)) = todo.pop() {
            self.visit_lock(&lock, up_to, &mut graph, &mut todo)?;
            if DEADLOCK_VISITED_MAX < graph.visited {
                return Ok(None);
            }
        }
        graph.add_wanted(session, wanted);
        Ok(Some(graph))
    }

    /// Adds all that a session waits for to what is to be visited, once.
    fn visit_session(
        &self,
        id: &SessionId,
        graph: &mut Graph,
        todo: &mut Vec<(LockRef, Option<Revision>)>,
    ) -> Result<(), Fault> {
        let known = graph.sessions.contains_key(id);
        graph.sessions.entry(id.clone()).or_default();
        // What owns one thing was found by that. Most sessions do.
        let only = |session: Session| session.owned <= 1;
        if known || self.session(id)?.is_none_or(only) {
            return Ok(());
        }
        for claim_ref in self.claims_of(id)? {
            let claim = self.live(&claim_ref)?;
            graph.visited += 1;
            if let (Takes::Lock(_) | Takes::Part(_), Standing::Queued { enqueued, .. }) =
                (&claim.takes, &claim.standing)
            {
                todo.push((claim_ref.lock, Some(*enqueued)));
            }
        }
        Ok(())
    }

    /// Adds a lock's holders and its queue up to a place, or all of it.
    fn visit_lock(
        &self,
        lock_ref: &LockRef,
        up_to: Option<Revision>,
        graph: &mut Graph,
        todo: &mut Vec<(LockRef, Option<Revision>)>,
    ) -> Result<(), Fault> {
        if !graph.locks.contains_key(lock_ref) {
            let lock = self.lock(lock_ref)?.unwrap_or_default();
            graph.locks.insert(lock_ref.clone(), GraphLock::of(&lock));
            self.visit_holders(lock_ref, graph, todo)?;
        }
        let mut range = KeyRange::prefix(key::lock_prefix(lock_ref));
        if let Some(last) = up_to {
            range = range.up_to(key::queue(lock_ref, last));
        }
        if let Some(last) = graph.locks.get(lock_ref).and_then(|lock| lock.visited_to) {
            if up_to.is_some_and(|up_to| up_to <= last) {
                return Ok(());
            }
            range = range.after(key::queue(lock_ref, last));
        }
        loop {
            let rows = record::rows(self.rows, Table::Queue, &range, PAGE_ROWS_MAX)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            range = range.after(last.clone());
            for (row, value) in rows {
                if DEADLOCK_VISITED_MAX < graph.visited {
                    return Ok(());
                }
                let Place { claim } = record::open(Table::Queue, &row, &value)?;
                let mut reader = KeyReader::new(Table::Queue, &row);
                reader.lock()?;
                let enqueued = reader.revision()?;
                let claim_ref = ClaimRef { lock: lock_ref.clone(), claim };
                self.visit_queued((claim_ref, enqueued), graph, todo)?;
                if let Some(lock) = graph.locks.get_mut(lock_ref) {
                    lock.visited_to = Some(enqueued);
                }
            }
        }
    }

    fn visit_holders(
        &self,
        lock_ref: &LockRef,
        graph: &mut Graph,
        todo: &mut Vec<(LockRef, Option<Revision>)>,
    ) -> Result<(), Fault> {
        let mut range = KeyRange::prefix(key::lock_prefix(lock_ref));
        loop {
            let rows = record::rows(self.rows, Table::Holder, &range, PAGE_ROWS_MAX)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            range = range.after(last.clone());
            for (row, value) in rows {
                if DEADLOCK_VISITED_MAX < graph.visited {
                    return Ok(());
                }
                let Place { claim } = record::open(Table::Holder, &row, &value)?;
                let claim = self.live(&ClaimRef { lock: lock_ref.clone(), claim })?;
                graph.visited += 1;
                self.visit_session(&claim.session, graph, todo)?;
                graph.add_hold(&claim.session, lock_ref, claim.takes.mode().units());
            }
        }
    }

    fn visit_queued(
        &self,
        (claim_ref, enqueued): (ClaimRef, Revision),
        graph: &mut Graph,
        todo: &mut Vec<(LockRef, Option<Revision>)>,
    ) -> Result<(), Fault> {
        let lock_ref = claim_ref.lock.clone();
        let claim = self.live(&claim_ref)?;
        graph.visited += 1;
        let mode = claim.takes.mode();
        let (wait_ref, parts) = if claim.takes.is_part() {
            let (set_ref, set) = self.set_of(&claim_ref)?;
            let Takes::Set(locks) = set.takes else {
                return Err(Fault::damaged(Table::Claim, &key::claim(&set_ref), "it is no set"));
            };
            let parts = locks.iter().map(|(name, mode)| (set_ref.of_lock(name).lock, *mode)).collect();
            (set_ref, parts)
        } else {
            (claim_ref, BTreeMap::from([(lock_ref.clone(), mode)]))
        };
        if !graph.wait_of.contains_key(&wait_ref) {
            let others = parts.keys().filter(|lock| **lock != lock_ref);
            todo.extend(others.map(|lock| (lock.clone(), Some(enqueued))));
        }
        self.visit_session(&claim.session, graph, todo)?;
        graph.add_wait((wait_ref, enqueued), claim.session, parts, &lock_ref);
        Ok(())
    }
}

/// Who waits for what, as far as it concerns one wait.
#[derive(Debug, Default)]
struct Graph {
    locks: BTreeMap<LockRef, GraphLock>,
    sessions: BTreeMap<SessionId, GraphSession>,
    waits: Vec<Wait>,
    wait_of: BTreeMap<ClaimRef, usize>,
    /// Claims that were looked at.
    visited: u64,
}

#[derive(Debug)]
struct GraphLock {
    units: u64,
    taken: u64,
    /// Waits by their places.
    queue: Vec<usize>,
    /// How many of them are let in.
    let_in: usize,
    /// The last place that is in the queue.
    visited_to: Option<Revision>,
}

impl GraphLock {
    fn of(lock: &Lock) -> Self {
        let (units, taken) = (lock.kind.units(), lock.taken);
        Self { units, taken, queue: Vec::new(), let_in: 0, visited_to: None }
    }

    fn head(&self) -> Option<usize> {
        self.queue.get(self.let_in).copied()
    }
}

#[derive(Debug, Default)]
struct GraphSession {
    /// Waits that are not over.
    waits: usize,
    /// Locks that it holds, with the units that it takes of each.
    holds: Vec<(LockRef, u64)>,
}

#[derive(Debug)]
struct Wait {
    /// What queued it; none for the wanted one, which is the last.
    enqueued: Option<Revision>,
    session: SessionId,
    parts: BTreeMap<LockRef, LockMode>,
    over: bool,
}

impl Graph {
    fn add_hold(&mut self, session: &SessionId, lock: &LockRef, units: u64) {
        self.sessions.entry(session.clone()).or_default().holds.push((lock.clone(), units));
    }

    fn add_wait(
        &mut self,
        (wait_ref, enqueued): (ClaimRef, Revision),
        session: SessionId,
        parts: BTreeMap<LockRef, LockMode>,
        at: &LockRef,
    ) {
        let next = self.waits.len();
        let wait = *self.wait_of.entry(wait_ref).or_insert(next);
        if wait == next {
            self.sessions.entry(session.clone()).or_default().waits += 1;
            self.waits.push(Wait { enqueued: Some(enqueued), session, parts, over: false });
        }
        if let Some(lock) = self.locks.get_mut(at) {
            lock.queue.push(wait);
        }
    }

    /// The wait in question: the last of all its queues.
    fn add_wanted(&mut self, session: &SessionId, parts: BTreeMap<LockRef, LockMode>) {
        let wait = self.waits.len();
        for (lock, mode) in &parts {
            if let Some(lock) = self.locks.get_mut(lock) {
                lock.units = mode.kind().units();
                lock.queue.push(wait);
            }
        }
        self.sessions.entry(session.clone()).or_default().waits += 1;
        self.waits.push(Wait { enqueued: None, session: session.clone(), parts, over: false });
    }

    /// Puts the wanted wait before all others.
    #[cfg(feature = "seeded-bugs")]
    fn forget_queues(&mut self) {
        let wanted = self.waits.len() - 1;
        for lock in self.locks.values_mut().filter(|lock| lock.queue.last() == Some(&wanted)) {
            lock.queue.rotate_right(1);
        }
    }

    /// Takes out what will end by itself, until nothing changes. Returns whether the wanted wait is over then.
    fn reduce(&mut self) -> bool {
        let free = self.sessions.iter().filter(|(_, session)| session.waits == 0);
        let mut free: Vec<_> = free.map(|(id, _)| id.clone()).collect();
        let mut changed: BTreeSet<_> = self.locks.keys().cloned().collect();
        loop {
            if let Some(id) = free.pop() {
                let holds = self.sessions.get_mut(&id).map(|session| std::mem::take(&mut session.holds));
                for (lock, units) in holds.into_iter().flatten() {
                    if let Some(graph_lock) = self.locks.get_mut(&lock) {
                        graph_lock.taken = graph_lock.taken.saturating_sub(units);
                        changed.insert(lock);
                    }
                }
            } else if let Some(lock) = changed.pop_first() {
                while let Some(wait) = self.head_that_fits(&lock) {
                    self.let_in(wait, &mut free, &mut changed);
                }
            } else {
                return self.waits.last().is_none_or(|wanted| wanted.over);
            }
        }
    }

    fn head_that_fits(&self, lock: &LockRef) -> Option<usize> {
        let head = self.locks.get(lock)?.head()?;
        let fits = self.waits[head].parts.iter().all(|(lock, mode)| self.fits(head, lock, *mode));
        fits.then_some(head)
    }

    fn fits(&self, wait: usize, lock: &LockRef, mode: LockMode) -> bool {
        let lock = self.locks.get(lock);
        lock.is_some_and(|lock| lock.head() == Some(wait) && lock.taken + mode.units() <= lock.units)
    }

    fn let_in(&mut self, wait: usize, free: &mut Vec<SessionId>, changed: &mut BTreeSet<LockRef>) {
        let Wait { enqueued: _, session: id, parts, over } = &mut self.waits[wait];
        *over = true;
        let session = self.sessions.entry(id.clone()).or_default();
        session.waits -= 1;
        for (name, mode) in parts {
            if let Some(lock) = self.locks.get_mut(name) {
                lock.let_in += 1;
                lock.taken += mode.units();
            }
            session.holds.push((name.clone(), mode.units()));
            changed.insert(name.clone());
        }
        if session.waits == 0 {
            free.push(id.clone());
        }
    }

    /// A way from the wanted wait along those that hold it up, until it comes back to a wait that it passed.
    fn stuck(&self) -> Vec<(SessionId, LockRef)> {
        let mut way = Vec::new();
        let mut passed = BTreeSet::new();
        let mut at = self.waits.len().checked_sub(1);
        while let Some(wait) = at.filter(|wait| passed.insert(*wait) && way.len() < STUCK_SHOWN_MAX) {
            let Wait { session, parts, .. } = &self.waits[wait];
            let closed = parts.iter().find(|(lock, mode)| !self.fits(wait, lock, **mode));
            let Some((lock, _)) = closed else { break };
            way.push((session.clone(), lock.clone()));
            at = self.held_up_by(wait, lock);
        }
        way
    }

    /// A wait that holds up another one at a lock: the head of the queue, or one of a session that holds the lock.
    fn held_up_by(&self, wait: usize, lock: &LockRef) -> Option<usize> {
        let head = self.locks.get(lock)?.head()?;
        if head != wait {
            return Some(head);
        }
        let holds = |session: &GraphSession| session.holds.iter().any(|(held, _)| held == lock);
        let (holder, _) = self.sessions.iter().find(|(_, session)| 0 < session.waits && holds(session))?;
        let of_holder = |wait: &usize| !self.waits[*wait].over && self.waits[*wait].session == *holder;
        let order = |wait: &usize| (self.waits[*wait].enqueued.is_none(), self.waits[*wait].enqueued);
        (0..self.waits.len()).filter(of_holder).min_by_key(order)
    }
}
