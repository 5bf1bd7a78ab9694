//! One request on the wire, and what its answer allows to conclude.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::{Method, StatusCode, Url, header::HeaderMap};

use crate::{
    client::error::{AttemptError, ClientError, ProtocolError},
    error::{ErrorCode, Problem},
};

/// The largest answer that is read. The service's pages and values are far smaller; this bounds what anything else that
/// listens there can make the client hold.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A request as it goes out, the same at every attempt.
#[derive(Debug, Clone)]
pub(crate) struct WireRequest {
    pub(crate) method: Method,
    pub(crate) path_and_query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
}

/// A success as it came in.
#[derive(Debug)]
pub(crate) struct WireAnswer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What one attempt allows to conclude about the call.
#[derive(Debug)]
pub(crate) enum Conclusion {
    /// It succeeded.
    Success(WireAnswer),
    /// It failed, and trying again would not change that.
    Failure(ClientError),
    /// This attempt certainly had no effect; another one may succeed.
    NotApplied { error: AttemptError, retry_after: Option<Duration>, place: NextPlace },
    /// This attempt may have had its effect.
    Uncertain { error: AttemptError, retry_after: Option<Duration>, replays: bool },
}

/// Where the next attempt goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NextPlace {
    SameEndpoint,
    OtherEndpoint,
    /// The other endpoint need not be spared: the condition is this node's alone.
    OtherEndpointAtOnce,
}

/// Sends the request once. Never longer than `timeout`.
pub(crate) async fn attempt(
    http: &reqwest::Client,
    url: Url,
    request: &WireRequest,
    timeout: Duration,
) -> Conclusion {
    let mut builder =
        http.request(request.method.clone(), url).headers(request.headers.clone()).timeout(timeout);
    if let Some(body) = &request.body {
        builder = builder.body(body.clone());
    }
    match send(builder).await {
        Ok(response) => conclude_whole(response).await,
        Err(conclusion) => conclusion,
    }
}

/// Asks for a stream once. `timeout` is for the head of a success, which has no end, and for all of any other answer.
///
/// # Errors
/// What an answer without a stream allows to conclude.
pub(crate) async fn open(
    http: &reqwest::Client,
    url: Url,
    request: &WireRequest,
    timeout: Duration,
) -> Result<reqwest::Response, Conclusion> {
    let builder = http.request(request.method.clone(), url).headers(request.headers.clone());
    let opened = async {
        let response = send(builder).await?;
        if response.status() == StatusCode::OK { Ok(response) } else { Err(conclude_whole(response).await) }
    };
    match tokio::time::timeout(timeout, opened).await {
        Ok(opened) => opened,
        Err(_) => Err(uncertain(AttemptError::Silent(timeout))),
    }
}

async fn send(builder: reqwest::RequestBuilder) -> Result<reqwest::Response, Conclusion> {
    builder.send().await.map_err(|error| {
        if error.is_connect() {
            Conclusion::NotApplied {
                error: AttemptError::Connect(error),
                retry_after: None,
                place: NextPlace::OtherEndpointAtOnce,
            }
        } else {
            uncertain(AttemptError::NoAnswer(error))
        }
    })
}

async fn conclude_whole(response: reqwest::Response) -> Conclusion {
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    match read_body(response).await {
        Ok(body) => conclude(WireAnswer { status, headers, body }),
        // Without its body a success cannot be told from another: the token or the revision is in it.
        Err(error) => uncertain(error),
    }
}

fn uncertain(error: AttemptError) -> Conclusion {
    Conclusion::Uncertain { error, retry_after: None, replays: true }
}

async fn read_body(mut response: reqwest::Response) -> Result<Bytes, AttemptError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(AttemptError::NoAnswer)? {
        if ANSWER_BYTES_MAX < body.len() + chunk.len() {
            return Err(AttemptError::TooLarge { limit: ANSWER_BYTES_MAX });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// The status law, read from the client's side.
fn conclude(answer: WireAnswer) -> Conclusion {
    let status = answer.status;
    if matches!(status, 200..300 | 304) {
        return Conclusion::Success(answer);
    }
    let problem = serde_json::from_slice::<Problem>(&answer.body)
        .ok()
        .filter(|problem| problem.status() == status && problem.code().status() == status);
    let Some(problem) = problem else { return conclude_foreign(status) };
    let retry_after = retry_after(&problem, &answer.headers);
    let boxed = Box::new(problem);
    match status {
        503 => {
            let place = if boxed.code() == ErrorCode::ShuttingDown {
                NextPlace::OtherEndpointAtOnce
            } else {
                NextPlace::OtherEndpoint
            };
            Conclusion::NotApplied { error: AttemptError::Problem(boxed), retry_after, place }
        }
        429 => Conclusion::NotApplied {
            error: AttemptError::Problem(boxed),
            retry_after,
            place: NextPlace::SameEndpoint,
        },
        504 => {
            let replays = boxed.replayable != Some(false);
            Conclusion::Uncertain { error: AttemptError::Problem(boxed), retry_after, replays }
        }
        // An earlier attempt with the same key is still under way: its outcome is this call's.
        409 if boxed.code() == ErrorCode::IdempotencyInFlight => {
            Conclusion::Uncertain { error: AttemptError::Problem(boxed), retry_after, replays: true }
        }
        _ => Conclusion::Failure(ClientError::Problem(boxed)),
    }
}

/// An error status that did not come from this service. A proxy may answer 502, 503 or 504 for a request that it had
/// already passed on, so none of them is taken as "not applied".
fn conclude_foreign(status: u16) -> Conclusion {
    if status < 500 {
        Conclusion::Failure(ClientError::Protocol { status, detail: ProtocolError::NotAProblem })
    } else {
        uncertain(AttemptError::Status(status))
    }
}

fn retry_after(problem: &Problem, headers: &HeaderMap) -> Option<Duration> {
    if let Some(millis) = problem.retry_after_ms {
        return Some(Duration::from_millis(millis));
    }
    let seconds = headers.get(reqwest::header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}
