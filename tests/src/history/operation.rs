//! One client operation: what was asked, when, and what is known about its effect.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes the name as the client used it.
            pub fn new(name: impl Into<String>) -> Self {
                Self(name.into())
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// A config key.
    Key
}
name! {
    /// A lock.
    LockName
}
name! {
    /// A claim; unique within its lock.
    ClaimName
}
name! {
    /// A session with an id chosen by the client.
    SessionName
}

/// One sequential client: its operations never overlap each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClientId(pub u32);

/// The identity of a written value. A workload writes each value once, so a read names the write it saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ValueId(pub u64);

/// What a config write or delete asks of the key's present item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// No condition.
    #[default]
    Always,
    /// The key must be absent (`If-None-Match: *`).
    Absent,
    /// The item's `mod_revision` must be this one (`If-Match`).
    Revision(u64),
}

impl Condition {
    fn is_always(&self) -> bool {
        *self == Self::Always
    }
}

/// A fence: the write succeeds only while the lock is held with this token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    /// The lock that must be held.
    pub lock: LockName,
    /// The token that it must be held with.
    pub token: u64,
}

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "snake_case", deny_unknown_fields)]
pub enum Call {
    /// A linearizable read of one key.
    Read {
        /// The key.
        key: Key,
    },
    /// A write, a compare-and-set or a fenced write.
    Write {
        /// The key.
        key: Key,
        /// The value, unique to this call.
        value: ValueId,
        /// What must hold of the present item.
        #[serde(default, skip_serializing_if = "Condition::is_always")]
        condition: Condition,
        /// The fence, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        guard: Option<Guard>,
    },
    /// A delete.
    Delete {
        /// The key.
        key: Key,
        /// What must hold of the present item.
        #[serde(default, skip_serializing_if = "Condition::is_always")]
        condition: Condition,
    },
    /// Creates a session, or replays its creation.
    OpenSession {
        /// The session.
        session: SessionName,
        /// Its time to live.
        ttl_ms: u64,
    },
    /// Renews a session.
    KeepAlive {
        /// The session.
        session: SessionName,
    },
    /// Ends a session and everything it owns.
    EndSession {
        /// The session.
        session: SessionName,
    },
    /// Takes an exclusive lock under a claim id, or replays that.
    Acquire {
        /// The lock.
        lock: LockName,
        /// The claim's id.
        claim: ClaimName,
        /// The explicit session that owns the claim.
        session: SessionName,
        /// How long the request may wait in the queue; 0 only tries.
        #[serde(default)]
        wait_ms: u64,
    },
    /// Releases a claim, or leaves the queue.
    Release {
        /// The lock.
        lock: LockName,
        /// The claim's id.
        claim: ClaimName,
    },
    /// Reads who holds a lock.
    LookAtLock {
        /// The lock.
        lock: LockName,
    },
}

/// A claim as an answer shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldClaim {
    /// The claim's id.
    pub claim: ClaimName,
    /// Its fencing token.
    pub token: u64,
}

/// What a successful answer said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// A read found this item.
    Item {
        /// Whose write it is.
        value: ValueId,
        /// The revision of that write.
        mod_revision: u64,
    },
    /// A read found nothing.
    NoItem,
    /// A write took effect at this revision.
    Written {
        /// The revision.
        mod_revision: u64,
    },
    /// The key is absent after this delete.
    Deleted,
    /// The session is live.
    SessionOpen,
    /// The session was renewed.
    Renewed,
    /// The session is over.
    SessionEnded,
    /// The claim holds its lock.
    Held {
        /// The fencing token, which is the grant's revision.
        token: u64,
    },
    /// The claim is over.
    Released,
    /// Who holds the lock.
    Lock {
        /// The holders; at most one when the lock is exclusive.
        holders: Vec<HeldClaim>,
    },
}

/// Why a call was certainly not applied. Refusals that depend on the state are observations of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Refusal {
    /// The condition did not hold.
    RevisionMismatch,
    /// The guard's token was not the holder's.
    StaleToken,
    /// A try found the lock taken.
    LockHeld,
    /// A wait ended before the grant, and ended the claim.
    WaitTimeout,
    /// The claim was over before.
    ClaimEnded,
    /// The session was over before.
    SessionExpired,
    /// Refused without telling anything about keys, locks or sessions (503, 429, bad input).
    NotServed {
        /// The problem's code, or the HTTP status when the answer had none.
        problem: String,
    },
}

/// What is known about an operation's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// Applied and answered.
    Ok {
        /// When the answer was complete.
        at_ns: u64,
        /// What it said.
        answer: Answer,
    },
    /// Certainly not applied.
    Refused {
        /// When the answer was complete.
        at_ns: u64,
        /// Why.
        refusal: Refusal,
    },
    /// May have taken effect at any time after the call, may yet do so, or never will.
    Unknown,
}

/// One operation of one client. Times are nanoseconds of one monotonic clock for the whole history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Who asked.
    pub client: ClientId,
    /// When the request began to leave.
    pub invoked_ns: u64,
    /// What was asked.
    pub call: Call,
    /// What came of it.
    pub outcome: Outcome,
}

impl Operation {
    /// When the answer was complete; `None` while the outcome is open.
    pub fn completed_ns(&self) -> Option<u64> {
        match &self.outcome {
            Outcome::Ok { at_ns, .. } | Outcome::Refused { at_ns, .. } => Some(*at_ns),
            Outcome::Unknown => None,
        }
    }

    /// The answer of a successful operation.
    pub fn answer(&self) -> Option<&Answer> {
        match &self.outcome {
            Outcome::Ok { answer, .. } => Some(answer),
            Outcome::Refused { .. } | Outcome::Unknown => None,
        }
    }

    /// Why the operation was refused, if it was.
    pub fn refusal(&self) -> Option<&Refusal> {
        match &self.outcome {
            Outcome::Refused { refusal, .. } => Some(refusal),
            Outcome::Ok { .. } | Outcome::Unknown => None,
        }
    }

    /// Whether the answer, if there is one, is of the kind that the call asks for.
    pub fn answer_fits_call(&self) -> bool {
        let Some(answer) = self.answer() else { return true };
        match &self.call {
            Call::Read { .. } => matches!(answer, Answer::Item { .. } | Answer::NoItem),
            Call::Write { .. } => matches!(answer, Answer::Written { .. }),
            Call::Delete { .. } => matches!(answer, Answer::Deleted),
            Call::OpenSession { .. } => matches!(answer, Answer::SessionOpen),
            Call::KeepAlive { .. } => matches!(answer, Answer::Renewed),
            Call::EndSession { .. } => matches!(answer, Answer::SessionEnded),
            Call::Acquire { .. } => matches!(answer, Answer::Held { .. }),
            Call::Release { .. } => matches!(answer, Answer::Released),
            Call::LookAtLock { .. } => matches!(answer, Answer::Lock { .. }),
        }
    }

    /// Whether the operation says something about the store, or may have changed it: false when no node served it.
    pub fn is_telling(&self) -> bool {
        !matches!(self.refusal(), Some(Refusal::NotServed { .. }))
    }

    /// Whether the operation may have had an effect.
    pub fn may_have_happened(&self) -> bool {
        match &self.outcome {
            Outcome::Ok { .. } | Outcome::Unknown => true,
            Outcome::Refused { .. } => false,
        }
    }
}

/// The operations of all clients, in no particular order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The operations; reports name them by their index here.
    pub operations: Vec<Operation>,
}

impl History {
    /// Every key that an operation names, in order.
    pub fn keys(&self) -> Vec<&Key> {
        let mut keys: Vec<&Key> = self.operations.iter().filter_map(|op| op.call.key()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Every lock that an operation or a guard names, in order.
    pub fn locks(&self) -> Vec<&LockName> {
        let mut locks: Vec<&LockName> = self.operations.iter().filter_map(|op| op.call.lock()).collect();
        locks.sort_unstable();
        locks.dedup();
        locks
    }
}

impl Call {
    /// The config key that the call names.
    pub fn key(&self) -> Option<&Key> {
        match self {
            Self::Read { key } | Self::Write { key, .. } | Self::Delete { key, .. } => Some(key),
            Self::OpenSession { .. }
            | Self::KeepAlive { .. }
            | Self::EndSession { .. }
            | Self::Acquire { .. }
            | Self::Release { .. }
            | Self::LookAtLock { .. } => None,
        }
    }

    /// The lock that the call names, by itself or through its guard.
    pub fn lock(&self) -> Option<&LockName> {
        match self {
            Self::Acquire { lock, .. } | Self::Release { lock, .. } | Self::LookAtLock { lock } => Some(lock),
            Self::Write { guard, .. } => guard.as_ref().map(|guard| &guard.lock),
            Self::Read { .. }
            | Self::Delete { .. }
            | Self::OpenSession { .. }
            | Self::KeepAlive { .. }
            | Self::EndSession { .. } => None,
        }
    }
}
