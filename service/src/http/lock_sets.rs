//! Lock sets: several locks, all or none.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use holdfast_api::claims::EndedClaim;
use holdfast_api::lock_sets::{HeldSet, LockSetRequest, LockSetView, QueuedSet, SetLock};
use holdfast_api::path;
use holdfast_core::domain::{AcquireSet, ClaimRef, LockMode, LockSetState, Rejection};
use holdfast_core::{ClaimId, FencingToken, LockName, NamespaceName, SessionId, limits};
use http::StatusCode;

use crate::auth::{Resource, Verb};
use crate::http::App;
use crate::http::acquire::{self, Ask, Wanted, held_locks, queued_locks};
use crate::http::claims::{if_held, lock_mode, release, reserved};
use crate::http::error::{self, ApiError};
use crate::http::read::{self, ReadMode};
use crate::http::request::{self, Context, in_range, invalid_field, short_text};
use crate::http::respond;

fn place((namespace, claim): (String, String)) -> Result<(NamespaceName, ClaimId), ApiError> {
    Ok((request::namespace(namespace)?, ClaimId::new(claim)?))
}

/// The locks of a set, each once.
fn locks(sent: Vec<SetLock>) -> Result<BTreeMap<LockName, LockMode>, ApiError> {
    in_range("/locks", sent.len() as u64, 1, limits::LOCK_SET_MAX)?;
    let mut locks = BTreeMap::new();
    for (at, SetLock { name, mode, permits, of }) in sent.into_iter().enumerate() {
        let at = format!("/locks/{at}");
        let mode = lock_mode(mode.unwrap_or_default(), permits, of, &at)?;
        let name = LockName::new(name)?;
        if locks.insert(name, mode).is_some() {
            return Err(invalid_field(&format!("{at}/name"), "a set has each lock once"));
        }
    }
    Ok(locks)
}

/// `PUT …/lock-sets/{claim}`: take all locks, or learn what became of that.
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    Path(path): Path<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    let (context, body) = Context::without_query(request)?;
    let (namespace, claim) = place(path)?;
    if claim.is_reserved() {
        return Err(reserved("claim"));
    }
    let (sent, _) = request::json::<LockSetRequest>(&context, body).await?;
    let LockSetRequest { session, locks: named, wait_ms, keep_waiting, label } = sent.clone();
    let acquire = AcquireSet {
        namespace,
        claim,
        session: SessionId::new(session)?,
        locks: locks(named)?,
        if_held: if_held(wait_ms, keep_waiting)?,
        label: short_text("/label", label.unwrap_or_default(), limits::LABEL_BYTES_MAX)?,
    };
    let set = ClaimRef::lock_set(acquire.namespace.clone(), acquire.claim.clone());
    let touched: Vec<_> = acquire.locks.keys().map(|lock| Resource::Claim(set.of_lock(lock))).collect();
    app.authorize(&context, Verb::Write, &touched)?;
    let target = path::lock_set(acquire.namespace.as_str(), acquire.claim.as_str());
    let again = move |wait_ms| {
        let request = LockSetRequest { wait_ms, ..sent.clone() };
        serde_json::to_vec(&request).expect("a request for a set holds only plain data").into()
    };
    let ask = Ask::new(Wanted::Set(acquire), wait_ms, keep_waiting, Box::new(again));
    acquire::acquire(&app, &context, target, &ask).await
}

/// `GET …/lock-sets/{claim}`: the truth after a lost answer.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    Path(path): Path<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    let (context, _) = Context::split(request);
    let (namespace, claim) = place(path)?;
    let set = ClaimRef::lock_set(namespace.clone(), claim.clone());
    app.authorize(&context, Verb::Read, &[Resource::Claim(set)])?;
    let mode = ReadMode::of(&context)?;
    read::read(&app, &context, mode, |view| {
        if view.namespace(&namespace)?.is_none() {
            return Ok(Err(error::from_rejection(Rejection::NamespaceNotFound)));
        }
        let Some(state) = view.lock_set(&namespace, &claim)? else {
            return Ok(Err(error::from_rejection(Rejection::ClaimNotFound)));
        };
        let claim = claim.as_str().to_owned();
        let labelled = |label: String| Some(label).filter(|label| !label.is_empty());
        let answer = match state {
            LockSetState::Held { session, label, tokens, .. } => LockSetView::Held(HeldSet {
                claim,
                locks: held_locks(&tokens),
                revision: tokens.values().max().copied().map_or(0, FencingToken::as_u64),
                remaining_ms: app.leases.remaining_ms(&session),
                session: session.as_str().to_owned(),
                label: labelled(label),
            }),
            LockSetState::Queued { session, label, positions, .. } => LockSetView::Queued(QueuedSet {
                claim,
                session: session.as_str().to_owned(),
                locks: queued_locks(&positions),
                label: labelled(label),
            }),
            LockSetState::Ended { reason } => LockSetView::ended(EndedClaim {
                claim,
                reason: error::end_reason(reason),
                fencing_token: None,
            }),
        };
        Ok(Ok(respond::json(StatusCode::OK, &answer, view.meta()?.revision)))
    })
    .await
}

/// `DELETE …/lock-sets/{claim}`: release all locks, or leave all queues.
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Path(path): Path<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    let (context, _) = Context::without_query(request)?;
    let (namespace, claim) = place(path)?;
    let set = ClaimRef::lock_set(namespace, claim);
    app.authorize(&context, Verb::Write, &[Resource::Claim(set.clone())])?;
    release(&app, &context, &set).await
}
