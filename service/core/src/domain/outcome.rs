//! What `apply` answers: a success or a refusal, both data. A refusal changes nothing.

use serde::{Deserialize, Serialize};

use std::collections::BTreeMap;

use crate::domain::{ClaimRef, ConfigItem, Event, LockKind, LockMode, SessionSpec};
use crate::{ConfigKey, FencingToken, LockName, NamespaceName, Revision, SessionId};

/// The result of applying one entry.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The answer to whoever proposed the entry.
    pub outcome: Outcome,
    /// The store's revision after the entry.
    pub revision: Revision,
    /// What happened, in the order of revisions. Includes what merely became due.
    pub events: Vec<Event>,
}

/// The answer of one entry. Stored in idempotency records, so its encoding is a format.
pub type Outcome = Result<Success, Rejection>;

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Success {
    /// The store has its identity (also when it had one already).
    Founded,
    /// The clock moved.
    Ticked,
    /// The namespace is there.
    Namespace {
        /// When it was created.
        create_revision: Revision,
        /// Whether this entry created it.
        created: bool,
    },
    /// The namespace is gone.
    NamespaceDeleted,
    /// The session is there.
    Session {
        /// When it was created.
        create_revision: Revision,
        /// What it was created with.
        spec: SessionSpec,
        /// Whether this entry created it.
        created: bool,
    },
    /// The session is ended (also when it was before, or was never seen).
    SessionEnded,
    /// The claim holds its lock.
    Held {
        /// The grant's token.
        token: FencingToken,
        /// The holder.
        session: SessionId,
        /// Whether this entry granted it, rather than an earlier one.
        granted: bool,
    },
    /// The claim waits.
    Queued {
        /// The revision that queued it.
        enqueued: Revision,
        /// The waiting session.
        session: SessionId,
        /// Claims before it in the queue, not counting holders.
        position: u64,
        /// Who holds the lock, the first few.
        holders: Vec<Holder>,
        /// Whether this entry queued it, rather than an earlier one.
        queued: bool,
    },
    /// The wait was over before the grant: the claim is gone.
    WaitTimedOut,
    /// The claim is ended (also when it was before, or was never seen).
    Released,
    /// The holder's claim was ended by force.
    ForceReleased {
        /// The claim that was ended.
        claim: ClaimRef,
        /// Its session.
        session: SessionId,
        /// The revision that ended it.
        revision: Revision,
    },
    /// The value is written.
    ConfigPut {
        /// When the key was created, this time.
        create_revision: Revision,
        /// This write.
        mod_revision: Revision,
        /// Writes since the key was created, this one included.
        version: u64,
    },
    /// The key is absent.
    ConfigDeleted {
        /// This delete; none when the key was absent before.
        revision: Option<Revision>,
    },
    /// What was due and still there is ended.
    Expired {
        /// Sessions ended.
        sessions: u64,
        /// Waits ended.
        waits: u64,
    },
    /// The proposer no longer leads: nothing is ended.
    ExpireVoid,
    /// The transaction is done.
    Txn {
        /// Whether everything that was compared holds, so that the first list was done.
        succeeded: bool,
        /// The revision of its writes; none when it wrote nothing.
        revision: Option<Revision>,
        /// What each operation of the list did.
        results: Vec<TxnResult>,
    },
    /// The set holds all its locks.
    SetHeld {
        /// The token of each lock's grant.
        tokens: BTreeMap<LockName, FencingToken>,
        /// The holder.
        session: SessionId,
        /// Whether this entry granted it, rather than an earlier one.
        granted: bool,
    },
    /// The set waits.
    SetQueued {
        /// The revision that queued it.
        enqueued: Revision,
        /// The waiting session.
        session: SessionId,
        /// Claims before it in the queue of each lock, not counting holders.
        positions: BTreeMap<LockName, u64>,
        /// Whether this entry queued it, rather than an earlier one.
        queued: bool,
    },
    /// The leader's value is published.
    Proclaimed {
        /// Since this revision.
        revision: Revision,
    },
    /// A slice of what may go is dropped.
    Compacted {
        /// How many rows.
        rows: u64,
        /// Config below this revision may be incomplete.
        compacted_revision: Revision,
        /// Whether the bounds of the slice leave more to drop.
        more: bool,
    },
}

/// What one operation of a transaction did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TxnResult {
    /// The value is written.
    Put {
        /// The key.
        key: ConfigKey,
        /// When it was created, this time.
        create_revision: Revision,
        /// This write.
        mod_revision: Revision,
        /// Writes since it was created, this one included.
        version: u64,
    },
    /// The key is absent.
    Deleted {
        /// The key.
        key: ConfigKey,
        /// Whether it existed.
        deleted: bool,
    },
    /// What the key had before the transaction.
    Got {
        /// The key.
        key: ConfigKey,
        /// Its value; none when it did not exist.
        item: Option<ConfigItem>,
    },
}

/// Who holds a lock, as a refusal tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The claim's id.
    pub claim: String,
    /// The session.
    pub session: SessionId,
    /// The session's name, for people.
    pub session_name: String,
    /// How it takes the lock.
    pub mode: LockMode,
    /// The claim's label, for people.
    pub label: String,
    /// The token of the grant.
    pub token: FencingToken,
    /// How long it holds, in replicated milliseconds.
    pub held_ms: u64,
}

/// A wait that never ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StuckWait {
    /// The session that waits.
    pub session: SessionId,
    /// The session's name, for people.
    pub session_name: String,
    /// The lock that it waits for.
    pub lock: LockName,
    /// The namespace of the lock.
    pub namespace: NamespaceName,
}

/// Why a claim or session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EndReason {
    /// Its client ended it.
    Released,
    /// Its session's time to live ended.
    Expired,
    /// Nothing waited for it any more.
    TimedOut,
    /// Its client took it out of the queue.
    LeftQueue,
    /// It was deleted before it was ever seen.
    DeletedUnseen,
    /// An administrator ended it.
    Forced,
}

/// Why nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rejection {
    /// The entry came before the store had its identity.
    NotFounded,
    /// No such namespace.
    NamespaceNotFound,
    /// The namespace holds keys, claims or running lock delays.
    NamespaceNotEmpty,
    /// The store has its fill of namespaces.
    TooManyNamespaces {
        /// The bound.
        max: u64,
    },
    /// No such session, and none was ever seen.
    SessionNotFound,
    /// The session is over.
    SessionExpired {
        /// Why.
        reason: EndReason,
    },
    /// The id is taken by a session with another body.
    SessionExists,
    /// The store has its fill of sessions.
    TooManySessions {
        /// The bound.
        max: u64,
    },
    /// The session owns as much as one may.
    SessionOwnsTooMuch {
        /// The bound.
        max: u64,
    },
    /// The store remembers as many ended ids as it may, and none is old enough to forget.
    TooManyTombstones {
        /// The bound.
        max: u64,
    },
    /// The lock is held, or closed by a lock delay.
    LockHeld {
        /// Who holds it, the first few.
        holders: Vec<Holder>,
        /// How many wait for it, and come first.
        queued: u64,
        /// How long a lock delay keeps it closed, in replicated milliseconds; 0 when none does.
        delay_remaining_ms: u64,
    },
    /// A lock of the set cannot be taken now.
    SetHeld {
        /// The first such lock by name.
        lock: LockName,
        /// Who holds it, the first few.
        holders: Vec<Holder>,
        /// How many wait for it, and come first.
        queued: u64,
        /// How long a lock delay keeps it closed, in replicated milliseconds; 0 when none does.
        delay_remaining_ms: u64,
    },
    /// The claim takes no permit, or more than there are.
    ImpossiblePermits {
        /// How many it takes.
        permits: u32,
        /// How many there are.
        of: u32,
    },
    /// A set has no lock, or more than a set may.
    LockSetSize {
        /// The bound.
        max: u64,
    },
    /// The lock has holders or waiters, and is of another kind than the claim needs.
    LockModeConflict {
        /// The lock.
        lock: LockName,
        /// The kind that it has now.
        kind: LockKind,
    },
    /// The claim would wait for ever: for sessions that wait for its own.
    WouldDeadlock {
        /// The waits that hold each other up, the first few, that of the refused claim first.
        stuck: Vec<StuckWait>,
    },
    /// The id is taken by a claim with another body.
    ClaimConflict,
    /// The claim is over.
    ClaimEnded {
        /// Why.
        reason: EndReason,
        /// The token it had, if it was ever held.
        token: Option<FencingToken>,
    },
    /// No such claim, and none was ever seen.
    ClaimNotFound,
    /// The lock has as many claims as it may.
    QueueFull {
        /// The bound.
        max: u64,
    },
    /// The lock's holder has another token, or there is none.
    TokenMismatch {
        /// The tokens of the holders.
        held: Vec<FencingToken>,
    },
    /// The guard's claim is not held.
    StaleToken {
        /// The token held now, if any.
        held: Option<FencingToken>,
    },
    /// The key is not as the precondition says.
    RevisionMismatch {
        /// The key's `mod_revision`; none when it does not exist.
        current: Option<Revision>,
    },
    /// The key did not exist at the revision.
    KeyNotFound,
    /// What the key had at the revision is dropped.
    RevisionCompacted {
        /// The oldest revision at which config is complete.
        oldest: Revision,
    },
    /// The store has not reached the revision.
    FutureRevision {
        /// Where the store is.
        revision: Revision,
    },
    /// The values that the transaction reads are too large together.
    TxnAnswerTooLarge {
        /// The bound in bytes.
        bytes_max: u64,
    },
    /// The idempotency key was used for another request.
    ReplayKeyReused,
    /// The answer to the first request of this key was too large to keep; read back.
    ReplayAnswerNotKept,
}
