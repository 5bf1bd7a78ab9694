//! Frames as server-sent events, and the problems that end a stream.

use std::fmt::Write as _;

use bytes::Bytes;
use holdfast_api::claims::ContestName;
use holdfast_api::elections::Published;
use holdfast_api::locks::LockView;
use holdfast_api::sessions::SessionView;
use holdfast_api::watch::{
    Change as ConfigChange, Deletion, EventId, EventKind, LockChange, LockStateEvent, Progress,
    SessionChange, SessionStateEvent, StateEvent,
};
use holdfast_api::{ErrorCode, Problem};
use holdfast_core::domain::{Change, ClaimRef, Rejection};
use holdfast_core::{FencingToken, Revision};
use serde::Serialize;

use crate::http::contest::{contest_name, share};
use crate::http::error::{self, ApiError};
use crate::http::item;
use crate::watch::{Delivery, Ending, Form, Frame, Happened};

/// The first line of a stream: how long a reader waits, in milliseconds, before it connects again.
pub(super) const RETRY: &[u8] = b"retry: 1000\n\n";

/// The text of a frame.
pub(super) fn frame(frame: &Frame, history: u64, form: Form) -> Bytes {
    let id = |revision: Revision| Some(EventId { history_id: history, revision: revision.as_u64() });
    match frame {
        Frame::State { revision, items, more } => {
            let items = items.iter().cloned().map(item::of_entry).collect();
            let state = StateEvent { revision: revision.as_u64(), items, more: *more };
            event(id(*revision).filter(|_| !*more), EventKind::State, &state)
        }
        Frame::Change(delivery) => change(delivery, history, form),
        Frame::Progress(revision) => {
            event(id(*revision), EventKind::Progress, &Progress { revision: revision.as_u64() })
        }
        Frame::End { ending, resume } => {
            let mut problem = problem(ending);
            problem.resume = resume.and_then(id);
            event(None, EventKind::Error, &problem)
        }
    }
}

/// The first frame of a lock's stream that begins with the state.
pub(super) fn lock_state(lock: LockView, history_id: u64, revision: Revision) -> Bytes {
    let revision = revision.as_u64();
    event(Some(EventId { history_id, revision }), EventKind::State, &LockStateEvent { revision, lock })
}

/// The first frame of a session's stream that begins with the state.
pub(super) fn session_state(session: SessionView, history_id: u64, revision: Revision) -> Bytes {
    let revision = revision.as_u64();
    event(Some(EventId { history_id, revision }), EventKind::State, &SessionStateEvent { revision, session })
}

fn event(id: Option<EventId>, kind: EventKind, data: &impl Serialize) -> Bytes {
    let mut text = Vec::with_capacity(128);
    head(&mut text, id, kind);
    // JSON on one line: line breaks in it are escaped.
    serde_json::to_writer(&mut text, data).expect("views hold only plain data");
    text.extend_from_slice(b"\n\n");
    text.into()
}

fn head(text: &mut Vec<u8>, id: Option<EventId>, kind: EventKind) {
    let mut head = String::new();
    if let Some(id) = id {
        writeln!(head, "id: {id}").expect("a string takes everything");
    }
    write!(head, "event: {kind}\ndata: ").expect("a string takes everything");
    text.extend_from_slice(head.as_bytes());
}

/// One revision. The texts of its changes are made once for all readers.
fn change(delivery: &Delivery, history_id: u64, form: Form) -> Bytes {
    let revision = delivery.revision();
    let changes: Vec<&Bytes> = delivery
        .changes()
        .map(|happened: &Happened| happened.text(form, |c| json(c, form, revision)))
        .collect();
    let bytes: usize = changes.iter().map(|text| text.len() + 1).sum();
    let mut text = Vec::with_capacity(128 + bytes);
    head(&mut text, Some(EventId { history_id, revision: revision.as_u64() }), EventKind::Change);
    text.extend_from_slice(format!("{{\"revision\":{revision},\"changes\":[").as_bytes());
    for (place, change) in changes.into_iter().enumerate() {
        if place != 0 {
            text.push(b',');
        }
        text.extend_from_slice(change);
    }
    text.extend_from_slice(b"]}\n\n");
    text.into()
}

/// A change in the words of the API. What no stream is about has none.
fn json(change: &Change, form: Form, revision: Revision) -> Bytes {
    let text = match form {
        Form::OfSession => session_change(change).map(|change| serde_json::to_vec(&change)),
        Form::OfPlace => match lock_change(change, revision) {
            Some(change) => Some(serde_json::to_vec(&change)),
            None => config_change(change, revision).map(|change| serde_json::to_vec(&change)),
        },
    };
    text.map_or_else(Bytes::new, |text| text.expect("views hold only plain data").into())
}

fn config_change(change: &Change, revision: Revision) -> Option<ConfigChange> {
    match change {
        Change::ConfigPut { item: put, namespace: _ } => Some(ConfigChange::Put(item::of_item(put.clone()))),
        Change::ConfigDeleted { key, expired, namespace: _ } => {
            let deletion = Deletion { key: key.as_str().to_owned(), mod_revision: revision.as_u64() };
            Some(if *expired { ConfigChange::Expire(deletion) } else { ConfigChange::Delete(deletion) })
        }
        Change::NamespaceCreated { .. }
        | Change::NamespaceDeleted { .. }
        | Change::SessionCreated { .. }
        | Change::SessionEnded { .. }
        | Change::ClaimQueued { .. }
        | Change::ClaimGranted { .. }
        | Change::ClaimEnded { .. }
        | Change::SetQueued { .. }
        | Change::SetGranted { .. }
        | Change::Proclaimed { .. }
        | Change::SessionOwns { .. } => None,
    }
}

fn lock_change(change: &Change, revision: Revision) -> Option<LockChange> {
    match change {
        Change::ClaimQueued { claim, session, mode, .. } => {
            let (mode, permits) = share(*mode);
            let (claim, session) = (id(claim), session.as_str().to_owned());
            Some(LockChange::Queued { claim, session, mode, permits })
        }
        Change::ClaimGranted { claim, session, mode, token } => {
            let (mode, permits) = share(*mode);
            let (claim, session) = (id(claim), session.as_str().to_owned());
            Some(LockChange::Granted { claim, session, mode, permits, fencing_token: token.as_u64() })
        }
        Change::Proclaimed { claim, session, token, value, content_type } => Some(LockChange::Proclaimed {
            claim: id(claim),
            session: session.as_str().to_owned(),
            fencing_token: token.as_u64(),
            published: Published {
                value: value.to_vec(),
                content_type: content_type.clone(),
                revision: revision.as_u64(),
            },
        }),
        Change::ClaimEnded { claim, session, reason, token } => Some(LockChange::Ended {
            claim: id(claim),
            session: session.as_ref().map(|session| session.as_str().to_owned()),
            reason: error::end_reason(*reason),
            fencing_token: token.map(FencingToken::as_u64),
        }),
        Change::NamespaceCreated { .. }
        | Change::NamespaceDeleted { .. }
        | Change::SessionCreated { .. }
        | Change::SessionEnded { .. }
        | Change::ConfigPut { .. }
        | Change::ConfigDeleted { .. }
        | Change::SetQueued { .. }
        | Change::SetGranted { .. }
        | Change::SessionOwns { .. } => None,
    }
}

fn session_change(change: &Change) -> Option<SessionChange> {
    match change {
        Change::SessionCreated { id, ttl_ms, made_by: _ } => {
            Some(SessionChange::Created { session: id.as_str().to_owned(), ttl_ms: *ttl_ms })
        }
        Change::SessionEnded { id, reason } => Some(SessionChange::SessionEnded {
            session: id.as_str().to_owned(),
            reason: error::end_reason(*reason),
        }),
        Change::ClaimQueued { claim, .. } => {
            let (namespace, contest, claim) = names(claim);
            Some(SessionChange::Queued { namespace, contest, claim })
        }
        Change::ClaimGranted { claim, token, .. } => {
            let (namespace, contest, claim) = names(claim);
            Some(SessionChange::Granted { namespace, contest, claim, fencing_token: token.as_u64() })
        }
        Change::ClaimEnded { claim, reason, token, .. } => {
            let (namespace, contest, claim) = names(claim);
            let fencing_token = token.map(FencingToken::as_u64);
            Some(SessionChange::Ended {
                namespace,
                contest,
                claim,
                reason: error::end_reason(*reason),
                fencing_token,
            })
        }
        Change::NamespaceCreated { .. }
        | Change::NamespaceDeleted { .. }
        | Change::ConfigPut { .. }
        | Change::ConfigDeleted { .. }
        | Change::SetQueued { .. }
        | Change::SetGranted { .. }
        | Change::Proclaimed { .. }
        | Change::SessionOwns { .. } => None,
    }
}

fn id(claim: &ClaimRef) -> String {
    claim.claim.as_str().to_owned()
}

fn names(claim: &ClaimRef) -> (String, ContestName, String) {
    let ClaimRef { lock, claim } = claim;
    (lock.namespace.as_str().to_owned(), contest_name(&lock.lock), claim.as_str().to_owned())
}

/// The problem of changes that are not kept any more.
pub(super) fn compacted(oldest: Revision) -> ApiError {
    let detail = format!(
        "changes before revision {oldest} are not kept; watch from there on, or begin again with initial=state"
    );
    ApiError::new(ErrorCode::RevisionCompacted, detail).map(|p| p.with_revision(oldest.as_u64()))
}

/// The problem that ends a stream.
fn problem(ending: &Ending) -> Problem {
    let problem = match ending {
        Ending::SlowReader => error::overloaded(
            "slow reader: more changes wait than this node keeps for one stream; nothing is lost, resume where it ends",
        ),
        Ending::ShuttingDown => error::shutting_down(),
        Ending::NamespaceGone => error::from_rejection(Rejection::NamespaceNotFound),
        Ending::Compacted { oldest } => compacted(*oldest),
        Ending::HistoryChanged => ApiError::new(
            ErrorCode::HistoryChanged,
            "the store was restored from a backup; begin again with initial=state",
        ),
        Ending::Failed { reason } => {
            error::outcome_unknown(format!("the node cannot read its state: {reason}"), true)
        }
    };
    *problem.0
}
