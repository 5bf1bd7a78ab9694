//! Claims: `/v1/namespaces/{ns}/locks/{name}/claims`. A claim is one attempt to hold one lock, or, as a candidate, to lead
//! one election.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::locks::HolderView;

/// What a claim is made on. Locks and elections have separate name spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum ContestKind {
    /// A lock, which claims hold.
    #[default]
    Lock,
    /// An election, which candidates lead: a lock that one holds at a time.
    Election,
}

impl ContestKind {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Lock, Self::Election];

    /// The kind as guards name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Election => "election",
        }
    }
}

impl fmt::Display for ContestKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of a lock or of an election. In JSON it is a member of what it belongs to, `lock` or `election`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContestName {
    /// Of a lock.
    Lock(String),
    /// Of an election.
    Election(String),
}

impl ContestName {
    /// A name of this kind.
    #[must_use]
    pub fn new(kind: ContestKind, name: impl Into<String>) -> Self {
        match kind {
            ContestKind::Lock => Self::Lock(name.into()),
            ContestKind::Election => Self::Election(name.into()),
        }
    }

    /// What it is the name of.
    #[must_use]
    pub const fn kind(&self) -> ContestKind {
        match self {
            Self::Lock(_) => ContestKind::Lock,
            Self::Election(_) => ContestKind::Election,
        }
    }

    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Lock(name) | Self::Election(name) => name,
        }
    }
}

/// How a claim shares its lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClaimMode {
    /// One holder.
    #[default]
    Exclusive,
    /// Any number of shared holders, no exclusive one.
    Shared,
    /// A semaphore.
    Permits,
}

impl ClaimMode {
    /// The mode as it is written on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exclusive => "exclusive",
            Self::Shared => "shared",
            Self::Permits => "permits",
        }
    }
}

impl fmt::Display for ClaimMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Body that makes a claim, or replays it under the same id.
///
/// Exactly one of `session` and `ttl_ms` is given: the claim belongs to that session, or to one that the service makes
/// for it and that ends with it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimRequest {
    /// The session that is to own the claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The life time of the session made for this claim, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// How it shares the lock; exclusive when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<ClaimMode>,
    /// Mode `permits`: how many permits it takes; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permits: Option<u32>,
    /// Mode `permits`: how many permits the lock has in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u32>,
    /// How long the request waits for the grant, in milliseconds; 0 only tries.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub wait_ms: u64,
    /// Stay in the queue when the wait is over (202) instead of leaving it (408).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_waiting: bool,
    /// What people see beside the claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// serde hands `skip_serializing_if` a reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A claim as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum ClaimView {
    /// It holds the lock.
    Held(HeldClaim),
    /// It waits in the queue.
    Queued(QueuedClaim),
    /// Its owner ended it.
    Released(EndedClaim),
    /// It ended without its owner asking for it.
    Lost(EndedClaim),
}

impl ClaimView {
    /// An ended claim: released when its owner asked for the end, lost otherwise.
    #[must_use]
    pub const fn ended(ended: EndedClaim) -> Self {
        if ended.reason.is_voluntary() { Self::Released(ended) } else { Self::Lost(ended) }
    }
}

/// A claim that holds its lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldClaim {
    /// Its id.
    pub claim: String,
    /// The session that owns it.
    pub session: String,
    /// The token of this grant: larger than that of every earlier grant in the store. Send it with every side effect.
    pub fencing_token: u64,
    /// The store's revision that this view reflects.
    pub revision: u64,
    /// What is left of the session, in milliseconds; only the leader knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_ms: Option<u64>,
    /// What people see beside the claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// A claim that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedClaim {
    /// Its id.
    pub claim: String,
    /// The session that owns it.
    pub session: String,
    /// Its place in the queue; 1 is granted next.
    pub position: u64,
    /// Who holds the lock.
    pub holders: Vec<HolderView>,
    /// What people see beside the claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// A claim that has ended. Its id is never used again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedClaim {
    /// Its id.
    pub claim: String,
    /// How it ended.
    pub reason: EndReason,
    /// The token that it had, if it was ever granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fencing_token: Option<u64>,
}

/// How a claim ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndReason {
    /// Its owner released it.
    Released,
    /// Its session expired or was ended.
    Expired,
    /// Nobody waited for it any longer.
    TimedOut,
    /// Its owner took it out of the queue.
    LeftQueue,
    /// It was deleted before the service had ever seen it.
    DeletedUnseen,
    /// An administrator released it.
    Forced,
}

impl EndReason {
    /// Every reason.
    pub const ALL: [Self; 6] =
        [Self::Released, Self::Expired, Self::TimedOut, Self::LeftQueue, Self::DeletedUnseen, Self::Forced];

    /// The reason as it is written on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Expired => "expired",
            Self::TimedOut => "timed-out",
            Self::LeftQueue => "left-queue",
            Self::DeletedUnseen => "deleted-unseen",
            Self::Forced => "forced",
        }
    }

    /// Whether the owner asked for this end.
    #[must_use]
    pub const fn is_voluntary(self) -> bool {
        match self {
            Self::Released | Self::LeftQueue | Self::DeletedUnseen => true,
            Self::Expired | Self::TimedOut | Self::Forced => false,
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown reason {0:?} for the end of a claim")]
pub struct UnknownEndReason(pub String);

impl FromStr for EndReason {
    type Err = UnknownEndReason;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|reason| reason.as_str() == text)
            .ok_or_else(|| UnknownEndReason(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_reads_back_from_its_text_and_its_json() {
        for reason in EndReason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(reason));
            assert_eq!(serde_json::to_string(&reason).unwrap(), format!("\"{reason}\""));
        }
    }

    #[test]
    fn an_ended_claim_is_lost_unless_its_owner_asked_for_the_end() {
        let ended = |reason| EndedClaim { claim: "a".to_owned(), reason, fencing_token: None };
        assert!(matches!(ClaimView::ended(ended(EndReason::LeftQueue)), ClaimView::Released(_)));
        assert!(matches!(ClaimView::ended(ended(EndReason::Expired)), ClaimView::Lost(_)));
    }

    #[test]
    fn an_unknown_field_of_the_body_is_refused() {
        let body = r#"{"session":"s","wait":5}"#;
        let error = serde_json::from_str::<ClaimRequest>(body).unwrap_err();
        assert!(error.to_string().contains("unknown field `wait`"), "{error}");
    }

    #[test]
    fn an_empty_body_has_the_documented_defaults() {
        let request: ClaimRequest = serde_json::from_str("{}").unwrap();
        assert_eq!(request, ClaimRequest::default());
        assert_eq!(request.mode.unwrap_or_default(), ClaimMode::Exclusive);
        assert_eq!(serde_json::to_string(&request).unwrap(), "{}");
    }
}
