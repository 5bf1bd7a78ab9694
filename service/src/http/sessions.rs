//! Sessions: what holds claims, and must be kept alive.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use holdfast_api::sessions::{
    ClaimRef as ClaimRefView, KeepaliveView, LiveState, SessionList, SessionRequest, SessionView,
};
use holdfast_api::{ErrorCode, path};
use holdfast_core::domain::{
    self, ClaimView, Command, Fault, Rejection, SessionSpec, SessionState, Success, Tables, View,
};
use holdfast_core::{FencingToken, RESERVED_ID_PREFIX, Revision, SessionId, limits};
use http::{Method, StatusCode};

use crate::auth::{Resource, Verb};
use crate::http::App;
use crate::http::contest::contest_name;
use crate::http::dispatch::{Call, dispatch};
use crate::http::error::{self, ApiError};
use crate::http::read::{self, Cursor, Page, ReadMode};
use crate::http::request::{self, Context, in_range, invalid_field, short_text};
use crate::http::respond;

/// Claims and keys of the sessions on one page, except that one session is always there in full.
const LISTED_OWNED_MAX: u64 = 10_000;

fn spec(request: SessionRequest) -> Result<SessionSpec, ApiError> {
    let SessionRequest { ttl_ms, name, labels, lock_delay_ms } = request;
    Ok(SessionSpec {
        ttl_ms: in_range(
            "/ttl_ms",
            ttl_ms.unwrap_or(limits::TTL_MS_DEFAULT),
            limits::TTL_MS_MIN,
            limits::TTL_MS_MAX,
        )?,
        name: short_text("/name", name.unwrap_or_default(), limits::LABEL_BYTES_MAX)?,
        labels: checked_labels(labels)?,
        lock_delay_ms: in_range("/lock_delay_ms", lock_delay_ms.unwrap_or(0), 0, limits::LOCK_DELAY_MS_MAX)?,
    })
}

fn checked_labels(labels: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, ApiError> {
    if limits::SESSION_LABELS_MAX < labels.len() {
        let why = format!("a session has at most {} labels", limits::SESSION_LABELS_MAX);
        return Err(invalid_field("/labels", why));
    }
    labels
        .into_iter()
        .map(|(name, value)| {
            if name.is_empty() {
                return Err(invalid_field("/labels", "a label's name is not empty"));
            }
            let name = short_text("/labels", name, limits::LABEL_BYTES_MAX)?;
            Ok((name, short_text("/labels", value, limits::LABEL_BYTES_MAX)?))
        })
        .collect()
}

/// `PUT /v1/sessions/{id}`: create, or learn that it is there.
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let (context, body) = Context::without_query(request)?;
    let id = SessionId::new(id)?;
    if id.is_reserved() {
        return Err(ApiError::new(
            ErrorCode::InvalidName,
            format!("session ids that begin with {RESERVED_ID_PREFIX} are given out by the server only"),
        ));
    }
    create(&app, &context, id, body).await
}

/// `POST /v1/sessions`: the same with an id that this node chooses.
pub(crate) async fn post(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let (context, body) = Context::without_query(request)?;
    let id = SessionId::new(context.chosen_id()?)?;
    let location = path::session(id.as_str());
    let keyed = context.idempotency_key()?.is_some();
    let mut answer = create(&app, &context, id, body).await;
    if let Ok(response) = &mut answer
        && response.status() == StatusCode::OK
    {
        // A replayed POST answers what the first one answered.
        *response.status_mut() = StatusCode::CREATED;
    }
    let reused = keyed.then_some(ErrorCode::SessionExists);
    respond::created_at(answer, &location, reused).await
}

async fn create(app: &App, context: &Context, id: SessionId, body: Body) -> Result<Response, ApiError> {
    app.authorize(context, Verb::Write, &[Resource::Session(Some(id.clone()))])?;
    let (request, sent) = request::json::<SessionRequest>(context, body).await?;
    let spec = spec(request)?;
    let same_body = |_| sent.clone();
    let call = Call {
        method: Method::PUT,
        target: path::session(id.as_str()),
        ..Call::same(context, &same_body, true)
    };
    dispatch(app, call, || async {
        let received_at_ms = app.leases.now_ms();
        let command = Command::CreateSession { id: id.clone(), spec: spec.clone() };
        let applied =
            app.raft.propose(command, None).await.map_err(|failure| error::from_propose(failure, true))?;
        let outcome = applied.outcome.map_err(error::from_rejection)?;
        let Success::Session { create_revision, spec, created } = &outcome else {
            return Err(error::unexpected_outcome(&outcome));
        };
        let (create_revision, spec, created) = (*create_revision, spec.clone(), *created);
        if !created {
            // A client counts its lease from when it sent its PUT, a repeated one too: so it renews.
            app.renew(&id, received_at_ms).await?;
        }
        let status = if created { StatusCode::CREATED } else { StatusCode::OK };
        let owned = if created { Owned::default() } else { owned_by(app, &id)? };
        Ok(respond::json(status, &view(app, &id, spec, create_revision, &owned), applied.revision))
    })
    .await
}

/// What a session owns.
#[derive(Default)]
pub(crate) struct Owned {
    claims: Vec<ClaimView>,
    keys: u64,
}

impl Owned {
    /// What a live session owns, of which `owned` counts all.
    pub(crate) fn look(store: &View<'_, impl Tables>, id: &SessionId, owned: u64) -> Result<Self, Fault> {
        let claims = store.session_claims(id)?;
        let keys = owned.saturating_sub(claims.len() as u64);
        Ok(Self { claims, keys })
    }
}

fn owned_by(app: &App, id: &SessionId) -> Result<Owned, ApiError> {
    let owned = app.raft.look(|store| match store.session(id)? {
        Some(SessionState::Live(session)) => Owned::look(store, id, session.owned),
        Some(SessionState::Ended { .. }) | None => Ok(Owned::default()),
    });
    owned.map_err(error::from_read)
}

pub(crate) fn view(
    app: &App,
    id: &SessionId,
    spec: SessionSpec,
    create_revision: Revision,
    owned: &Owned,
) -> SessionView {
    let SessionSpec { ttl_ms, name, labels, lock_delay_ms } = spec;
    SessionView {
        id: id.as_str().to_owned(),
        ttl_ms,
        remaining_ms: app.leases.remaining_ms(id),
        name: Some(name).filter(|name| !name.is_empty()),
        labels,
        lock_delay_ms,
        create_revision: create_revision.as_u64(),
        claims: owned.claims.iter().map(claim_ref).collect(),
        keys: owned.keys,
    }
}

fn claim_ref(claim: &ClaimView) -> ClaimRefView {
    ClaimRefView {
        namespace: claim.claim.lock.namespace.as_str().to_owned(),
        contest: contest_name(&claim.claim.lock.lock),
        claim: claim.claim.claim.as_str().to_owned(),
        state: if claim.token.is_some() { LiveState::Held } else { LiveState::Queued },
        fencing_token: claim.token.map(FencingToken::as_u64),
    }
}

/// `POST /v1/sessions/{id}/keepalive`: renew. No entry is written; the leader confirms itself and remembers.
pub(crate) async fn keepalive(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let (context, body) = Context::without_query(request)?;
    let id = SessionId::new(id)?;
    app.authorize(&context, Verb::Write, &[Resource::Session(Some(id.clone()))])?;
    request::body(&context, body, 0)
        .await
        .map_err(|_| ApiError::new(ErrorCode::TooLarge, "a keepalive has no body"))?;
    let no_body = |_| Bytes::new();
    dispatch(&app, Call::same(&context, &no_body, true), || async {
        // From its receipt at this leader: what lay in a queue before counts against the session, never for it.
        let received_at_ms = app.leases.now_ms();
        let kept =
            app.leases.keepalive(&app.raft, &id, received_at_ms).await.map_err(error::from_keepalive)?;
        let answer = KeepaliveView {
            ttl_ms: kept.ttl_ms,
            remaining_ms: kept.remaining_ms,
            claims: kept.claims.iter().map(claim_ref).collect(),
        };
        Ok(respond::json(StatusCode::OK, &answer, kept.revision))
    })
    .await
}

/// `GET /v1/sessions/{id}`.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let (context, _) = Context::split(request);
    let id = SessionId::new(id)?;
    app.authorize(&context, Verb::Read, &[Resource::Session(Some(id.clone()))])?;
    read::read(&app, &context, ReadMode::of(&context)?, |store| {
        Ok(match store.session(&id)? {
            None => Err(error::from_rejection(Rejection::SessionNotFound)),
            Some(SessionState::Ended { reason, .. }) => {
                Err(error::from_rejection(Rejection::SessionExpired { reason }))
            }
            Some(SessionState::Live(domain::SessionView { spec, create_revision, owned, .. })) => {
                let answer = view(&app, &id, spec, create_revision, &Owned::look(store, &id, owned)?);
                Ok(respond::json(StatusCode::OK, &answer, store.meta()?.revision))
            }
        })
    })
    .await
}

/// `GET /v1/sessions`: live sessions with their claims, by id.
pub(crate) async fn list(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let (context, _) = Context::split(request);
    app.authorize(&context, Verb::Read, &[Resource::Session(None)])?;
    let page = Page::of(&context)?;
    let after = page.after.as_ref().map(|cursor| SessionId::new(cursor.after.clone())).transpose()?;
    read::read(&app, &context, page.mode, |store| {
        let revision = store.meta()?.revision;
        let found = store.sessions(after.as_ref(), page.limit)?;
        let (mut items, mut next, mut owned) = (Vec::new(), found.next, 0);
        let mut last: Option<SessionId> = None;
        for session in found.items {
            owned += session.owned;
            if LISTED_OWNED_MAX < owned && last.is_some() {
                // The page ends early; the rest is on the next one.
                next = last;
                break;
            }
            last = Some(session.id.clone());
            if session.id.as_str().starts_with(&page.prefix) {
                let owned = Owned::look(store, &session.id, session.owned)?;
                items.push(view(&app, &session.id, session.spec, session.create_revision, &owned));
            }
        }
        let next = next.map(|last| Cursor { revision, after: last.as_str().to_owned() }.to_text());
        let answer = SessionList { items, revision: revision.as_u64(), next_cursor: next };
        Ok(Ok(respond::json(StatusCode::OK, &answer, revision)))
    })
    .await
}

/// `DELETE /v1/sessions/{id}`: end it and release everything.
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let (context, _) = Context::without_query(request)?;
    let id = SessionId::new(id)?;
    app.authorize(&context, Verb::Write, &[Resource::Session(Some(id.clone()))])?;
    let no_body = |_| Bytes::new();
    dispatch(&app, Call::same(&context, &no_body, true), || async {
        let command = Command::EndSession { id: id.clone() };
        let applied =
            app.raft.propose(command, None).await.map_err(|failure| error::from_propose(failure, true))?;
        let _: Success = applied.outcome.map_err(error::from_rejection)?;
        Ok(respond::no_content(applied.revision))
    })
    .await
}
