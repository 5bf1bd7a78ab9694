//! The past of a config key: its versions, what differs between two of them, and the way back to one.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use holdfast_api::ErrorCode;
use holdfast_api::config::{ConfigHistory, ConfigVersion, DeletedVersion, RollbackRequest, WrittenVersion};
use holdfast_api::query::{DiffQuery, HistoryQuery};
use holdfast_core::domain::{
    Command, ConfigAt, ConfigVersionView, Fault, Meta, RollbackConfig, Success, Tables, View,
};
use holdfast_core::{ConfigKey, NamespaceName, Revision};
use http::StatusCode;

use crate::auth::{Resource, Verb};
use crate::http::App;
use crate::http::config::{etag, place, refuse_place};
use crate::http::dispatch::{Call, dispatch};
use crate::http::error::{self, ApiError};
use crate::http::read::{self, ReadMode};
use crate::http::request::{self, Context};
use crate::http::text_diff::{self, Side};
use crate::http::{item, respond};

fn key_not_found(key: &ConfigKey) -> ApiError {
    ApiError::new(ErrorCode::KeyNotFound, format!("no version of the key {key} is kept"))
}

/// `GET …/history/{key…}`: the versions that are kept, the newest first.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    path: Path<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    let (context, _) = Context::split(request);
    let (namespace, key) = place(path)?;
    app.authorize(&context, Verb::Read, &[Resource::Key(namespace.clone(), key.clone())])?;
    let HistoryQuery { limit, cursor, consistency, min_revision } = read::query(&context)?;
    let mode = ReadMode::from_parameters(consistency, min_revision);
    let limit = read::row_limit(limit)?;
    // The cursor names the version before which the next page begins, and pins nothing: what is compacted meanwhile is gone.
    let before = cursor.map(|text| read::revision_cursor(&text)).transpose()?;
    read::read(&app, &context, mode, |store| {
        let revision = store.meta()?.revision;
        if let Some(refusal) = refuse_place(store, &namespace, None, revision)? {
            return Ok(Err(refusal));
        }
        let found = store.config_history(&namespace, &key, before, limit)?;
        if found.versions.is_empty() && before.is_none() {
            return Ok(Err(key_not_found(&key)));
        }
        let answer = ConfigHistory {
            key: key.as_str().to_owned(),
            versions: found.versions.into_iter().map(version).collect(),
            revision: revision.as_u64(),
            next_cursor: found.next.map(|before| before.to_string()),
        };
        Ok(Ok(respond::json(StatusCode::OK, &answer, revision)))
    })
    .await
}

fn version(version: ConfigVersionView) -> ConfigVersion {
    match version {
        ConfigVersionView::Put { item, age_ms } => {
            ConfigVersion::Written(Box::new(WrittenVersion { item: item::of_item(item), age_ms }))
        }
        ConfigVersionView::Deleted { revision, age_ms, expired } => {
            ConfigVersion::Deleted(DeletedVersion { mod_revision: revision.as_u64(), age_ms, expired })
        }
    }
}

/// Two values to compare, and where the store stood.
struct Sides {
    from: Side,
    to: Side,
    revision: Revision,
}

/// `GET …/diff/{key…}`: what differs between two revisions.
pub(crate) async fn diff(
    State(app): State<Arc<App>>,
    path: Path<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    let (context, _) = Context::split(request);
    let (namespace, key) = place(path)?;
    app.authorize(&context, Verb::Read, &[Resource::Key(namespace.clone(), key.clone())])?;
    let DiffQuery { from, to, consistency, min_revision } = read::query(&context)?;
    let (from, to) = (Revision::new(from), to.map(Revision::new));
    let mode = ReadMode::from_parameters(consistency, min_revision);
    let look = |store: &View<'_, crate::raft::StateReader<'_>>| {
        let meta = store.meta()?;
        let to = to.unwrap_or(meta.revision);
        if let Some(refusal) = refuse_place(store, &namespace, Some(from.max(to)), meta.revision)? {
            return Ok(Err(refusal));
        }
        let side = |at| side(store, &namespace, &key, at, &meta);
        let (from, to) = match (side(from)?, side(to)?) {
            (Ok(from), Ok(to)) => (from, to),
            (Err(refusal), _) | (_, Err(refusal)) => return Ok(Err(refusal)),
        };
        if from.value.is_none() && to.value.is_none() {
            let detail = format!("the key {key} existed at neither revision");
            return Ok(Err(ApiError::new(ErrorCode::KeyNotFound, detail)));
        }
        Ok(Ok(Sides { from, to, revision: meta.revision }))
    };
    read::read_then(&app, &context, mode, look, |sides| compare(&key, sides)).await
}

fn side(
    store: &View<'_, impl Tables>,
    namespace: &NamespaceName,
    key: &ConfigKey,
    at: Revision,
    meta: &Meta,
) -> Result<Result<Side, ApiError>, Fault> {
    Ok(match store.config_at(namespace, key, at, meta.compacted_revision)? {
        ConfigAt::Item(item) => Ok(Side { at, value: Some(item.value) }),
        ConfigAt::Absent => Ok(Side { at, value: None }),
        ConfigAt::Compacted => Err(error::revision_compacted(meta.compacted_revision)),
    })
}

/// Compares on a thread of its own: large texts take a while.
async fn compare(key: &ConfigKey, sides: Sides) -> Result<Response, ApiError> {
    let Sides { from, to, revision } = sides;
    let name = key.as_str().to_owned();
    let compared = tokio::task::spawn_blocking(move || text_diff::compare(name, &from, &to)).await;
    let broke_off = |_| error::outcome_unknown("the comparison broke off; a read changes nothing", true);
    Ok(respond::json(StatusCode::OK, &compared.map_err(broke_off)?, revision))
}

/// `POST …/rollback/{key…}`: writes again what the key had at a revision.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other outcome is a bug and told as one")]
pub(crate) async fn rollback(
    State(app): State<Arc<App>>,
    path: Path<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    let (context, body) = Context::without_query(request)?;
    let (namespace, key) = place(path)?;
    app.authorize(&context, Verb::Write, &[Resource::Key(namespace.clone(), key.clone())])?;
    let (RollbackRequest { to_revision }, sent) = request::json(&context, body).await?;
    let rollback = RollbackConfig {
        namespace: namespace.clone(),
        key: key.clone(),
        to: Revision::new(to_revision),
        managed_by: context.managed_by()?,
        precondition: context.precondition()?,
        guard: context.guard()?,
    };
    let replay = context.replay_key(namespace.as_str(), &sent)?;
    let replays = replay.is_some();
    let same_body = |_| -> Bytes { sent.clone() };
    dispatch(&app, Call::same(&context, &same_body, replays), || async {
        let applied = app
            .raft
            .propose(Command::RollbackConfig(rollback.clone()), replay)
            .await
            .map_err(|failure| error::from_propose(failure, replays))?;
        match applied.outcome.map_err(error::from_rejection)? {
            Success::ConfigPut { create_revision, mod_revision, version } => {
                let answer = item::of_write(&key, create_revision, mod_revision, version);
                let mut response = respond::json(StatusCode::OK, &answer, applied.revision);
                response.headers_mut().insert(http::header::ETAG, etag(mod_revision));
                Ok(response)
            }
            other => Err(error::unexpected_outcome(&other)),
        }
    })
    .await
}
