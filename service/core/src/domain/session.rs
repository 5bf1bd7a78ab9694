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
use crate::{LogTime, Revision, SessionId};

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
    /// Claims that it owns. Invariant: as many as the index of its claims has.
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
        for claim_ref in self.claims_of(id)? {
            let Some(claim) = self.claim(&claim_ref)? else {
                let key = key::claim(&claim_ref);
                return Err(Fault::damaged(Table::Claim, &key, "it is missing while its session owns it"));
            };
            #[cfg(feature = "seeded-bugs")]
            if self.bugs.session_check_dropped && matches!(claim.standing, Standing::Queued { .. }) {
                continue;
            }
            let reason = reason_of_owned(reason, &claim);
            self.remove_claim(&claim_ref, &claim, Some(&mut session), reason, revision)?;
        }
        self.rows.delete(Table::Session, key::session(id));
        self.meta.counters.sessions -= 1;
        self.age_claims_of(id, &session, revision);
        self.bury_session(id, reason, revision);
        self.tell(revision, Change::SessionEnded { id: id.clone(), reason });
        Ok(())
    }

    /// The claims that a session owns, at most `SESSION_OWNED_MAX`.
    fn claims_of(&self, id: &SessionId) -> Result<Vec<ClaimRef>, Fault> {
        let mut claims = Vec::new();
        let mut range = KeyRange::prefix(key::session_prefix(id));
        loop {
            let rows = record::rows(self.rows, Table::SessionClaim, &range, PAGE_ROWS_MAX)?;
            let last = rows.last().map(|(key, _)| key.clone());
            for (key, value) in rows {
                record::open::<()>(Table::SessionClaim, &key, &value)?;
                let mut reader = KeyReader::new(Table::SessionClaim, &key);
                reader.session()?;
                claims.push(reader.last_claim()?);
            }
            match last {
                Some(key) => range = range.after(key),
                None => return Ok(claims),
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
