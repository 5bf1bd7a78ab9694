//! The replicated input: one variant per verb. Everything that `apply` reads is here or in the state.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::domain::Settings;
use crate::{
    ClaimId, ConfigKey, FencingToken, LeaderId, LockName, LogTime, NamespaceName, Revision, SessionId,
};

/// Behaviour that every member must know before an entry may use it. A node that meets a higher level stops
/// before applying.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Level(pub u32);

/// The level that this build writes and the highest that it applies.
pub const LEVEL: Level = Level(1);

/// What a leader puts into the log for one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// The level needed to apply it.
    pub level: Level,
    /// The leader's reading of the replicated clock. Apply takes the larger of this and its own.
    pub time: LogTime,
    /// Present when the request can be replayed by its `Idempotency-Key`.
    pub replay: Option<ReplayKey>,
    /// What to do.
    pub command: Command,
}

/// The identity of a replayable request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReplayKey {
    /// SHA-256 of (identity, namespace, method, path, key).
    pub scope: [u8; 32],
    /// SHA-256 of what the request asks: query, relevant headers and body.
    pub fingerprint: [u8; 32],
}

/// One verb of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// The first entry of a store: its identity and settings. A second one changes nothing.
    Found {
        /// The cluster's id.
        cluster_id: String,
        /// Names this line of history; a restore changes it.
        history_id: u64,
        /// The limits and retentions to start with.
        settings: Settings,
    },
    /// Moves the replicated clock, so that what is due happens.
    Tick,
    /// Creates a namespace, or finds it there.
    CreateNamespace {
        /// Its name.
        name: NamespaceName,
    },
    /// Deletes an empty namespace.
    DeleteNamespace {
        /// Its name.
        name: NamespaceName,
    },
    /// Creates an explicit session, or replays its creation.
    CreateSession {
        /// The client's id; never a reserved one.
        id: SessionId,
        /// What was asked.
        spec: SessionSpec,
    },
    /// Ends a session and everything it owns. Voluntary: no lock delay.
    EndSession {
        /// The session.
        id: SessionId,
    },
    /// Takes or queues for a lock, or replays that.
    Acquire(Acquire),
    /// Ends a wait whose time is over, unless the claim was granted before.
    CancelWait(WaitRef),
    /// Releases a held claim, or takes a queued one out of its queue.
    Release {
        /// The claim.
        claim: ClaimRef,
    },
    /// Ends the holder's claim with this token; lock delay applies.
    ForceRelease {
        /// The lock.
        lock: LockRef,
        /// The token of the claim to end.
        token: FencingToken,
        /// Why, for the audit.
        reason: String,
    },
    /// Writes a config value.
    PutConfig(PutConfig),
    /// Deletes a config value.
    DeleteConfig(DeleteConfig),
    /// Ends sessions and waits whose deadline passed on the leader that proposes this.
    Expire(Expire),
}

/// A lock in its namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LockRef {
    /// The namespace.
    pub namespace: NamespaceName,
    /// The lock's name.
    pub lock: LockName,
}

/// A claim of a lock.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClaimRef {
    /// The lock.
    pub lock: LockRef,
    /// The claim's id.
    pub claim: ClaimId,
}

/// One particular wait: an id can be queued only once, and the revision says which entry queued it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WaitRef {
    /// The claim.
    pub claim: ClaimRef,
    /// The revision that queued it.
    pub enqueued: Revision,
}

/// What a client asks of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSpec {
    /// Time to live in milliseconds.
    pub ttl_ms: u64,
    /// A name for people.
    pub name: String,
    /// Labels for people and filters.
    pub labels: BTreeMap<String, String>,
    /// How long a lock stays closed after this session lost it, in milliseconds.
    pub lock_delay_ms: u64,
}

/// Who holds a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClaimOwner {
    /// A session that exists.
    Session(SessionId),
    /// A session of the claim's own, made with it and ended with it.
    OwnSession {
        /// Time to live in milliseconds.
        ttl_ms: u64,
    },
}

/// How a claim takes the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LockMode {
    /// One holder.
    Exclusive,
}

/// What happens when the lock is not free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum IfHeld {
    /// Refuse; the claim leaves nothing behind.
    Refuse,
    /// Queue.
    Queue {
        /// How long a request waits, in milliseconds.
        wait_ms: u64,
        /// Whether the claim stays queued when no request waits for it.
        keep_waiting: bool,
    },
}

/// Takes a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acquire {
    /// The claim: its lock and the id that the client chose.
    pub claim: ClaimRef,
    /// Who holds it.
    pub owner: ClaimOwner,
    /// How.
    pub mode: LockMode,
    /// Otherwise.
    pub if_held: IfHeld,
    /// A text for people.
    pub label: String,
}

/// What must be true of a key for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Precondition {
    /// Anything.
    None,
    /// The key exists at exactly this `mod_revision` (`If-Match: "<n>"`).
    ModRevision(Revision),
    /// The key exists (`If-Match: *`).
    Exists,
    /// The key does not exist (`If-None-Match: *`).
    Absent,
}

/// A fence: holds only while a claim of that lock with exactly that token is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    /// The lock, in the namespace of the write.
    pub lock: LockName,
    /// The token of the held claim.
    pub token: FencingToken,
}

/// Writes a config value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutConfig {
    /// The namespace.
    pub namespace: NamespaceName,
    /// The key.
    pub key: ConfigKey,
    /// The bytes.
    pub value: Bytes,
    /// Their media type.
    pub content_type: String,
    /// What must be true of the key.
    pub precondition: Precondition,
    /// What must be true of a lock.
    pub guard: Option<Guard>,
}

/// Deletes a config value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteConfig {
    /// The namespace.
    pub namespace: NamespaceName,
    /// The key.
    pub key: ConfigKey,
    /// What must be true of the key.
    pub precondition: Precondition,
    /// What must be true of a lock.
    pub guard: Option<Guard>,
}

/// What the leader's deadlines ended. Void unless the entry is of that very leadership.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expire {
    /// The leadership that kept the deadlines.
    pub leader: LeaderId,
    /// Sessions to end, each named with its creation, so that a later session of that id is safe.
    pub sessions: Vec<SessionRef>,
    /// Waits to end.
    pub waits: Vec<WaitRef>,
}

/// One particular session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionRef {
    /// Its id.
    pub id: SessionId,
    /// The revision that created it.
    pub create_revision: Revision,
}
