//! The ops port: health checks and metrics, plain HTTP; and the pages that explain error codes.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use holdfast_api::{Applied, ErrorCode};

use crate::http::App;
use crate::http::error::ApiError;

/// The routes of the ops port.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(app)
}

/// Whether the process works. Never about the quorum: killing nodes in an outage makes it worse.
async fn livez(State(app): State<Arc<App>>) -> Response {
    match app.raft.status().fatal.clone() {
        None => (StatusCode::OK, "ok\n").into_response(),
        Some(fatal) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{fatal}\n")).into_response(),
    }
}

/// Whether this node should get requests.
async fn readyz(State(app): State<Arc<App>>) -> Response {
    let status = app.raft.status();
    let unready = app.sight(&status).unready(&app.drain);
    if unready.is_empty() {
        return (StatusCode::OK, "ok\n").into_response();
    }
    let lines: String = unready.iter().map(|reason| format!("{reason}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines).into_response()
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    app.metrics.observe(&app);
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], app.metrics.encode()).into_response()
}

/// `/errors/{code}`: what a problem's `type` leads to.
pub(super) async fn error_page(Path(code): Path<String>) -> Result<Response, ApiError> {
    let code: ErrorCode = code
        .parse()
        .map_err(|_| ApiError::new(ErrorCode::RouteNotFound, format!("there is no error code {code:?}")))?;
    let effect = match code.applied() {
        Applied::No => "Nothing was changed.",
        Applied::Yes => "The request was carried out.",
        Applied::Unknown => "The request may or may not have been carried out, now or later.",
    };
    let next = if code.default_retryable() {
        "The same request may succeed later."
    } else {
        "The same request will not succeed unless something changes first."
    };
    let text = format!("{code}\n\nHTTP status {}: {}.\n{effect}\n{next}\n", code.status(), code.title());
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
}
