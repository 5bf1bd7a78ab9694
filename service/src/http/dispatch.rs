//! Where a request is carried out: here when this node leads, on the leader otherwise, sent on once and never twice.
//!
//! ```text
//!   client ──► any node ──(leads?)──► serve
//!                  └──────► leader ──► serve        one hop, marked by Holdfast-Forwarded
//! ```
//!
//! The node that took the request from the client keeps it through a change of leader: it sends it again after a
//! certain 503, and after a lost answer only when the request replays by id or key. It never sends on what it cannot
//! take back.

use std::future::Future;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use holdfast_api::{ErrorCode, header};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use tokio::time::Instant;

use crate::http::App;
use crate::http::error::{self, ApiError};
use crate::http::request::Context;

/// How long a request waits for a leader before it is refused: longer than an election, shorter than a client's patience.
const LEADER_PATIENCE: Duration = Duration::from_millis(5_000);
/// How long a request that replays is repeated. Half of the bound within which an ended id may be forgotten
/// (`limits::TOMBSTONE_MS_MIN`), less what the last attempt may take.
const REPLAY_PATIENCE: Duration = Duration::from_millis(20_000);
/// How long one attempt may take, besides the wait that the request asks for.
const ATTEMPT_PATIENCE: Duration = Duration::from_millis(10_000);
/// The headers of a request that reach the leader.
const PASSED_ON: [&str; 7] = [
    "content-type",
    "if-match",
    "if-none-match",
    header::GUARD,
    header::MANAGED_BY,
    header::IDEMPOTENCY_KEY,
    header::REQUEST_ID,
];

/// A request as the leader would get it.
pub(crate) struct Call<'a> {
    /// What the client sent.
    pub(crate) context: &'a Context,
    /// The method, `PUT` for a `POST` whose id this node chose.
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: String,
    /// The body of an attempt that begins at the given instant.
    pub(crate) body: &'a (dyn Fn(Instant) -> Bytes + Send + Sync),
    /// How long the request wants to be held.
    pub(crate) wait: Duration,
    /// Whether repeating it is harmless.
    pub(crate) replays: bool,
}

impl<'a> Call<'a> {
    /// The call of a request that is passed on as it came.
    pub(crate) fn same(
        context: &'a Context,
        body: &'a (dyn Fn(Instant) -> Bytes + Send + Sync),
        replays: bool,
    ) -> Self {
        let target = context.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
        Self { context, method: context.method.clone(), target, body, wait: Duration::ZERO, replays }
    }
}

/// Carries a request out, here or on the leader.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other code is the final answer")]
pub(crate) async fn dispatch<F, Fut>(app: &App, call: Call<'_>, serve: F) -> Result<Response, ApiError>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<Response, ApiError>>,
{
    let began = Instant::now();
    let mut status = app.raft.watch_status();
    let mut lost_answer = None;
    loop {
        let now = status.borrow_and_update().clone();
        let attempt = if now.leading.is_some() {
            serve().await
        } else if call.context.forwarded {
            return Err(error::no_leader("this node does not lead; nothing was changed"));
        } else {
            match app.leader_api(&now) {
                Some(api) => forward(app, &call, &api, &mut status).await,
                None if now.membership.members.is_empty() => return Err(error::not_bootstrapped()),
                None => Err(error::no_leader("the cluster has no leader at the moment; nothing was changed")),
            }
        };
        let failure = match attempt {
            Ok(response) => return Ok(response),
            Err(failure) => failure,
        };
        if call.context.forwarded {
            return Err(failure);
        }
        let patience = match failure.code() {
            ErrorCode::NoLeader | ErrorCode::ShuttingDown if app.drain.is_closed() => return Err(failure),
            ErrorCode::NoLeader | ErrorCode::ShuttingDown => LEADER_PATIENCE,
            ErrorCode::OutcomeUnknown if call.replays => {
                lost_answer = Some(error::outcome_unknown(failure.0.detail.clone(), true));
                REPLAY_PATIENCE
            }
            _ => return Err(failure),
        };
        if call.wait + patience <= began.elapsed() {
            // An earlier attempt may have been carried out, whatever the last one says.
            return Err(lost_answer.unwrap_or(failure));
        }
        wait_for_news(&mut status).await;
    }
}

/// Waits for the leader to change, at most a moment: the failure may also have been a broken connection.
async fn wait_for_news(status: &mut tokio::sync::watch::Receiver<std::sync::Arc<crate::raft::Status>>) {
    let before = (status.borrow().leader, status.borrow().leading);
    let changed = status.wait_for(|now| (now.leader, now.leading) != before);
    // Either way the caller looks again; a closed channel means that the node ends.
    let _ = tokio::time::timeout(Duration::from_millis(50), changed).await;
}

/// Sends the request to the leader, once.
async fn forward(
    app: &App,
    call: &Call<'_>,
    api: &str,
    status: &mut tokio::sync::watch::Receiver<std::sync::Arc<crate::raft::Status>>,
) -> Result<Response, ApiError> {
    let request = build(app, call, api)?;
    let term_before = status.borrow().term;
    let answer = tokio::select! {
        answer = app.forward.execute(request) => answer,
        // A leader that was deposed while it holds the request may never answer. What replays need not wait for it.
        _ = status.wait_for(|now| term_before < now.term && now.leader.is_some()), if call.replays => {
            return Err(error::outcome_unknown("the leader changed while it had the request", call.replays));
        }
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(failure) if failure.is_connect() => {
            return Err(error::no_leader("the leader cannot be reached; nothing was changed"));
        }
        Err(_) => return Err(error::outcome_unknown("the leader's answer was lost", call.replays)),
    };
    let (status_code, headers) = (answer.status(), answer.headers().clone());
    let Ok(body) = answer.bytes().await else {
        return Err(error::outcome_unknown("the leader's answer broke off", call.replays));
    };
    let undecided =
        status_code == StatusCode::SERVICE_UNAVAILABLE || status_code == StatusCode::GATEWAY_TIMEOUT;
    if undecided && let Ok(problem) = serde_json::from_slice::<holdfast_api::Problem>(&body) {
        return Err(problem.into());
    }
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status_code;
    for (name, value) in &headers {
        if !is_of_the_connection(name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    Ok(response)
}

fn build(app: &App, call: &Call<'_>, api: &str) -> Result<reqwest::Request, ApiError> {
    let now = Instant::now();
    let mut request = app
        .forward
        .request(call.method.clone(), format!("http://{api}{}", call.target))
        .timeout(call.wait + ATTEMPT_PATIENCE)
        .header(
            header::FORWARDED,
            HeaderValue::from_str(&app.node_id.to_string()).expect("hex digits are ASCII"),
        )
        .body((call.body)(now));
    for name in PASSED_ON {
        if let Some(value) = call.context.headers.get(name) {
            request = request.header(name, value.clone());
        }
    }
    request
        .build()
        .map_err(|failure| error::no_leader(format!("the leader's address {api} is not usable: {failure}")))
}

/// Headers that belong to the connection to the leader, not to the answer.
fn is_of_the_connection(name: &HeaderName) -> bool {
    matches!(name.as_str(), "connection" | "keep-alive" | "transfer-encoding" | "content-length" | "date")
}
