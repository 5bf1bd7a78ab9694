//! Taking locks and waiting for them: what a claim of one lock and a lock set have in common.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::response::Response;
use bytes::Bytes;
use holdfast_api::ErrorCode;
use holdfast_api::claims::{ClaimView, HeldClaim, QueuedClaim};
use holdfast_api::lock_sets::{HeldLock, HeldSet, LockSetView, QueuedLock, QueuedSet};
use holdfast_core::domain::{
    Acquire, AcquireSet, ClaimOwner, ClaimRef, ClaimState, Command, EndReason, Fault, Holder, LockSetState,
    Rejection, Success, Tables, View, WaitRef,
};
use holdfast_core::{FencingToken, LockName, Revision, SessionId, limits};
use http::{Method, StatusCode};
use tokio::time::Instant;

use crate::http::App;
use crate::http::dispatch::{Call, dispatch};
use crate::http::error::{self, ApiError};
use crate::http::request::Context;
use crate::http::respond;
use crate::leases::OpenWait;

/// What a request takes.
#[derive(Debug, Clone)]
pub(super) enum Wanted {
    /// One lock.
    Claim(Acquire),
    /// Several.
    Set(AcquireSet),
}

impl Wanted {
    /// The claim that waits; that of the set as a whole.
    fn claim(&self) -> ClaimRef {
        match self {
            Self::Claim(acquire) => acquire.claim.clone(),
            Self::Set(acquire) => ClaimRef::lock_set(acquire.namespace.clone(), acquire.claim.clone()),
        }
    }

    fn command(&self) -> Command {
        match self {
            Self::Claim(acquire) => Command::Acquire(acquire.clone()),
            Self::Set(acquire) => Command::AcquireSet(acquire.clone()),
        }
    }

    /// The time to live of the session that it makes, if it makes one.
    const fn own_ttl_ms(&self) -> Option<u64> {
        match self {
            Self::Claim(Acquire { owner: ClaimOwner::OwnSession { ttl_ms }, .. }) => Some(*ttl_ms),
            Self::Claim(_) | Self::Set(_) => None,
        }
    }

    fn label(&self) -> Option<String> {
        let (Self::Claim(Acquire { label, .. }) | Self::Set(AcquireSet { label, .. })) = self;
        Some(label.clone()).filter(|label| !label.is_empty())
    }

    /// Where it stands now, on this node.
    fn look(&self, view: &View<'_, impl Tables>) -> Result<Stand, Fault> {
        // The tombstone of what is not there went with its session.
        let gone = Stand::Ended { reason: EndReason::Expired, token: None };
        Ok(match self {
            Self::Claim(acquire) => match view.claim(&acquire.claim)? {
                Some(ClaimState::Held { token, session, .. }) => {
                    Stand::Held { session, tokens: Tokens::One(token) }
                }
                Some(ClaimState::Queued { session, enqueued, position, holders, .. }) => {
                    Stand::Queued(Queued { session, enqueued, places: Places::One { position, holders } })
                }
                Some(ClaimState::Ended { reason, token, .. }) => Stand::Ended { reason, token },
                None => gone,
            },
            Self::Set(acquire) => match view.lock_set(&acquire.namespace, &acquire.claim)? {
                Some(LockSetState::Held { session, tokens, .. }) => {
                    Stand::Held { session, tokens: Tokens::Each(tokens) }
                }
                Some(LockSetState::Queued { session, enqueued, positions, .. }) => {
                    Stand::Queued(Queued { session, enqueued, places: Places::Each(positions) })
                }
                Some(LockSetState::Ended { reason }) => Stand::Ended { reason, token: None },
                None => gone,
            },
        })
    }
}

/// Where what a request takes stands.
enum Stand {
    Held { session: SessionId, tokens: Tokens },
    Queued(Queued),
    Ended { reason: EndReason, token: Option<FencingToken> },
}

enum Tokens {
    One(FencingToken),
    Each(BTreeMap<LockName, FencingToken>),
}

/// A place in a queue, or in several.
struct Queued {
    enqueued: Revision,
    session: SessionId,
    places: Places,
}

enum Places {
    One { position: u64, holders: Vec<Holder> },
    Each(BTreeMap<LockName, u64>),
}

/// A validated request for locks.
pub(super) struct Ask {
    wanted: Wanted,
    wait_ms: u64,
    until: Instant,
    keep_waiting: bool,
    /// What the client sent, with another `wait_ms`, for the leader.
    again: Box<dyn Fn(u64) -> Bytes + Send + Sync>,
}

impl Ask {
    pub(super) fn new(
        wanted: Wanted,
        wait_ms: u64,
        keep_waiting: bool,
        again: Box<dyn Fn(u64) -> Bytes + Send + Sync>,
    ) -> Self {
        let until = Instant::now() + Duration::from_millis(wait_ms);
        Self { wanted, wait_ms, until, keep_waiting, again }
    }

    /// The request as it stands at an instant: a repeated one waits for what is left only.
    fn body(&self, now: Instant) -> Bytes {
        let left_ms =
            u64::try_from(self.until.saturating_duration_since(now).as_millis()).unwrap_or(u64::MAX);
        // A wait that is over still asks as a wait: as a try it could be refused although its claim is queued.
        (self.again)(if self.wait_ms == 0 { 0 } else { left_ms.max(1) })
    }
}

/// Takes what is asked for, on whatever node leads; `target` is the path of its claim.
pub(super) async fn acquire(
    app: &App,
    context: &Context,
    target: String,
    ask: &Ask,
) -> Result<Response, ApiError> {
    let attempt_body = |now: Instant| ask.body(now);
    let call = Call {
        context,
        method: Method::PUT,
        target,
        body: &attempt_body,
        wait: Duration::from_millis(ask.wait_ms),
        replays: true,
    };
    dispatch(app, call, || serve(app, ask)).await
}

/// Where it stands by the answer of its entry, and whether that entry brought it there.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other outcome is a bug and told as one")]
fn stand_of(success: Success) -> Result<(Stand, bool), ApiError> {
    Ok(match success {
        Success::Held { token, session, granted } => {
            (Stand::Held { session, tokens: Tokens::One(token) }, granted)
        }
        Success::SetHeld { tokens, session, granted } => {
            (Stand::Held { session, tokens: Tokens::Each(tokens) }, granted)
        }
        Success::Queued { enqueued, session, position, holders, queued } => {
            (Stand::Queued(Queued { enqueued, session, places: Places::One { position, holders } }), queued)
        }
        Success::SetQueued { enqueued, session, positions, queued } => {
            (Stand::Queued(Queued { enqueued, session, places: Places::Each(positions) }), queued)
        }
        other => return Err(error::unexpected_outcome(&other)),
    })
}

/// Carries it out on the leader.
async fn serve(app: &App, ask: &Ask) -> Result<Response, ApiError> {
    let received_at_ms = app.leases.now_ms();
    let waiter = app.waits.register(ask.wanted.claim());
    let applied = app
        .raft
        .propose(ask.wanted.command(), None)
        .await
        .map_err(|failure| error::from_propose(failure, true))?;
    match stand_of(applied.outcome.map_err(error::from_rejection)?)? {
        (Stand::Held { session, tokens }, granted) => {
            let status = if granted { StatusCode::CREATED } else { StatusCode::OK };
            if !granted && ask.wanted.own_ttl_ms().is_some() {
                // A client counts its lease from when it sent an unwaited PUT, a repeated one too: so it renews.
                app.renew(&session, received_at_ms).await?;
            }
            Ok(held(app, ask, status, &tokens, &session, applied.revision))
        }
        (Stand::Queued(queued), _) => {
            if ask.wait_ms == 0 {
                return Ok(still_queued(ask, &queued, applied.revision));
            }
            let wait = WaitRef { claim: ask.wanted.claim(), enqueued: queued.enqueued };
            let open = app.leases.open_wait(&app.raft, wait, applied.revision).await;
            let wait = open.map_err(|_| {
                error::outcome_unknown("another node leads now; the claim keeps its place", true)
            })?;
            wait_for_grant(app, ask, &queued, &waiter, &wait).await
        }
        (Stand::Ended { reason, token }, _) => Err(ended(reason, token)),
    }
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
    let own_ttl_ms = ask.wanted.own_ttl_ms();
    let mut renewal =
        tokio::time::interval(Duration::from_millis(own_ttl_ms.unwrap_or(limits::TTL_MS_MAX) / 3));
    loop {
        tokio::select! {
            () = waiter.changed() => {
                if let Some(answer) = look(app, ask)? {
                    return Ok(answer);
                }
            }
            () = tokio::time::sleep_until(ask.until) => return time_is_over(app, ask, queued).await,
            // Only the session that the claim made itself: an explicit one lives by its client's keepalives.
            _ = renewal.tick(), if own_ttl_ms.is_some() => wait.renew(&queued.session),
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

fn stand_now(app: &App, ask: &Ask) -> Result<(Stand, Revision), ApiError> {
    let look = app.raft.look(|view| Ok((ask.wanted.look(view)?, view.meta()?.revision)));
    look.map_err(error::from_read)
}

/// The answer that the state gives to a waiting claim, if it has one.
fn look(app: &App, ask: &Ask) -> Result<Option<Response>, ApiError> {
    match stand_now(app, ask)? {
        (Stand::Held { session, tokens }, revision) => {
            Ok(Some(held(app, ask, StatusCode::CREATED, &tokens, &session, revision)))
        }
        (Stand::Queued(_), _) => Ok(None),
        (Stand::Ended { reason, token }, _) => Err(ended(reason, token)),
    }
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
        return match stand_now(app, ask)? {
            (Stand::Held { session, tokens }, revision) => {
                Ok(held(app, ask, StatusCode::CREATED, &tokens, &session, revision))
            }
            (Stand::Queued(now), revision) => Ok(still_queued(ask, &now, revision)),
            (Stand::Ended { reason, token }, _) => Err(ended(reason, token)),
        };
    }
    let wait = WaitRef { claim: ask.wanted.claim(), enqueued: queued.enqueued };
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
        Ok(other) => match stand_of(other)? {
            (Stand::Held { session, tokens }, _) => {
                Ok(held(app, ask, StatusCode::CREATED, &tokens, &session, applied.revision))
            }
            // The id is used once, so it cannot wait for the second time.
            (Stand::Queued(_), _) => Err(error::outcome_unknown("the claim waits again", true)),
            (Stand::Ended { reason, token }, _) => Err(ended(reason, token)),
        },
        Err(Rejection::ClaimEnded { reason, token }) => Err(ended(reason, token)),
        Err(rejection) => Err(error::from_rejection(rejection)),
    }
}

fn held(
    app: &App,
    ask: &Ask,
    status: StatusCode,
    tokens: &Tokens,
    session: &SessionId,
    revision: Revision,
) -> Response {
    // The leader's deadlines follow the state a moment later than this answer: a session that was just made has it all.
    let fresh_ttl_ms = ask.wanted.own_ttl_ms().filter(|_| status == StatusCode::CREATED);
    let remaining_ms = app.leases.remaining_ms(session).or(fresh_ttl_ms);
    let claim = ask.wanted.claim().claim.as_str().to_owned();
    let (session, label) = (session.as_str().to_owned(), ask.wanted.label());
    match tokens {
        Tokens::One(token) => {
            let view = ClaimView::Held(HeldClaim {
                claim,
                session,
                fencing_token: token.as_u64(),
                revision: token.revision().as_u64(),
                remaining_ms,
                label,
            });
            respond::json(status, &view, revision)
        }
        Tokens::Each(tokens) => {
            let locks = held_locks(tokens);
            let revision_of_grant = tokens.values().max().map_or(0, |token| token.as_u64());
            let held = HeldSet { claim, session, locks, revision: revision_of_grant, remaining_ms, label };
            respond::json(status, &LockSetView::Held(held), revision)
        }
    }
}

pub(super) fn held_locks(tokens: &BTreeMap<LockName, FencingToken>) -> Vec<HeldLock> {
    let lock = |(name, token): (&LockName, &FencingToken)| HeldLock {
        name: name.as_str().to_owned(),
        fencing_token: token.as_u64(),
    };
    tokens.iter().map(lock).collect()
}

/// Places as people count them: the first in a queue is 1.
pub(super) fn queued_locks(positions: &BTreeMap<LockName, u64>) -> Vec<QueuedLock> {
    let lock = |(name, position): (&LockName, &u64)| QueuedLock {
        name: name.as_str().to_owned(),
        position: position + 1,
    };
    positions.iter().map(lock).collect()
}

fn still_queued(ask: &Ask, queued: &Queued, revision: Revision) -> Response {
    let claim = ask.wanted.claim().claim.as_str().to_owned();
    let (session, label) = (queued.session.as_str().to_owned(), ask.wanted.label());
    match &queued.places {
        Places::One { position, holders } => {
            let holders = holders.iter().map(error::holder_view).collect();
            // The first in the queue is 1.
            let queued = QueuedClaim { claim, session, position: position + 1, holders, label };
            respond::json(StatusCode::ACCEPTED, &ClaimView::Queued(queued), revision)
        }
        Places::Each(positions) => {
            let queued = QueuedSet { claim, session, locks: queued_locks(positions), label };
            respond::json(StatusCode::ACCEPTED, &LockSetView::Queued(queued), revision)
        }
    }
}
