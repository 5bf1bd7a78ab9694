//! What the state still knows of the past: for streams that are behind the ring, and for those that begin with what is there.

use std::sync::Arc;

use holdfast_core::domain::{ConfigEntry, ConfigQuery, EventPage, Fault, Tables, View};
use holdfast_core::{ConfigKey, Revision};

use crate::raft::{Handle, ReadError};
use crate::watch::commit::{Commit, commits};
use crate::watch::subject::{Prefixes, Subject};

/// Items of one part of a listing. Their values are bounded by the state's own pages.
const LISTED_MAX: usize = 256;

/// Reads the state for streams. Blocks: not for an async worker.
pub(crate) trait Past: Clone + Send + Sync + 'static {
    /// What happened to a subject after a revision.
    fn page(&self, origin: &Origin, after: Revision) -> Result<Page, Unreadable>;

    /// The next part of what there is of a subject, when there is one.
    fn list(&self, origin: &Origin, listing: &Listing) -> Result<ListPage, Unreadable>;
}

/// What a stream was opened on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// What it is about.
    pub(crate) subject: Subject,
    /// The line of history that its revisions belong to.
    pub(crate) history: u64,
    /// When the namespace was created; zero for a session.
    pub(crate) created: Revision,
}

/// Where a subject stands in the state at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The store's revision.
    pub(crate) revision: Revision,
    /// The line of history.
    pub(crate) history: u64,
    /// When its namespace was created; zero for a session, none when there is no such namespace.
    pub(crate) created: Option<Revision>,
    /// The oldest revision that it can be watched from.
    pub(crate) oldest: Revision,
}

/// A part of what happened, whole revisions only.
#[derive(Debug)]
pub(crate) struct Page {
    pub(super) commits: Vec<Arc<Commit>>,
    /// Everything up to here was looked at.
    pub(super) seen: Revision,
    /// Whether the subject's namespace is gone, so that nothing comes after `seen`.
    pub(super) is_gone: bool,
}

/// Where a listing of config items goes on. All of its parts are read at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listing {
    at: Revision,
    prefix: usize,
    after: Option<ConfigKey>,
}

/// A part of a listing.
#[derive(Debug)]
pub(crate) struct ListPage {
    pub(super) items: Vec<ConfigEntry>,
    pub(super) next: Option<Listing>,
}

/// Why the state cannot answer a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// A part of it is compacted.
    Compacted {
        /// The oldest revision to watch from.
        oldest: Revision,
    },
    /// The revisions belong to another line of history.
    HistoryChanged,
    /// The namespace is not the one that the stream was opened on.
    Gone,
    /// The storage cannot answer.
    Failed {
        /// What it said.
        reason: String,
    },
}

impl Past for Handle {
    fn page(&self, origin: &Origin, after: Revision) -> Result<Page, Unreadable> {
        self.look(|view| page(view, origin, after)).unwrap_or_else(|error| Err(failed(&error)))
    }

    fn list(&self, origin: &Origin, listing: &Listing) -> Result<ListPage, Unreadable> {
        self.look(|view| list(view, origin, listing)).unwrap_or_else(|error| Err(failed(&error)))
    }
}

fn failed(error: &ReadError) -> Unreadable {
    Unreadable::Failed { reason: error.to_string() }
}

impl Standing {
    /// Where a subject stands.
    pub(crate) fn of(view: &View<'_, impl Tables>, subject: &Subject) -> Result<Self, Fault> {
        let meta = view.meta()?;
        let compacted = match subject {
            Subject::Config { .. } => meta.compacted_revision,
            Subject::Lock(_) | Subject::Session(_) => meta.events_compacted_revision,
        };
        let created = match subject.namespace() {
            Some(namespace) => view.namespace(namespace)?.map(|namespace| namespace.create_revision),
            None => Some(Revision::ZERO),
        };
        let oldest = compacted.next().max(created.unwrap_or_default());
        Ok(Self { revision: meta.revision, history: meta.history_id, created, oldest })
    }
}

impl Listing {
    /// The first part of a listing at a revision.
    pub(crate) const fn at(revision: Revision) -> Self {
        Self { at: revision, prefix: 0, after: None }
    }

    pub(super) const fn revision(&self) -> Revision {
        self.at
    }
}

/// What happened to a subject after a revision, up to the end of its namespace.
pub(super) fn page(
    view: &View<'_, impl Tables>,
    origin: &Origin,
    after: Revision,
) -> Result<Result<Page, Unreadable>, Fault> {
    let Origin { subject, history, created } = origin;
    let standing = Standing::of(view, subject)?;
    if standing.history != *history {
        return Ok(Err(Unreadable::HistoryChanged));
    }
    // The namespace may have been deleted, and even created again, while the stream was behind. What comes after that is not
    // its own any more; deletes of namespaces are not among the events of the state.
    let end = match standing.created {
        Some(present) if present == *created => None,
        Some(present) => Some(present),
        None => Some(standing.revision),
    };
    // With a namespace of today nothing older counts; with another one, only what is kept.
    let oldest = if end.is_none() { standing.oldest } else { compacted_after(view, subject)? };
    if after.next() < oldest {
        return Ok(Err(Unreadable::Compacted { oldest }));
    }
    let EventPage { mut events, mut seen } = match subject {
        Subject::Config { namespace, prefixes } => {
            view.config_events(namespace, after, |key| prefixes.cover(key))?
        }
        Subject::Lock(_) | Subject::Session(_) => {
            view.logged_events(after, |change| subject.picks(change))?
        }
    };
    if let Some(end) = end {
        events.retain(|event| event.revision < end || standing.created.is_none());
        seen = seen.min(end);
    }
    let commits = commits(events).into_iter().map(Arc::new).collect();
    Ok(Ok(Page { commits, seen, is_gone: end.is_some_and(|end| end <= seen) }))
}

/// The oldest revision that the tables can tell of, whatever became of the namespace.
fn compacted_after(view: &View<'_, impl Tables>, subject: &Subject) -> Result<Revision, Fault> {
    let meta = view.meta()?;
    Ok(match subject {
        Subject::Config { .. } => meta.compacted_revision.next(),
        Subject::Lock(_) | Subject::Session(_) => meta.events_compacted_revision.next(),
    })
}

/// The next part of a listing; one without items while there is more is possible.
pub(super) fn list(
    view: &View<'_, impl Tables>,
    origin: &Origin,
    listing: &Listing,
) -> Result<Result<ListPage, Unreadable>, Fault> {
    let Listing { at, prefix, after } = listing;
    let Subject::Config { namespace, prefixes } = &origin.subject else {
        return Ok(Ok(ListPage { items: Vec::new(), next: None }));
    };
    let standing = Standing::of(view, &origin.subject)?;
    if standing.history != origin.history {
        return Ok(Err(Unreadable::HistoryChanged));
    }
    if standing.created != Some(origin.created) {
        return Ok(Err(Unreadable::Gone));
    }
    let compacted = view.meta()?.compacted_revision;
    if *at < compacted {
        return Ok(Err(Unreadable::Compacted { oldest: standing.oldest }));
    }
    let found = view.config_list(&ConfigQuery {
        namespace,
        prefix: &prefixes.as_slice()[*prefix],
        after: after.as_ref(),
        limit: LISTED_MAX,
        at: Some(*at),
        with_values: true,
    })?;
    let next = match found.next {
        Some(last) => Some(Listing { at: *at, prefix: *prefix, after: Some(last) }),
        None => next_prefix(prefixes, *prefix).map(|prefix| Listing { at: *at, prefix, after: None }),
    };
    Ok(Ok(ListPage { items: found.items, next }))
}

fn next_prefix(prefixes: &Prefixes, prefix: usize) -> Option<usize> {
    let next = prefix + 1;
    (next < prefixes.as_slice().len()).then_some(next)
}
