//! The ops port: health checks and metrics, plain HTTP.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::http::App;

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
