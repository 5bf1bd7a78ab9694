//! Locks, their places and their claims.

use std::collections::{BTreeMap, BTreeSet};

use super::state::State;
use super::{Findings, Invariant};
use crate::FencingToken;
use crate::domain::claim::Standing;
use crate::domain::lock::Lock;
use crate::domain::{ClaimRef, LockMode, LockRef};

pub(super) fn check(state: &State, findings: &mut Findings) {
    check_holders(state, findings);
    check_claims(state, findings);
    check_places(state, findings);
    check_locks(state, findings);
    check_tokens(state, findings);
}

fn check_holders(state: &State, findings: &mut Findings) {
    let mut holders: BTreeMap<&LockRef, u64> = BTreeMap::new();
    for (claim_ref, claim) in &state.claims {
        match (claim.mode, &claim.standing) {
            (LockMode::Exclusive, Standing::Held { .. }) => {
                *holders.entry(&claim_ref.lock).or_default() += 1;
            }
            (LockMode::Exclusive, Standing::Queued { .. }) => {}
        }
    }
    for (lock, count) in holders {
        findings.expect(count <= 1, Invariant::OneHolder, || format!("{lock:?} has {count} holders"));
    }
}

fn check_claims(state: &State, findings: &mut Findings) {
    for (claim_ref, claim) in &state.claims {
        findings.expect(state.sessions.contains_key(&claim.session), Invariant::OwnerLive, || {
            format!("{claim_ref:?} is of {}, which is not live", claim.session)
        });
        let lock = claim_ref.lock.clone();
        let at = match claim.standing {
            Standing::Held { token, .. } => state.holders.get(&(lock, token)),
            Standing::Queued { enqueued, .. } => state.queues.get(&(lock, enqueued)),
        };
        findings.expect(at == Some(&claim_ref.claim), Invariant::ClaimHasPlace, || {
            format!("{claim_ref:?} stands at {:?}, where {at:?} is", claim.standing)
        });
        findings.expect(!state.claim_tombstones.contains_key(claim_ref), Invariant::ClaimOnce, || {
            format!("{claim_ref:?} is live and ended")
        });
    }
}

fn check_places(state: &State, findings: &mut Findings) {
    for ((lock, token), claim) in &state.holders {
        let claim_ref = ClaimRef { lock: lock.clone(), claim: claim.clone() };
        let stands = state.claims.get(&claim_ref).is_some_and(|claim| match claim.standing {
            Standing::Held { token: held, .. } => held == *token,
            Standing::Queued { .. } => false,
        });
        findings.expect(stands, Invariant::PlaceHasClaim, || {
            format!("{claim_ref:?} does not hold with token {token}")
        });
    }
    for ((lock, enqueued), claim) in &state.queues {
        let claim_ref = ClaimRef { lock: lock.clone(), claim: claim.clone() };
        let stands = state.claims.get(&claim_ref).is_some_and(|claim| claim.waits_since(*enqueued));
        findings.expect(stands, Invariant::PlaceHasClaim, || {
            format!("{claim_ref:?} does not wait since {enqueued}")
        });
    }
}

fn check_locks(state: &State, findings: &mut Findings) {
    let placed = state.holders.keys().map(|(lock, _)| lock);
    let placed = placed.chain(state.queues.keys().map(|(lock, _)| lock));
    let used: BTreeSet<&LockRef> = placed.chain(state.locks.keys()).collect();
    for lock_ref in used {
        let none = Lock::default();
        let lock = state.locks.get(lock_ref).unwrap_or(&none);
        let rows = (State::rows_of(&state.holders, lock_ref), State::rows_of(&state.queues, lock_ref));
        findings.expect((lock.holders, lock.queued) == rows, Invariant::LockCounted, || {
            format!("{lock_ref:?} counts {lock:?}, there are {rows:?}")
        });
        let free = rows.0 == 0 && lock.delay_until.is_none();
        findings.expect(!free || rows.1 == 0, Invariant::NoneWaitsForFree, || {
            format!("{lock_ref:?} is free while {} wait", rows.1)
        });
    }
    for (lock_ref, lock) in &state.locks {
        findings.expect(lock.is_idle() == lock.idle.is_some(), Invariant::IdleMarked, || {
            format!("{lock_ref:?} is marked wrongly: {lock:?}")
        });
        let indexed: Vec<_> = state.lock_delays.iter().filter(|(_, of)| of == lock_ref).collect();
        let same = indexed.iter().map(|(due, _)| *due).eq(lock.delay_until);
        findings.expect(same, Invariant::DelayIndexed, || {
            format!("{lock_ref:?} is closed until {:?}, indexed {indexed:?}", lock.delay_until)
        });
    }
    for (due, lock) in &state.lock_delays {
        findings.expect(state.locks.contains_key(lock), Invariant::DelayIndexed, || {
            format!("a delay until {due:?} runs for {lock:?}, which has no row")
        });
    }
}

fn check_tokens(state: &State, findings: &mut Findings) {
    let mut seen: BTreeMap<FencingToken, &ClaimRef> = BTreeMap::new();
    let live = state.claims.iter().filter_map(|(claim_ref, claim)| match claim.standing {
        Standing::Held { token, .. } => Some((token, claim_ref)),
        Standing::Queued { .. } => None,
    });
    let ended =
        state.claim_tombstones.iter().filter_map(|(claim_ref, ended)| Some((ended.token?, claim_ref)));
    for (token, claim_ref) in live.chain(ended) {
        findings.expect(token.revision() <= state.meta.revision, Invariant::TokenWithinRevision, || {
            format!("{claim_ref:?} has token {token}, the store is at {}", state.meta.revision)
        });
        // A tombstone and a live claim of one id are another finding.
        let other = seen.insert(token, claim_ref).filter(|other| *other != claim_ref);
        findings.expect(other.is_none(), Invariant::TokenUnique, || {
            format!("{claim_ref:?} and {other:?} have token {token}")
        });
    }
    for (lock_ref, token) in state.holders.keys() {
        let last = state.locks.get(lock_ref).map(|lock| lock.last_token).unwrap_or_default();
        findings.expect(*token <= last, Invariant::LastToken, || {
            format!("{lock_ref:?} is held with {token} after its last token {last}")
        });
    }
    for (lock_ref, lock) in &state.locks {
        let within = lock.last_token.revision() <= state.meta.revision;
        findings.expect(within, Invariant::TokenWithinRevision, || {
            format!("{lock_ref:?} had token {}, the store is at {}", lock.last_token, state.meta.revision)
        });
    }
}
