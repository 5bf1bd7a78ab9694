//! One revision with all that it changed, shared by everybody who watches.

use std::sync::OnceLock;

use bytes::Bytes;
use holdfast_core::Revision;
use holdfast_core::domain::{Change, Event};

/// What a change costs beside its value: names, and the rows around them.
const CHANGE_BYTES: usize = 256;

/// In which words a change is told: the same change reads differently from its lock's side and from its session's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As a change of a key, a lock or an election.
    OfPlace,
    /// As a change of a session.
    OfSession,
}

/// A change, and its texts once somebody needed them.
#[derive(Debug)]
pub(crate) struct Happened {
    change: Change,
    of_place: OnceLock<Bytes>,
    of_session: OnceLock<Bytes>,
}

/// One revision.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) revision: Revision,
    pub(super) changes: Vec<Happened>,
    /// What it costs to keep it, in bytes.
    pub(super) bytes: usize,
}

impl Happened {
    fn new(change: Change) -> Self {
        Self { change, of_place: OnceLock::new(), of_session: OnceLock::new() }
    }

    /// The change.
    pub(crate) const fn change(&self) -> &Change {
        &self.change
    }

    /// The text of the change in a form, made once for all who watch. `encode` must be the same function every time.
    pub(crate) fn text(&self, form: Form, encode: impl FnOnce(&Change) -> Bytes) -> &Bytes {
        let text = match form {
            Form::OfPlace => &self.of_place,
            Form::OfSession => &self.of_session,
        };
        text.get_or_init(|| encode(&self.change))
    }

    /// What it costs to send or to keep it, in bytes.
    pub(super) fn bytes(&self) -> usize {
        CHANGE_BYTES + value_bytes(&self.change)
    }
}

impl Commit {
    fn new(revision: Revision, mut changes: Vec<Change>) -> Self {
        // The order in which the state gives them: a revision looks the same from wherever it is read. The sort is stable, so
        // what has no key keeps its order.
        changes.sort_by(|a, b| config_key(a).cmp(&config_key(b)));
        let changes: Vec<Happened> = changes.into_iter().map(Happened::new).collect();
        let bytes = changes.iter().map(Happened::bytes).sum();
        Self { revision, changes, bytes }
    }
}

/// The revisions of events, which come in order.
pub(super) fn commits(events: Vec<Event>) -> Vec<Commit> {
    let mut commits = Vec::new();
    let mut current: Option<(Revision, Vec<Change>)> = None;
    for Event { revision, change } in events {
        match &mut current {
            Some((of, changes)) if *of == revision => changes.push(change),
            Some(_) | None => {
                let ended = current.replace((revision, vec![change]));
                commits.extend(ended.map(|(revision, changes)| Commit::new(revision, changes)));
            }
        }
    }
    commits.extend(current.map(|(revision, changes)| Commit::new(revision, changes)));
    commits
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only a written value has a size worth counting")]
fn value_bytes(change: &Change) -> usize {
    match change {
        Change::ConfigPut { item, .. } => item.value.len(),
        _ => 0,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "everything else has no key and comes first")]
fn config_key(change: &Change) -> Option<(&str, &str)> {
    match change {
        Change::ConfigPut { namespace, item } => Some((namespace.as_str(), item.key.as_str())),
        Change::ConfigDeleted { namespace, key, .. } => Some((namespace.as_str(), key.as_str())),
        _ => None,
    }
}
