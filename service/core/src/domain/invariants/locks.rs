//! Locks, their places and their claims.

use std::collections::{BTreeMap, BTreeSet};

use super::state::State;
use super::{Findings, Invariant};
use crate::domain::claim::{Claim, Standing, Takes};
use crate::domain::lock::Lock;
use crate::domain::{ClaimRef, LockKind, LockRef};
use crate::{ClaimId, FencingToken, LockName, Revision};

pub(super) fn check(state: &State, findings: &mut Findings) {
    check_holders(state, findings);
    check_claims(state, findings);
    check_places(state, findings);
    check_locks(state, findings);
    check_heads(state, findings);
    check_sets(state, findings);
    check_values(state, findings);
    check_tokens(state, findings);
}

/// The units that the holders of each lock take.
fn taken(state: &State) -> BTreeMap<&LockRef, u64> {
    let mut taken: BTreeMap<&LockRef, u64> = BTreeMap::new();
    for (lock, token) in state.holders.keys() {
        let claim = state.holders.get(&(lock.clone(), *token));
        let claim = claim.and_then(|claim| state.claims.get(&of_lock(lock, claim)));
        *taken.entry(lock).or_default() += claim.map_or(0, |claim| claim.takes.mode().units());
    }
    taken
}

fn of_lock(lock: &LockRef, claim: &ClaimId) -> ClaimRef {
    ClaimRef { lock: lock.clone(), claim: claim.clone() }
}

fn check_holders(state: &State, findings: &mut Findings) {
    for (lock_ref, taken) in taken(state) {
        let units = state.locks.get(lock_ref).map_or(0, |lock| lock.kind.units());
        findings.expect(taken <= units, Invariant::WithinUnits, || {
            format!("the holders of {lock_ref:?} take {taken} of {units}")
        });
    }
    for (claim_ref, claim) in &state.claims {
        if matches!(claim.takes, Takes::Set(_)) {
            continue;
        }
        let kind = state.locks.get(&claim_ref.lock).map(|lock| lock.kind);
        findings.expect(kind == Some(claim.takes.mode().kind()), Invariant::KindKept, || {
            format!("{claim_ref:?} takes a lock of the kind {kind:?} with {:?}", claim.takes)
        });
    }
    for (lock_ref, lock) in &state.locks {
        let kept = lock.claims() != 0 || lock.kind == LockKind::default();
        findings.expect(kept, Invariant::KindKept, || format!("{lock_ref:?} is unused: {lock:?}"));
    }
}

fn check_claims(state: &State, findings: &mut Findings) {
    for (claim_ref, claim) in &state.claims {
        findings.expect(state.sessions.contains_key(&claim.session), Invariant::OwnerLive, || {
            format!("{claim_ref:?} is of {}, which is not live", claim.session)
        });
        findings.expect(!state.claim_tombstones.contains_key(claim_ref), Invariant::ClaimOnce, || {
            format!("{claim_ref:?} is live and ended")
        });
        if matches!(claim.takes, Takes::Set(_)) {
            continue;
        }
        let lock = claim_ref.lock.clone();
        let at = match claim.standing {
            Standing::Held { token, .. } => state.holders.get(&(lock, token)),
            Standing::Queued { enqueued, .. } => state.queues.get(&(lock, enqueued)),
        };
        findings.expect(at == Some(&claim_ref.claim), Invariant::ClaimHasPlace, || {
            format!("{claim_ref:?} stands at {:?}, where {at:?} is", claim.standing)
        });
    }
}

fn check_places(state: &State, findings: &mut Findings) {
    for ((lock, token), claim) in &state.holders {
        let claim_ref = of_lock(lock, claim);
        let stands = state.claims.get(&claim_ref).is_some_and(|claim| match claim.standing {
            Standing::Held { token: held, .. } => held == *token,
            Standing::Queued { .. } => false,
        });
        findings.expect(stands, Invariant::PlaceHasClaim, || {
            format!("{claim_ref:?} does not hold with token {token}")
        });
    }
    for ((lock, enqueued), claim) in &state.queues {
        let claim_ref = of_lock(lock, claim);
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
    let taken = taken(state);
    for lock_ref in used {
        let none = Lock::default();
        let lock = state.locks.get(lock_ref).unwrap_or(&none);
        let rows = (State::rows_of(&state.holders, lock_ref), State::rows_of(&state.queues, lock_ref));
        let taken = taken.get(lock_ref).copied().unwrap_or_default();
        let counted = (lock.holders, lock.queued) == rows && lock.taken == taken;
        findings.expect(counted, Invariant::LockCounted, || {
            format!("{lock_ref:?} counts {lock:?}, there are {rows:?}, and {taken} are taken")
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

/// The claim that is the first of a lock's queue, with its mode, if it fits beside the holders.
fn head_that_fits<'s>(state: &'s State, lock_ref: &LockRef) -> Option<(ClaimRef, &'s Claim)> {
    let lock = state.locks.get(lock_ref)?;
    let from = (lock_ref.clone(), Revision::ZERO);
    let ((of, _), claim) = state.queues.range(from..).next()?;
    let claim_ref = of_lock(of, claim);
    let claim = state.claims.get(&claim_ref)?;
    (of == lock_ref && lock.admits(claim.takes.mode())).then_some((claim_ref, claim))
}

fn check_heads(state: &State, findings: &mut Findings) {
    for lock_ref in state.locks.keys() {
        let Some((claim_ref, claim)) = head_that_fits(state, lock_ref) else { continue };
        let set = state.claims.get(&claim_ref.of_lock(&LockName::lock_sets())).map(|set| &set.takes);
        let waits_elsewhere = match set {
            Some(Takes::Set(locks)) if claim.takes.is_part() => locks.keys().any(|name| {
                let part_ref = claim_ref.of_lock(name);
                head_that_fits(state, &part_ref.lock).is_none_or(|(head, _)| head != part_ref)
            }),
            Some(_) | None => false,
        };
        findings.expect(waits_elsewhere, Invariant::NoneWaitsForFree, || {
            format!("{claim_ref:?} waits and could be let in")
        });
    }
}

fn check_sets(state: &State, findings: &mut Findings) {
    for (claim_ref, claim) in &state.claims {
        let whole = match &claim.takes {
            Takes::Lock(_) => !claim_ref.lock.lock.is_lock_sets(),
            Takes::Part(mode) => {
                let set = state.claims.get(&claim_ref.of_lock(&LockName::lock_sets()));
                set.is_some_and(|set| match &set.takes {
                    Takes::Set(locks) => locks.get(&claim_ref.lock.lock) == Some(mode),
                    Takes::Lock(_) | Takes::Part(_) => false,
                })
            }
            Takes::Set(locks) => {
                let parts = locks.keys().map(|name| state.claims.get(&claim_ref.of_lock(name)));
                claim_ref.lock.lock.is_lock_sets()
                    && parts.into_iter().all(|part| {
                        part.is_some_and(|part| {
                            part.takes.is_part()
                                && part.session == claim.session
                                && stand_alike(&part.standing, &claim.standing)
                        })
                    })
            }
        };
        findings.expect(whole, Invariant::SetWhole, || format!("{claim_ref:?} is not whole: {claim:?}"));
    }
}

fn stand_alike(part: &Standing, set: &Standing) -> bool {
    match (part, set) {
        (Standing::Held { since: part, .. }, Standing::Held { since: set, .. }) => part == set,
        (Standing::Queued { enqueued: part, .. }, Standing::Queued { enqueued: set, .. }) => part == set,
        (Standing::Held { .. }, Standing::Queued { .. })
        | (Standing::Queued { .. }, Standing::Held { .. }) => false,
    }
}

fn check_values(state: &State, findings: &mut Findings) {
    for (election, value) in &state.election_values {
        let leads = state.holders.contains_key(&(election.clone(), value.token));
        findings.expect(leads && election.lock.as_election().is_some(), Invariant::ValueOfLeader, || {
            format!("{election:?} has a value of token {}, which does not lead", value.token)
        });
    }
}

fn check_tokens(state: &State, findings: &mut Findings) {
    let mut seen: BTreeMap<FencingToken, &ClaimRef> = BTreeMap::new();
    let of_locks = state.claims.iter().filter(|(_, claim)| !matches!(claim.takes, Takes::Set(_)));
    let live = of_locks.filter_map(|(claim_ref, claim)| match claim.standing {
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
