//! What the leader's deadlines ended, when the leader still led.

use crate::LeaderId;
use crate::Revision;
use crate::domain::claim::Claim;
use crate::domain::entry::Entry;
use crate::domain::{ClaimRef, EndReason, Expire, Fault, Outcome, SessionRef, Success, Tables, WaitRef};
use crate::limits::{EXPIRE_OWNED_MAX, EXPIRE_SESSIONS_MAX, EXPIRE_WAITS_MAX};

/// The revision that the effects of one command share, taken with the first of them.
#[derive(Debug, Default)]
struct SharedRevision(Option<Revision>);

impl<T: Tables> Entry<'_, '_, T> {
    /// Ends the sessions and waits that are named and still the same, the first ones up to the bounds; the leader names
    /// the others again. All of them leave their locks before anybody is let in.
    pub(crate) fn expire(&mut self, leader: LeaderId, expire: &Expire) -> Result<Outcome, Fault> {
        let Expire { leader: proposer, sessions, waits } = expire;
        #[cfg(feature = "seeded-bugs")]
        let leader = if self.bugs.expiry_without_leader_check { *proposer } else { leader };
        if *proposer != leader {
            return Ok(Ok(Success::ExpireVoid));
        }
        let mut revision = SharedRevision::default();
        let ended = self.expire_sessions(sessions, &mut revision)?;
        let timed_out = self.expire_waits(waits, &mut revision)?;
        Ok(Ok(Success::Expired { sessions: ended, waits: timed_out }))
    }

    fn expire_sessions(
        &mut self,
        sessions: &[SessionRef],
        revision: &mut SharedRevision,
    ) -> Result<u64, Fault> {
        let (mut ended, mut owned) = (0, 0);
        for SessionRef { id, create_revision } in sessions {
            let Some(session) = self.session(id)? else { continue };
            #[cfg(feature = "seeded-bugs")]
            let create_revision = if self.bugs.expiry_without_leader_check {
                &session.create_revision
            } else {
                create_revision
            };
            if session.create_revision != *create_revision {
                continue;
            }
            owned += session.owned;
            let full = EXPIRE_SESSIONS_MAX as u64 <= ended || EXPIRE_OWNED_MAX < owned;
            if full && 0 < ended {
                break;
            }
            let revision = revision.take(self);
            self.close_session(id, session, EndReason::Expired, revision)?;
            ended += 1;
        }
        Ok(ended)
    }

    fn expire_waits(&mut self, waits: &[WaitRef], revision: &mut SharedRevision) -> Result<u64, Fault> {
        let mut ended = 0;
        for WaitRef { claim: claim_ref, enqueued } in waits.iter().take(EXPIRE_WAITS_MAX) {
            if let Some(claim) = self.waiting(claim_ref, *enqueued)? {
                let revision = revision.take(self);
                self.end_claim(claim_ref, &claim, EndReason::TimedOut, revision)?;
                ended += 1;
            }
        }
        Ok(ended)
    }

    fn waiting(&self, claim: &ClaimRef, enqueued: Revision) -> Result<Option<Claim>, Fault> {
        Ok(self.claim(claim)?.filter(|claim| claim.waits_since(enqueued)))
    }
}

impl SharedRevision {
    fn take<T: Tables>(&mut self, entry: &mut Entry<'_, '_, T>) -> Revision {
        *self.0.get_or_insert_with(|| entry.take_revision())
    }
}
