//! Streams of events (`text/event-stream`): config keys, locks, elections and sessions.
//!
//! A stream is served by the node that was asked, from its own state. Only where it begins is asked of the leader, and only
//! when this node cannot tell: a stream that goes on after a revision that this node has goes on without a leader.

mod opening;
mod sse;

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::{MethodRouter, get};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use holdfast_api::ErrorCode;
use holdfast_api::claims::ContestKind;
use holdfast_api::query::{EventsQuery, WatchQuery};
use holdfast_core::{SessionId, limits};
use http::{HeaderValue, StatusCode, header};

use crate::auth::{Resource, Verb};
use crate::http::App;
use crate::http::contest::lock_ref;
use crate::http::error::ApiError;
use crate::http::read;
use crate::http::request::{self, Context};
use crate::http::respond;
use crate::http::watch::opening::{Opened, open};
use crate::watch::{Prefixes, Stream, Subject};

/// Prefixes of one watch: enough for a program's own keys and those that it shares; each costs a comparison a change.
const PREFIXES_MAX: usize = 128;

/// `GET …/watch`: changes of config keys.
pub(crate) async fn config(
    State(app): State<Arc<App>>,
    Path(namespace): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let (context, _) = Context::split(request);
    let namespace = request::namespace(namespace)?;
    let WatchQuery { prefix, from_revision, initial, consistency } = read::query(&context)?;
    if PREFIXES_MAX < prefix.len() {
        let why = format!("a watch has at most {PREFIXES_MAX} prefixes");
        return Err(ApiError::new(ErrorCode::InvalidField, why));
    }
    if prefix.iter().any(|prefix| limits::KEY_BYTES_MAX < prefix.len()) {
        return Err(ApiError::new(ErrorCode::InvalidField, "prefix is longer than any name"));
    }
    let prefixes = Prefixes::new(prefix);
    let touched = prefixes.as_slice().iter().cloned();
    let touched: Vec<_> = touched.map(|prefix| Resource::Keys(namespace.clone(), prefix)).collect();
    app.authorize(&context, Verb::Read, &touched)?;
    let subject = Subject::Config { namespace, prefixes };
    let query = EventsQuery { from_revision, initial, consistency };
    Ok(respond_with(&app, open(&app, &context, subject, &query).await?))
}

/// `GET …/locks/{name}/events` and `GET …/elections/{name}/events`: who waits, who is granted, who ends.
pub(crate) fn contest(kind: ContestKind) -> MethodRouter<Arc<App>> {
    get(
        move |State(app): State<Arc<App>>, Path((namespace, name)): Path<(String, String)>, request| async move {
            let (context, _) = Context::split(request);
            let lock = lock_ref(kind, namespace, name)?;
            let query = read::query(&context)?;
            app.authorize(&context, Verb::Read, &[Resource::Lock(lock.clone())])?;
            let opened = open(&app, &context, Subject::Lock(lock), &query).await?;
            Ok::<_, ApiError>(respond_with(&app, opened))
        },
    )
}

/// `GET /v1/sessions/{id}/events`.
pub(crate) async fn session(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let (context, _) = Context::split(request);
    let id = SessionId::new(id)?;
    let query = read::query(&context)?;
    app.authorize(&context, Verb::Read, &[Resource::Session(Some(id.clone()))])?;
    Ok(respond_with(&app, open(&app, &context, Subject::Session(id), &query).await?))
}

fn respond_with(app: &App, opened: Opened) -> Response {
    let Opened { place, start, preamble } = opened;
    let (history, form, revision) = (start.origin.history, start.origin.subject.form(), start.after);
    let stream = Stream::new(&app.feed, place, app.raft.clone(), app.drain.clone(), start);
    let frames = stream::unfold(stream, move |mut stream| async move {
        let frame = stream.next().await?;
        Some((sse::frame(&frame, history, form), stream))
    });
    let preamble = stream::once(std::future::ready(preamble));
    let body = Body::from_stream(preamble.chain(frames).map(Ok::<Bytes, Infallible>));
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that collect answers would hold the events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    respond::with_revision(response, revision)
}
