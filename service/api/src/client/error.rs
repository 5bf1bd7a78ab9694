//! What a call of the client can end with.

use std::{fmt, time::Duration};

use crate::{
    client::sse::StreamFault,
    error::{Applied, Problem},
};

/// Why a call failed, and by that what the caller may conclude.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The service refused, or said until the deadline that it cannot answer at the moment.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// At least one attempt may have taken effect and no definite answer came before the deadline.
    #[error("outcome unknown after {attempts} attempts: {last}")]
    OutcomeUnknown {
        /// How many attempts were made.
        attempts: u32,
        /// What the last one ended with.
        last: AttemptError,
    },
    /// No attempt took effect, and no endpoint answered before the deadline.
    #[error("no endpoint answered after {attempts} attempts: {last}")]
    Unreachable {
        /// How many attempts were made.
        attempts: u32,
        /// What the last one ended with.
        last: AttemptError,
    },
    /// Something answered, but not as this API does: a proxy, another service, or another version.
    #[error("unexpected answer with status {status}: {detail}")]
    Protocol {
        /// The HTTP status.
        status: u16,
        /// What is wrong with it.
        detail: ProtocolError,
    },
    /// The request cannot be sent as it is; nothing was sent.
    #[error("cannot send the request: {0}")]
    InvalidRequest(InvalidRequest),
}

/// What is wrong with an answer.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// The body is not what this call is answered with.
    #[error("the body does not fit: {0}")]
    Body(#[from] serde_json::Error),
    /// A header that the answer must have is missing or malformed.
    #[error("header {0} is missing or malformed")]
    Header(&'static str),
    /// An error without a problem document of this API.
    #[error("not a problem document of this API")]
    NotAProblem,
    /// A status that no answer to this call has.
    #[error("not a status of this call")]
    Status,
    /// A claim in a state that this call does not ask for.
    #[error("not a state that was asked for")]
    State,
    /// A stream of events is not as this API sends it.
    #[error("not a stream of events of this API: {0}")]
    Stream(#[from] StreamFault),
}

/// Why a request cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidRequest {
    /// A name in the path would make it another path, as `.` and `..` do.
    Path,
    /// A header value has bytes that headers cannot have.
    Header(&'static str),
    /// A write other than a put names a session that is to own the item.
    Session,
}

impl fmt::Display for InvalidRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path => f.write_str("a name makes it another path"),
            Self::Header(name) => write!(f, "the value of header {name} has bytes that headers cannot have"),
            Self::Session => f.write_str("only a put gives an item to a session"),
        }
    }
}

/// How one attempt to get an answer failed.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// No connection: the request was never sent.
    #[error("connect: {0}")]
    Connect(#[source] reqwest::Error),
    /// The connection broke, or the time was over, after the request may have been sent.
    #[error("no answer: {0}")]
    NoAnswer(#[source] reqwest::Error),
    /// The service refused for the moment, or does not know the outcome.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// An error status from something that is not this service, such as a proxy.
    #[error("status {0} without a problem document")]
    Status(u16),
    /// The answer is larger than any that this API gives.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// The largest that is read.
        limit: usize,
    },
    /// The deadline left no time for an attempt.
    #[error("no time was left")]
    NoTime,
    /// A stream of events ended without saying why.
    #[error("the stream of events ended")]
    StreamEnded,
    /// A stream of events was silent for longer than the service ever is.
    #[error("the stream of events was silent for {0:?}")]
    Silent(Duration),
}

impl ClientError {
    /// Whether the call took effect.
    #[must_use]
    pub fn applied(&self) -> Applied {
        match self {
            Self::Problem(problem) => problem.applied,
            Self::OutcomeUnknown { .. } => Applied::Unknown,
            Self::Unreachable { .. } | Self::InvalidRequest(_) => Applied::No,
            Self::Protocol { status, .. } if (200..300).contains(status) => Applied::Yes,
            Self::Protocol { .. } => Applied::Unknown,
        }
    }

    /// Whether the same call may succeed later without anybody changing it.
    ///
    /// After [`OutcomeUnknown`](Self::OutcomeUnknown) a new call is a second one: it is for the caller to find out first.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Problem(problem) => problem.retryable && problem.applied == Applied::No,
            Self::Unreachable { .. } => true,
            Self::OutcomeUnknown { .. } | Self::Protocol { .. } | Self::InvalidRequest(_) => false,
        }
    }

    /// The code of the service's refusal, if it was one.
    #[must_use]
    pub fn code(&self) -> Option<crate::ErrorCode> {
        match self {
            Self::Problem(problem) => Some(problem.code()),
            Self::OutcomeUnknown { .. }
            | Self::Unreachable { .. }
            | Self::Protocol { .. }
            | Self::InvalidRequest(_) => None,
        }
    }
}

impl From<Problem> for ClientError {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

/// The client cannot be built from these endpoints.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// There is none.
    #[error("at least one endpoint is needed")]
    NoEndpoint,
    /// One is not `http://host:port` or `host:port`.
    #[error("endpoint {0:?} is not http://host:port")]
    Endpoint(String),
    /// The HTTP client could not be set up.
    #[error("set up the HTTP client: {0}")]
    Http(#[from] reqwest::Error),
}
