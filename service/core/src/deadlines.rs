//! The leader's deadlines: when sessions and waits end unless somebody renews them.
//!
//! Sans-IO: time is a parameter, the leader's monotonic clock in milliseconds. Nothing here ends anything; what is due is
//! named in an `Expire` proposal, and only that entry ends it. The shell that owns this calls, in this order,
//!
//! 1. `rebuild` when the first entry of its leadership is applied: whatever an earlier leader counted is forgotten, and
//!    every session has its full time to live again;
//! 2. `on_event` for each event of each applied entry, before anybody is answered;
//! 3. `renew` for each keepalive, once a leadership round that began after its receipt has confirmed the leader, with the
//!    time of its receipt. While `is_expiring`, a keepalive waits for the entry's outcome instead;
//! 4. `due` when `next_due` has come; it marks what it names;
//! 5. `settled` when that entry is applied, after its events.
//!
//! Contract: a session is never named earlier than its time to live after the last keepalive that was acknowledged.
//!
//! Invariants: (a) the sessions here are the live sessions of the state; (b) a deadline is in the index exactly while its
//! session or wait is not expiring and, for a wait, while no request waits for it; (c) `renew` never moves one back.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{
    Change, ClaimRef, Event, Expire, Fault, LiveSession, QueuedWait, SessionRef, Tables, View, WaitRef,
};
use crate::limits::{EXPIRE_OWNED_MAX, EXPIRE_SESSIONS_MAX, EXPIRE_WAITS_MAX};
use crate::{LeaderId, Revision, SessionId};

/// The deadlines of one leadership.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deadlines {
    sessions: BTreeMap<SessionId, SessionDeadline>,
    sessions_due: BTreeSet<(u64, SessionId)>,
    waits: BTreeMap<ClaimRef, WaitDeadline>,
    waits_due: BTreeSet<(u64, ClaimRef)>,
}

/// A live session.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SessionDeadline {
    create_revision: Revision,
    ttl_ms: u64,
    /// The claim that made it, if one did: its grant renews the session.
    made_by: Option<ClaimRef>,
    /// Claims that it owns.
    owned: u64,
    due_ms: u64,
    /// Whether an `Expire` that names it has been proposed and has no outcome yet.
    expiring: bool,
}

/// A queued claim.
#[derive(Debug, Clone, PartialEq, Eq)]
struct WaitDeadline {
    enqueued: Revision,
    wait_ms: u64,
    keep_waiting: bool,
    /// Requests that wait for it at this leader.
    open: u64,
    /// When it ends if none comes; counts only while none is there.
    due_ms: u64,
    expiring: bool,
}

impl WaitDeadline {
    const fn is_counted(&self) -> bool {
        !self.keep_waiting && self.open == 0 && !self.expiring
    }
}

/// What became of a renewal.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The session lives at least this long from the receipt of the keepalive.
    Renewed {
        /// Its time to live in milliseconds.
        ttl_ms: u64,
    },
    /// An entry that may end the session is under way: wait for its outcome, then renew again with the same receipt.
    Expiring,
    /// There is no such live session.
    Unknown,
}

impl Deadlines {
    /// The deadlines of a leadership whose first entry has just been applied: full times from `now_ms`. Open waits are
    /// forgotten; each request that goes on waiting opens its wait again.
    ///
    /// # Errors
    /// [`Fault`] when the tables cannot be read.
    pub fn rebuild<T: Tables>(view: &View<'_, T>, now_ms: u64) -> Result<Self, Fault> {
        let mut deadlines = Self::default();
        for session in view.live_sessions()? {
            deadlines.add_session(session, now_ms);
        }
        for QueuedWait { wait, session: _, wait_ms, keep_waiting } in view.queued_waits()? {
            deadlines.add_wait(wait, wait_ms, keep_waiting, now_ms);
        }
        Ok(deadlines)
    }

    /// Follows the state. A session or wait that begins gets its full time from `now_ms`.
    pub fn on_event(&mut self, event: &Event, now_ms: u64) {
        match &event.change {
            Change::SessionCreated { id, ttl_ms, made_by } => {
                let (id, create_revision) = (id.clone(), event.revision);
                let made_by = made_by.clone();
                let begun = LiveSession { id, create_revision, ttl_ms: *ttl_ms, made_by, owned: 0 };
                self.add_session(begun, now_ms);
            }
            Change::SessionEnded { id, reason: _ } => self.remove_session(id),
            Change::ClaimQueued { claim, session, mode: _, wait_ms, keep_waiting }
            | Change::SetQueued { claim, session, wait_ms, keep_waiting } => {
                let wait = WaitRef { claim: claim.clone(), enqueued: event.revision };
                self.add_wait(wait, *wait_ms, *keep_waiting, now_ms);
                self.count_owned(session, |owned| owned + 1);
            }
            Change::ClaimGranted { claim, session, mode: _, token: _ } => {
                if !self.remove_wait(claim) {
                    self.count_owned(session, |owned| owned + 1);
                }
                self.renew_by_grant(claim, session, now_ms);
            }
            Change::ClaimEnded { claim, session, reason: _, token: _ } => {
                self.remove_wait(claim);
                if let Some(session) = session {
                    self.count_owned(session, |owned| owned.saturating_sub(1));
                }
            }
            Change::SetGranted { claim, session } => {
                if !self.remove_wait(claim) {
                    self.count_owned(session, |owned| owned + 1);
                }
            }
            Change::SessionOwns { id, owned } => self.count_owned(id, |_| *owned),
            Change::NamespaceCreated { .. }
            | Change::NamespaceDeleted { .. }
            | Change::Proclaimed { .. }
            | Change::ConfigPut { .. }
            | Change::ConfigDeleted { .. } => {}
        }
    }

    /// Renews a session from when its keepalive was received. An earlier receipt than one that renewed it before changes
    /// nothing.
    pub fn renew(&mut self, id: &SessionId, received_at_ms: u64) -> Renewal {
        let Some(session) = self.sessions.get_mut(id) else {
            return Renewal::Unknown;
        };
        if session.expiring {
            return Renewal::Expiring;
        }
        let due_ms = received_at_ms.saturating_add(session.ttl_ms);
        if session.due_ms < due_ms {
            self.sessions_due.remove(&(session.due_ms, id.clone()));
            session.due_ms = due_ms;
            self.sessions_due.insert((due_ms, id.clone()));
        }
        Renewal::Renewed { ttl_ms: session.ttl_ms }
    }

    /// Whether an entry that may end the session is under way.
    #[must_use]
    pub fn is_expiring(&self, id: &SessionId) -> bool {
        self.sessions.get(id).is_some_and(|session| session.expiring)
    }

    /// How long a session has, in milliseconds; none when there is no such live session.
    #[must_use]
    pub fn remaining_ms(&self, id: &SessionId, now_ms: u64) -> Option<u64> {
        self.sessions.get(id).map(|session| session.due_ms.saturating_sub(now_ms))
    }

    /// How many sessions are watched.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// A request waits for a queued claim. Returns false when no such claim is queued: it was granted or is over.
    #[must_use]
    pub fn wait_open(&mut self, claim: &ClaimRef) -> bool {
        let Some(wait) = self.waits.get_mut(claim) else {
            return false;
        };
        if wait.is_counted() {
            self.waits_due.remove(&(wait.due_ms, claim.clone()));
        }
        wait.open += 1;
        true
    }

    /// A request that waited for a claim is gone. With the last one the claim's time to be waited for again begins.
    pub fn wait_closed(&mut self, claim: &ClaimRef, now_ms: u64) {
        let Some(wait) = self.waits.get_mut(claim) else {
            return;
        };
        let Some(open) = wait.open.checked_sub(1) else {
            return;
        };
        wait.open = open;
        if open == 0 {
            wait.due_ms = now_ms.saturating_add(wait.wait_ms);
            if wait.is_counted() {
                self.waits_due.insert((wait.due_ms, claim.clone()));
            }
        }
    }

    /// The earliest time at which something is due, if anything ever is.
    #[must_use]
    pub fn next_due(&self) -> Option<u64> {
        let session = self.sessions_due.first().map(|(due_ms, _)| *due_ms);
        let wait = self.waits_due.first().map(|(due_ms, _)| *due_ms);
        session.into_iter().chain(wait).min()
    }

    /// What is due, as much of it as one entry may end, the longest due first. It is marked as expiring until `settled`.
    #[must_use]
    pub fn due(&mut self, leader: LeaderId, now_ms: u64) -> Option<Expire> {
        let sessions = self.due_sessions(now_ms);
        let waits = self.due_waits(now_ms);
        let any = !sessions.is_empty() || !waits.is_empty();
        any.then_some(Expire { leader, sessions, waits })
    }

    fn due_sessions(&mut self, now_ms: u64) -> Vec<SessionRef> {
        let mut named = Vec::new();
        let mut owned = 0;
        while let Some((due_ms, id)) = self.sessions_due.first().cloned() {
            if now_ms < due_ms || EXPIRE_SESSIONS_MAX <= named.len() {
                break;
            }
            let session = self.sessions.get_mut(&id).expect("the index names only watched sessions");
            owned += session.owned;
            if EXPIRE_OWNED_MAX < owned && !named.is_empty() {
                break;
            }
            session.expiring = true;
            self.sessions_due.pop_first();
            named.push(SessionRef { id, create_revision: session.create_revision });
        }
        named
    }

    fn due_waits(&mut self, now_ms: u64) -> Vec<WaitRef> {
        let mut named = Vec::new();
        while let Some((due_ms, claim)) = self.waits_due.first().cloned() {
            if now_ms < due_ms || EXPIRE_WAITS_MAX <= named.len() {
                break;
            }
            let wait = self.waits.get_mut(&claim).expect("the index names only watched waits");
            wait.expiring = true;
            self.waits_due.pop_first();
            named.push(WaitRef { claim, enqueued: wait.enqueued });
        }
        named
    }

    /// The entry of this proposal is applied and its events were followed, or it will certainly never be applied. What it
    /// named and did not end counts again, and may be renewed again.
    pub fn settled(&mut self, expire: &Expire) {
        for SessionRef { id, create_revision } in &expire.sessions {
            if let Some(session) = self.sessions.get_mut(id)
                && session.create_revision == *create_revision
                && session.expiring
            {
                session.expiring = false;
                self.sessions_due.insert((session.due_ms, id.clone()));
            }
        }
        for WaitRef { claim, enqueued } in &expire.waits {
            if let Some(wait) = self.waits.get_mut(claim)
                && wait.enqueued == *enqueued
                && wait.expiring
            {
                wait.expiring = false;
                if wait.is_counted() {
                    self.waits_due.insert((wait.due_ms, claim.clone()));
                }
            }
        }
    }

    /// The shell was `stall_ms` late, and keepalives may lie unread for as long: everything has that much more time.
    pub fn stall(&mut self, stall_ms: u64) {
        for session in self.sessions.values_mut() {
            session.due_ms = session.due_ms.saturating_add(stall_ms);
        }
        for wait in self.waits.values_mut() {
            wait.due_ms = wait.due_ms.saturating_add(stall_ms);
        }
        let sessions = self.sessions.iter().filter(|(_, session)| !session.expiring);
        self.sessions_due = sessions.map(|(id, session)| (session.due_ms, id.clone())).collect();
        let waits = self.waits.iter().filter(|(_, wait)| wait.is_counted());
        self.waits_due = waits.map(|(claim, wait)| (wait.due_ms, claim.clone())).collect();
    }

    fn add_session(&mut self, session: LiveSession, now_ms: u64) {
        let LiveSession { id, create_revision, ttl_ms, made_by, owned } = session;
        self.remove_session(&id);
        let due_ms = now_ms.saturating_add(ttl_ms);
        self.sessions_due.insert((due_ms, id.clone()));
        let expiring = false;
        let deadline = SessionDeadline { create_revision, ttl_ms, made_by, owned, due_ms, expiring };
        self.sessions.insert(id, deadline);
    }

    fn remove_session(&mut self, id: &SessionId) {
        if let Some(session) = self.sessions.remove(id) {
            self.sessions_due.remove(&(session.due_ms, id.clone()));
        }
    }

    fn count_owned(&mut self, id: &SessionId, count: impl FnOnce(u64) -> u64) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.owned = count(session.owned);
        }
    }

    /// A grant renews the session that its own claim made, once: its client was waiting and sent no keepalives.
    fn renew_by_grant(&mut self, claim: &ClaimRef, id: &SessionId, now_ms: u64) {
        let own = self.sessions.get(id).is_some_and(|session| session.made_by.as_ref() == Some(claim));
        if own {
            // While the session is expiring the entry under way decides, and the grant cannot save it.
            let _ = self.renew(id, now_ms);
        }
    }

    fn add_wait(&mut self, wait: WaitRef, wait_ms: u64, keep_waiting: bool, now_ms: u64) {
        let WaitRef { claim, enqueued } = wait;
        self.remove_wait(&claim);
        let due_ms = now_ms.saturating_add(wait_ms);
        let wait = WaitDeadline { enqueued, wait_ms, keep_waiting, open: 0, due_ms, expiring: false };
        if wait.is_counted() {
            self.waits_due.insert((due_ms, claim.clone()));
        }
        self.waits.insert(claim, wait);
    }

    /// Returns whether the claim was queued.
    fn remove_wait(&mut self, claim: &ClaimRef) -> bool {
        let Some(wait) = self.waits.remove(claim) else {
            return false;
        };
        self.waits_due.remove(&(wait.due_ms, claim.clone()));
        true
    }
}

#[cfg(test)]
mod tests;
