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
    /// Writes a value that a key had at an earlier revision as a new version.
    RollbackConfig(RollbackConfig),
    /// Compares, and then does one of two lists of operations as a whole.
    Txn(Txn),
    /// Drops superseded versions, one slice of them.
    Compact(Compact),
    /// Takes several locks at once or queues for all of them, or replays that.
    AcquireSet(AcquireSet),
    /// Publishes the value of an election's leader.
    Proclaim(Proclaim),
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

impl ClaimRef {
    /// The claim of a lock set as a whole. Its parts are claims of the same id, one of each lock.
    #[must_use]
    pub fn lock_set(namespace: NamespaceName, claim: ClaimId) -> Self {
        Self { lock: LockRef { namespace, lock: LockName::lock_sets() }, claim }
    }

    /// The claim of this id of another lock in the namespace.
    #[must_use]
    pub fn of_lock(&self, lock: &LockName) -> Self {
        let lock = LockRef { namespace: self.lock.namespace.clone(), lock: lock.clone() };
        Self { lock, claim: self.claim.clone() }
    }
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
    /// One holder, and no shared ones.
    Exclusive,
    /// Any number of shared holders, and no exclusive one.
    Shared,
    /// Some of a number of permits.
    Permits {
        /// How many it takes.
        permits: u32,
        /// How many there are, the same for all claims of the lock at a time.
        of: u32,
    },
}

/// What a lock is used as while it has a holder or a queue. Claims of another kind are refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LockKind {
    /// One exclusive holder, or any number of shared ones.
    #[default]
    Exclusion,
    /// A semaphore.
    Permits {
        /// How many permits it has.
        of: u32,
    },
}

impl LockKind {
    /// How many units a lock of this kind has. A shared holder takes one of more than there can be holders, an exclusive
    /// one takes all, so that one addition tells for every kind who fits beside whom.
    pub(crate) const fn units(self) -> u64 {
        match self {
            Self::Exclusion => u32::MAX as u64,
            Self::Permits { of } => of as u64,
        }
    }
}

impl LockMode {
    /// The kind of lock that it needs.
    #[must_use]
    pub const fn kind(self) -> LockKind {
        match self {
            Self::Exclusive | Self::Shared => LockKind::Exclusion,
            Self::Permits { permits: _, of } => LockKind::Permits { of },
        }
    }

    /// How many of its kind's units it takes.
    pub(crate) const fn units(self) -> u64 {
        match self {
            Self::Exclusive => LockKind::Exclusion.units(),
            Self::Shared => 1,
            Self::Permits { permits, of: _ } => permits as u64,
        }
    }

    /// Whether it could ever be granted: a claim takes one permit at least, and no more than there are.
    #[must_use]
    pub const fn is_possible(self) -> bool {
        match self {
            Self::Exclusive | Self::Shared => true,
            Self::Permits { permits, of } => 0 < permits && permits <= of,
        }
    }
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

/// Takes several locks of one namespace, all or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcquireSet {
    /// The namespace.
    pub namespace: NamespaceName,
    /// The id that the client chose; each of its locks gets a claim of that id.
    pub claim: ClaimId,
    /// The session that holds it.
    pub session: SessionId,
    /// The locks, and how it takes each.
    pub locks: BTreeMap<LockName, LockMode>,
    /// What happens when they cannot all be taken now.
    pub if_held: IfHeld,
    /// A text for people.
    pub label: String,
}

/// Publishes a value of whoever leads an election. It is there for as long as that leadership is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proclaim {
    /// The election.
    pub election: LockRef,
    /// The leader's token.
    pub token: FencingToken,
    /// The bytes.
    pub value: Bytes,
    /// Their media type.
    pub content_type: String,
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
    /// The session whose end deletes the key; none for a key that stays.
    pub session: Option<SessionId>,
    /// Who manages the key; empty for nobody.
    pub managed_by: String,
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

/// Writes a value that a key had at an earlier revision as a new version, which no session owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackConfig {
    /// The namespace.
    pub namespace: NamespaceName,
    /// The key.
    pub key: ConfigKey,
    /// The revision whose value is written again.
    pub to: Revision,
    /// Who manages the key; empty for nobody.
    pub managed_by: String,
    /// What must be true of the key.
    pub precondition: Precondition,
    /// What must be true of a lock.
    pub guard: Option<Guard>,
}

/// A transaction on the keys of one namespace: all of its writes share one revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Txn {
    /// The namespace.
    pub namespace: NamespaceName,
    /// What must be true of a lock for anything to happen.
    pub guard: Option<Guard>,
    /// What decides between the lists: all of it must hold for `success`.
    pub compare: Vec<Compare>,
    /// What is done when everything holds; a key is named at most once.
    pub success: Vec<TxnOp>,
    /// What is done when not; a key is named at most once.
    pub failure: Vec<TxnOp>,
}

/// One condition of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compare {
    /// Of a key; an absent one has revisions and version 0.
    Key {
        /// The key.
        key: ConfigKey,
        /// What must be true of it.
        test: KeyTest,
    },
    /// A claim of a lock with exactly this token is held.
    Lock {
        /// The lock, in the namespace of the transaction.
        lock: LockName,
        /// The claim that must be the one; none for any.
        claim: Option<ClaimId>,
        /// The token.
        token: FencingToken,
    },
}

/// What must be true of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyTest {
    /// Its newest write.
    ModRevision(Comparison, u64),
    /// When it was created, this time.
    CreateRevision(Comparison, u64),
    /// Writes since it was created.
    Version(Comparison, u64),
    /// Its bytes, in lexicographic order. Never true of an absent key, as in etcd.
    Value(Comparison, Bytes),
    /// Whether it exists.
    Exists(bool),
}

/// How two things compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Comparison {
    /// The same.
    Equal,
    /// Not the same.
    NotEqual,
    /// The key's is smaller.
    Less,
    /// The key's is larger.
    Greater,
}

/// One operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TxnOp {
    /// Writes a value.
    Put {
        /// The key.
        key: ConfigKey,
        /// The bytes.
        value: Bytes,
        /// Their media type.
        content_type: String,
        /// The session whose end deletes the key; none for a key that stays.
        session: Option<SessionId>,
        /// Who manages the key; empty for nobody.
        managed_by: String,
    },
    /// Deletes a value.
    Delete {
        /// The key.
        key: ConfigKey,
    },
    /// Reads a value.
    Get {
        /// The key.
        key: ConfigKey,
    },
}

impl TxnOp {
    /// The key that it is about.
    #[must_use]
    pub const fn key(&self) -> &ConfigKey {
        match self {
            Self::Put { key, .. } | Self::Delete { key } | Self::Get { key } => key,
        }
    }
}

impl Comparison {
    pub(crate) fn holds<V: Ord + ?Sized>(self, of_key: &V, given: &V) -> bool {
        match self {
            Self::Equal => of_key == given,
            Self::NotEqual => of_key != given,
            Self::Less => of_key < given,
            Self::Greater => given < of_key,
        }
    }
}

/// The bounds of one slice of a compaction, as the leader chose them from the settings and its clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compact {
    /// Of the versions that may go for their number, those that were superseded before this time go.
    pub superseded_before: LogTime,
    /// While superseded versions have more bytes than this together, the oldest go whatever their number and age.
    pub history_bytes: u64,
    /// Rows that are dropped at most; what is left is for the next slice.
    pub rows: u64,
}
