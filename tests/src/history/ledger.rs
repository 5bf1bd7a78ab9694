//! What the store itself says about locks, in revision order: evidence that answers alone cannot give.

use serde::{Deserialize, Serialize};

use crate::history::{ClaimName, LockName, SessionName};

/// Why a grant ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case", deny_unknown_fields)]
pub enum EndCause {
    /// Someone released this claim.
    Released {
        /// The claim that the release named.
        claim: ClaimName,
    },
    /// The owning session expired.
    Expired,
    /// The owning session was deleted.
    SessionDeleted,
    /// An administrator took it away.
    Forced,
}

/// The end of a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The revision of the command that ended it.
    pub revision: u64,
    /// Why it ended.
    #[serde(flatten)]
    pub cause: EndCause,
}

/// One exclusive grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The lock.
    pub lock: LockName,
    /// The claim that got it.
    pub claim: ClaimName,
    /// The session that owns the claim.
    pub session: SessionName,
    /// The fencing token, which is the revision of the grant.
    pub token: u64,
    /// The revision at which the claim took its place; equal to the token when it was let in at once.
    pub enqueued_revision: u64,
    /// How it ended; `None` while it is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<End>,
}

/// A claim that queued and was never granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// The lock.
    pub lock: LockName,
    /// The claim.
    pub claim: ClaimName,
    /// The revision at which it took its place.
    pub enqueued_revision: u64,
    /// The revision at which it left; `None` while it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_revision: Option<u64>,
}

/// The end of a session, by expiry or by deletion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEnd {
    /// The session.
    pub session: SessionName,
    /// The revision of the entry that ended it.
    pub revision: u64,
}

/// Everything known from the store. A ledger that has grants must have all of them, in log order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// All grants of all locks, in log order.
    pub grants: Vec<Grant>,
    /// All claims that queued in vain.
    pub waits: Vec<Wait>,
    /// All sessions that ended.
    pub session_ends: Vec<SessionEnd>,
}

impl Ledger {
    /// Whether the store said nothing; only answers can be judged then.
    pub fn is_empty(&self) -> bool {
        self.grants.is_empty() && self.waits.is_empty() && self.session_ends.is_empty()
    }
}
