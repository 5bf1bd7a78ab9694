//! Namespaces: created explicitly, deleted when empty.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use holdfast_api::namespaces::{NamespaceList, NamespaceView};
use holdfast_core::NamespaceName;
use holdfast_core::domain::{self, Command, Rejection, Success};
use http::StatusCode;

use crate::auth::{Resource, Verb};
use crate::http::App;
use crate::http::dispatch::{Call, dispatch};
use crate::http::error::{self, ApiError};
use crate::http::read::{self, Cursor, Page, ReadMode};
use crate::http::request::{self, Context};
use crate::http::respond;

/// `PUT /v1/namespaces/{ns}`: create, or find it there.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other outcome is a bug and told as one")]
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let name = request::namespace(name)?;
    let command = Command::CreateNamespace { name: name.clone() };
    change(&app, request, name.clone(), command, |success, revision| match success {
        Success::Namespace { create_revision, created } => {
            let status = if created { StatusCode::CREATED } else { StatusCode::OK };
            let answer =
                NamespaceView { name: name.as_str().to_owned(), create_revision: create_revision.as_u64() };
            respond::json(status, &answer, revision)
        }
        other => error::unexpected_outcome(&other).into_response(),
    })
    .await
}

/// `DELETE /v1/namespaces/{ns}`: delete an empty one.
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let name = request::namespace(name)?;
    let command = Command::DeleteNamespace { name: name.clone() };
    change(&app, request, name, command, |_, revision| respond::no_content(revision)).await
}

async fn change(
    app: &App,
    request: Request,
    name: NamespaceName,
    command: Command,
    answer: impl Fn(Success, holdfast_core::Revision) -> Response,
) -> Result<Response, ApiError> {
    let (context, body) = Context::without_query(request)?;
    request::json::<NoFields>(&context, body).await?;
    app.authorize(&context, Verb::Write, &[Resource::Namespace(Some(name.clone()))])?;
    let replay = context.replay_key(name.as_str(), b"")?;
    let no_body = |_| Bytes::new();
    let replays = replay.is_some();
    dispatch(app, Call::same(&context, &no_body, replays), || async {
        let applied = app
            .raft
            .propose(command.clone(), replay)
            .await
            .map_err(|failure| error::from_propose(failure, replays))?;
        Ok(answer(applied.outcome.map_err(error::from_rejection)?, applied.revision))
    })
    .await
}

/// A body without fields.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NoFields {}

fn view(namespace: domain::NamespaceView) -> NamespaceView {
    NamespaceView {
        name: namespace.name.as_str().to_owned(),
        create_revision: namespace.create_revision.as_u64(),
    }
}

/// `GET /v1/namespaces/{ns}`.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let (context, _) = Context::split(request);
    let name = request::namespace(name)?;
    app.authorize(&context, Verb::Read, &[Resource::Namespace(Some(name.clone()))])?;
    read::read(&app, &context, ReadMode::of(&context)?, |store| {
        let revision = store.meta()?.revision;
        Ok(match store.namespace(&name)? {
            Some(namespace) => Ok(respond::json(StatusCode::OK, &view(namespace), revision)),
            None => Err(error::from_rejection(Rejection::NamespaceNotFound)),
        })
    })
    .await
}

/// `GET /v1/namespaces`.
pub(crate) async fn list(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let (context, _) = Context::split(request);
    app.authorize(&context, Verb::Read, &[Resource::Namespace(None)])?;
    let page = Page::of(&context)?;
    let after = page.after.as_ref().map(|cursor| NamespaceName::new(cursor.after.clone())).transpose()?;
    read::read(&app, &context, page.mode, |store| {
        let revision = store.meta()?.revision;
        let found = store.namespaces(after.as_ref(), page.limit)?;
        let items = found.items.into_iter().filter(|found| found.name.as_str().starts_with(&page.prefix));
        let next = found.next.map(|last| Cursor { revision, after: last.as_str().to_owned() }.to_text());
        let answer = NamespaceList {
            items: items.map(view).collect(),
            revision: revision.as_u64(),
            next_cursor: next,
        };
        Ok(Ok(respond::json(StatusCode::OK, &answer, revision)))
    })
    .await
}
