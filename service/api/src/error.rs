//! The closed list of error codes and the problem document (RFC 9457) that carries them.
//!
//! The status of an answer decides what a caller may conclude, so the law is a function of the code and nothing else:
//! a 4xx, 429, 503 or 507 changed nothing; a 504 may have changed something.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    claims::{ContestName, EndReason},
    locks::HolderView,
    watch::EventId,
};

/// Why a request was refused or could not be answered. No code is ever added without a place in the table of the REST
/// reference, because clients match on it exhaustively.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// The body is not JSON.
    InvalidJson,
    /// A field of the body or a query parameter is unknown, missing or malformed; `pointer` names it.
    InvalidField,
    /// A name or id in the path breaks the naming rules.
    InvalidName,
    /// A request header is malformed.
    InvalidHeader,
    /// The revision asked for lies above the newest one.
    FutureRevision,
    /// The request carries no valid credentials.
    Unauthenticated,
    /// The identity may not do this.
    Forbidden,
    /// No such namespace.
    NamespaceNotFound,
    /// No such session, and none with this id is remembered.
    SessionNotFound,
    /// No such claim, and none with this id is remembered.
    ClaimNotFound,
    /// No such config key at that revision.
    KeyNotFound,
    /// No such cluster member.
    MemberNotFound,
    /// No such route.
    RouteNotFound,
    /// The route exists, but not with this method.
    MethodNotAllowed,
    /// The wait ended before the grant; the claim is gone.
    WaitTimeout,
    /// A session with this id but another body exists.
    SessionExists,
    /// A claim with this id but another body exists.
    ClaimConflict,
    /// Another claim holds the lock; `holders` lists who.
    LockHeld,
    /// The lock is in use with another kind of claim.
    LockModeConflict,
    /// The claim could wait for ever.
    WouldDeadlock,
    /// The namespace still holds something.
    NamespaceNotEmpty,
    /// The first request with this idempotency key is still being worked on.
    IdempotencyInFlight,
    /// This node belongs to a cluster already.
    AlreadyBootstrapped,
    /// Another membership change is under way.
    ChangeInFlight,
    /// The learner lags too far behind to become a voter.
    NotCaughtUp,
    /// The step could cost the cluster its quorum.
    WouldLoseQuorum,
    /// The last voter cannot be removed.
    LastVoter,
    /// The claim with this id has ended; ids are used once.
    ClaimEnded,
    /// The session with this id has ended; ids are used once.
    SessionExpired,
    /// The revision asked for has been compacted away.
    RevisionCompacted,
    /// The store was restored from a backup since.
    HistoryChanged,
    /// The body is larger than the limit.
    TooLarge,
    /// An `If-Match` or `If-None-Match` does not hold; `revision` is the item's.
    RevisionMismatch,
    /// The guard's token is not that of a claim held at this moment.
    StaleToken,
    /// The token named is not the current holder's.
    TokenMismatch,
    /// The membership differs from the expected one.
    MembershipChanged,
    /// The media type is not the one this route reads.
    UnsupportedMediaType,
    /// A number lies outside its bounds.
    OutOfRange,
    /// The idempotency key was used with another request.
    IdempotencyKeyReused,
    /// The lock's queue is full.
    QueueFull,
    /// The node has more work than it accepts.
    Overloaded,
    /// No leader is known at the moment.
    NoLeader,
    /// The node is going down.
    ShuttingDown,
    /// The node belongs to no cluster yet.
    NotBootstrapped,
    /// The node did not reach `min_revision` in time.
    RevisionNotReached,
    /// The request may or may not have been applied.
    OutcomeUnknown,
    /// Too little disk space is left for writes.
    DiskReserve,
}

impl ErrorCode {
    /// Every code, in the order of status.
    pub const ALL: [Self; 47] = [
        Self::InvalidJson,
        Self::InvalidField,
        Self::InvalidName,
        Self::InvalidHeader,
        Self::FutureRevision,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NamespaceNotFound,
        Self::SessionNotFound,
        Self::ClaimNotFound,
        Self::KeyNotFound,
        Self::MemberNotFound,
        Self::RouteNotFound,
        Self::MethodNotAllowed,
        Self::WaitTimeout,
        Self::SessionExists,
        Self::ClaimConflict,
        Self::LockHeld,
        Self::LockModeConflict,
        Self::WouldDeadlock,
        Self::NamespaceNotEmpty,
        Self::IdempotencyInFlight,
        Self::AlreadyBootstrapped,
        Self::ChangeInFlight,
        Self::NotCaughtUp,
        Self::WouldLoseQuorum,
        Self::LastVoter,
        Self::ClaimEnded,
        Self::SessionExpired,
        Self::RevisionCompacted,
        Self::HistoryChanged,
        Self::RevisionMismatch,
        Self::StaleToken,
        Self::TokenMismatch,
        Self::MembershipChanged,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::OutOfRange,
        Self::IdempotencyKeyReused,
        Self::QueueFull,
        Self::Overloaded,
        Self::NoLeader,
        Self::ShuttingDown,
        Self::NotBootstrapped,
        Self::RevisionNotReached,
        Self::OutcomeUnknown,
        Self::DiskReserve,
    ];

    /// The code as it is written on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid-json",
            Self::InvalidField => "invalid-field",
            Self::InvalidName => "invalid-name",
            Self::InvalidHeader => "invalid-header",
            Self::FutureRevision => "future-revision",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NamespaceNotFound => "namespace-not-found",
            Self::SessionNotFound => "session-not-found",
            Self::ClaimNotFound => "claim-not-found",
            Self::KeyNotFound => "key-not-found",
            Self::MemberNotFound => "member-not-found",
            Self::RouteNotFound => "route-not-found",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::WaitTimeout => "wait-timeout",
            Self::SessionExists => "session-exists",
            Self::ClaimConflict => "claim-conflict",
            Self::LockHeld => "lock-held",
            Self::LockModeConflict => "lock-mode-conflict",
            Self::WouldDeadlock => "would-deadlock",
            Self::NamespaceNotEmpty => "namespace-not-empty",
            Self::IdempotencyInFlight => "idempotency-in-flight",
            Self::AlreadyBootstrapped => "already-bootstrapped",
            Self::ChangeInFlight => "change-in-flight",
            Self::NotCaughtUp => "not-caught-up",
            Self::WouldLoseQuorum => "would-lose-quorum",
            Self::LastVoter => "last-voter",
            Self::ClaimEnded => "claim-ended",
            Self::SessionExpired => "session-expired",
            Self::RevisionCompacted => "revision-compacted",
            Self::HistoryChanged => "history-changed",
            Self::TooLarge => "too-large",
            Self::RevisionMismatch => "revision-mismatch",
            Self::StaleToken => "stale-token",
            Self::TokenMismatch => "token-mismatch",
            Self::MembershipChanged => "membership-changed",
            Self::UnsupportedMediaType => "unsupported-media-type",
            Self::OutOfRange => "out-of-range",
            Self::IdempotencyKeyReused => "idempotency-key-reused",
            Self::QueueFull => "queue-full",
            Self::Overloaded => "overloaded",
            Self::NoLeader => "no-leader",
            Self::ShuttingDown => "shutting-down",
            Self::NotBootstrapped => "not-bootstrapped",
            Self::RevisionNotReached => "revision-not-reached",
            Self::OutcomeUnknown => "outcome-unknown",
            Self::DiskReserve => "disk-reserve",
        }
    }

    /// The HTTP status that this code is always sent with.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::InvalidJson
            | Self::InvalidField
            | Self::InvalidName
            | Self::InvalidHeader
            | Self::FutureRevision => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NamespaceNotFound
            | Self::SessionNotFound
            | Self::ClaimNotFound
            | Self::KeyNotFound
            | Self::MemberNotFound
            | Self::RouteNotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::WaitTimeout => 408,
            Self::SessionExists
            | Self::ClaimConflict
            | Self::LockHeld
            | Self::LockModeConflict
            | Self::WouldDeadlock
            | Self::NamespaceNotEmpty
            | Self::IdempotencyInFlight
            | Self::AlreadyBootstrapped
            | Self::ChangeInFlight
            | Self::NotCaughtUp
            | Self::WouldLoseQuorum
            | Self::LastVoter => 409,
            Self::ClaimEnded | Self::SessionExpired | Self::RevisionCompacted | Self::HistoryChanged => 410,
            Self::RevisionMismatch | Self::StaleToken | Self::TokenMismatch | Self::MembershipChanged => 412,
            Self::TooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::OutOfRange | Self::IdempotencyKeyReused => 422,
            Self::QueueFull | Self::Overloaded => 429,
            Self::NoLeader | Self::ShuttingDown | Self::NotBootstrapped | Self::RevisionNotReached => 503,
            Self::OutcomeUnknown => 504,
            Self::DiskReserve => 507,
        }
    }

    /// One short line for people, the same for every occurrence of the code.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::InvalidJson => "The body is not valid JSON",
            Self::InvalidField => "A field is not valid",
            Self::InvalidName => "A name is not valid",
            Self::InvalidHeader => "A header is not valid",
            Self::FutureRevision => "The revision does not exist yet",
            Self::Unauthenticated => "Credentials are missing or not valid",
            Self::Forbidden => "Not allowed",
            Self::NamespaceNotFound => "No such namespace",
            Self::SessionNotFound => "No such session",
            Self::ClaimNotFound => "No such claim",
            Self::KeyNotFound => "No such key",
            Self::MemberNotFound => "No such member",
            Self::RouteNotFound => "No such route",
            Self::MethodNotAllowed => "The route does not take this method",
            Self::WaitTimeout => "The lock was not granted in time",
            Self::SessionExists => "The session id is in use",
            Self::ClaimConflict => "The claim id is in use",
            Self::LockHeld => "The lock is held",
            Self::LockModeConflict => "The lock is in use in another mode",
            Self::WouldDeadlock => "The claim would never be granted",
            Self::NamespaceNotEmpty => "The namespace is not empty",
            Self::IdempotencyInFlight => "The first request with this key is still running",
            Self::AlreadyBootstrapped => "The node already belongs to a cluster",
            Self::ChangeInFlight => "A membership change is under way",
            Self::NotCaughtUp => "The learner has not caught up",
            Self::WouldLoseQuorum => "The change could lose the quorum",
            Self::LastVoter => "The last voter cannot go",
            Self::ClaimEnded => "The claim has ended",
            Self::SessionExpired => "The session has ended",
            Self::RevisionCompacted => "The revision was compacted",
            Self::HistoryChanged => "The history was replaced by a restore",
            Self::TooLarge => "The body is too large",
            Self::RevisionMismatch => "The item has another revision",
            Self::StaleToken => "The fencing token is stale",
            Self::TokenMismatch => "The lock is held with another token",
            Self::MembershipChanged => "The membership has changed",
            Self::UnsupportedMediaType => "The media type is not supported here",
            Self::OutOfRange => "A number is out of range",
            Self::IdempotencyKeyReused => "The idempotency key belongs to another request",
            Self::QueueFull => "The queue of the lock is full",
            Self::Overloaded => "The node is overloaded",
            Self::NoLeader => "No leader at the moment",
            Self::ShuttingDown => "The node is shutting down",
            Self::NotBootstrapped => "The node belongs to no cluster yet",
            Self::RevisionNotReached => "The revision was not reached in time",
            Self::OutcomeUnknown => "The outcome is unknown",
            Self::DiskReserve => "Too little disk space is left",
        }
    }

    /// Whether a request that was answered with this code may have changed anything.
    ///
    /// Only a 504 leaves it open; a single problem can override this with [`Problem::with_applied`].
    #[must_use]
    pub const fn applied(self) -> Applied {
        match self.status() {
            504 => Applied::Unknown,
            _ => Applied::No,
        }
    }

    /// Whether the identical request, sent again later, may succeed without anybody changing it.
    ///
    /// `outcome-unknown` is retryable only when the request replays; [`Problem::with_replayable`] says so.
    #[must_use]
    pub const fn default_retryable(self) -> bool {
        match self {
            // Passing conditions of the node or of the cluster.
            Self::QueueFull
            | Self::Overloaded
            | Self::NoLeader
            | Self::ShuttingDown
            | Self::NotBootstrapped
            | Self::RevisionNotReached => true,
            // Passing conditions of what the request wants; a refused try leaves nothing behind, so its id stays usable.
            Self::LockHeld
            | Self::LockModeConflict
            | Self::IdempotencyInFlight
            | Self::ChangeInFlight
            | Self::NotCaughtUp => true,
            // The request itself has to change.
            Self::InvalidJson
            | Self::InvalidField
            | Self::InvalidName
            | Self::InvalidHeader
            | Self::FutureRevision
            | Self::Unauthenticated
            | Self::Forbidden
            | Self::RouteNotFound
            | Self::MethodNotAllowed
            | Self::TooLarge
            | Self::UnsupportedMediaType
            | Self::OutOfRange
            | Self::IdempotencyKeyReused => false,
            // Somebody has to decide what to do next.
            Self::NamespaceNotFound
            | Self::SessionNotFound
            | Self::ClaimNotFound
            | Self::KeyNotFound
            | Self::MemberNotFound
            | Self::SessionExists
            | Self::ClaimConflict
            | Self::WouldDeadlock
            | Self::NamespaceNotEmpty
            | Self::AlreadyBootstrapped
            | Self::WouldLoseQuorum
            | Self::LastVoter
            | Self::RevisionMismatch
            | Self::StaleToken
            | Self::TokenMismatch
            | Self::MembershipChanged
            | Self::DiskReserve => false,
            // An id or a revision that is gone stays gone.
            Self::WaitTimeout
            | Self::ClaimEnded
            | Self::SessionExpired
            | Self::RevisionCompacted
            | Self::HistoryChanged => false,
            // Depends on whether the request replays.
            Self::OutcomeUnknown => false,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not one of the closed list of codes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown error code {0:?}")]
pub struct UnknownErrorCode(pub String);

impl FromStr for ErrorCode {
    type Err = UnknownErrorCode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|code| code.as_str() == text)
            .ok_or_else(|| UnknownErrorCode(text.to_owned()))
    }
}

/// Whether the request took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Applied {
    /// Certainly not.
    No,
    /// Certainly.
    Yes,
    /// Nobody who is allowed to answer knows.
    Unknown,
}

/// A problem document (RFC 9457, media type `application/problem+json`).
///
/// `type`, `title` and `status` follow from the code. The optional members belong to single codes, as their docs say,
/// and are left out of the JSON where they do not apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
pub struct Problem {
    #[serde(rename = "type")]
    type_uri: String,
    title: String,
    status: u16,
    /// What happened this time, for people.
    pub detail: String,
    code: ErrorCode,
    /// Whether the request took effect.
    pub applied: Applied,
    /// Whether the identical request, sent again, may succeed.
    pub retryable: bool,
    /// `invalid-field`: where in the body (RFC 6901).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// 429 and 503: how long to wait before the next try, in milliseconds; as precise as `Retry-After` is coarse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// `outcome-unknown`: whether repeating the identical request is safe and gives the true outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replayable: Option<bool>,
    /// `lock-held`: who holds the lock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holders: Option<Vec<HolderView>>,
    /// `lock-held` without holders: how long the lock delay still runs, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_remaining_ms: Option<u64>,
    /// `would-deadlock`: the waits that would hold each other up, that of the refused claim first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stuck: Option<Vec<StuckView>>,
    /// `claim-ended`: how the claim ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<EndReason>,
    /// `claim-ended`: the token that the claim had, if it was ever granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fencing_token: Option<u64>,
    /// `revision-mismatch`: the item's `mod_revision`, 0 when it does not exist. `revision-compacted`: the oldest revision
    /// that can be read, or watched from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// In a stream of events: the id of the last event that was delivered, where a new request goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<EventId>,
    /// `membership-changed`: the id of the membership in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub membership_log_id: Option<String>,
    /// `unsupported-media-type`: the command line that would have worked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Finds the request in the nodes' logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// A wait that would never end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StuckView {
    /// The session that waits.
    pub session: String,
    /// That session's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_name: Option<String>,
    /// Namespace of the lock or election.
    pub namespace: String,
    /// The lock or election that it waits for.
    pub waits_for: ContestName,
}

impl Problem {
    /// A problem with what the code implies and no optional member.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            type_uri: format!("/errors/{code}"),
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            code,
            applied: code.applied(),
            retryable: code.default_retryable(),
            pointer: None,
            retry_after_ms: None,
            replayable: None,
            holders: None,
            delay_remaining_ms: None,
            stuck: None,
            reason: None,
            fencing_token: None,
            revision: None,
            resume: None,
            membership_log_id: None,
            hint: None,
            request_id: None,
        }
    }

    /// What went wrong, from the closed list.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        self.code
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The `type` member: the page that explains the code.
    #[must_use]
    pub fn type_uri(&self) -> &str {
        &self.type_uri
    }

    /// The `title` member.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Overrides what the code says about the effect.
    pub const fn with_applied(mut self, applied: Applied) -> Self {
        self.applied = applied;
        self
    }

    /// Overrides what the code says about trying again.
    pub const fn with_retryable(mut self, retryable: bool) -> Self {
        self.retryable = retryable;
        self
    }

    /// Names the faulty place of the body (RFC 6901).
    pub fn with_pointer(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }

    /// Says how long to wait before the next try.
    pub const fn with_retry_after_ms(mut self, retry_after_ms: u64) -> Self {
        self.retry_after_ms = Some(retry_after_ms);
        self
    }

    /// Says whether the request replays; only what replays is retryable after an unknown outcome.
    pub const fn with_replayable(mut self, replayable: bool) -> Self {
        self.replayable = Some(replayable);
        self.retryable = replayable;
        self
    }

    /// Lists the waits that would hold each other up.
    pub fn with_stuck(mut self, stuck: Vec<StuckView>) -> Self {
        self.stuck = Some(stuck);
        self
    }

    /// Lists who holds the lock.
    pub fn with_holders(mut self, holders: Vec<HolderView>) -> Self {
        self.holders = Some(holders);
        self
    }

    /// Says how long the lock delay still runs.
    pub const fn with_delay_remaining_ms(mut self, delay_remaining_ms: u64) -> Self {
        self.delay_remaining_ms = Some(delay_remaining_ms);
        self
    }

    /// Says how the claim ended and which token it had.
    pub const fn with_end(mut self, reason: EndReason, fencing_token: Option<u64>) -> Self {
        self.reason = Some(reason);
        self.fencing_token = fencing_token;
        self
    }

    /// Says where a stream of events goes on.
    pub const fn with_resume(mut self, resume: EventId) -> Self {
        self.resume = Some(resume);
        self
    }

    /// Names the revision that the item has, or the oldest one that is left.
    pub const fn with_revision(mut self, revision: u64) -> Self {
        self.revision = Some(revision);
        self
    }

    /// Names the membership in force.
    pub fn with_membership_log_id(mut self, membership_log_id: impl Into<String>) -> Self {
        self.membership_log_id = Some(membership_log_id.into());
        self
    }

    /// Gives the command line that would have worked.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Names the request.
    pub fn with_request_id(mut self, request_id: impl Into<String>) -> Self {
        self.request_id = Some(request_id.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.title, self.code, self.detail)
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_reads_back_from_its_text_and_its_json() {
        for code in ErrorCode::ALL {
            assert_eq!(code.as_str().parse(), Ok(code));
            let json = serde_json::to_string(&code).unwrap();
            assert_eq!(json, format!("\"{code}\""));
            assert_eq!(serde_json::from_str::<ErrorCode>(&json).unwrap(), code);
        }
        assert_eq!("no-such-code".parse::<ErrorCode>(), Err(UnknownErrorCode("no-such-code".to_owned())));
    }

    #[test]
    fn the_list_names_each_code_once_in_the_order_of_status() {
        let distinct: BTreeSet<_> = ErrorCode::ALL.into_iter().collect();
        assert_eq!(distinct.len(), ErrorCode::ALL.len());
        assert!(ErrorCode::ALL.is_sorted_by_key(|code| code.status()));
    }

    #[test]
    fn only_a_504_leaves_the_effect_open() {
        for code in ErrorCode::ALL {
            let expected = if code.status() == 504 { Applied::Unknown } else { Applied::No };
            assert_eq!(code.applied(), expected, "{code}");
        }
    }

    #[test]
    fn every_429_and_503_may_be_tried_again() {
        for code in ErrorCode::ALL {
            if matches!(code.status(), 429 | 503) {
                assert!(code.default_retryable(), "{code}");
            }
        }
    }

    #[test]
    fn an_unknown_outcome_is_retryable_only_when_it_replays() {
        let problem = Problem::new(ErrorCode::OutcomeUnknown, "the leader went away");
        assert!(!problem.retryable);
        assert!(problem.clone().with_replayable(true).retryable);
        assert!(!problem.with_replayable(false).retryable);
    }

    #[test]
    fn members_that_a_newer_server_adds_are_ignored() {
        let mut json = serde_json::to_value(Problem::new(ErrorCode::LockHeld, "held")).unwrap();
        json["something_else"] = serde_json::json!({"a": 1});
        let problem: Problem = serde_json::from_value(json).unwrap();
        assert_eq!(problem, Problem::new(ErrorCode::LockHeld, "held"));
    }
}
