//! Refusals and failures as problem documents: the one place that maps them to codes, and with them to statuses.

use axum::response::{IntoResponse, Response};
use holdfast_api::claims::EndReason as ApiEndReason;
use holdfast_api::error::StuckView;
use holdfast_api::locks::HolderView;
use holdfast_api::{ErrorCode, Problem, header};
use holdfast_core::domain::{EndReason, Holder, LockKind, Rejection, SessionState, StuckWait, Success};
use holdfast_core::{InvalidName, Revision};
use http::{HeaderValue, StatusCode};

use crate::http::contest::{contest_name, kind_and_name, share};
use crate::leases::KeepaliveError;
use crate::raft::{ProposeError, ReadError};

/// A request that was refused or failed, with the document to answer.
#[derive(Debug)]
pub(crate) struct ApiError(pub(crate) Box<Problem>);

impl ApiError {
    /// The problem of this code and detail.
    pub(crate) fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem::new(code, detail)))
    }

    /// The code of the problem.
    pub(crate) fn code(&self) -> ErrorCode {
        self.0.code()
    }

    /// Lets the caller add members to the problem.
    pub(crate) fn map(self, change: impl FnOnce(Problem) -> Problem) -> Self {
        Self(Box::new(change(*self.0)))
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

impl From<InvalidName> for ApiError {
    fn from(invalid: InvalidName) -> Self {
        Self::new(ErrorCode::InvalidName, invalid.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status()).expect("codes have valid statuses");
        let body = serde_json::to_vec(&self.0).expect("a problem holds only plain data");
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(header::PROBLEM_JSON));
        if let Some(ms) = self.0.retry_after_ms {
            headers.insert(http::header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1_000).max(1)));
        }
        response
    }
}

/// How long a client should wait before it tries again, in milliseconds: about one election.
const RETRY_AFTER_MS: u64 = 500;

/// The problem of a 503: certainly not applied.
pub(crate) fn no_leader(detail: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::NoLeader, detail).map(|p| p.with_retry_after_ms(RETRY_AFTER_MS))
}

/// The problem of a node that is going down.
pub(crate) fn shutting_down() -> ApiError {
    ApiError::new(ErrorCode::ShuttingDown, "this node is shutting down; nothing was changed; ask another one")
        .map(|p| p.with_retry_after_ms(RETRY_AFTER_MS))
}

/// The problem of a node without a cluster.
pub(crate) fn not_bootstrapped() -> ApiError {
    ApiError::new(
        ErrorCode::NotBootstrapped,
        "this node belongs to no cluster yet; bootstrap it, or add it to a cluster; nothing was changed",
    )
    .map(|p| p.with_retry_after_ms(RETRY_AFTER_MS))
}

/// The problem of a node that has too much to do.
pub(crate) fn overloaded(detail: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::Overloaded, detail).map(|p| p.with_retry_after_ms(RETRY_AFTER_MS))
}

/// The problem of a 504.
pub(crate) fn outcome_unknown(detail: impl Into<String>, replayable: bool) -> ApiError {
    ApiError::new(ErrorCode::OutcomeUnknown, detail).map(|p| p.with_replayable(replayable))
}

/// The problem of an outcome that a command never has: a bug, told as one.
pub(crate) fn unexpected_outcome(outcome: &Success) -> ApiError {
    tracing::error!(?outcome, "an outcome of another command");
    outcome_unknown("the node answered with the outcome of another command", false)
}

/// The problem of a proposal that has no outcome.
pub(crate) fn from_propose(error: ProposeError, replayable: bool) -> ApiError {
    match error {
        ProposeError::NotLeading => no_leader("this node does not lead; nothing was changed"),
        ProposeError::Overloaded => {
            overloaded("too many requests are in flight on the leader; nothing was changed")
        }
        ProposeError::TooLarge { bytes, bytes_max } => ApiError::new(
            ErrorCode::TooLarge,
            format!("the request makes an entry of {bytes} bytes, at most {bytes_max} are allowed"),
        ),
        ProposeError::Unknown { reason } => {
            let next = if replayable {
                "repeat the identical request to learn the outcome"
            } else {
                "read back before you decide"
            };
            outcome_unknown(format!("{reason}; the write may or may not happen: {next}"), replayable)
        }
    }
}

/// The problem of a read that could not be made.
pub(crate) fn from_read(error: ReadError) -> ApiError {
    match error {
        ReadError::NotLeading => no_leader("this node does not lead, so it cannot answer for the cluster"),
        ReadError::NoQuorum => no_leader("no majority confirmed the leader in time"),
        ReadError::NotReached { wanted, revision } => ApiError::new(
            ErrorCode::RevisionNotReached,
            format!("revision {wanted} was not reached in time, this node is at {revision}"),
        )
        .map(|p| p.with_revision(revision).with_retry_after_ms(RETRY_AFTER_MS)),
        ReadError::Failed { reason } => {
            outcome_unknown(format!("the node cannot read its state: {reason}"), true)
        }
    }
}

/// The problem of a keepalive that is not acknowledged.
pub(crate) fn from_keepalive(failure: KeepaliveError) -> ApiError {
    match failure {
        KeepaliveError::Gone(Some(SessionState::Ended { reason, .. })) => {
            from_rejection(Rejection::SessionExpired { reason })
        }
        KeepaliveError::Gone(Some(SessionState::Live(_)) | None) => {
            from_rejection(Rejection::SessionNotFound)
        }
        KeepaliveError::Read(failure) => from_read(failure),
    }
}

/// The API's name of a reason.
pub(crate) fn end_reason(reason: EndReason) -> ApiEndReason {
    match reason {
        EndReason::Released => ApiEndReason::Released,
        EndReason::Expired => ApiEndReason::Expired,
        EndReason::TimedOut => ApiEndReason::TimedOut,
        EndReason::LeftQueue => ApiEndReason::LeftQueue,
        EndReason::DeletedUnseen => ApiEndReason::DeletedUnseen,
        EndReason::Forced => ApiEndReason::Forced,
    }
}

/// The API's view of a holder.
pub(crate) fn holder_view(holder: &Holder) -> HolderView {
    let Holder { claim, session, session_name, mode, label, token, held_ms } = holder;
    let (mode, permits) = share(*mode);
    HolderView {
        mode,
        permits,
        claim: claim.clone(),
        session: session.as_str().to_owned(),
        session_name: Some(session_name.clone()).filter(|name| !name.is_empty()),
        label: Some(label.clone()).filter(|label| !label.is_empty()),
        fencing_token: token.as_u64(),
        held_ms: *held_ms,
    }
}

/// The problem of a refusal.
pub(crate) fn from_rejection(rejection: Rejection) -> ApiError {
    use ErrorCode as Code;
    match rejection {
        Rejection::NotFounded => not_bootstrapped(),
        Rejection::NamespaceNotFound => ApiError::new(
            Code::NamespaceNotFound,
            "the namespace does not exist; create it with PUT /v1/namespaces/{name}",
        ),
        Rejection::NamespaceNotEmpty => ApiError::new(
            Code::NamespaceNotEmpty,
            "the namespace holds keys, claims or running lock delays, or is the default one",
        ),
        Rejection::TooManyNamespaces { max } => bound("namespaces", max),
        Rejection::SessionNotFound => {
            ApiError::new(Code::SessionNotFound, "the session does not exist; create it first")
        }
        Rejection::SessionExpired { reason } => ApiError::new(
            Code::SessionExpired,
            "the session is over and its id is used up; create one with another id",
        )
        .map(|p| p.with_end(end_reason(reason), None)),
        Rejection::SessionExists => {
            ApiError::new(Code::SessionExists, "a live session with this id was created with another body")
        }
        Rejection::TooManySessions { max } => bound("sessions", max),
        Rejection::SessionOwnsTooMuch { max } => bound("claims and keys of one session", max),
        Rejection::TooManyTombstones { max } => bound("remembered ids", max),
        Rejection::LockHeld { holders, queued, delay_remaining_ms } => {
            lock_held("the lock", &holders, queued, delay_remaining_ms)
        }
        Rejection::SetHeld { lock, holders, queued, delay_remaining_ms } => {
            lock_held(&format!("lock {lock}"), &holders, queued, delay_remaining_ms)
        }
        Rejection::ImpossiblePermits { permits, of } => ApiError::new(
            Code::OutOfRange,
            format!("permits is {permits}, it must be from 1 to {of}, as many as there are"),
        ),
        Rejection::LockSetSize { max } => {
            ApiError::new(Code::OutOfRange, format!("a set has from 1 to {max} locks"))
        }
        Rejection::LockModeConflict { lock, kind } => {
            let used = match kind {
                LockKind::Exclusion => "by exclusive or shared claims".to_owned(),
                LockKind::Permits { of } => format!("as a semaphore of {of} permits"),
            };
            let (_, name) = kind_and_name(&lock);
            ApiError::new(
                Code::LockModeConflict,
                format!("{name} is used {used} now; when nobody holds it or waits for it, it forgets that"),
            )
        }
        Rejection::WouldDeadlock { stuck } => would_deadlock(stuck),
        Rejection::ClaimConflict => {
            ApiError::new(Code::ClaimConflict, "a live claim with this id was made with another body")
        }
        Rejection::ClaimEnded { reason, token } => {
            ApiError::new(Code::ClaimEnded, "the claim is over and its id is used up; claim with another id")
                .map(|p| p.with_end(end_reason(reason), token.map(|t| t.as_u64())))
        }
        Rejection::ClaimNotFound => ApiError::new(Code::ClaimNotFound, "the claim was never seen"),
        Rejection::QueueFull { max } => {
            ApiError::new(Code::QueueFull, format!("the lock has {max} claims, as many as it may"))
                .map(|p| p.with_retry_after_ms(RETRY_AFTER_MS))
        }
        Rejection::TokenMismatch { held } => {
            let held: Vec<String> = held.iter().map(ToString::to_string).collect();
            let detail = if held.is_empty() {
                "nobody holds the lock".to_owned()
            } else {
                format!("the lock is held with token {}", held.join(", "))
            };
            ApiError::new(Code::TokenMismatch, detail)
        }
        Rejection::StaleToken { held } => {
            let problem = ApiError::new(
                Code::StaleToken,
                "no claim of the guard's lock is held with the guard's token",
            );
            match held {
                Some(token) => problem.map(|mut p| {
                    p.fencing_token = Some(token.as_u64());
                    p
                }),
                None => problem,
            }
        }
        Rejection::RevisionMismatch { current } => match current {
            Some(revision) => {
                ApiError::new(Code::RevisionMismatch, format!("the key is at revision {revision}"))
                    .map(|p| p.with_revision(revision.as_u64()))
            }
            None => {
                ApiError::new(Code::RevisionMismatch, "the key does not exist").map(|p| p.with_revision(0))
            }
        },
        Rejection::KeyNotFound => ApiError::new(Code::KeyNotFound, "the key did not exist at that revision"),
        Rejection::RevisionCompacted { oldest } => revision_compacted(oldest),
        Rejection::FutureRevision { revision } => future_revision(revision),
        Rejection::TxnAnswerTooLarge { bytes_max } => ApiError::new(
            Code::TooLarge,
            format!("the values to get have more than {bytes_max} bytes together; nothing was changed"),
        ),
        Rejection::ReplayKeyReused => ApiError::new(
            Code::IdempotencyKeyReused,
            "this Idempotency-Key belongs to another request; use a new key for every logical write",
        ),
        Rejection::ReplayAnswerNotKept => outcome_unknown(
            "the first request with this Idempotency-Key was carried out, but its answer was too large to keep: read back",
            false,
        ),
    }
}

/// The problem of a revision at which config is not complete any more.
pub(crate) fn revision_compacted(oldest: Revision) -> ApiError {
    let detail = format!("what config was then is dropped; the oldest revision to read is {oldest}");
    ApiError::new(ErrorCode::RevisionCompacted, detail).map(|p| p.with_revision(oldest.as_u64()))
}

/// The problem of a revision that the store has not reached.
pub(crate) fn future_revision(newest: Revision) -> ApiError {
    let detail = format!("the revision does not exist yet, the store is at {newest}");
    ApiError::new(ErrorCode::FutureRevision, detail).map(|p| p.with_revision(newest.as_u64()))
}

fn bound(what: &str, max: u64) -> ApiError {
    overloaded(format!("there are {max} {what}, as many as there may be; nothing was changed"))
}

/// The problem of a wait that would never end, with the circle of those who wait.
fn would_deadlock(stuck: Vec<StuckWait>) -> ApiError {
    let wait = |StuckWait { session, session_name, lock, namespace }| StuckView {
        session: String::from(session),
        session_name: Some(session_name).filter(|name| !name.is_empty()),
        namespace: String::from(namespace),
        waits_for: contest_name(&lock),
    };
    let stuck: Vec<_> = stuck.into_iter().map(wait).collect();
    let ways = stuck.iter().map(|wait| format!("{} for {}", wait.session, wait.waits_for.as_str()));
    let detail = format!("these would wait for each other for ever: {}", ways.collect::<Vec<_>>().join(", "));
    ApiError::new(ErrorCode::WouldDeadlock, detail).map(|problem| problem.with_stuck(stuck))
}

fn lock_held(what: &str, holders: &[Holder], queued: u64, delay_remaining_ms: u64) -> ApiError {
    let detail = match holders.first() {
        Some(holder) if queued == 0 => format!("{what} is held by session {}", holder.session),
        Some(holder) => format!("{what} is held by session {}, and {queued} wait for it", holder.session),
        None if delay_remaining_ms != 0 => {
            format!("{what} is closed for another {delay_remaining_ms} ms, because its holder was lost")
        }
        None => format!("{queued} others wait for {what}"),
    };
    ApiError::new(ErrorCode::LockHeld, detail).map(|problem| {
        let problem = problem.with_holders(holders.iter().map(holder_view).collect());
        if delay_remaining_ms == 0 { problem } else { problem.with_delay_remaining_ms(delay_remaining_ms) }
    })
}
