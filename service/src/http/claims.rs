//! Claims: take a lock, wait for it, look, let go. Candidates of elections are claims of another kind of name.

use std::sync::Arc;
use std::time::Duration;

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
    Acquire, ClaimOwner, ClaimRef, ClaimState, Command, EndReason, Holder, IfHeld, LockMode, Rejection,
    Success, WaitRef,
};
use holdfast_core::{ClaimId, FencingToken, RESERVED_ID_PREFIX, Revision, SessionId, limits};
use http::{Method, StatusCode};
use tokio::time::Instant;

use crate::auth::{Resource, Verb};
use crate::http::App;
use crate::http::contest::{claim_ref, kind_and_name, lock_ref};
use crate::http::dispatch::{Call, dispatch};
use crate::http::error::{self, ApiError};
use crate::http::read::{self, ReadMode};
use crate::http::request::{self, Context, in_range, invalid_field, short_text};
use crate::http::respond;
use crate::leases::OpenWait;

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

fn reserved(what: &str) -> ApiError {
    ApiError::new(
        ErrorCode::InvalidName,
        format!("{what} ids that begin with {RESERVED_ID_PREFIX} are given out by the server only"),
    )
}

/// A validated claim request.
struct Ask {
    acquire: Acquire,
    /// What the client sent, for the leader.
    sent: ClaimRequest,
    until: Instant,
    keep_waiting: bool,
}

impl Ask {
    fn validate(claim: ClaimRef, sent: ClaimRequest) -> Result<Self, ApiError> {
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
        match mode.unwrap_or_default() {
            ClaimMode::Exclusive => {}
            other @ (ClaimMode::Shared | ClaimMode::Permits) => {
                return Err(invalid_field(
                    "/mode",
                    format!("this version takes locks exclusively only, not {other}"),
                ));
            }
        }
        if permits.is_some_and(|permits| permits != 1) {
            return Err(invalid_field("/permits", "an exclusive claim has no permits"));
        }
        if of.is_some() {
            return Err(invalid_field("/of", "an exclusive lock has no permits"));
        }
        let wait_ms = in_range("/wait_ms", wait_ms, 0, limits::WAIT_MS_MAX)?;
        let label = short_text("/label", label.unwrap_or_default(), limits::LABEL_BYTES_MAX)?;
        let if_held = if wait_ms == 0 && !keep_waiting {
            IfHeld::Refuse
        } else {
            IfHeld::Queue { wait_ms, keep_waiting }
        };
        let acquire = Acquire { claim, owner, mode: LockMode::Exclusive, if_held, label };
        Ok(Self { acquire, sent, until: Instant::now() + Duration::from_millis(wait_ms), keep_waiting })
    }

    /// The request as it stands at an instant: a repeated one waits for what is left only.
    fn body(&self, now: Instant) -> Bytes {
        let left_ms =
            u64::try_from(self.until.saturating_duration_since(now).as_millis()).unwrap_or(u64::MAX);
        // A wait that is over still asks as a wait: as a try it could be refused although its claim is queued.
        let wait_ms = if self.sent.wait_ms == 0 { 0 } else { left_ms.max(1) };
        let request = ClaimRequest { wait_ms, ..self.sent.clone() };
        serde_json::to_vec(&request).expect("a claim request holds only plain data").into()
    }
}

async fn acquire(app: &App, context: &Context, claim: ClaimRef, body: Body) -> Result<Response, ApiError> {
    app.authorize(context, Verb::Write, &[Resource::Claim(claim.clone())])?;
    let (sent, _) = request::json::<ClaimRequest>(context, body).await?;
    let ask = Ask::validate(claim, sent)?;
    let attempt_body = |now: Instant| ask.body(now);
    let call = Call {
        context,
        method: Method::PUT,
        target: claim_path(&ask.acquire.claim),
        body: &attempt_body,
        wait: Duration::from_millis(ask.sent.wait_ms),
        replays: true,
    };
    dispatch(app, call, || serve(app, &ask)).await
}

/// Carries the claim out on the leader.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other outcome is a bug and told as one")]
async fn serve(app: &App, ask: &Ask) -> Result<Response, ApiError> {
    let received_at_ms = app.leases.now_ms();
    let waiter = app.waits.register(ask.acquire.claim.clone());
    let applied = app
        .raft
        .propose(Command::Acquire(ask.acquire.clone()), None)
        .await
        .map_err(|failure| error::from_propose(failure, true))?;
    match applied.outcome.map_err(error::from_rejection)? {
        Success::Held { token, session, granted } => {
            let status = if granted { StatusCode::CREATED } else { StatusCode::OK };
            if !granted && matches!(ask.acquire.owner, ClaimOwner::OwnSession { .. }) {
                // A client counts its lease from when it sent an unwaited PUT, a repeated one too: so it renews.
                app.renew(&session, received_at_ms).await?;
            }
            Ok(held(app, ask, status, token, &session, applied.revision))
        }
        Success::Queued { enqueued, session, position, holders, queued: _ } => {
            let queued = Queued { enqueued, session, position, holders };
            if ask.sent.wait_ms == 0 {
                return Ok(still_queued(ask, &queued, applied.revision));
            }
            let wait = WaitRef { claim: ask.acquire.claim.clone(), enqueued };
            let open = app.leases.open_wait(&app.raft, wait, applied.revision).await;
            let wait = open.map_err(|_| {
                error::outcome_unknown("another node leads now; the claim keeps its place", true)
            })?;
            wait_for_grant(app, ask, &queued, &waiter, &wait).await
        }
        other => Err(error::unexpected_outcome(&other)),
    }
}

/// A claim in its queue.
struct Queued {
    enqueued: Revision,
    session: SessionId,
    position: u64,
    holders: Vec<Holder>,
}

/// Holds the request until the claim is granted or ends, the time is over, or this node no longer leads.
async fn wait_for_grant(
    app: &App,
    ask: &Ask,
    queued: &Queued,
    waiter: &crate::waits::Waiter,
    wait: &OpenWait,
) -> Result<Response, ApiError> {
    let mut status = app.raft.watch_status();
    let leadership = status.borrow_and_update().leading;
    let renews = matches!(ask.acquire.owner, ClaimOwner::OwnSession { .. });
    let mut renewal = tokio::time::interval(renewal_period(&ask.acquire.owner));
    loop {
        tokio::select! {
            () = waiter.changed() => {
                if let Some(answer) = look(app, ask)? {
                    return Ok(answer);
                }
            }
            () = tokio::time::sleep_until(ask.until) => return time_is_over(app, ask, queued).await,
            // Only the session that the claim made itself: an explicit one lives by its client's keepalives.
            _ = renewal.tick(), if renews => wait.renew(&queued.session),
            // The guard of the status must not outlive the look: other arms wait.
            () = async { drop(status.wait_for(|now| now.leading != leadership).await) } => {
                return Err(error::outcome_unknown("another node leads now; the claim keeps its place", true));
            }
            () = app.drain.closing() => {
                return Err(error::outcome_unknown("this node is shutting down; the claim keeps its place", true));
            }
        }
    }
}

fn renewal_period(owner: &ClaimOwner) -> Duration {
    let ttl_ms = match owner {
        ClaimOwner::OwnSession { ttl_ms } => *ttl_ms,
        ClaimOwner::Session(_) => limits::TTL_MS_MAX,
    };
    Duration::from_millis(ttl_ms / 3)
}

/// The answer that the state gives to a waiting claim, if it has one.
fn look(app: &App, ask: &Ask) -> Result<Option<Response>, ApiError> {
    let claim = &ask.acquire.claim;
    let (state, revision) =
        app.raft.look(|view| Ok((view.claim(claim)?, view.meta()?.revision))).map_err(error::from_read)?;
    Ok(match state {
        Some(ClaimState::Held { token, session, .. }) => {
            Some(held(app, ask, StatusCode::CREATED, token, &session, revision))
        }
        Some(ClaimState::Queued { .. }) => None,
        Some(ClaimState::Ended { reason, token, .. }) => return Err(ended(reason, token)),
        // Its tombstone went with its session.
        None => return Err(ended(EndReason::Expired, None)),
    })
}

/// The problem of a wait that ended without a grant.
fn ended(reason: EndReason, token: Option<FencingToken>) -> ApiError {
    match reason {
        EndReason::TimedOut => wait_timeout(),
        EndReason::Released
        | EndReason::Expired
        | EndReason::LeftQueue
        | EndReason::DeletedUnseen
        | EndReason::Forced => error::from_rejection(Rejection::ClaimEnded { reason, token }),
    }
}

fn wait_timeout() -> ApiError {
    ApiError::new(
        ErrorCode::WaitTimeout,
        "the lock was not granted within wait_ms; the claim has ended, its id is used up",
    )
}

/// Ends the wait by an entry, unless the claim stays in its queue.
async fn time_is_over(app: &App, ask: &Ask, queued: &Queued) -> Result<Response, ApiError> {
    if ask.keep_waiting {
        return match look(app, ask)? {
            Some(granted) => Ok(granted),
            None => {
                let (now_queued, revision) = where_queued(app, ask, queued)?;
                Ok(still_queued(ask, &now_queued, revision))
            }
        };
    }
    let wait = WaitRef { claim: ask.acquire.claim.clone(), enqueued: queued.enqueued };
    let applied =
        app.raft.propose(Command::CancelWait(wait), None).await.map_err(
            |failure| match error::from_propose(failure, true) {
                // The claim itself is queued, so a certain failure of its cancelling leaves the request open.
                failure if failure.code() == ErrorCode::OutcomeUnknown => failure,
                failure => error::outcome_unknown(failure.0.detail.clone(), true),
            },
        )?;
    match applied.outcome {
        Ok(Success::WaitTimedOut) => Err(wait_timeout()),
        Ok(Success::Held { token, session, .. }) => {
            Ok(held(app, ask, StatusCode::CREATED, token, &session, applied.revision))
        }
        Ok(other) => Err(error::unexpected_outcome(&other)),
        Err(Rejection::ClaimEnded { reason, token }) => Err(ended(reason, token)),
        Err(rejection) => Err(error::from_rejection(rejection)),
    }
}

fn where_queued(app: &App, ask: &Ask, before: &Queued) -> Result<(Queued, Revision), ApiError> {
    let claim = &ask.acquire.claim;
    let (state, revision) =
        app.raft.look(|view| Ok((view.claim(claim)?, view.meta()?.revision))).map_err(error::from_read)?;
    match state {
        Some(ClaimState::Queued { session, position, holders, .. }) => {
            Ok((Queued { enqueued: before.enqueued, session, position, holders }, revision))
        }
        Some(ClaimState::Held { .. } | ClaimState::Ended { .. }) | None => {
            Err(error::outcome_unknown("the claim changed while it was looked at", true))
        }
    }
}

fn held(
    app: &App,
    ask: &Ask,
    status: StatusCode,
    token: FencingToken,
    session: &SessionId,
    revision: Revision,
) -> Response {
    // The leader's deadlines follow the state a moment later than this answer: a session that was just made has it all.
    let fresh_ttl_ms = match ask.acquire.owner {
        ClaimOwner::OwnSession { ttl_ms } if status == StatusCode::CREATED => Some(ttl_ms),
        ClaimOwner::OwnSession { .. } | ClaimOwner::Session(_) => None,
    };
    let view = ClaimView::Held(HeldClaim {
        claim: ask.acquire.claim.claim.as_str().to_owned(),
        session: session.as_str().to_owned(),
        fencing_token: token.as_u64(),
        revision: token.revision().as_u64(),
        remaining_ms: app.leases.remaining_ms(session).or(fresh_ttl_ms),
        label: Some(ask.acquire.label.clone()).filter(|label| !label.is_empty()),
    });
    respond::json(status, &view, revision)
}

fn still_queued(ask: &Ask, queued: &Queued, revision: Revision) -> Response {
    let view = ClaimView::Queued(QueuedClaim {
        claim: ask.acquire.claim.claim.as_str().to_owned(),
        session: queued.session.as_str().to_owned(),
        // The first in the queue is 1.
        position: queued.position + 1,
        holders: queued.holders.iter().map(error::holder_view).collect(),
        label: Some(ask.acquire.label.clone()).filter(|label| !label.is_empty()),
    });
    respond::json(StatusCode::ACCEPTED, &view, revision)
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
#[expect(clippy::wildcard_enum_match_arm, reason = "every other outcome is a bug and told as one")]
async fn delete(
    kind: ContestKind,
    State(app): State<Arc<App>>,
    Path(path): ClaimPath,
    request: Request,
) -> Result<Response, ApiError> {
    let (context, _) = Context::without_query(request)?;
    let claim = claim_ref(kind, path)?;
    app.authorize(&context, Verb::Write, &[Resource::Claim(claim.clone())])?;
    let no_body = |_| Bytes::new();
    dispatch(&app, Call::same(&context, &no_body, true), || async {
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
