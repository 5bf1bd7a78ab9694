//! The attempts of one call: fail-over and replay until the outcome is definite or the deadline has passed.
//!
//! ```text
//!   attempt ──▶ success, or a refusal for good ─────────────────────────────▶ done
//!      ▲  └───▶ certainly not applied (503, 429, no connection) ──▶ pause ──┐
//!      │  └───▶ perhaps applied (504, lost answer) ──▶ replays? ── yes ─────┤
//!      └──────────────── same request, perhaps another endpoint ◀───────────┘   no ──▶ OutcomeUnknown
//! ```
//!
//! A later "certainly not applied" speaks only of its own attempt: once one attempt may have had its effect, only a
//! definite answer to a replay settles the call.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use rand::Rng;
use reqwest::Url;

use crate::{
    client::{
        attempt::{Conclusion, NextPlace, WireAnswer, WireRequest, attempt, open},
        clock::{CallDeadline, LeaseClock, LeaseTime},
        error::{AttemptError, ClientError, InvalidRequest},
    },
    error::Applied,
};

/// The first pause after every endpoint has failed once; it doubles with each round.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// The longest such pause.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// What repeating a request means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replay {
    /// It has no effect.
    Read,
    /// It carries an idempotency key: a repetition is answered as the first one was.
    ByKey,
    /// It names what it makes or ends: a repetition never repeats the effect, but is answered from the state as it is
    /// then. A refusal of a repetition therefore does not prove that an earlier attempt has no effect.
    ById,
    /// A repetition could be a second effect.
    Never,
}

/// Time limits of one call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The longest that one attempt may take.
    pub(crate) attempt: Duration,
    /// The longest that the call may take.
    pub(crate) overall: Duration,
    /// The longest that a stream of events may be silent.
    pub(crate) silence: Duration,
}

/// A success, with when its attempt was sent.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) wire: WireAnswer,
    /// When the attempt that was answered was about to be sent.
    pub(crate) sent_at: LeaseTime,
    /// Whether an earlier attempt of this call may have had its effect.
    pub(crate) repeated: bool,
}

/// The endpoints and the connections to them.
#[derive(Debug)]
pub(crate) struct Transport {
    http: reqwest::Client,
    endpoints: Vec<Url>,
    /// Index of the endpoint that answered last; calls begin there.
    current: AtomicUsize,
}

impl Transport {
    pub(crate) fn new(http: reqwest::Client, endpoints: Vec<Url>) -> Self {
        assert!(!endpoints.is_empty(), "a transport has at least one endpoint");
        Self { http, endpoints, current: AtomicUsize::new(0) }
    }

    /// Makes attempts until the outcome is definite or the deadline has passed.
    pub(crate) async fn call(
        &self,
        clock: &dyn LeaseClock,
        request: &WireRequest,
        replay: Replay,
        limits: Limits,
    ) -> Result<Reply, ClientError> {
        let deadline = CallDeadline::after(limits.overall);
        let mut endpoint = self.current();
        let mut progress = Progress { replay, attempts: 0, uncertain: false };
        let mut last = AttemptError::NoTime;
        loop {
            let left = deadline.remaining();
            if left.is_zero() {
                return Err(progress.give_up(last));
            }
            let url = self.url(endpoint, &request.path_and_query)?;
            progress.attempts += 1;
            let sent_at = clock.now();
            let (retry_after, place) = match attempt(&self.http, url, request, left.min(limits.attempt)).await
            {
                Conclusion::Success(wire) => {
                    self.current.store(endpoint, Ordering::Relaxed);
                    return Ok(Reply { wire, sent_at, repeated: progress.uncertain });
                }
                Conclusion::Failure(error) => {
                    self.current.store(endpoint, Ordering::Relaxed);
                    return Err(progress.refused(error));
                }
                Conclusion::NotApplied { error, retry_after, place } => {
                    last = error;
                    (retry_after, place)
                }
                Conclusion::Uncertain { error, retry_after, replays } => {
                    progress.uncertain = true;
                    if !replays || replay == Replay::Never {
                        return Err(progress.give_up(error));
                    }
                    last = error;
                    (retry_after, NextPlace::OtherEndpoint)
                }
            };
            if place != NextPlace::SameEndpoint {
                endpoint = self.after(endpoint);
            }
            let pause = self.pause(progress.attempts, retry_after, place);
            if deadline.remaining() <= pause {
                return Err(progress.give_up(last));
            }
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// The endpoint where a stream is asked for first.
    pub(crate) fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed) % self.endpoints.len()
    }

    /// The endpoint that is asked after this one.
    pub(crate) const fn after(&self, endpoint: usize) -> usize {
        (endpoint + 1) % self.endpoints.len()
    }

    /// Asks one endpoint for a stream; `timeout` is for the head of the answer.
    ///
    /// # Errors
    /// What an answer without a stream allows to conclude.
    pub(crate) async fn open(
        &self,
        endpoint: usize,
        request: &WireRequest,
        timeout: Duration,
    ) -> Result<reqwest::Response, Conclusion> {
        let url = self.url(endpoint, &request.path_and_query).map_err(Conclusion::Failure)?;
        open(&self.http, url, request, timeout).await
    }

    /// How long to wait before the next attempt. Pauses are random, so that clients that failed together do not come
    /// back together.
    pub(crate) fn pause(&self, attempts: u32, retry_after: Option<Duration>, place: NextPlace) -> Duration {
        let endpoints = u32::try_from(self.endpoints.len()).unwrap_or(u32::MAX);
        let round_is_over = attempts.is_multiple_of(endpoints);
        if place == NextPlace::OtherEndpointAtOnce && !round_is_over {
            return Duration::ZERO;
        }
        if let Some(retry_after) = retry_after {
            return retry_after + retry_after.mul_f64(rand::rng().random_range(0.0..0.25));
        }
        if place == NextPlace::OtherEndpoint && !round_is_over {
            return Duration::ZERO;
        }
        let round = (attempts / endpoints).min(16);
        let backoff = BACKOFF_MIN.saturating_mul(1 << round).min(BACKOFF_MAX);
        backoff.mul_f64(rand::rng().random_range(0.5..1.0))
    }

    /// Joins an endpoint and a path that is already encoded.
    ///
    /// URL parsers resolve `.` and `..`; a name that would be swallowed like that must not reach another resource.
    fn url(&self, endpoint: usize, path_and_query: &str) -> Result<Url, ClientError> {
        let invalid = || ClientError::InvalidRequest(InvalidRequest::Path);
        let url = self.endpoints[endpoint].join(path_and_query).map_err(|_| invalid())?;
        let path = path_and_query.split('?').next().unwrap_or_default();
        let empty_segment = path.split('/').skip(1).any(str::is_empty);
        if url.path() != path || empty_segment { Err(invalid()) } else { Ok(url) }
    }
}

/// What is told when attempts without effect ended like this.
pub(crate) fn no_answer(attempts: u32, last: AttemptError) -> ClientError {
    match last {
        AttemptError::Problem(problem) => ClientError::Problem(problem),
        AttemptError::Connect(_)
        | AttemptError::NoAnswer(_)
        | AttemptError::Status(_)
        | AttemptError::TooLarge { .. }
        | AttemptError::NoTime
        | AttemptError::StreamEnded
        | AttemptError::Silent(_) => ClientError::Unreachable { attempts, last },
    }
}

/// What a call knows while it goes on.
#[derive(Debug, Clone, Copy)]
struct Progress {
    replay: Replay,
    attempts: u32,
    /// Whether an attempt may have had its effect.
    uncertain: bool,
}

impl Progress {
    /// The call ends without a definite answer.
    fn give_up(self, last: AttemptError) -> ClientError {
        let Self { replay, attempts, uncertain } = self;
        if uncertain && replay != Replay::Read {
            return ClientError::OutcomeUnknown { attempts, last };
        }
        no_answer(attempts, last)
    }

    /// The call ends with a refusal. It stands for all attempts only where the service remembers the first answer.
    fn refused(self, mut error: ClientError) -> ClientError {
        if let ClientError::Problem(problem) = &mut error
            && self.uncertain
            && self.replay == Replay::ById
        {
            problem.applied = Applied::Unknown;
        }
        error
    }
}
