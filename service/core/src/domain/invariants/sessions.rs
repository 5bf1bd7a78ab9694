//! Sessions, what they own, and what is remembered of the ended.

use std::collections::BTreeSet;

use super::state::State;
use super::{Findings, Invariant};
use crate::SessionId;
use crate::domain::ClaimRef;
use crate::domain::tombstone::{Age, Aged, KeptBy};
use crate::domain::{EndReason, LockRef};
use crate::limits::SESSION_OWNED_MAX;

pub(super) fn check(state: &State, findings: &mut Findings) {
    check_owned(state, findings);
    check_own_sessions(state, findings);
    check_reserved_ids(state, findings);
    check_tombstones_of_sessions(state, findings);
    check_ages(state, findings);
}

fn check_owned(state: &State, findings: &mut Findings) {
    for (claim_ref, claim) in &state.claims {
        let owned = (claim.session.clone(), claim_ref.clone());
        findings.expect(state.session_claims.contains(&owned), Invariant::ClaimIsOwned, || {
            format!("{claim_ref:?} is not among the claims of {}", claim.session)
        });
    }
    for (id, claim_ref) in &state.session_claims {
        let owned = state.claims.get(claim_ref).is_some_and(|claim| claim.session == *id);
        findings.expect(owned, Invariant::OwnedIsClaim, || format!("{id} does not own {claim_ref:?}"));
    }
    for (id, session) in &state.sessions {
        let claims = state.session_claims.iter().filter(|(owner, _)| owner == id).count();
        let keys = state.session_keys.iter().filter(|(owner, _)| owner == id).count();
        let rows = (claims + keys) as u64;
        let counted = session.owned == rows && rows <= SESSION_OWNED_MAX;
        findings.expect(counted, Invariant::OwnedCounted, || {
            format!("{id} counts {}, owns {rows}", session.owned)
        });
        findings.expect(!state.session_tombstones.contains_key(id), Invariant::SessionOnce, || {
            format!("{id} is live and ended")
        });
    }
}

fn check_own_sessions(state: &State, findings: &mut Findings) {
    for (id, session) in &state.sessions {
        let Some(claim_ref) = &session.made_by else { continue };
        let mutual = state
            .claims
            .get(claim_ref)
            .is_some_and(|claim| claim.session == *id && claim.own_ttl_ms == Some(session.spec.ttl_ms));
        findings.expect(mutual, Invariant::OwnSession, || {
            format!("{id} was made by {claim_ref:?}, which is not its claim")
        });
    }
    for (claim_ref, claim) in &state.claims {
        // A session that is not live is another finding.
        let Some(session) = state.sessions.get(&claim.session) else { continue };
        let made_it = session.made_by.as_ref() == Some(claim_ref);
        findings.expect(claim.own_ttl_ms.is_none() || made_it, Invariant::OwnSession, || {
            format!("{claim_ref:?} says that it made {}, which says {:?}", claim.session, session.made_by)
        });
    }
}

fn check_reserved_ids(state: &State, findings: &mut Findings) {
    for (id, session) in &state.sessions {
        let right = match session.made_by {
            Some(_) => *id == SessionId::claim_made(session.create_revision),
            None => !id.is_reserved(),
        };
        findings.expect(right, Invariant::ReservedId, || {
            format!("{id} was created at {} by {:?}", session.create_revision, session.made_by)
        });
    }
    for (id, tombstone) in &state.session_tombstones {
        let unseen = tombstone.reason == EndReason::DeletedUnseen;
        findings.expect(!(id.is_reserved() && unseen), Invariant::ReservedId, || {
            format!("{id} is remembered as ended before it was given out")
        });
    }
}

fn check_tombstones_of_sessions(state: &State, findings: &mut Findings) {
    let invariant = Invariant::SessionTombstonesIndexed;
    for (id, ended, claim_ref) in &state.session_claim_tombstones {
        let kept = state.claim_tombstones.get(claim_ref).is_some_and(|tombstone| {
            tombstone.kept_by == KeptBy::Session
                && tombstone.session.as_ref() == Some(id)
                && tombstone.revision == *ended
        });
        findings.expect(kept, invariant, || format!("{id} does not keep {claim_ref:?}, ended at {ended}"));
        let known = state.sessions.contains_key(id) || state.session_tombstones.contains_key(id);
        findings.expect(known, invariant, || format!("{id} is forgotten and keeps {claim_ref:?}"));
    }
    for (claim_ref, tombstone) in &state.claim_tombstones {
        let indexed = match (tombstone.kept_by, &tombstone.session) {
            (KeptBy::Session, Some(id)) => {
                let row = (id.clone(), tombstone.revision, claim_ref.clone());
                state.session_claim_tombstones.contains(&row)
            }
            (KeptBy::Session, None) => false,
            (KeptBy::Age, _) => true,
        };
        findings.expect(indexed, invariant, || format!("{claim_ref:?} is kept by no session: {tombstone:?}"));
    }
    for (id, session) in &state.sessions {
        let rows = kept_by(state, id);
        findings.expect(session.tombstones == rows, invariant, || {
            format!("{id} counts {} tombstones, keeps {rows}", session.tombstones)
        });
    }
}

fn check_ages(state: &State, findings: &mut Findings) {
    for age in &state.ages {
        let right = match &age.aged {
            Aged::SessionClaims(id) => {
                let ended = state.session_tombstones.get(id);
                ended.is_some_and(|ended| (ended.time, ended.revision) == (age.time, age.revision))
            }
            Aged::Claim(claim) => state.claim_tombstones.get(claim).is_some_and(|ended| {
                ended.kept_by == KeptBy::Age && (ended.time, ended.revision) == (age.time, age.revision)
            }),
            Aged::Session(id) => {
                let ended = state.session_tombstones.get(id);
                ended.is_some_and(|ended| (ended.time, ended.revision) == (age.time, age.revision))
            }
            Aged::Lock(lock) => {
                let idle = state.locks.get(lock).and_then(|lock| lock.idle);
                idle.is_some_and(|idle| (idle.time, idle.revision) == (age.time, age.revision))
            }
        };
        findings.expect(right, Invariant::AgeIndexed, || format!("{age:?} is of nothing that ages"));
    }
    for missing in unaged(state) {
        findings.expect(false, Invariant::AgeIndexed, || format!("{missing} does not age"));
    }
}

/// What should age and does not.
fn unaged(state: &State) -> Vec<String> {
    let mut session_claims: BTreeSet<&SessionId> = BTreeSet::new();
    let mut claims: BTreeSet<&ClaimRef> = BTreeSet::new();
    let mut sessions: BTreeSet<&SessionId> = BTreeSet::new();
    let mut locks: BTreeSet<&LockRef> = BTreeSet::new();
    for Age { aged, .. } in &state.ages {
        match aged {
            Aged::SessionClaims(id) => drop(session_claims.insert(id)),
            Aged::Claim(claim) => drop(claims.insert(claim)),
            Aged::Session(id) => drop(sessions.insert(id)),
            Aged::Lock(lock) => drop(locks.insert(lock)),
        }
    }
    let mut missing = Vec::new();
    for id in state.session_tombstones.keys() {
        if kept_by(state, id) != 0 && !session_claims.contains(id) {
            missing.push(format!("what {id} keeps"));
        }
        if !sessions.contains(id) {
            missing.push(format!("{id}"));
        }
    }
    for (claim, tombstone) in &state.claim_tombstones {
        if tombstone.kept_by == KeptBy::Age && !claims.contains(claim) {
            missing.push(format!("{claim:?}"));
        }
    }
    for (lock_ref, lock) in &state.locks {
        if lock.idle.is_some() && !locks.contains(lock_ref) {
            missing.push(format!("{lock_ref:?}"));
        }
    }
    missing
}

fn kept_by(state: &State, id: &SessionId) -> u64 {
    state.session_claim_tombstones.iter().filter(|(of, _, _)| of == id).count() as u64
}
