//! Config items: raw bytes with their media type, guarded by revisions and fencing tokens.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use holdfast_api::ErrorCode;
use holdfast_api::config::{ConfigList, ETag};
use holdfast_api::query::{PutQuery, ReadQuery};
use holdfast_core::domain::{
    self, Command, ConfigAt, ConfigQuery, DeleteConfig, Fault, Guard, LockRef, PutConfig, Rejection, Success,
    Tables, View,
};
use holdfast_core::{ConfigKey, NamespaceName, Revision, SessionId};
use http::{HeaderValue, StatusCode};

use crate::auth::{Resource, Verb};
use crate::http::App;
use crate::http::dispatch::{Call, dispatch};
use crate::http::error::{self, ApiError};
use crate::http::read::{self, Cursor, Page, ReadMode};
use crate::http::request::{self, Context, OCTETS, content_type};
use crate::http::{item, respond};
use crate::seeded_bugs::{self, SeededBug};

/// The namespace and key of a path.
pub(crate) fn place(
    Path((namespace, key)): Path<(String, String)>,
) -> Result<(NamespaceName, ConfigKey), ApiError> {
    Ok((request::namespace(namespace)?, ConfigKey::new(key)?))
}

/// The entity tag of a write.
pub(crate) fn etag(revision: Revision) -> HeaderValue {
    HeaderValue::from_str(&ETag(revision.as_u64()).to_string()).expect("an entity tag is ASCII")
}

/// `PUT …/config/{key…}`.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other outcome is a bug and told as one")]
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    path: Path<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    let (context, body) = Context::split(request);
    let (namespace, key) = place(path)?;
    let PutQuery { session } = read::query(&context)?;
    let session = session.map(SessionId::new).transpose()?;
    let mut touched = vec![Resource::Key(namespace.clone(), key.clone())];
    touched.extend(session.clone().map(|session| Resource::Session(Some(session))));
    app.authorize(&context, Verb::Write, &touched)?;
    let value = request::value_body(&context, body).await?;
    let put = PutConfig {
        namespace: namespace.clone(),
        key,
        value: value.clone(),
        content_type: content_type(&context)?,
        session,
        managed_by: context.managed_by()?,
        precondition: context.precondition()?,
        guard: context.guard()?,
    };
    let replay = context.replay_key(namespace.as_str(), &value)?;
    let replays = replay.is_some();
    let same_body = |_| value.clone();
    dispatch(&app, Call::same(&context, &same_body, replays), || async {
        let mut put = put.clone();
        check_guard_early(&app, &put.namespace, &mut put.guard).await?;
        let applied = app
            .raft
            .propose(Command::PutConfig(put), replay)
            .await
            .map_err(|failure| error::from_propose(failure, replays))?;
        match applied.outcome.map_err(error::from_rejection)? {
            Success::ConfigPut { mod_revision, version, .. } => {
                let status = if version == 1 { StatusCode::CREATED } else { StatusCode::OK };
                let mut response = respond::empty(status, applied.revision);
                response.headers_mut().insert(http::header::ETAG, etag(mod_revision));
                Ok(response)
            }
            other => Err(error::unexpected_outcome(&other)),
        }
    })
    .await
}

/// A seeded bug: the guard is looked at before the entry is proposed, and not when it is applied.
async fn check_guard_early(
    app: &App,
    namespace: &NamespaceName,
    guard: &mut Option<Guard>,
) -> Result<(), ApiError> {
    if !seeded_bugs::active(SeededBug::GuardBeforePropose) {
        return Ok(());
    }
    let Some(Guard { lock, token }) = guard.take() else { return Ok(()) };
    let lock = LockRef { namespace: namespace.clone(), lock };
    let held = app.raft.look(|view| view.lock(&lock, 0)).map_err(error::from_read)?;
    if held.holders.iter().all(|holder| holder.token != token) {
        return Err(error::from_rejection(Rejection::StaleToken {
            held: held.holders.first().map(|h| h.token),
        }));
    }
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    Ok(())
}

/// `DELETE …/config/{key…}`.
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    path: Path<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    let (context, _) = Context::without_query(request)?;
    let (namespace, key) = place(path)?;
    app.authorize(&context, Verb::Write, &[Resource::Key(namespace.clone(), key.clone())])?;
    let delete = DeleteConfig {
        namespace: namespace.clone(),
        key,
        precondition: context.precondition()?,
        guard: context.guard()?,
    };
    let replay = context.replay_key(namespace.as_str(), b"")?;
    let replays = replay.is_some();
    let no_body = |_| Bytes::new();
    dispatch(&app, Call::same(&context, &no_body, replays), || async {
        let applied = app
            .raft
            .propose(Command::DeleteConfig(delete.clone()), replay)
            .await
            .map_err(|failure| error::from_propose(failure, replays))?;
        let _: Success = applied.outcome.map_err(error::from_rejection)?;
        Ok(respond::no_content(applied.revision))
    })
    .await
}

/// Whether the reader's copy is the current one (`If-None-Match`).
fn is_current(context: &Context, revision: Revision) -> Result<bool, ApiError> {
    let Some(tags) = context.header("if-none-match")? else { return Ok(false) };
    let current = ETag(revision.as_u64()).to_string();
    Ok(tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == current))
}

/// `GET …/config/{key…}`: the raw value.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    path: Path<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    let (context, _) = Context::split(request);
    let (namespace, key) = place(path)?;
    app.authorize(&context, Verb::Read, &[Resource::Key(namespace.clone(), key.clone())])?;
    let query: ReadQuery = read::query(&context)?;
    let mode = ReadMode::from_parameters(query.consistency, query.min_revision);
    let at = query.at_revision.map(Revision::new);
    read::read(&app, &context, mode, |store| {
        let meta = store.meta()?;
        if let Some(refusal) = refuse_place(store, &namespace, at, meta.revision)? {
            return Ok(Err(refusal));
        }
        let found = match at {
            None => store.config_get(&namespace, &key)?.map_or(ConfigAt::Absent, ConfigAt::Item),
            Some(at) => store.config_at(&namespace, &key, at, meta.compacted_revision)?,
        };
        match found {
            ConfigAt::Item(item) => Ok(value(&context, item, meta.revision)),
            ConfigAt::Absent => {
                let detail = format!("the key {key} does not exist");
                Ok(Err(ApiError::new(ErrorCode::KeyNotFound, detail)))
            }
            ConfigAt::Compacted => Ok(Err(error::revision_compacted(meta.compacted_revision))),
        }
    })
    .await
}

/// Why a read of this namespace at this revision is refused, if it is.
pub(crate) fn refuse_place(
    store: &View<'_, impl Tables>,
    namespace: &NamespaceName,
    at: Option<Revision>,
    revision: Revision,
) -> Result<Option<ApiError>, Fault> {
    if at.is_some_and(|at| revision < at) {
        return Ok(Some(error::future_revision(revision)));
    }
    let missing = store.namespace(namespace)?.is_none();
    Ok(missing.then(|| error::from_rejection(Rejection::NamespaceNotFound)))
}

fn value(context: &Context, item: domain::ConfigItem, revision: Revision) -> Result<Response, ApiError> {
    let unchanged = is_current(context, item.mod_revision)?;
    let mut response = if unchanged {
        respond::empty(StatusCode::NOT_MODIFIED, revision)
    } else {
        let media_type =
            HeaderValue::from_str(&item.content_type).unwrap_or(HeaderValue::from_static(OCTETS));
        let mut response = respond::with_revision(Response::new(Body::from(item.value)), revision);
        response.headers_mut().insert(http::header::CONTENT_TYPE, media_type);
        response
    };
    response.headers_mut().insert(http::header::ETAG, etag(item.mod_revision));
    Ok(response)
}

/// `GET …/config`: a page of the keys, all pages at the revision of the first.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Path(namespace): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let (context, _) = Context::split(request);
    let namespace = request::namespace(namespace)?;
    let page = Page::at_any_revision(&context)?;
    app.authorize(&context, Verb::Read, &[Resource::Keys(namespace.clone(), page.prefix.clone())])?;
    let after = page.after.as_ref().map(|cursor| ConfigKey::new(cursor.after.clone())).transpose()?;
    read::read(&app, &context, page.mode, |store| {
        let meta = store.meta()?;
        if let Some(refusal) = refuse_place(store, &namespace, page.at, meta.revision)? {
            return Ok(Err(refusal));
        }
        let revision = page.at.unwrap_or(meta.revision);
        if revision < meta.compacted_revision {
            return Ok(Err(error::revision_compacted(meta.compacted_revision)));
        }
        let found = store.config_list(&ConfigQuery {
            namespace: &namespace,
            prefix: &page.prefix,
            after: after.as_ref(),
            limit: page.limit,
            at: Some(revision),
            with_values: page.values,
        })?;
        let next = found.next.map(|last| Cursor { revision, after: last.as_str().to_owned() }.to_text());
        let items = found.items.into_iter().map(item::of_entry).collect();
        let answer = ConfigList { items, revision: revision.as_u64(), next_cursor: next };
        Ok(Ok(respond::json(StatusCode::OK, &answer, meta.revision)))
    })
    .await
}
