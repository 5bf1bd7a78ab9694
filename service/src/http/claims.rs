//! Claims: take a lock, wait for it, look, let go. Candidates of elections are claims of another kind of name.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::{MethodRouter, post, put};
use bytes::Bytes;
use holdfast_api::claims::{
    ClaimMode, ClaimRequest, ClaimView, ContestKind, EndedClaim, HeldClaim, QueuedClaim,
};
use holdfast_api::{ErrorCode, path};
use holdfast_core::domain::{
    Acquire, ClaimOwner, ClaimRef, ClaimState, Command, IfHeld, LockMode, Rejection, Success,
};
use holdfast_core::{ClaimId, FencingToken, RESERVED_ID_PREFIX, SessionId, limits};
use http::StatusCode;

use crate::auth::{Resource, Verb};
use crate::http::App;
use crate::http::acquire::{self, Ask, Wanted};
use crate::http::contest::{claim_ref, kind_and_name, lock_ref};
use crate::http::dispatch::{Call, dispatch};
use crate::http::error::{self, ApiError};
use crate::http::read::{self, ReadMode};
use crate::http::request::{self, Context, in_range, invalid_field, short_text};
use crate::http::respond;

/// Namespace, lock or election, and claim of a path.
type ClaimPath = Path<(String, String, String)>;

/// The route of all claims of a lock, or of all candidates of an election.
pub(crate) fn all(kind: ContestKind) -> MethodRouter<Arc<App>> {
    post(move |app, path, request| create(kind, app, path, request))
}

/// The route of one claim of a lock, or of one candidate of an election.
pub(crate) fn one(kind: ContestKind) -> MethodRouter<Arc<App>> {
    put(move |app, path, request| take(kind, app, path, request))
        .get(move |app, path, request| get(kind, app, path, request))
        .delete(move |app, path, request| delete(kind, app, path, request))
}

/// `PUT …/claims/{claim}`: take the lock, or learn what became of that.
async fn take(
    kind: ContestKind,
    State(app): State<Arc<App>>,
    Path(path): ClaimPath,
    request: Request,
) -> Result<Response, ApiError> {
    let (context, body) = Context::without_query(request)?;
    let claim = claim_ref(kind, path)?;
    if claim.claim.is_reserved() {
        return Err(reserved("claim"));
    }
    acquire(&app, &context, claim, body).await
}

/// `POST …/claims`: the same with an id that this node chooses before it sends the request on.
async fn create(
    kind: ContestKind,
    State(app): State<Arc<App>>,
    Path((namespace, name)): Path<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    let (context, body) = Context::without_query(request)?;
    let claim = ClaimId::new(context.chosen_id()?)?;
    let claim = ClaimRef { lock: lock_ref(kind, namespace, name)?, claim };
    let location = claim_path(&claim);
    let keyed = context.idempotency_key()?.is_some();
    let answer = acquire(&app, &context, claim, body).await;
    // The id comes from the key, so another body under the same id is another request under the same key.
    let reused = keyed.then_some(ErrorCode::ClaimConflict);
    respond::created_at(answer, &location, reused).await
}

fn claim_path(claim: &ClaimRef) -> String {
    let (kind, name) = kind_and_name(&claim.lock.lock);
    path::contest_claim(kind, claim.lock.namespace.as_str(), name, claim.claim.as_str())
}

pub(super) fn reserved(what: &str) -> ApiError {
    ApiError::new(
        ErrorCode::InvalidName,
        format!("{what} ids that begin with {RESERVED_ID_PREFIX} are given out by the server only"),
    )
}

/// The claim that a request asks for.
fn wanted(claim: ClaimRef, sent: &ClaimRequest) -> Result<Acquire, ApiError> {
    let ClaimRequest { session, ttl_ms, mode, permits, of, wait_ms, keep_waiting, label } = sent.clone();
    let owner = match (session, ttl_ms) {
        (Some(session), None) => ClaimOwner::Session(SessionId::new(session)?),
        (None, Some(ttl_ms)) => ClaimOwner::OwnSession {
            ttl_ms: in_range("/ttl_ms", ttl_ms, limits::TTL_MS_MIN, limits::TTL_MS_MAX)?,
        },
        (None, None) => {
            return Err(invalid_field(
                "/session",
                "a claim names its session, or a ttl_ms for one of its own",
            ));
        }
        (Some(_), Some(_)) => {
            return Err(invalid_field("/ttl_ms", "a claim names a session or a ttl_ms, not both"));
        }
    };
    let mode = lock_mode(mode.unwrap_or_default(), permits, of, "")?;
    if mode != LockMode::Exclusive && claim.lock.lock.as_election().is_some() {
        return Err(invalid_field("/mode", "one leads an election, so candidates are exclusive"));
    }
    let if_held = if_held(wait_ms, keep_waiting)?;
    let label = short_text("/label", label.unwrap_or_default(), limits::LABEL_BYTES_MAX)?;
    Ok(Acquire { claim, owner, mode, if_held, label })
}

/// The mode of a claim, or of the part of a set that `at` points to.
pub(super) fn lock_mode(
    mode: ClaimMode,
    permits: Option<u32>,
    of: Option<u32>,
    at: &str,
) -> Result<LockMode, ApiError> {
    let plain = match mode {
        ClaimMode::Exclusive => LockMode::Exclusive,
        ClaimMode::Shared => LockMode::Shared,
        ClaimMode::Permits => {
            let missing =
                || invalid_field(&format!("{at}/of"), "mode permits needs the number that there are");
            let in_u32 = |field: &str, value: u32, max: u64| {
                let value = in_range(&format!("{at}/{field}"), u64::from(value), 1, max)?;
                Ok::<u32, ApiError>(u32::try_from(value).unwrap_or(u32::MAX))
            };
            let of = in_u32("of", of.ok_or_else(missing)?, limits::PERMITS_MAX)?;
            let permits = in_u32("permits", permits.unwrap_or(1), u64::from(of))?;
            return Ok(LockMode::Permits { permits, of });
        }
    };
    // One permit is what every claim takes unless it says otherwise.
    for (field, value) in [("permits", permits.filter(|permits| *permits != 1)), ("of", of)] {
        if value.is_some() {
            let why = format!("a claim of mode {mode} has no permits; ask for mode permits");
            return Err(invalid_field(&format!("{at}/{field}"), why));
        }
    }
    Ok(plain)
}

/// What happens when a lock is not free.
pub(super) fn if_held(wait_ms: u64, keep_waiting: bool) -> Result<IfHeld, ApiError> {
    let wait_ms = in_range("/wait_ms", wait_ms, 0, limits::WAIT_MS_MAX)?;
    let tries = wait_ms == 0 && !keep_waiting;
    Ok(if tries { IfHeld::Refuse } else { IfHeld::Queue { wait_ms, keep_waiting } })
}

async fn acquire(app: &App, context: &Context, claim: ClaimRef, body: Body) -> Result<Response, ApiError> {
    app.authorize(context, Verb::Write, &[Resource::Claim(claim.clone())])?;
    let (sent, _) = request::json::<ClaimRequest>(context, body).await?;
    let target = claim_path(&claim);
    let acquire = wanted(claim, &sent)?;
    let (wait_ms, keep_waiting) = (sent.wait_ms, sent.keep_waiting);
    let again = move |wait_ms| {
        let request = ClaimRequest { wait_ms, ..sent.clone() };
        serde_json::to_vec(&request).expect("a claim request holds only plain data").into()
    };
    let ask = Ask::new(Wanted::Claim(acquire), wait_ms, keep_waiting, Box::new(again));
    acquire::acquire(app, context, target, &ask).await
}

/// `GET …/claims/{claim}`: the truth after a lost answer.
async fn get(
    kind: ContestKind,
    State(app): State<Arc<App>>,
    Path(path): ClaimPath,
    request: Request,
) -> Result<Response, ApiError> {
    let (context, _) = Context::split(request);
    let claim = claim_ref(kind, path)?;
    app.authorize(&context, Verb::Read, &[Resource::Claim(claim.clone())])?;
    let mode = ReadMode::of(&context)?;
    read::read(&app, &context, mode, |view| {
        let Some(_) = view.namespace(&claim.lock.namespace)? else {
            return Ok(Err(error::from_rejection(Rejection::NamespaceNotFound)));
        };
        let Some(state) = view.claim(&claim)? else {
            return Ok(Err(error::from_rejection(Rejection::ClaimNotFound)));
        };
        let claim = claim.claim.as_str().to_owned();
        let answer = match state {
            ClaimState::Held { token, session, label, .. } => ClaimView::Held(HeldClaim {
                claim,
                fencing_token: token.as_u64(),
                revision: token.revision().as_u64(),
                remaining_ms: app.leases.remaining_ms(&session),
                session: session.as_str().to_owned(),
                label: Some(label).filter(|label| !label.is_empty()),
            }),
            ClaimState::Queued { session, position, holders, label, .. } => ClaimView::Queued(QueuedClaim {
                claim,
                session: session.as_str().to_owned(),
                position: position + 1,
                holders: holders.iter().map(error::holder_view).collect(),
                label: Some(label).filter(|label| !label.is_empty()),
            }),
            ClaimState::Ended { reason, token, .. } => ClaimView::ended(EndedClaim {
                claim,
                reason: error::end_reason(reason),
                fencing_token: token.map(FencingToken::as_u64),
            }),
        };
        Ok(Ok(respond::json(StatusCode::OK, &answer, view.meta()?.revision)))
    })
    .await
}

/// `DELETE …/claims/{claim}`: release, or leave the queue.
async fn delete(
    kind: ContestKind,
    State(app): State<Arc<App>>,
    Path(path): ClaimPath,
    request: Request,
) -> Result<Response, ApiError> {
    let (context, _) = Context::without_query(request)?;
    let claim = claim_ref(kind, path)?;
    app.authorize(&context, Verb::Write, &[Resource::Claim(claim.clone())])?;
    release(&app, &context, &claim).await
}

/// Ends a claim, or a set as a whole.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other outcome is a bug and told as one")]
pub(super) async fn release(app: &App, context: &Context, claim: &ClaimRef) -> Result<Response, ApiError> {
    let no_body = |_| Bytes::new();
    dispatch(app, Call::same(context, &no_body, true), || async {
        let applied = app
            .raft
            .propose(Command::Release { claim: claim.clone() }, None)
            .await
            .map_err(|failure| error::from_propose(failure, true))?;
        match applied.outcome.map_err(error::from_rejection)? {
            Success::Released => Ok(respond::no_content(applied.revision)),
            other => Err(error::unexpected_outcome(&other)),
        }
    })
    .await
}
