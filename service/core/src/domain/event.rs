//! What happened, for those who wait and watch. Leaves only after the batch that made it is written.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::domain::{ClaimRef, ConfigItem, EndReason, LockMode};
use crate::{ConfigKey, FencingToken, NamespaceName, Revision, SessionId};

/// One change of the store, at its revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Changes of one command share its revision; a grant from a queue has its own.
    pub revision: Revision,
    /// The change.
    pub change: Change,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A namespace was created.
    NamespaceCreated {
        /// Its name.
        name: NamespaceName,
    },
    /// A namespace was deleted.
    NamespaceDeleted {
        /// Its name.
        name: NamespaceName,
    },
    /// A session began; its time to live counts from here.
    SessionCreated {
        /// Its id.
        id: SessionId,
        /// Its time to live in milliseconds.
        ttl_ms: u64,
        /// The claim that made it, if one did.
        made_by: Option<ClaimRef>,
    },
    /// A session ended, with everything it owned.
    SessionEnded {
        /// Its id.
        id: SessionId,
        /// Why.
        reason: EndReason,
    },
    /// A claim began to wait.
    ClaimQueued {
        /// The claim.
        claim: ClaimRef,
        /// Its session.
        session: SessionId,
        /// How it takes the lock.
        mode: LockMode,
        /// How long a request waits for it, in milliseconds.
        wait_ms: u64,
        /// Whether it waits on without a request.
        keep_waiting: bool,
    },
    /// A lock set began to wait, as the claims of its locks tell one by one.
    SetQueued {
        /// The set's claim.
        claim: ClaimRef,
        /// Its session.
        session: SessionId,
        /// How long a request waits for it, in milliseconds.
        wait_ms: u64,
        /// Whether it waits on without a request.
        keep_waiting: bool,
    },
    /// A claim was granted; its token is the event's revision.
    ClaimGranted {
        /// The claim.
        claim: ClaimRef,
        /// Its session.
        session: SessionId,
        /// How it takes the lock.
        mode: LockMode,
        /// The token.
        token: FencingToken,
    },
    /// All locks of a waiting set were granted to it, each as its claim of that lock tells.
    SetGranted {
        /// The set's claim.
        claim: ClaimRef,
        /// Its session.
        session: SessionId,
    },
    /// The leader of an election published a value.
    Proclaimed {
        /// The leader's claim.
        claim: ClaimRef,
        /// Its session.
        session: SessionId,
        /// Its token.
        token: FencingToken,
        /// The bytes.
        value: Bytes,
        /// Their media type.
        content_type: String,
    },
    /// A claim ended.
    ClaimEnded {
        /// The claim.
        claim: ClaimRef,
        /// Its session; none for a claim that was never seen.
        session: Option<SessionId>,
        /// Why.
        reason: EndReason,
        /// The token it had, if it was held.
        token: Option<FencingToken>,
    },
    /// A config value was written.
    ConfigPut {
        /// The namespace.
        namespace: NamespaceName,
        /// What was written.
        item: ConfigItem,
    },
    /// A config value was deleted.
    ConfigDeleted {
        /// The namespace.
        namespace: NamespaceName,
        /// The key.
        key: ConfigKey,
        /// Whether the end of its session deleted it.
        expired: bool,
    },
    /// A live session owns more or fewer config keys than before.
    SessionOwns {
        /// Its id.
        id: SessionId,
        /// Claims and keys that it owns.
        owned: u64,
    },
}

impl Change {
    /// Whether it is kept for those who watch locks and sessions. Config changes are kept with the versions that they made.
    #[must_use]
    pub const fn is_logged(&self) -> bool {
        match self {
            Self::SessionCreated { .. }
            | Self::SessionEnded { .. }
            | Self::ClaimQueued { .. }
            | Self::ClaimGranted { .. }
            | Self::SetQueued { .. }
            | Self::SetGranted { .. }
            | Self::Proclaimed { .. }
            | Self::ClaimEnded { .. } => true,
            Self::NamespaceCreated { .. }
            | Self::NamespaceDeleted { .. }
            | Self::ConfigPut { .. }
            | Self::ConfigDeleted { .. }
            | Self::SessionOwns { .. } => false,
        }
    }
}
