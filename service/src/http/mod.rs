//! The REST API (port 7700) and the ops port: routes, and what every request passes through.
//!
//! Handlers read a request into validated types, pass `authorize`, and hand the rest to `dispatch` (writes and linearizable
//! reads) or to the local state. Statuses are decided here and in `api` only.

mod acquire;
mod claims;
mod cluster;
mod config;
mod contest;
mod dispatch;
mod elections;
mod error;
mod history;
mod item;
mod lock_sets;
mod locks;
mod markdown;
mod namespaces;
mod ops;
mod pages;
mod read;
mod request;
mod respond;
mod server;
mod sessions;
mod text_diff;
mod txn;
mod watch;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use holdfast_api::claims::ContestKind;
use holdfast_api::{ErrorCode, header};
use holdfast_core::{NodeId, SessionId};
use tracing::Instrument;

use crate::auth::{Policy, Resource, Verb};
use crate::config::NodeConfig;
use crate::drain::Drain;
use crate::http::error::ApiError;
use crate::http::request::Context;
use crate::leases::Leases;
use crate::metrics::{Metrics, RequestLabels};
use crate::raft::{Handle, Status};
use crate::ready::Sight;
use crate::storage::data_dir::DataDir;
use crate::waits::Waits;
use crate::watch::Feed;

pub(crate) use ops::router as ops_router;
pub(crate) use server::serve;

/// What handlers work with: one per node.
pub(crate) struct App {
    /// This node.
    pub(crate) node_id: NodeId,
    /// Its settings.
    pub(crate) config: NodeConfig,
    /// Its data directory, for the identities in it.
    pub(crate) data: Arc<DataDir>,
    /// The consensus.
    pub(crate) raft: Handle,
    /// The leader's deadlines.
    pub(crate) leases: Leases,
    /// Who waits for claims here.
    pub(crate) waits: Waits,
    /// What streams of events are fed from.
    pub(crate) feed: Feed,
    /// The client to the leader.
    pub(crate) forward: reqwest::Client,
    /// The way out.
    pub(crate) drain: Drain,
    /// Who may do what.
    pub(crate) policy: Policy,
    /// What is counted.
    pub(crate) metrics: Arc<Metrics>,
    /// How peers reach this node's cluster.
    pub(crate) peers: crate::peer::PeerPool,
}

impl App {
    /// The one place where rights are checked.
    pub(crate) fn authorize(
        &self,
        context: &Context,
        verb: Verb,
        resources: &[Resource],
    ) -> Result<(), ApiError> {
        self.policy
            .authorize(&context.identity, verb, resources)
            .map_err(|_| ApiError::new(ErrorCode::Forbidden, "the access policy does not allow this"))
    }

    /// Renews a session by a request that counts as its keepalive.
    pub(crate) async fn renew(&self, session: &SessionId, received_at_ms: u64) -> Result<(), ApiError> {
        let kept = self.leases.keepalive(&self.raft, session, received_at_ms).await;
        kept.map(drop).map_err(error::from_keepalive)
    }

    /// This node's place in the cluster.
    pub(crate) fn sight<'a>(&self, status: &'a Status) -> Sight<'a> {
        Sight::new(&self.raft, status, self.config.raft.election_ms_max)
    }

    /// Where the leader's API is, when another node leads.
    pub(crate) fn leader_api(&self, status: &Status) -> Option<String> {
        let leader = status.leader.filter(|leader| *leader != self.node_id)?;
        status.membership.members.get(&leader).map(|member| member.api.clone())
    }
}

/// The routes of the REST API.
pub(crate) fn router(app: Arc<App>) -> Router {
    let namespace = "/v1/namespaces/{namespace}";
    let lock = "/v1/namespaces/{namespace}/locks/{lock}";
    let election = "/v1/namespaces/{namespace}/elections/{election}";
    let routes = Router::new()
        .route("/v1/namespaces", get(namespaces::list))
        .route(namespace, put(namespaces::put).get(namespaces::get).delete(namespaces::delete))
        .route("/v1/sessions", get(sessions::list).post(sessions::post))
        .route("/v1/sessions/{session}", put(sessions::put).get(sessions::get).delete(sessions::delete))
        .route("/v1/sessions/{session}/keepalive", post(sessions::keepalive))
        .route("/v1/sessions/{session}/events", get(watch::session))
        .route(&format!("{namespace}/locks"), get(locks::list))
        .route(lock, get(locks::get))
        .route(&format!("{lock}/force-release"), post(locks::force_release))
        .route(&format!("{lock}/events"), watch::contest(ContestKind::Lock))
        .route(&format!("{lock}/claims"), claims::all(ContestKind::Lock))
        .route(&format!("{lock}/claims/{{claim}}"), claims::one(ContestKind::Lock))
        .route(
            &format!("{namespace}/lock-sets/{{claim}}"),
            put(lock_sets::put).get(lock_sets::get).delete(lock_sets::delete),
        )
        .route(election, get(elections::get))
        .route(&format!("{election}/value"), put(elections::proclaim))
        .route(&format!("{election}/events"), watch::contest(ContestKind::Election))
        .route(&format!("{election}/candidates"), claims::all(ContestKind::Election))
        .route(&format!("{election}/candidates/{{claim}}"), claims::one(ContestKind::Election))
        .route(&format!("{namespace}/watch"), get(watch::config))
        .route(&format!("{namespace}/config"), get(config::list))
        .route(
            &format!("{namespace}/config/{{*key}}"),
            get(config::get).put(config::put).delete(config::delete),
        )
        .route(&format!("{namespace}/history/{{*key}}"), get(history::list))
        .route(&format!("{namespace}/diff/{{*key}}"), get(history::diff))
        .route(&format!("{namespace}/rollback/{{*key}}"), post(history::rollback))
        .route(&format!("{namespace}/txn"), post(txn::post))
        .route("/v1/cluster", get(cluster::status))
        .route("/v1/cluster/bootstrap", post(cluster::bootstrap))
        .route("/v1/cluster/members", post(cluster::add))
        .route("/v1/cluster/members/{id}", axum::routing::delete(cluster::remove))
        .route("/v1/cluster/members/{id}/promote", post(cluster::promote))
        .route("/v1/cluster/transfer-leader", post(cluster::transfer))
        .route("/errors", get(pages::to_index))
        .route("/errors/", get(pages::index))
        .route("/errors/{code}", get(pages::show))
        .fallback(no_route)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&app), around))
        .with_state(app);
    Router::new().fallback_service(routes).layer(axum::middleware::from_fn(explain_method))
}

async fn no_route(request: Request) -> ApiError {
    ApiError::new(ErrorCode::RouteNotFound, format!("there is nothing at {}", request.uri().path()))
}

/// The request's id: the caller's if it is usable, else a new one.
fn request_id(request: &Request) -> String {
    let given = request.headers().get(header::REQUEST_ID).and_then(|value| value.to_str().ok());
    match given {
        Some(id) if !id.is_empty() && id.len() <= 128 && id.bytes().all(|b| b.is_ascii_graphic()) => {
            id.to_owned()
        }
        Some(_) | None => format!("{:016x}", rand::random::<u64>()),
    }
}

/// What every request passes through: its id, its span, its count, and the headers that every answer has.
async fn around(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let began = std::time::Instant::now();
    let id = request_id(&request);
    let id_header = HeaderValue::from_str(&id).expect("a request id is visible ASCII");
    request.headers_mut().insert(header::REQUEST_ID, id_header.clone());
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<axum::extract::MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |matched| matched.as_str().to_owned());
    let span = tracing::info_span!("request", request_id = %id, node = %app.node_id, method = %method, route = %route);
    let in_flight = app.metrics.request_began();
    let mut response = if app.drain.is_closed() && !route.starts_with("/v1/cluster") {
        error::shutting_down().into_response()
    } else {
        next.run(request).instrument(span.clone()).await
    };
    drop(in_flight);
    if is_plain_refusal(&response) {
        response =
            ApiError::new(ErrorCode::InvalidName, "the path is not UTF-8 once it is decoded").into_response();
    }
    let headers = response.headers_mut();
    headers.insert(header::REQUEST_ID, id_header);
    if !headers.contains_key(header::SERVED_BY) {
        let served_by = HeaderValue::from_str(&app.node_id.to_string()).expect("hex digits are ASCII");
        headers.insert(header::SERVED_BY, served_by);
    }
    if let Some(cluster) = app.data.cluster_id().and_then(|id| HeaderValue::from_str(&id).ok()) {
        headers.insert(header::CLUSTER_ID, cluster);
    }
    if !headers.contains_key(header::REVISION) {
        headers.insert(header::REVISION, HeaderValue::from(app.raft.applied().revision.as_u64()));
    }
    let status = response.status().as_u16();
    span.in_scope(|| tracing::debug!(status, elapsed_ms = began.elapsed().as_millis(), "answered"));
    app.metrics.request_ended(RequestLabels::new(&method, &route, status), began.elapsed());
    response
}

/// Whether the router refused the path before a handler saw it: it says so in plain text.
fn is_plain_refusal(response: &Response) -> bool {
    let content_type = response.headers().get(axum::http::header::CONTENT_TYPE);
    response.status() == StatusCode::BAD_REQUEST
        && content_type.is_some_and(|value| value.as_bytes().starts_with(b"text/plain"))
}

/// Turns the router's own refusal of a method into a problem document. It is outside the router, because the router
/// writes `Allow` last.
async fn explain_method(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let response = next.run(request).await;
    if response.status() != StatusCode::METHOD_NOT_ALLOWED {
        return response;
    }
    let allow = response.headers().get(axum::http::header::ALLOW).and_then(|value| value.to_str().ok());
    let detail =
        format!("{method} is not allowed here; allowed: {}", allow.unwrap_or("nothing").replace(',', ", "));
    let mut problem = ApiError::new(ErrorCode::MethodNotAllowed, detail).into_response();
    for (name, value) in response.headers() {
        if !problem.headers().contains_key(name) && name != axum::http::header::CONTENT_LENGTH {
            problem.headers_mut().insert(name, value.clone());
        }
    }
    problem
}
