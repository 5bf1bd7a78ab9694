//! Where a stream begins, and why it may not begin at all.

use bytes::Bytes;
use holdfast_api::query::{Consistency, EventsQuery, Initial};
use holdfast_api::watch::EventId;
use holdfast_api::{ErrorCode, header, path};
use holdfast_core::domain::{EndReason, Fault, Rejection, SessionState, Tables, View};
use holdfast_core::{NamespaceName, Revision};
use http::Method;

use crate::http::App;
use crate::http::dispatch::{Call, dispatch};
use crate::http::error::{self, ApiError};
use crate::http::request::{Context, invalid_header};
use crate::http::respond;
use crate::http::watch::sse;
use crate::http::{locks, sessions};
use crate::seeded_bugs::{self, SeededBug};
use crate::watch::{First, Listing, Origin, Place, Standing, Start, Subject};

/// The id of the last event that a reader has.
const LAST_EVENT_ID: &str = "last-event-id";

/// A stream that may begin.
pub(super) struct Opened {
    /// Its place among those of the node.
    pub(super) place: Place,
    /// Where it begins.
    pub(super) start: Start,
    /// What goes before its frames.
    pub(super) preamble: Bytes,
}

/// Where a reader wants to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// After everything that was answered before the request.
    Now,
    /// With what there is.
    State,
    /// After a revision.
    After { revision: Revision, history: Option<u64> },
}

impl Wanted {
    fn of(context: &Context, query: &EventsQuery) -> Result<Self, ApiError> {
        let EventsQuery { from_revision, initial, consistency: _ } = query;
        let last_seen = context.header(LAST_EVENT_ID)?;
        if from_revision.is_some() && initial.is_some() {
            let why = "a stream begins from a revision or with the state, not both";
            return Err(ApiError::new(ErrorCode::InvalidField, why));
        }
        if let Some(text) = last_seen {
            let EventId { history_id, revision } =
                text.parse().map_err(|invalid: holdfast_api::watch::InvalidEventId| {
                    invalid_header("Last-Event-ID", &invalid.to_string())
                })?;
            let revision = if seeded_bugs::active(SeededBug::WatchResumeInclusive) {
                revision.saturating_sub(1)
            } else {
                revision
            };
            return Ok(Self::After { revision: Revision::new(revision), history: Some(history_id) });
        }
        Ok(match (from_revision, initial) {
            (Some(from), _) => Self::After { revision: Revision::new(from.saturating_sub(1)), history: None },
            (None, Some(Initial::State)) => Self::State,
            (None, None) => Self::Now,
        })
    }
}

/// What this node knows of a subject.
struct Seen {
    standing: Standing,
    /// None for a subject that is no session, or one that was never seen.
    session: Option<SessionState>,
    /// What a stream begins with that begins with the state; config items are listed instead.
    state: Option<Bytes>,
}

/// Opens a stream, or says why not.
pub(super) async fn open(
    app: &App,
    context: &Context,
    subject: Subject,
    query: &EventsQuery,
) -> Result<Opened, ApiError> {
    let wanted = Wanted::of(context, query)?;
    let place = app
        .feed
        .admit()
        .ok_or_else(|| error::overloaded("this node serves as many streams as it may; ask another one"))?;
    let is_stale = query.consistency == Some(Consistency::Stale);
    let local = app.raft.applied().revision;
    let must_confirm = match wanted {
        Wanted::Now | Wanted::State => !is_stale,
        Wanted::After { revision, history: _ } => local < revision,
    };
    let mut confirmed = None;
    if must_confirm {
        let newest = confirm(app, context).await?;
        if let Wanted::After { revision, history: _ } = wanted
            && newest < revision
        {
            return Err(error::future_revision(newest));
        }
        reach(app, newest).await?;
        confirmed = Some(newest);
    }
    let mut seen = look(app, &subject, wanted)?;
    if seen.is_absent(&subject) && confirmed.is_none() && !is_stale {
        // Only the leader knows that something is nowhere.
        reach(app, confirm(app, context).await?).await?;
        seen = look(app, &subject, wanted)?;
    }
    let start = start(subject, wanted, confirmed, &seen)?;
    let mut preamble = sse::RETRY.to_vec();
    preamble.extend(seen.state.into_iter().flatten());
    Ok(Opened { place, start, preamble: preamble.into() })
}

/// The leader's revision, after a round that confirms that it leads.
async fn confirm(app: &App, context: &Context) -> Result<Revision, ApiError> {
    let no_body = |_| Bytes::new();
    let target = path::namespace(NamespaceName::default_namespace().as_str());
    let call = Call { method: Method::GET, target, ..Call::same(context, &no_body, true) };
    let answer = dispatch(app, call, || async {
        app.raft.confirm_leadership().await.map_err(error::from_read)?;
        Ok(respond::no_content(app.raft.applied().revision))
    })
    .await?;
    let revision = answer.headers().get(header::REVISION).and_then(|value| value.to_str().ok());
    let revision = revision.and_then(|text| text.parse().ok()).map(Revision::new);
    revision.ok_or_else(|| error::no_leader("the leader did not say at which revision it is"))
}

/// Waits until this node has a revision.
async fn reach(app: &App, revision: Revision) -> Result<(), ApiError> {
    app.raft.wait_revision(revision.as_u64()).await.map_err(error::from_read)
}

fn look(app: &App, subject: &Subject, wanted: Wanted) -> Result<Seen, ApiError> {
    let seen = app.raft.look(|view| {
        let standing = Standing::of(view, subject)?;
        let session = match subject {
            Subject::Session(id) => view.session(id)?,
            Subject::Config { .. } | Subject::Lock(_) => None,
        };
        let state = match wanted {
            Wanted::State => state(app, view, subject, &standing, session.as_ref())?,
            Wanted::Now | Wanted::After { .. } => None,
        };
        Ok(Seen { standing, session, state })
    });
    seen.map_err(error::from_read)
}

fn state(
    app: &App,
    view: &View<'_, impl Tables>,
    subject: &Subject,
    standing: &Standing,
    session: Option<&SessionState>,
) -> Result<Option<Bytes>, Fault> {
    let Standing { revision, history, .. } = *standing;
    Ok(match (subject, session) {
        (Subject::Lock(lock), _) => {
            let lock = locks::view(view, lock, locks::QUEUE_SHOWN_MAX)?;
            Some(sse::lock_state(lock, history, revision))
        }
        (Subject::Session(id), Some(SessionState::Live(session))) => {
            let owned = sessions::Owned::look(view, id, session.owned)?;
            let (spec, created) = (session.spec.clone(), session.create_revision);
            let view = sessions::view(app, id, spec, created, &owned);
            Some(sse::session_state(view, history, revision))
        }
        (Subject::Session(_), Some(SessionState::Ended { .. }) | None) | (Subject::Config { .. }, _) => None,
    })
}

impl Seen {
    /// Whether this node knows nothing of a subject that must exist.
    fn is_absent(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Config { .. } | Subject::Lock(_) => self.standing.created.is_none(),
            Subject::Session(_) => self.session.is_none(),
        }
    }
}

/// Where the stream begins, if what it wants is there.
fn start(
    subject: Subject,
    wanted: Wanted,
    confirmed: Option<Revision>,
    seen: &Seen,
) -> Result<Start, ApiError> {
    let Standing { revision, history, created, oldest } = seen.standing;
    let Some(created) = created else { return Err(error::from_rejection(Rejection::NamespaceNotFound)) };
    let after = match wanted {
        Wanted::Now => confirmed.unwrap_or(revision),
        Wanted::State => revision,
        Wanted::After { history: Some(of), .. } if of != history => {
            let why = "the store was restored from a backup since; begin again with initial=state";
            return Err(ApiError::new(ErrorCode::HistoryChanged, why));
        }
        Wanted::After { revision, history: _ } => revision,
    };
    if let Subject::Session(_) = &subject {
        refuse_session(seen.session.as_ref(), wanted, after)?;
    }
    if after.next() < oldest {
        return Err(sse::compacted(oldest));
    }
    let first = match (wanted, &subject) {
        (Wanted::State, Subject::Config { .. }) => First::Listing(Listing::at(revision)),
        (Wanted::State, Subject::Lock(_) | Subject::Session(_)) => First::Changes,
        (Wanted::Now | Wanted::After { .. }, _) => First::Cursor,
    };
    Ok(Start { origin: Origin { subject, history, created }, after, first })
}

/// A session that is over can only be watched by a reader that has not seen its end yet.
fn refuse_session(state: Option<&SessionState>, wanted: Wanted, after: Revision) -> Result<(), ApiError> {
    let expired = |reason: EndReason| Err(error::from_rejection(Rejection::SessionExpired { reason }));
    match (state, wanted) {
        (Some(SessionState::Live(_)), _) => Ok(()),
        (Some(SessionState::Ended { revision, .. }), Wanted::After { .. }) if after < *revision => Ok(()),
        (Some(SessionState::Ended { reason, .. }), _) => expired(*reason),
        (None, _) => Err(error::from_rejection(Rejection::SessionNotFound)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Revision, Seen, Standing, Wanted, refuse_session, start};
    use crate::watch::{First, Prefixes, Subject};
    use holdfast_api::ErrorCode;
    use holdfast_core::NamespaceName;
    use holdfast_core::domain::{EndReason, SessionState};

    fn keys() -> Subject {
        let namespace = NamespaceName::default_namespace();
        Subject::Config { namespace, prefixes: Prefixes::new(Vec::new()) }
    }

    fn seen(created: u64, oldest: u64) -> Seen {
        let standing = Standing {
            revision: Revision::new(100),
            history: 7,
            created: Some(Revision::new(created)),
            oldest: Revision::new(oldest),
        };
        Seen { standing, session: None, state: None }
    }

    fn after(revision: u64) -> Wanted {
        Wanted::After { revision: Revision::new(revision), history: None }
    }

    fn begins(wanted: Wanted, seen: &Seen) -> Result<u64, ErrorCode> {
        let started = start(keys(), wanted, Some(Revision::new(90)), seen);
        started.map(|start| start.after.as_u64()).map_err(|error| error.code())
    }

    #[test]
    fn a_stream_begins_after_what_was_confirmed_and_not_after_what_came_meanwhile() {
        assert_eq!(begins(Wanted::Now, &seen(1, 1)), Ok(90));
        assert_eq!(begins(Wanted::State, &seen(1, 1)), Ok(100));
    }

    #[test]
    fn the_oldest_revision_can_be_watched_from_and_none_before_it() {
        assert_eq!(begins(after(49), &seen(1, 50)), Ok(49));
        assert_eq!(begins(after(48), &seen(1, 50)), Err(ErrorCode::RevisionCompacted));
    }

    #[test]
    fn another_history_is_not_gone_on_with() {
        let wanted = |history| Wanted::After { revision: Revision::new(60), history: Some(history) };
        assert_eq!(begins(wanted(7), &seen(1, 1)), Ok(60));
        assert_eq!(begins(wanted(8), &seen(1, 1)), Err(ErrorCode::HistoryChanged));
    }

    #[test]
    fn only_config_is_listed() {
        let listed = start(keys(), Wanted::State, None, &seen(1, 1)).unwrap();
        assert!(matches!(listed.first, First::Listing(_)));
        let told = start(keys(), after(50), None, &seen(1, 1)).unwrap();
        assert!(matches!(told.first, First::Cursor));
    }

    #[test]
    fn an_ended_session_is_only_for_those_who_have_not_seen_its_end() {
        let ended = SessionState::Ended { reason: EndReason::Expired, revision: Revision::new(60) };
        let refused = |wanted, at: u64| {
            refuse_session(Some(&ended), wanted, Revision::new(at)).map_err(|error| error.code())
        };
        assert_eq!(refused(after(59), 59), Ok(()));
        assert_eq!(refused(after(60), 60), Err(ErrorCode::SessionExpired));
        assert_eq!(refused(Wanted::Now, 10), Err(ErrorCode::SessionExpired));
        let unknown = refuse_session(None, Wanted::Now, Revision::ZERO).map_err(|error| error.code());
        assert_eq!(unknown, Err(ErrorCode::SessionNotFound));
    }
}
