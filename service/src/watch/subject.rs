//! What a stream is about.

use holdfast_core::domain::{Change, ClaimRef, LockRef};
use holdfast_core::{ConfigKey, NamespaceName, SessionId};

use crate::watch::commit::Form;

/// What a stream is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subject {
    /// Config keys of a namespace.
    Config {
        /// The namespace.
        namespace: NamespaceName,
        /// What the keys begin with.
        prefixes: Prefixes,
    },
    /// A lock or an election.
    Lock(LockRef),
    /// A session and its claims.
    Session(SessionId),
}

/// Beginnings of config keys, none of which begins with another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prefixes(Vec<String>);

impl Prefixes {
    /// What begins with any of these; every key when there is none.
    pub(crate) fn new(mut texts: Vec<String>) -> Self {
        if texts.is_empty() {
            texts.push(String::new());
        }
        texts.sort_unstable();
        texts.dedup_by(|text, shorter| text.starts_with(shorter.as_str()));
        Self(texts)
    }

    /// The prefixes in order.
    pub(crate) fn as_slice(&self) -> &[String] {
        &self.0
    }

    /// Whether a key begins with one of them.
    pub(crate) fn cover(&self, key: &ConfigKey) -> bool {
        // Only the last one that is not above the key can be its beginning, since none begins with another one.
        let above = self.0.partition_point(|prefix| prefix.as_str() <= key.as_str());
        above.checked_sub(1).is_some_and(|at| key.as_str().starts_with(&self.0[at]))
    }
}

/// How a change ends a stream that is about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LastChange {
    /// The namespace was deleted.
    OfNamespace,
    /// The session is over.
    OfSession,
}

impl Subject {
    /// The namespace that it lies in; none for a session.
    pub(crate) fn namespace(&self) -> Option<&NamespaceName> {
        match self {
            Self::Config { namespace, .. } | Self::Lock(LockRef { namespace, .. }) => Some(namespace),
            Self::Session(_) => None,
        }
    }

    /// The form in which its changes are told.
    pub(crate) fn form(&self) -> Form {
        match self {
            Self::Config { .. } | Self::Lock(_) => Form::OfPlace,
            Self::Session(_) => Form::OfSession,
        }
    }

    /// Whether a change is one of its own.
    pub(super) fn picks(&self, change: &Change) -> bool {
        match self {
            Self::Config { namespace, prefixes } => match change {
                Change::ConfigPut { namespace: of, item } => of == namespace && prefixes.cover(&item.key),
                Change::ConfigDeleted { namespace: of, key, .. } => of == namespace && prefixes.cover(key),
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
                | Change::SessionOwns { .. } => false,
            },
            Self::Lock(lock) => claim_of(change).is_some_and(|(claim, _)| claim.lock == *lock),
            Self::Session(session) => match change {
                Change::SessionCreated { id, .. } | Change::SessionEnded { id, .. } => id == session,
                Change::ClaimQueued { .. } | Change::ClaimGranted { .. } | Change::ClaimEnded { .. } => {
                    claim_of(change).is_some_and(|(_, owner)| owner == Some(session))
                }
                Change::NamespaceCreated { .. }
                | Change::NamespaceDeleted { .. }
                | Change::ConfigPut { .. }
                | Change::ConfigDeleted { .. }
                | Change::SetQueued { .. }
                | Change::SetGranted { .. }
                | Change::Proclaimed { .. }
                | Change::SessionOwns { .. } => false,
            },
        }
    }

    /// Whether nothing more can come after a change.
    pub(super) fn ends_with(&self, change: &Change) -> Option<LastChange> {
        match (self, change) {
            (Self::Config { namespace, .. } | Self::Lock(LockRef { namespace, .. }), change) => {
                let deleted = matches!(change, Change::NamespaceDeleted { name } if name == namespace);
                deleted.then_some(LastChange::OfNamespace)
            }
            (Self::Session(session), change) => {
                let ended = matches!(change, Change::SessionEnded { id, .. } if id == session);
                ended.then_some(LastChange::OfSession)
            }
        }
    }
}

/// The claim of a lock that a change is about, and its session. A set is told of by the claims of its locks.
fn claim_of(change: &Change) -> Option<(&ClaimRef, Option<&SessionId>)> {
    let of = match change {
        Change::ClaimQueued { claim, session, .. }
        | Change::ClaimGranted { claim, session, .. }
        | Change::Proclaimed { claim, session, .. } => Some((claim, Some(session))),
        Change::ClaimEnded { claim, session, .. } => Some((claim, session.as_ref())),
        Change::NamespaceCreated { .. }
        | Change::NamespaceDeleted { .. }
        | Change::SessionCreated { .. }
        | Change::SessionEnded { .. }
        | Change::ConfigPut { .. }
        | Change::ConfigDeleted { .. }
        | Change::SetQueued { .. }
        | Change::SetGranted { .. }
        | Change::SessionOwns { .. } => None,
    };
    of.filter(|(claim, _)| !claim.lock.lock.is_lock_sets())
}

#[cfg(test)]
mod tests {
    use super::Prefixes;
    use holdfast_core::ConfigKey;

    fn prefixes(texts: &[&str]) -> Prefixes {
        Prefixes::new(texts.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn no_prefix_covers_every_key_and_a_longer_one_adds_nothing() {
        assert_eq!(prefixes(&[]), prefixes(&["", "a", "b/"]));
        assert_eq!(prefixes(&["a/b", "a", "c", "a/"]).as_slice(), ["a", "c"]);
    }

    #[test]
    fn a_key_is_covered_exactly_when_it_begins_with_a_prefix() {
        let texts = ["a/", "a-b", "b", "ö/x"];
        let some = prefixes(&texts);
        for key in ["a/x", "a/", "a-", "a-b", "a-bc", "a", "a0", "b", "b/z", "c", "ö/x", "ö/y", "0"] {
            let Ok(key) = ConfigKey::new(key) else { continue };
            let expected = texts.iter().any(|text| key.as_str().starts_with(text));
            assert_eq!(some.cover(&key), expected, "{key}");
        }
    }
}
