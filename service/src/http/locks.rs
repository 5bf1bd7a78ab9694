//! Locks and elections as seen from outside: who holds, who waits, and the administrator's way to end a claim.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use holdfast_api::claims::ContestKind;
use holdfast_api::locks::{
    ForceReleaseRequest, ForceReleaseView, LockList, LockView, QUEUE_SHOWN_IN_LIST_MAX, QueuedView,
};
use holdfast_core::domain::{self, Command, Fault, LockKind, LockRef, Rejection, Success, Tables, View};
use holdfast_core::{FencingToken, LockName, Revision, limits};
use http::StatusCode;
use serde::Serialize;

use crate::auth::{Resource, Verb};
use crate::http::App;
use crate::http::contest::{kind_and_name, lock_ref, share};
use crate::http::dispatch::{Call, dispatch};
use crate::http::error::{self, ApiError};
use crate::http::read::{self, Cursor, Page, ReadMode};
use crate::http::request::{self, Context, short_text};
use crate::http::respond;
use crate::raft::StateReader;

/// Waiters shown with one lock.
pub(crate) const QUEUE_SHOWN_MAX: usize = limits::PAGE_ROWS_MAX;

/// A lock, or an election as one.
pub(crate) fn view(
    store: &View<'_, impl Tables>,
    lock: &LockRef,
    queue_max: usize,
) -> Result<LockView, Fault> {
    let found = store.lock(lock, queue_max)?;
    let queue = found.queue.into_iter().zip(1..).map(|(waiter, position)| QueuedView {
        claim: waiter.claim.as_str().to_owned(),
        session: waiter.session.as_str().to_owned(),
        label: Some(waiter.label).filter(|label| !label.is_empty()),
        mode: share(waiter.mode).0,
        permits: share(waiter.mode).1,
        position,
        waiting_ms: waiter.waited_ms,
    });
    Ok(LockView {
        namespace: lock.namespace.as_str().to_owned(),
        name: kind_and_name(&lock.lock).1.to_owned(),
        mode: found.mode.map(|mode| share(mode).0),
        permits: found.mode.and_then(|mode| share(mode).1),
        of: found.mode.and_then(|mode| match mode.kind() {
            LockKind::Permits { of } => Some(of),
            LockKind::Exclusion => None,
        }),
        holders: found.holders.iter().map(error::holder_view).collect(),
        queue: queue.collect(),
        last_token: found.last_token.as_u64(),
        delay_remaining_ms: Some(found.delay_remaining_ms).filter(|ms| *ms != 0),
    })
}

/// `GET …/locks/{name}`.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    Path((namespace, name)): Path<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    let lock = lock_ref(ContestKind::Lock, namespace, name)?;
    show(&app, request, lock, |store, lock| view(store, lock, QUEUE_SHOWN_MAX)).await
}

/// Answers a read of a lock, or of an election as one.
pub(super) async fn show<V: Serialize>(
    app: &App,
    request: Request,
    lock: LockRef,
    shown: impl Fn(&View<'_, StateReader<'_>>, &LockRef) -> Result<V, Fault>,
) -> Result<Response, ApiError> {
    let (context, _) = Context::split(request);
    app.authorize(&context, Verb::Read, &[Resource::Lock(lock.clone())])?;
    read::read(app, &context, ReadMode::of(&context)?, |store| {
        let revision = store.meta()?.revision;
        if store.namespace(&lock.namespace)?.is_none() {
            return Ok(Err(error::from_rejection(Rejection::NamespaceNotFound)));
        }
        Ok(Ok(respond::json(StatusCode::OK, &shown(store, &lock)?, revision)))
    })
    .await
}

/// Whether locks can have this prefix. Elections are kept beside them, under names that no lock can have.
fn may_begin_a_name(prefix: &str) -> bool {
    prefix.chars().next().is_none_or(|first| first.is_ascii_alphanumeric())
}

/// `GET …/locks`: locks that are used or were recently.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Path(namespace): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let (context, _) = Context::split(request);
    let namespace = request::namespace(namespace)?;
    let page = Page::of(&context)?;
    app.authorize(&context, Verb::Read, &[Resource::Locks(namespace.clone(), page.prefix.clone())])?;
    let after = page.after.as_ref().map(|cursor| LockName::new(cursor.after.clone())).transpose()?;
    read::read(&app, &context, page.mode, |store| {
        let revision = store.meta()?.revision;
        if store.namespace(&namespace)?.is_none() {
            return Ok(Err(error::from_rejection(Rejection::NamespaceNotFound)));
        }
        let found = if may_begin_a_name(&page.prefix) {
            store.locks(&namespace, &page.prefix, after.as_ref(), page.limit)?
        } else {
            domain::Page { items: Vec::new(), next: None }
        };
        let lock = |name: LockName| LockRef { namespace: namespace.clone(), lock: name };
        let items =
            found.items.into_iter().map(|found| view(store, &lock(found.lock), QUEUE_SHOWN_IN_LIST_MAX));
        let items = items.collect::<Result<Vec<_>, Fault>>()?;
        let next = found.next.map(|last| Cursor { revision, after: last.as_str().to_owned() }.to_text());
        let answer = LockList { items, revision: revision.as_u64(), next_cursor: next };
        Ok(Ok(respond::json(StatusCode::OK, &answer, revision)))
    })
    .await
}

/// `POST …/locks/{name}/force-release`.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other outcome is a bug and told as one")]
pub(crate) async fn force_release(
    State(app): State<Arc<App>>,
    Path((namespace, lock)): Path<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    let (context, body) = Context::without_query(request)?;
    let lock = lock_ref(ContestKind::Lock, namespace, lock)?;
    app.authorize(&context, Verb::Administer, &[Resource::Lock(lock.clone())])?;
    let (ForceReleaseRequest { fencing_token, reason }, sent) = request::json(&context, body).await?;
    let reason = short_text("/reason", reason, limits::REASON_BYTES_MAX)?;
    let token = FencingToken::of_grant(Revision::new(fencing_token));
    let replay = context.replay_key(lock.namespace.as_str(), &sent)?;
    let replays = replay.is_some();
    let same_body = |_| -> Bytes { sent.clone() };
    dispatch(&app, Call::same(&context, &same_body, replays), || async {
        let command = Command::ForceRelease { lock: lock.clone(), token, reason: reason.clone() };
        let applied = app
            .raft
            .propose(command, replay)
            .await
            .map_err(|failure| error::from_propose(failure, replays))?;
        match applied.outcome.map_err(error::from_rejection)? {
            Success::ForceReleased { claim, session, revision } => {
                tracing::info!(token = fencing_token, reason, "a claim was ended by force");
                let answer = ForceReleaseView {
                    claim: claim.claim.as_str().to_owned(),
                    session: session.as_str().to_owned(),
                    fencing_token,
                    revision: revision.as_u64(),
                };
                Ok(respond::json(StatusCode::OK, &answer, applied.revision))
            }
            other => Err(error::unexpected_outcome(&other)),
        }
    })
    .await
}
