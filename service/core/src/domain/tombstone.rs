//! What is remembered of claims and sessions that ended, so that an id is used once, and what is forgotten again.
//!
//! A tombstone of an explicit session's claim lives as long as that session, the newest `session_tombstones_max` of
//! each. Every other one is in the index by age. When an explicit session ends, one row of that index stands for the
//! tombstones of all its claims; it sorts before the session's own tombstone, so a session's claims are forgotten before
//! the session is, and until then either tombstone refuses them.

use serde::{Deserialize, Serialize};

use crate::domain::entry::Entry;
use crate::domain::key::{KeyRange, KeyReader};
use crate::domain::lock::Lock;
use crate::domain::machine::Oldest;
use crate::domain::session::Session;
use crate::domain::{ClaimRef, EndReason, Fault, LockRef, Rejection, Table, Tables, key, record};
use crate::limits::DROPPED_PER_ENTRY_MAX;
use crate::{FencingToken, LogTime, Revision, SessionId};

/// What is remembered of a session that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionTombstone {
    /// Why it ended.
    pub(crate) reason: EndReason,
    /// The revision that ended it.
    pub(crate) revision: Revision,
    /// When it ended.
    pub(crate) time: LogTime,
}

/// What is remembered of a claim that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClaimTombstone {
    /// Why it ended.
    pub(crate) reason: EndReason,
    /// The token it had, if it was ever held.
    pub(crate) token: Option<FencingToken>,
    /// Its session; none when it was never seen.
    pub(crate) session: Option<SessionId>,
    /// The revision that ended it.
    pub(crate) revision: Revision,
    /// When it ended.
    pub(crate) time: LogTime,
    /// Which index has it.
    pub(crate) kept_by: KeptBy,
}

/// Which index has a claim's tombstone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum KeptBy {
    /// The index by age.
    Age,
    /// The index by session.
    Session,
}

/// A row of the index by age.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Age {
    /// When it ended or fell idle.
    pub(crate) time: LogTime,
    /// The revision then; it only orders.
    pub(crate) revision: Revision,
    /// What did.
    pub(crate) aged: Aged,
}

/// What is forgotten when it is old enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Aged {
    /// The tombstones of all claims of an explicit session that ended.
    SessionClaims(SessionId),
    /// A claim's tombstone.
    Claim(ClaimRef),
    /// A session's tombstone.
    Session(SessionId),
    /// A lock that nobody holds or waits for.
    Lock(LockRef),
}

/// The part of the index by age that holds tombstones.
pub(crate) const CLASS_TOMBSTONES: u8 = 1;
/// The part that holds idle locks.
pub(crate) const CLASS_IDLE_LOCKS: u8 = 2;

impl Age {
    pub(crate) fn key(&self) -> Vec<u8> {
        let (class, kind, rest) = match &self.aged {
            Aged::SessionClaims(id) => (CLASS_TOMBSTONES, 1, key::session(id)),
            Aged::Claim(claim) => (CLASS_TOMBSTONES, 2, key::claim(claim)),
            Aged::Session(id) => (CLASS_TOMBSTONES, 3, key::session(id)),
            Aged::Lock(lock) => (CLASS_IDLE_LOCKS, 4, key::lock(lock)),
        };
        let mut bytes = vec![class];
        bytes.extend_from_slice(&self.time.as_ms().to_be_bytes());
        bytes.extend_from_slice(&self.revision.as_u64().to_be_bytes());
        bytes.push(kind);
        bytes.extend_from_slice(&rest);
        bytes
    }

    pub(crate) fn of_key(key: &[u8]) -> Result<Self, Fault> {
        let mut reader = KeyReader::new(Table::Age, key);
        let class = reader.byte()?;
        let time = reader.time()?;
        let revision = reader.revision()?;
        let aged = match (class, reader.byte()?) {
            (CLASS_TOMBSTONES, 1) => Aged::SessionClaims(reader.last_session()?),
            (CLASS_TOMBSTONES, 2) => Aged::Claim(reader.last_claim()?),
            (CLASS_TOMBSTONES, 3) => Aged::Session(reader.last_session()?),
            (CLASS_IDLE_LOCKS, 4) => Aged::Lock(reader.last_lock()?),
            (_, _) => return Err(reader.damaged()),
        };
        Ok(Self { time, revision, aged })
    }
}

impl<T: Tables> Entry<'_, '_, T> {
    pub(crate) fn session_tombstone(&self, id: &SessionId) -> Result<Option<SessionTombstone>, Fault> {
        self.rows.read(Table::SessionTombstone, &key::session(id))
    }

    pub(crate) fn claim_tombstone(&self, claim: &ClaimRef) -> Result<Option<ClaimTombstone>, Fault> {
        self.rows.read(Table::ClaimTombstone, &key::claim(claim))
    }

    /// Why no id may be added to those that will have to be remembered, if so.
    pub(crate) fn refuse_ids(&self) -> Result<Option<Rejection>, Fault> {
        let max = self.meta.settings.tombstones_max;
        if self.meta.counters.tombstones < max {
            return Ok(None);
        }
        let full = match self.oldest_aged(CLASS_TOMBSTONES)? {
            Some(oldest) => self.meta.time.ms_since(oldest.time) < self.meta.settings.tombstone_ms_min,
            None => false,
        };
        Ok(full.then_some(Rejection::TooManyTombstones { max }))
    }

    /// Remembers a session that ended.
    pub(crate) fn bury_session(&mut self, id: &SessionId, reason: EndReason, revision: Revision) {
        let tombstone = SessionTombstone { reason, revision, time: self.meta.time };
        self.rows.put(Table::SessionTombstone, key::session(id), &tombstone);
        self.meta.counters.tombstones += 1;
        self.age(revision, Aged::Session(id.clone()));
    }

    /// Remembers a claim that ended in the index by age.
    pub(crate) fn bury_claim(
        &mut self,
        claim: &ClaimRef,
        session: Option<&SessionId>,
        (reason, token): (EndReason, Option<FencingToken>),
        revision: Revision,
    ) {
        self.put_claim_tombstone(claim, session, (reason, token), revision, KeptBy::Age);
        self.meta.counters.tombstones += 1;
        self.age(revision, Aged::Claim(claim.clone()));
    }

    /// Remembers a claim that ended for as long as its session lives.
    pub(crate) fn bury_claim_of_session(
        &mut self,
        claim: &ClaimRef,
        (id, session): (&SessionId, &mut Session),
        (reason, token): (EndReason, Option<FencingToken>),
        revision: Revision,
    ) -> Result<(), Fault> {
        self.put_claim_tombstone(claim, Some(id), (reason, token), revision, KeptBy::Session);
        self.rows.put(Table::SessionClaimTombstone, key::session_claim_tombstone(id, revision, claim), &());
        session.tombstones += 1;
        while self.meta.settings.session_tombstones_max < session.tombstones {
            if self.forget_claims_of(id, 1)? == 0 {
                let key = key::session(id);
                return Err(Fault::damaged(Table::Session, &key, "it counts tombstones that are missing"));
            }
            session.tombstones -= 1;
        }
        Ok(())
    }

    fn put_claim_tombstone(
        &mut self,
        claim: &ClaimRef,
        session: Option<&SessionId>,
        (reason, token): (EndReason, Option<FencingToken>),
        revision: Revision,
        kept_by: KeptBy,
    ) {
        let time = self.meta.time;
        let tombstone = ClaimTombstone { reason, token, session: session.cloned(), revision, time, kept_by };
        self.rows.put(Table::ClaimTombstone, key::claim(claim), &tombstone);
    }

    /// Lets the tombstones of an explicit session's claims age, because the session ended.
    pub(crate) fn age_claims_of(&mut self, id: &SessionId, session: &Session, revision: Revision) {
        if session.tombstones != 0 {
            self.meta.counters.tombstones += session.tombstones;
            self.age(revision, Aged::SessionClaims(id.clone()));
        }
    }

    /// Puts something that ends or falls idle in this entry into the index by age.
    pub(crate) fn age(&mut self, revision: Revision, aged: Aged) {
        let time = self.meta.time;
        let oldest = match &aged {
            Aged::SessionClaims(_) | Aged::Claim(_) | Aged::Session(_) => &mut self.oldest.tombstone,
            Aged::Lock(_) => &mut self.oldest.idle_lock,
        };
        *oldest = (*oldest).min(time);
        self.rows.put(Table::Age, Age { time, revision, aged }.key(), &());
    }

    fn oldest_aged(&self, class: u8) -> Result<Option<Age>, Fault> {
        let row = record::rows(self.rows, Table::Age, &KeyRange::prefix(vec![class]), 1)?.pop();
        row.map(|(key, value)| {
            record::open::<()>(Table::Age, &key, &value)?;
            Age::of_key(&key)
        })
        .transpose()
    }

    /// Drops what is too old or too much, of each kind a bounded number.
    pub(crate) fn drop_old(&mut self) -> Result<(), Fault> {
        self.drop_replays()?;
        self.drop_tombstones()?;
        self.drop_idle_locks()?;
        self.drop_events()
    }

    fn is_droppable(&self, time: LogTime, count: u64) -> bool {
        let settings = &self.meta.settings;
        let age_ms = self.meta.time.ms_since(time);
        let wanted = settings.tombstone_ms <= age_ms || settings.tombstones_max < count;
        0 < count && wanted && settings.tombstone_ms_min <= age_ms
    }

    fn drop_tombstones(&mut self) -> Result<(), Fault> {
        let mut left = DROPPED_PER_ENTRY_MAX;
        while 0 < left && self.is_droppable(self.oldest.tombstone, self.meta.counters.tombstones) {
            let Some(oldest) = self.oldest_aged(CLASS_TOMBSTONES)? else {
                self.oldest.tombstone = Oldest::NEVER;
                break;
            };
            self.oldest.tombstone = oldest.time;
            if self.is_droppable(oldest.time, self.meta.counters.tombstones) {
                left -= self.drop_tombstone(&oldest, left)?;
            }
        }
        Ok(())
    }

    /// Drops one tombstone, or up to `limit` of a session's claims. Returns how many rows that took, at least one.
    fn drop_tombstone(&mut self, age: &Age, limit: usize) -> Result<usize, Fault> {
        let dropped = match &age.aged {
            Aged::SessionClaims(id) => {
                let dropped = self.forget_claims_of(id, limit)?;
                self.meta.counters.tombstones -= dropped as u64;
                if dropped == limit {
                    // There may be more; the row stays and the next entry goes on, and finds none left at worst.
                    return Ok(dropped);
                }
                dropped
            }
            Aged::Claim(claim) => {
                self.rows.delete(Table::ClaimTombstone, key::claim(claim));
                self.meta.counters.tombstones -= 1;
                1
            }
            Aged::Session(id) => {
                self.rows.delete(Table::SessionTombstone, key::session(id));
                self.meta.counters.tombstones -= 1;
                1
            }
            Aged::Lock(lock) => {
                let key = key::lock(lock);
                return Err(Fault::damaged(Table::Lock, &key, "it is indexed as a tombstone"));
            }
        };
        self.rows.delete(Table::Age, age.key());
        Ok(dropped.max(1))
    }

    /// Drops the oldest tombstones of a session's claims.
    fn forget_claims_of(&mut self, id: &SessionId, limit: usize) -> Result<usize, Fault> {
        let range = KeyRange::prefix(key::session_prefix(id));
        let rows = record::rows(self.rows, Table::SessionClaimTombstone, &range, limit)?;
        for (key, value) in &rows {
            record::open::<()>(Table::SessionClaimTombstone, key, value)?;
            let mut reader = KeyReader::new(Table::SessionClaimTombstone, key);
            reader.session()?;
            reader.revision()?;
            let claim = reader.last_claim()?;
            self.rows.delete(Table::ClaimTombstone, key::claim(&claim));
            self.rows.delete(Table::SessionClaimTombstone, key.clone());
        }
        Ok(rows.len())
    }

    fn drop_idle_locks(&mut self) -> Result<(), Fault> {
        for _ in 0..DROPPED_PER_ENTRY_MAX {
            if !self.is_droppable(self.oldest.idle_lock, self.meta.counters.idle_locks) {
                break;
            }
            let Some(oldest) = self.oldest_aged(CLASS_IDLE_LOCKS)? else {
                self.oldest.idle_lock = Oldest::NEVER;
                break;
            };
            self.oldest.idle_lock = oldest.time;
            if self.is_droppable(oldest.time, self.meta.counters.idle_locks) {
                self.drop_idle_lock(&oldest)?;
            }
        }
        Ok(())
    }

    fn drop_idle_lock(&mut self, age: &Age) -> Result<(), Fault> {
        let Aged::Lock(lock) = &age.aged else {
            return Err(Fault::damaged(Table::Age, &age.key(), "it is indexed as an idle lock"));
        };
        let key = key::lock(lock);
        let idle = self.rows.read::<Lock>(Table::Lock, &key)?.is_some_and(|lock| lock.is_idle());
        if !idle {
            return Err(Fault::damaged(Table::Lock, &key, "it is indexed as idle and is not"));
        }
        self.rows.delete(Table::Lock, key);
        self.rows.delete(Table::Age, age.key());
        self.meta.counters.idle_locks -= 1;
        Ok(())
    }
}
