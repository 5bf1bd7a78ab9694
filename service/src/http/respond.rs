//! Answers: bodies with the headers that every answer has.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use holdfast_api::header;
use holdfast_core::Revision;
use http::{HeaderValue, StatusCode};
use serde::Serialize;

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

/// Says which revision the answer reflects.
pub(crate) fn with_revision(mut response: Response, revision: Revision) -> Response {
    response.headers_mut().insert(header::REVISION, HeaderValue::from(revision.as_u64()));
    response
}
