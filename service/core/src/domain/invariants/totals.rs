//! Counters, bounds, and what every row has in common.

use std::collections::BTreeMap;

use super::state::State;
use super::{Findings, Invariant};
use crate::domain::claim::Standing;
use crate::domain::config::ConfigVersion;
use crate::domain::namespace::Namespace;
use crate::domain::tombstone::KeptBy;
use crate::domain::{Counters, LockRef, Meta};
use crate::limits::NAMESPACES_MAX;
use crate::{LogTime, NamespaceName, Revision};

pub(super) fn check(state: &State, findings: &mut Findings) {
    check_founded(state, findings);
    check_counters(state, findings);
    check_namespaces(state, findings);
    check_replays(state, findings);
    check_bounds(state, findings);
    for (revision, what) in revisions(state) {
        findings.expect(revision <= state.meta.revision, Invariant::RevisionWithinStore, || {
            format!("{what} has revision {revision}, the store is at {}", state.meta.revision)
        });
    }
    for (time, what) in times(state) {
        findings.expect(time <= state.meta.time, Invariant::TimeWithinClock, || {
            format!("{what} is of {time:?}, the clock shows {:?}", state.meta.time)
        });
    }
}

fn check_founded(state: &State, findings: &mut Findings) {
    let default = state.namespaces.contains_key(&NamespaceName::default_namespace());
    let empty = state.meta.revision == Revision::ZERO && state.namespaces.is_empty();
    let right = if state.meta.is_founded() { default } else { empty };
    findings.expect(right, Invariant::Founded, || {
        let Meta { cluster_id, revision, .. } = &state.meta;
        format!("cluster {cluster_id:?} at {revision} has namespaces {:?}", state.namespaces.keys())
    });
}

fn check_counters(state: &State, findings: &mut Findings) {
    let aged = state.claim_tombstones.values().filter(|tombstone| match tombstone.kept_by {
        KeptBy::Age => true,
        KeptBy::Session => tombstone.session.as_ref().is_none_or(|id| !state.sessions.contains_key(id)),
    });
    let tombstones = state.session_tombstones.len() + aged.count();
    let counted = Counters {
        namespaces: state.namespaces.len() as u64,
        sessions: state.sessions.len() as u64,
        claims: state.claims.len() as u64,
        lock_delays: state.lock_delays.len() as u64,
        tombstones: tombstones as u64,
        idle_locks: state.locks.values().filter(|lock| lock.idle.is_some()).count() as u64,
        replay_records: state.replays.len() as u64,
        replay_bytes: state.replays.values().map(crate::domain::replay::Replay::answer_bytes).sum(),
        replay_next: state.meta.counters.replay_next,
        superseded: state.superseded.len() as u64,
        history_bytes: state.superseded.values().map(|superseded| superseded.bytes).sum(),
        events: state.events.len() as u64,
    };
    findings.expect(counted == state.meta.counters, Invariant::StoreCounted, || {
        format!("{:?} are counted, there are {counted:?}", state.meta.counters)
    });
}

fn check_namespaces(state: &State, findings: &mut Findings) {
    let mut found: BTreeMap<&NamespaceName, (u64, u64, u64)> = BTreeMap::new();
    for (namespace, _) in state.heads.keys() {
        found.entry(namespace).or_default().0 += 1;
    }
    for claim in state.claims.keys() {
        found.entry(&claim.lock.namespace).or_default().1 += 1;
    }
    for (_, lock) in &state.lock_delays {
        found.entry(&lock.namespace).or_default().2 += 1;
    }
    for (name, counts) in &found {
        findings.expect(state.namespaces.contains_key(*name), Invariant::NamespaceExists, || {
            format!("{name} does not exist and has (keys, claims, delays) {counts:?}")
        });
    }
    for (name, Namespace { create_revision: _, keys, claims, lock_delays }) in &state.namespaces {
        let there = found.get(name).copied().unwrap_or_default();
        findings.expect((*keys, *claims, *lock_delays) == there, Invariant::NamespaceCounted, || {
            format!("{name} counts {keys}, {claims}, {lock_delays}, there are {there:?}")
        });
    }
}

fn check_replays(state: &State, findings: &mut Findings) {
    let invariant = Invariant::ReplayIndexed;
    for (scope, replay) in &state.replays {
        let row = state.replay_ages.get(&replay.sequence);
        let same = row.is_some_and(|row| row.scope == *scope && row.time == replay.time);
        findings.expect(same, invariant, || format!("record {} does not age", replay.sequence));
    }
    for (sequence, row) in &state.replay_ages {
        let same = state.replays.get(&row.scope).is_some_and(|replay| replay.sequence == *sequence);
        findings.expect(same, invariant, || format!("the record of {sequence} is missing"));
        let next = state.meta.counters.replay_next;
        findings.expect(*sequence < next, invariant, || format!("{sequence} is given out again at {next}"));
    }
}

fn check_bounds(state: &State, findings: &mut Findings) {
    let Meta { settings, counters, .. } = &state.meta;
    let mut bound = |what: &str, found: u64, max: u64| {
        findings.expect(found <= max, Invariant::WithinSettings, || format!("{what}: {found} of {max}"));
    };
    bound("sessions", counters.sessions, settings.sessions_max);
    bound("namespaces", counters.namespaces, NAMESPACES_MAX);
    bound("idempotency records", counters.replay_records, settings.replay_records_max);
    for (LockRef { namespace, lock }, row) in &state.locks {
        bound(&format!("claims of {namespace} {lock}"), row.claims(), settings.queue_max.max(1));
    }
    for (id, session) in &state.sessions {
        bound(&format!("tombstones of {id}"), session.tombstones, settings.session_tombstones_max);
    }
}

/// Every revision in the state that is no token.
fn revisions(state: &State) -> Vec<(Revision, String)> {
    let mut found = Vec::new();
    for (name, namespace) in &state.namespaces {
        found.push((namespace.create_revision, format!("namespace {name}")));
    }
    for (id, session) in &state.sessions {
        found.push((session.create_revision, format!("session {id}")));
    }
    for (id, tombstone) in &state.session_tombstones {
        found.push((tombstone.revision, format!("ended session {id}")));
    }
    for (lock, enqueued) in state.queues.keys() {
        found.push((*enqueued, format!("the queue of {lock:?}")));
    }
    for (claim, tombstone) in &state.claim_tombstones {
        found.push((tombstone.revision, format!("ended {claim:?}")));
    }
    for (lock_ref, lock) in &state.locks {
        found.extend(lock.idle.map(|idle| (idle.revision, format!("idle {lock_ref:?}"))));
    }
    for (config, versions) in &state.versions {
        for (revision, version) in versions {
            let created = match version {
                ConfigVersion::Put { create_revision, .. } => *create_revision,
                ConfigVersion::Deleted { .. } => *revision,
            };
            found.push(((*revision).max(created), format!("{config:?}")));
        }
    }
    for (revision, config) in &state.changes {
        found.push((*revision, format!("a change of {config:?}")));
    }
    for (revision, ordinal) in state.events.keys() {
        found.push((*revision, format!("change {ordinal} of locks and sessions")));
    }
    for (election, value) in &state.election_values {
        found.push((value.revision, format!("the value of {election:?}")));
    }
    let meta = &state.meta;
    found.push((meta.compacted_revision, "what is compacted".to_owned()));
    found.push((meta.events_compacted_revision, "what is dropped of locks and sessions".to_owned()));
    for (id, removed) in &state.removed_nodes {
        found.push((removed.revision, format!("removed node {id}")));
    }
    found
}

/// Every time in the state that is in the past.
fn times(state: &State) -> Vec<(LogTime, String)> {
    let mut found = Vec::new();
    for (id, session) in &state.sessions {
        found.push((session.time, format!("session {id}")));
    }
    for (id, tombstone) in &state.session_tombstones {
        found.push((tombstone.time, format!("ended session {id}")));
    }
    for (claim_ref, claim) in &state.claims {
        let since = match claim.standing {
            Standing::Held { since, .. } | Standing::Queued { since, .. } => since,
        };
        found.push((since, format!("{claim_ref:?}")));
    }
    for (claim, tombstone) in &state.claim_tombstones {
        found.push((tombstone.time, format!("ended {claim:?}")));
    }
    for (lock_ref, lock) in &state.locks {
        found.extend(lock.idle.map(|idle| (idle.time, format!("idle {lock_ref:?}"))));
    }
    for (config, versions) in &state.versions {
        for version in versions.values() {
            let (ConfigVersion::Put { time, .. } | ConfigVersion::Deleted { time, .. }) = version;
            found.push((*time, format!("{config:?}")));
        }
    }
    for ((revision, _), event) in &state.events {
        found.push((event.time, format!("a change of locks and sessions at {revision}")));
    }
    for replay in state.replays.values() {
        found.push((replay.time, format!("idempotency record {}", replay.sequence)));
    }
    found
}
