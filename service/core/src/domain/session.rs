//! Sessions: who owns claims, and for how long at most.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::domain::claim::{Claim, Standing};
use crate::domain::entry::Entry;
use crate::domain::key::{KeyRange, KeyReader};
use crate::domain::{
    Change, ClaimRef, EndReason, Fault, Outcome, Rejection, SessionSpec, Success, Table, Tables, key, record,
};
use crate::limits::PAGE_ROWS_MAX;
use crate::{ConfigKey, LogTime, NamespaceName, Revision, SessionId};

/// A live session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    /// What was asked for.
    pub(crate) spec: SessionSpec,
    /// The revision that created it.
    pub(crate) create_revision: Revision,
    /// When it was created.
    pub(crate) time: LogTime,
    /// The claim that made it, if one did. Invariant: that claim is live, and its id is the session's create revision.
    pub(crate) made_by: Option<ClaimRef>,
    /// Claims and config keys that it owns. Invariant: as many as the indexes of its claims and of its keys have.
    pub(crate) owned: u64,
    /// Tombstones that live with it. Invariant: as many as the index of its tombstones has.
    pub(crate) tombstones: u64,
}

impl<T: Tables> Entry<'_, '_, T> {
    pub(crate) fn session(&self, id: &SessionId) -> Result<Option<Session>, Fault> {
        self.rows.read(Table::Session, &key::session(id))
    }

    pub(crate) fn put_session(&mut self, id: &SessionId, session: &Session) {
        self.rows.put(Table::Session, key::session(id), session);
    }

    /// A reserved id is refused as taken: the store gives it to the claim of that revision, earlier or later.
    pub(crate) fn create_session(&mut self, id: &SessionId, spec: &SessionSpec) -> Result<Outcome, Fault> {
        if id.is_reserved() {
            return Ok(Err(Rejection::SessionExists));
        }
        if let Some(Session { spec: known, create_revision, .. }) = self.session(id)? {
            let again = Success::Session { create_revision, spec: known, created: false };
            let same = matches!(&again, Success::Session { spec: known, .. } if known == spec);
            return Ok(if same { Ok(again) } else { Err(Rejection::SessionExists) });
        }
        if let Some(tombstone) = self.session_tombstone(id)? {
            return Ok(Err(Rejection::SessionExpired { reason: tombstone.reason }));
        }
        if let Some(refusal) = self.refuse_session() {
            return Ok(Err(refusal));
        }
        if let Some(refusal) = self.refuse_ids()? {
            return Ok(Err(refusal));
        }
        let create_revision = self.take_revision();
        let session = self.add_session(id, spec.clone(), create_revision, None);
        self.put_session(id, &session);
        Ok(Ok(Success::Session { create_revision, spec: session.spec, created: true }))
    }

    /// Why nothing is done for a session that does not live.
    pub(crate) fn refuse_dead_session(&self, id: &SessionId) -> Result<Rejection, Fault> {
        Ok(match self.session_tombstone(id)? {
            Some(tombstone) => Rejection::SessionExpired { reason: tombstone.reason },
            None => Rejection::SessionNotFound,
        })
    }

    /// Counts what a live session owns anew.
    pub(crate) fn count_owned(
        &mut self,
        id: &SessionId,
        count: impl FnOnce(u64) -> u64,
    ) -> Result<(), Fault> {
        let missing =
            || Fault::damaged(Table::Session, &key::session(id), "it is missing while it owns a key");
        let mut session = self.session(id)?.ok_or_else(missing)?;
        session.owned = count(session.owned);
        self.put_session(id, &session);
        let change = Change::SessionOwns { id: id.clone(), owned: session.owned };
        self.tell(self.meta.revision, change);
        Ok(())
    }

    /// Why the store takes no further session, if so.
    pub(crate) fn refuse_session(&self) -> Option<Rejection> {
        let max = self.meta.settings.sessions_max;
        (max <= self.meta.counters.sessions).then_some(Rejection::TooManySessions { max })
    }

    /// A session that begins in this entry; the caller puts its row.
    pub(crate) fn add_session(
        &mut self,
        id: &SessionId,
        spec: SessionSpec,
        create_revision: Revision,
        made_by: Option<ClaimRef>,
    ) -> Session {
        self.meta.counters.sessions += 1;
        let begun = Change::SessionCreated { id: id.clone(), ttl_ms: spec.ttl_ms, made_by: made_by.clone() };
        self.tell(create_revision, begun);
        Session { spec, create_revision, time: self.meta.time, made_by, owned: 0, tombstones: 0 }
    }

    /// A session that a claim makes for itself.
    pub(crate) fn add_own_session(
        &mut self,
        claim: &ClaimRef,
        ttl_ms: u64,
        revision: Revision,
    ) -> (SessionId, Session) {
        let id = SessionId::claim_made(revision);
        let spec = SessionSpec { ttl_ms, name: String::new(), labels: BTreeMap::new(), lock_delay_ms: 0 };
        let session = self.add_session(&id, spec, revision, Some(claim.clone()));
        (id, session)
    }

    /// A reserved id that is not live leaves no tombstone: the store never gives the same one twice, and a tombstone made
    /// ahead of its revision would stand in the way of the claim that gets it.
    pub(crate) fn end_session(&mut self, id: &SessionId) -> Result<Outcome, Fault> {
        if let Some(session) = self.session(id)? {
            let revision = self.take_revision();
            self.close_session(id, session, EndReason::Released, revision)?;
            return Ok(Ok(Success::SessionEnded));
        }
        if id.is_reserved() || self.session_tombstone(id)?.is_some() {
            return Ok(Ok(Success::SessionEnded));
        }
        if let Some(refusal) = self.refuse_ids()? {
            return Ok(Err(refusal));
        }
        let revision = self.take_revision();
        self.bury_session(id, EndReason::DeletedUnseen, revision);
        let reason = EndReason::DeletedUnseen;
        self.tell(revision, Change::SessionEnded { id: id.clone(), reason });
        Ok(Ok(Success::SessionEnded))
    }

    /// Ends a session and everything that it owns. The locks that it lost are settled by the entry.
    pub(crate) fn close_session(
        &mut self,
        id: &SessionId,
        mut session: Session,
        reason: EndReason,
        revision: Revision,
    ) -> Result<(), Fault> {
        let mut claims = Vec::new();
        for claim_ref in self.claims_of(id)? {
            let Some(claim) = self.claim(&claim_ref)? else {
                let key = key::claim(&claim_ref);
                return Err(Fault::damaged(Table::Claim, &key, "it is missing while its session owns it"));
            };
            #[cfg(feature = "seeded-bugs")]
            if self.bugs.session_check_dropped && matches!(claim.standing, Standing::Queued { .. }) {
                continue;
            }
            // Its set takes it along.
            if !claim.takes.is_part() {
                claims.push((claim_ref, claim));
            }
        }
        for (claim_ref, claim) in claims {
            let reason = reason_of_owned(reason, &claim);
            self.remove_claim(&claim_ref, &claim, Some(&mut session), reason, revision)?;
        }
        for (namespace, key) in self.keys_of(id)? {
            let Some(head) = self.config_head(&namespace, &key)? else {
                let row = key::config(&namespace, &key);
                return Err(Fault::damaged(Table::ConfigHead, &row, "it is missing while a session owns it"));
            };
            self.rows.delete(Table::SessionKey, key::session_key(id, &namespace, &key));
            self.remove_value(&namespace, &key, &head, revision, true)?;
        }
        self.rows.delete(Table::Session, key::session(id));
        self.meta.counters.sessions -= 1;
        self.age_claims_of(id, &session, revision);
        self.bury_session(id, reason, revision);
        self.tell(revision, Change::SessionEnded { id: id.clone(), reason });
        Ok(())
    }

    pub(crate) fn claims_of(&self, id: &SessionId) -> Result<Vec<ClaimRef>, Fault> {
        self.owned_by(id, Table::SessionClaim, |key| key.last_claim())
    }

    fn keys_of(&self, id: &SessionId) -> Result<Vec<(NamespaceName, ConfigKey)>, Fault> {
        self.owned_by(id, Table::SessionKey, |key| key.last_config())
    }

    /// What an index of sessions has of one, at most `SESSION_OWNED_MAX`.
    fn owned_by<I>(
        &self,
        id: &SessionId,
        index: Table,
        owned: impl Fn(&mut KeyReader<'_>) -> Result<I, Fault>,
    ) -> Result<Vec<I>, Fault> {
        let mut found = Vec::new();
        let mut range = KeyRange::prefix(key::session_prefix(id));
        loop {
            let rows = record::rows(self.rows, index, &range, PAGE_ROWS_MAX)?;
            let last = rows.last().map(|(key, _)| key.clone());
            for (key, value) in rows {
                record::open::<()>(index, &key, &value)?;
                let mut reader = KeyReader::new(index, &key);
                reader.session()?;
                found.push(owned(&mut reader)?);
            }
            match last {
                Some(key) => range = range.after(key),
                None => return Ok(found),
            }
        }
    }
}

/// Why a claim ends when its session does: a client that ends its session releases what it holds and leaves the queues
/// that it waits in.
const fn reason_of_owned(session: EndReason, claim: &Claim) -> EndReason {
    match (session, &claim.standing) {
        (EndReason::Released, Standing::Queued { .. }) => EndReason::LeftQueue,
        (
            EndReason::Released
            | EndReason::Expired
            | EndReason::TimedOut
            | EndReason::LeftQueue
            | EndReason::DeletedUnseen
            | EndReason::Forced,
            Standing::Held { .. } | Standing::Queued { .. },
        ) => session,
    }
}
