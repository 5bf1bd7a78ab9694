//! Answers: bodies with the headers that every answer has.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use holdfast_api::{ErrorCode, Problem, header};
use holdfast_core::Revision;
use holdfast_core::domain::Rejection;
use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt, Collected};
use serde::Serialize;

use crate::http::error::{self, ApiError};

/// A JSON answer that reflects a revision.
pub(crate) fn json(status: StatusCode, value: &impl Serialize, revision: Revision) -> Response {
    let body = serde_json::to_vec(value).expect("views hold only plain data");
    let mut response = (status, body).into_response();
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    with_revision(response, revision)
}

/// An answer without a body.
pub(crate) fn no_content(revision: Revision) -> Response {
    empty(StatusCode::NO_CONTENT, revision)
}

/// An answer of any status without a body.
pub(crate) fn empty(status: StatusCode, revision: Revision) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    with_revision(response, revision)
}

/// The answer to a POST whose id this node chose: where the thing is, when it is.
///
/// `reused` is the code by which an id that came from an idempotency key shows that the key belongs to another request;
/// the refusal may come from this node or from the leader.
pub(crate) async fn created_at(
    answer: Result<Response, ApiError>,
    location: &str,
    reused: Option<ErrorCode>,
) -> Result<Response, ApiError> {
    let told = |code: ErrorCode| reused == Some(code);
    let key_reused = || error::from_rejection(Rejection::ReplayKeyReused);
    let response = match answer {
        Ok(response) => response,
        Err(failure) if told(failure.code()) => return Err(key_reused()),
        Err(failure) => return Err(failure),
    };
    let (mut parts, body) = response.into_parts();
    if parts.status.is_success() {
        let location = HeaderValue::from_str(location).expect("an encoded path is ASCII");
        parts.headers.insert(http::header::LOCATION, location);
        return Ok(Response::from_parts(parts, body));
    }
    let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
    match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) if told(problem.code()) => Err(key_reused()),
        Ok(_) | Err(_) => Ok(Response::from_parts(parts, Body::from(body))),
    }
}

/// Says which revision the answer reflects.
pub(crate) fn with_revision(mut response: Response, revision: Revision) -> Response {
    response.headers_mut().insert(header::REVISION, HeaderValue::from(revision.as_u64()));
    response
}
