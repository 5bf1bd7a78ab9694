//! The naive state machine: what each command means, without rows, keys, caches or batches.
//!
//! Every list is plain and is searched from end to end, and nothing is stored that can be worked out again. The model
//! follows the rules of the design; where the real machine is cleverer, the two must still agree.

mod ages;
mod claims;
mod config;
mod deadlock;
mod past;
mod sessions;
mod sets;
mod txn;

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{
    Applied, Change, ClaimRef, Command, EndReason, Event, IfHeld, LockMode, LockRef, Outcome, Proposal,
    Rejection, SessionSpec, Settings, Success,
};
use crate::{
    ClaimId, ConfigKey, FencingToken, LeaderId, LockName, LogTime, NamespaceName, NodeId, Revision,
    SessionId, limits,
};

/// A live session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSession {
    /// Its id.
    pub id: SessionId,
    /// The revision that created it.
    pub create_revision: Revision,
    /// What it was created with.
    pub spec: SessionSpec,
    /// When it was created.
    pub at: LogTime,
    /// The claim that made it and that ends with it.
    pub made_by: Option<ClaimRef>,
}

/// A live claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelClaim {
    /// Which claim.
    pub claim: ClaimRef,
    /// Its session.
    pub session: SessionId,
    /// How it takes the lock.
    pub mode: LockMode,
    /// Whether it is a part of the lock set of its id.
    pub in_set: bool,
    /// What it does while the lock is not free.
    pub if_held: IfHeld,
    /// A text for people.
    pub label: String,
    /// Where it stands.
    pub state: ModelClaimState,
}

/// A live lock set. Its parts are claims of the same id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSet {
    /// Which set, as its own claim.
    pub claim: ClaimRef,
    /// Its session.
    pub session: SessionId,
    /// Its locks.
    pub locks: BTreeMap<LockName, LockMode>,
    /// What it does while they are not all free.
    pub if_held: IfHeld,
    /// A text for people.
    pub label: String,
    /// What queued it; none while it holds its locks.
    pub enqueued: Option<Revision>,
}

/// What the leader of an election published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelValue {
    /// The election.
    pub election: LockRef,
    /// The leader's token.
    pub token: FencingToken,
    /// The bytes.
    pub value: bytes::Bytes,
    /// Their media type.
    pub content_type: String,
    /// The revision that published it.
    pub revision: Revision,
}

/// Where a live claim stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelClaimState {
    /// It holds its lock.
    Held {
        /// With this token.
        token: FencingToken,
        /// Since this time.
        since: LogTime,
    },
    /// It waits.
    Queued {
        /// Since this revision.
        enqueued: Revision,
        /// Since this time.
        since: LogTime,
    },
}

/// A session that ended and is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSessionTombstone {
    /// Its id.
    pub id: SessionId,
    /// Why it ended.
    pub reason: EndReason,
    /// The revision of its end.
    pub revision: Revision,
    /// When it ended.
    pub at: LogTime,
}

/// A claim that ended and is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelClaimTombstone {
    /// Which claim.
    pub claim: ClaimRef,
    /// Why it ended.
    pub reason: EndReason,
    /// The token that it had.
    pub token: Option<FencingToken>,
    /// The revision of its end.
    pub revision: Revision,
    /// When it ended.
    pub at: LogTime,
    /// Its session; none when it was never seen.
    pub session: Option<SessionId>,
    /// The session that it is remembered with; none for one remembered by its age.
    pub kept_with: Option<SessionId>,
}

/// What is remembered of a lock that was granted once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelLock {
    /// Which lock.
    pub lock: LockRef,
    /// The token of its last grant.
    pub last_token: FencingToken,
    /// Until when a lock delay keeps it closed.
    pub delay_until: Option<LogTime>,
    /// When and at which revision it became idle; none while it is in use.
    pub idle: Option<(LogTime, Revision)>,
}

/// A config value at some revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelItem {
    /// The bytes.
    pub value: bytes::Bytes,
    /// Their media type.
    pub content_type: String,
    /// When the key was created, this time.
    pub create_revision: Revision,
    /// The last write.
    pub mod_revision: Revision,
    /// Writes since the key was created.
    pub version: u64,
    /// The session whose end deletes the key.
    pub session: Option<SessionId>,
    /// Who manages the key; empty for nobody.
    pub managed_by: String,
}

/// A version of a key that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelVersion {
    /// The namespace.
    pub namespace: NamespaceName,
    /// The key.
    pub key: ConfigKey,
    /// The write or delete.
    pub revision: Revision,
    /// When it happened.
    pub at: LogTime,
    /// What was written; none for a delete.
    pub item: Option<ModelItem>,
    /// Whether it is a delete by the end of a session.
    pub expired: bool,
}

/// An idempotency record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelReplay {
    /// Whose it is.
    pub scope: [u8; 32],
    /// What was asked.
    pub fingerprint: [u8; 32],
    /// What was answered; none when that was too large to keep.
    pub answer: Option<Outcome>,
    /// When.
    pub at: LogTime,
}

/// A lock as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockSight {
    /// Who holds it, by token.
    pub holders: Vec<ModelClaim>,
    /// Who waits, in order.
    pub queue: Vec<ModelClaim>,
    /// The token of its last grant since the namespace was created; 0 when there was none.
    pub last_token: FencingToken,
    /// How long a lock delay still keeps it closed, in milliseconds.
    pub delay_remaining_ms: u64,
}

/// All config values of the store at one revision.
pub type ConfigSnapshot = BTreeMap<(NamespaceName, ConfigKey), ModelItem>;

/// The naive state machine.
#[derive(Debug, Clone, Default)]
pub struct Model {
    /// The cluster's id and the name of its history; none before the store is founded.
    pub identity: Option<(String, u64)>,
    /// The limits that hold.
    pub settings: Settings,
    /// The last revision taken.
    pub revision: Revision,
    /// The replicated clock.
    pub clock: LogTime,
    /// Namespaces by the revision that created them.
    pub namespaces: BTreeMap<NamespaceName, Revision>,
    /// Live sessions, in the order of their creation.
    pub sessions: Vec<ModelSession>,
    /// Ended sessions, in the order of their ends.
    pub session_tombstones: Vec<ModelSessionTombstone>,
    /// Live claims, in the order of their creation.
    pub claims: Vec<ModelClaim>,
    /// Live lock sets, in the order of their creation.
    pub sets: Vec<ModelSet>,
    /// What leaders published.
    pub values: Vec<ModelValue>,
    /// Ended claims, in the order of their ends.
    pub claim_tombstones: Vec<ModelClaimTombstone>,
    /// Locks that were used once.
    pub locks: Vec<ModelLock>,
    /// Idempotency records, in the order of their storing.
    pub replays: Vec<ModelReplay>,
    /// The config at every revision at which it changed, in the order of revisions.
    pub config: Vec<(Revision, ConfigSnapshot)>,
    /// The versions that compaction has left.
    pub versions: Vec<ModelVersion>,
    /// The config changes that compaction has left.
    pub changes: BTreeSet<(Revision, NamespaceName, ConfigKey)>,
    /// The newest revision of which a superseded version or a delete was dropped.
    pub compacted: Revision,
    /// The changes of locks and sessions that are kept, in their order.
    pub log: Vec<(Revision, LogTime, Change)>,
    /// The newest revision of which such a change was dropped.
    pub log_dropped: Revision,
    /// The nodes of the last membership noted.
    pub members: BTreeSet<NodeId>,
    /// The nodes that were members once and are no more.
    pub removed: BTreeSet<NodeId>,
    /// The ends of explicit sessions whose claims' tombstones may still be there.
    ended_with_tombstones: Vec<(LogTime, Revision, SessionId)>,
}

impl Model {
    /// Applies one entry of the log, proposed under this leadership.
    pub fn apply(&mut self, leader: LeaderId, proposal: &Proposal) -> Applied {
        let mut events = Vec::new();
        let founds = matches!(proposal.command, Command::Found { .. });
        if self.identity.is_none() && !founds {
            return Applied { outcome: Err(Rejection::NotFounded), revision: self.revision, events };
        }
        self.clock = self.clock.max(proposal.time);
        let first = proposal.replay.and_then(|key| self.replay_record(&key.scope));
        self.end_due_delays(&mut events);
        let outcome = match (proposal.replay, first) {
            (Some(key), Some(first)) if key.fingerprint == first.fingerprint => {
                first.answer.unwrap_or(Err(Rejection::ReplayAnswerNotKept))
            }
            (Some(_), Some(_)) => Err(Rejection::ReplayKeyReused),
            (Some(key), None) => {
                let outcome = self.run(leader, &proposal.command, &mut events);
                self.keep_answer(key, &outcome);
                outcome
            }
            (None, _) => self.run(leader, &proposal.command, &mut events),
        };
        self.log_changes(&events);
        self.drop_old();
        Applied { outcome, revision: self.revision, events }
    }

    /// Notes a membership: who was in the one before and is missing here is removed for ever.
    pub fn note_membership(&mut self, members: &BTreeSet<NodeId>) {
        self.removed.extend(self.members.difference(members));
        self.members.clone_from(members);
    }

    fn run(&mut self, leader: LeaderId, command: &Command, events: &mut Vec<Event>) -> Outcome {
        match command {
            Command::Found { cluster_id, history_id, settings } => {
                if self.identity.is_none() {
                    self.identity = Some((cluster_id.clone(), *history_id));
                    self.settings = settings.clone();
                    let revision = self.take_revision();
                    let name = NamespaceName::default_namespace();
                    self.namespaces.insert(name.clone(), revision);
                    events.push(Event { revision, change: Change::NamespaceCreated { name } });
                }
                Ok(Success::Founded)
            }
            Command::Tick => Ok(Success::Ticked),
            Command::CreateNamespace { name } => self.create_namespace(name, events),
            Command::DeleteNamespace { name } => self.delete_namespace(name, events),
            Command::CreateSession { id, spec } => self.create_session(id, spec, events),
            Command::EndSession { id } => self.end_session(id, events),
            Command::Acquire(acquire) => self.acquire(acquire, events),
            Command::CancelWait(wait) => self.cancel_wait(wait, events),
            Command::Release { claim } => self.release(claim, events),
            Command::ForceRelease { lock, token, reason: _ } => self.force_release(lock, *token, events),
            Command::PutConfig(put) => self.put_config(put, events),
            Command::DeleteConfig(delete) => self.delete_config(delete, events),
            Command::Expire(expire) => Ok(self.expire(leader, expire, events)),
            Command::RollbackConfig(rollback) => self.rollback_config(rollback, events),
            Command::Txn(txn) => self.txn(txn, events),
            Command::Compact(compact) => Ok(self.compact(compact)),
            Command::AcquireSet(acquire) => self.acquire_set(acquire, events),
            Command::Proclaim(proclaim) => self.proclaim(proclaim, events),
        }
    }

    fn take_revision(&mut self) -> Revision {
        self.revision = self.revision.next();
        self.revision
    }

    fn create_namespace(&mut self, name: &NamespaceName, events: &mut Vec<Event>) -> Outcome {
        if let Some(create_revision) = self.namespaces.get(name) {
            return Ok(Success::Namespace { create_revision: *create_revision, created: false });
        }
        if limits::NAMESPACES_MAX <= self.namespaces.len() as u64 {
            return Err(Rejection::TooManyNamespaces { max: limits::NAMESPACES_MAX });
        }
        let revision = self.take_revision();
        self.namespaces.insert(name.clone(), revision);
        events.push(Event { revision, change: Change::NamespaceCreated { name: name.clone() } });
        Ok(Success::Namespace { create_revision: revision, created: true })
    }

    fn delete_namespace(&mut self, name: &NamespaceName, events: &mut Vec<Event>) -> Outcome {
        if !self.namespaces.contains_key(name) {
            return Err(Rejection::NamespaceNotFound);
        }
        let has_keys = self.config_now().keys().any(|(namespace, _)| namespace == name);
        let has_claims = self.claims.iter().any(|c| c.claim.lock.namespace == *name);
        let has_delays = self.locks.iter().any(|l| l.lock.namespace == *name && l.delay_until.is_some());
        if *name == NamespaceName::default_namespace() || has_keys || has_claims || has_delays {
            return Err(Rejection::NamespaceNotEmpty);
        }
        let revision = self.take_revision();
        self.namespaces.remove(name);
        events.push(Event { revision, change: Change::NamespaceDeleted { name: name.clone() } });
        Ok(Success::NamespaceDeleted)
    }

    fn holders_and_queue(&self, lock: &LockRef) -> (Vec<&ModelClaim>, Vec<&ModelClaim>) {
        let of_lock: Vec<_> = self.claims.iter().filter(|c| c.claim.lock == *lock).collect();
        let mut holders: Vec<_> =
            of_lock.iter().copied().filter(|c| matches!(c.state, ModelClaimState::Held { .. })).collect();
        let mut queue: Vec<_> =
            of_lock.iter().copied().filter(|c| matches!(c.state, ModelClaimState::Queued { .. })).collect();
        holders.sort_by_key(|c| c.token());
        queue.sort_by_key(|c| c.enqueued());
        (holders, queue)
    }

    /// The lock as a reader sees it; none when its namespace does not exist.
    #[must_use]
    pub fn lock(&self, lock: &LockRef) -> Option<LockSight> {
        let created = *self.namespaces.get(&lock.namespace)?;
        let (holders, queue) = self.holders_and_queue(lock);
        let memory = self.locks.iter().find(|l| l.lock == *lock);
        let last_token = memory.map(|l| l.last_token).filter(|token| created <= token.revision());
        Some(LockSight {
            holders: holders.into_iter().cloned().collect(),
            queue: queue.into_iter().cloned().collect(),
            last_token: last_token.unwrap_or_default(),
            delay_remaining_ms: self.delay_remaining_ms(lock),
        })
    }

    /// The live claim of this id.
    #[must_use]
    pub fn claim(&self, claim: &ClaimRef) -> Option<&ModelClaim> {
        self.claims.iter().find(|c| c.claim == *claim)
    }

    /// The live lock set of this id.
    #[must_use]
    pub fn set(&self, claim: &ClaimRef) -> Option<&ModelSet> {
        self.sets.iter().find(|s| s.claim == *claim)
    }

    /// What is remembered of an ended claim.
    #[must_use]
    pub fn claim_tombstone(&self, claim: &ClaimRef) -> Option<&ModelClaimTombstone> {
        self.claim_tombstones.iter().find(|t| t.claim == *claim)
    }

    /// The live session of this id.
    #[must_use]
    pub fn session(&self, id: &SessionId) -> Option<&ModelSession> {
        self.sessions.iter().find(|s| s.id == *id)
    }

    /// What is remembered of an ended session.
    #[must_use]
    pub fn session_tombstone(&self, id: &SessionId) -> Option<&ModelSessionTombstone> {
        self.session_tombstones.iter().find(|t| t.id == *id)
    }

    /// The live claims of a session, by namespace, lock and id.
    #[must_use]
    pub fn session_claims(&self, id: &SessionId) -> Vec<&ModelClaim> {
        let mut claims: Vec<_> = self.claims.iter().filter(|c| c.session == *id).collect();
        claims.sort_by(|a, b| a.claim.cmp(&b.claim));
        claims
    }

    /// Every lock that is named by a live claim or remembered, in order.
    #[must_use]
    pub fn known_locks(&self) -> BTreeSet<LockRef> {
        let remembered = self.locks.iter().map(|l| l.lock.clone());
        remembered.chain(self.claims.iter().map(|c| c.claim.lock.clone())).collect()
    }
}

impl ModelClaim {
    /// The token, while it holds.
    #[must_use]
    pub const fn token(&self) -> Option<FencingToken> {
        match self.state {
            ModelClaimState::Held { token, .. } => Some(token),
            ModelClaimState::Queued { .. } => None,
        }
    }

    /// The revision that queued it, while it waits.
    #[must_use]
    pub const fn enqueued(&self) -> Option<Revision> {
        match self.state {
            ModelClaimState::Held { .. } => None,
            ModelClaimState::Queued { enqueued, .. } => Some(enqueued),
        }
    }

    /// How long a request waits for it and whether it waits on without one, as it asked; none when it only tried.
    #[must_use]
    pub const fn waits(&self) -> Option<(u64, bool)> {
        match self.if_held {
            IfHeld::Refuse => None,
            IfHeld::Queue { wait_ms, keep_waiting } => Some((wait_ms, keep_waiting)),
        }
    }

    /// The claim's own id.
    #[must_use]
    pub const fn id(&self) -> &ClaimId {
        &self.claim.claim
    }
}
