//! Elections: who leads, and what the leader publishes. Candidates are claims.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use holdfast_api::ErrorCode;
use holdfast_api::claims::ContestKind;
use holdfast_api::elections::{ElectionView, Published};
use holdfast_api::locks::LockView;
use holdfast_core::domain::{Command, ElectionValueView, Guard, Proclaim, Success};
use holdfast_core::limits;

use crate::auth::{Resource, Verb};
use crate::http::App;
use crate::http::contest::lock_ref;
use crate::http::dispatch::{Call, dispatch};
use crate::http::error::{self, ApiError};
use crate::http::locks::{self, QUEUE_SHOWN_MAX};
use crate::http::request::{self, Context, content_type, invalid_header};
use crate::http::respond;

/// `GET …/elections/{name}`.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    Path((namespace, name)): Path<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    let election = lock_ref(ContestKind::Election, namespace, name)?;
    locks::show(&app, request, election, |store, election| {
        let LockView { namespace, name, holders, queue, last_token, delay_remaining_ms, .. } =
            locks::view(store, election, QUEUE_SHOWN_MAX)?;
        // At most one claim holds an election.
        let leader = holders.into_iter().next();
        let published = store.election_value(election)?.map(published);
        Ok(ElectionView { namespace, name, leader, published, queue, last_token, delay_remaining_ms })
    })
    .await
}

fn published(value: ElectionValueView) -> Published {
    let ElectionValueView { token: _, value, content_type, revision } = value;
    Published { value: value.into(), content_type, revision: revision.as_u64() }
}

/// `PUT …/elections/{name}/value`: the leader publishes what others are to know of it.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other outcome is a bug and told as one")]
pub(crate) async fn proclaim(
    State(app): State<Arc<App>>,
    Path((namespace, name)): Path<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    let (context, body) = Context::split(request);
    let election = lock_ref(ContestKind::Election, namespace, name)?;
    app.authorize(&context, Verb::Write, &[Resource::Lock(election.clone())])?;
    let token = match context.guard()? {
        Some(Guard { lock, token }) if lock == election.lock => token,
        Some(_) => {
            let why = "it names another lock or election than the one that gets the value";
            return Err(invalid_header(holdfast_api::header::GUARD, why));
        }
        None => {
            let why = "only the leader publishes: send its token as `Holdfast-Guard: election=NAME; token=N`";
            return Err(ApiError::new(ErrorCode::StaleToken, why));
        }
    };
    let value = request::body(&context, body, limits::ELECTION_VALUE_BYTES_MAX).await?;
    let content_type = content_type(&context)?;
    let proclaim = Proclaim { election, token, value: value.clone(), content_type };
    let replay = context.replay_key(proclaim.election.namespace.as_str(), &value)?;
    let replays = replay.is_some();
    let same_body = |_| value.clone();
    dispatch(&app, Call::same(&context, &same_body, replays), || async {
        let applied = app
            .raft
            .propose(Command::Proclaim(proclaim.clone()), replay)
            .await
            .map_err(|failure| error::from_propose(failure, replays))?;
        match applied.outcome.map_err(error::from_rejection)? {
            Success::Proclaimed { .. } => Ok(respond::no_content(applied.revision)),
            other => Err(error::unexpected_outcome(&other)),
        }
    })
    .await
}
