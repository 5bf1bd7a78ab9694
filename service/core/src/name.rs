//! Names that travel: validated once, at construction, and never checked again inside.
//!
//! No name holds a NUL or another control character; the key encodings use NUL as a separator and depend on it.

use serde::{Deserialize, Serialize};
use std::fmt;

use crate::limits;

/// Why a text is not a name of the kind that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing was given.
    #[error("{kind} is empty")]
    Empty {
        /// The kind of name.
        kind: &'static str,
    },
    /// Longer than the kind allows.
    #[error("{kind} has {bytes} bytes, at most {bytes_max} are allowed")]
    TooLong {
        /// The kind of name.
        kind: &'static str,
        /// The length found, in bytes.
        bytes: usize,
        /// The longest length allowed, in bytes.
        bytes_max: usize,
    },
    /// A character or segment that the kind does not allow.
    #[error("{kind} is malformed at byte {at}: {rule}")]
    Malformed {
        /// The kind of name.
        kind: &'static str,
        /// The offset of the first offending byte.
        at: usize,
        /// The rule it breaks.
        rule: &'static str,
    },
}

/// The rule of one segment of an id, as `InvalidName::Malformed` states it.
const SEGMENT_RULE: &str =
    "a segment is a letter or digit, then up to 127 of letters, digits, '.', '_', ':' and '-'";
/// The rule of a namespace name.
const LABEL_RULE: &str =
    "a namespace is a DNS label: up to 63 of a-z, 0-9 and '-', starting and ending with a letter or digit";
/// The rule of a config key.
const KEY_RULE: &str = "a key is segments split by '/', none empty, none '.' or '..', no control characters";

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $validate:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        name_type!(@new $name, $kind, $validate);
        name_type!(@text $name);

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::new(text)
            }
        }
    };
    (@new $name:ident, $kind:literal, $validate:ident) => {
        impl $name {
            #[doc = concat!("A ", $kind, " from its text.")]
            ///
            /// # Errors
            /// [`InvalidName`] says which rule the text breaks.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
                let text = text.into();
                $validate($kind, &text)?;
                Ok(Self(text))
            }
        }
    };
    (@text $name:ident) => {
        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// The name of a namespace, a DNS label (RFC 1123).
    NamespaceName,
    "namespace name",
    validate_label
);
name_type!(
    /// The id of a session, one segment. Ids that begin with `c-` are made by the state machine.
    SessionId,
    "session id",
    validate_segment
);
name_type!(
    /// The id of a claim, one segment, unique within its lock.
    ClaimId,
    "claim id",
    validate_segment
);
/// The name of a lock or of an election: segments joined by `/`.
///
/// An election is an exclusive lock in a name space of its own. Inside the state machine its name begins with a mark that no
/// lock's name can begin with, so that everything that is true of locks is true of elections and the two never meet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LockName(String);

name_type!(@new LockName, "lock name", validate_path_of_segments);
name_type!(@text LockName);

/// What the names of elections begin with inside the state machine. It sorts before everything that a name begins with.
const ELECTION_MARK: char = '!';
/// Stands where the claims of lock sets have the name of their lock. It sorts as the mark of elections does, behind it.
const LOCK_SETS: &str = "#";

impl LockName {
    /// The name of an election from its text.
    ///
    /// # Errors
    /// [`InvalidName`] says which rule the text breaks.
    pub fn election(text: &str) -> Result<Self, InvalidName> {
        validate_path_of_segments("election name", text)?;
        Ok(Self(format!("{ELECTION_MARK}{text}")))
    }

    /// The name of an election, without its mark; none when it is the name of a lock.
    #[must_use]
    pub fn as_election(&self) -> Option<&str> {
        self.0.strip_prefix(ELECTION_MARK)
    }

    /// What stands where the claims of lock sets have the name of their lock: not a lock, and no lock's name.
    #[must_use]
    pub fn lock_sets() -> Self {
        Self(LOCK_SETS.to_owned())
    }

    /// Whether it stands for the lock sets of a namespace.
    #[must_use]
    pub fn is_lock_sets(&self) -> bool {
        self.0 == LOCK_SETS
    }

    /// The smallest text above the names of all elections and below those of all locks.
    pub(crate) fn after_elections() -> String {
        String::from(char::from(ELECTION_MARK as u8 + 1))
    }
}

/// From the text that the state machine keeps.
impl TryFrom<String> for LockName {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.strip_prefix(ELECTION_MARK) {
            Some(election) => Self::election(election),
            None if text == LOCK_SETS => Ok(Self::lock_sets()),
            None => Self::new(text),
        }
    }
}
name_type!(
    /// The key of a config item, a UTF-8 path.
    ConfigKey,
    "config key",
    validate_key
);

/// The prefix of the ids that only the server gives out.
pub const RESERVED_ID_PREFIX: &str = "c-";

impl NamespaceName {
    /// The namespace that always exists.
    #[must_use]
    pub fn default_namespace() -> Self {
        Self("default".to_owned())
    }
}

impl SessionId {
    /// The id of the session that a claim makes for itself: `c-` and the revision of the claim.
    #[must_use]
    pub fn claim_made(revision: crate::Revision) -> Self {
        Self(format!("{RESERVED_ID_PREFIX}{}", revision.as_u64()))
    }

    /// Whether clients may not create a session with this id.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with(RESERVED_ID_PREFIX)
    }
}

impl ClaimId {
    /// Whether clients may not create a claim with this id.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with(RESERVED_ID_PREFIX)
    }
}

fn check_length(kind: &'static str, text: &str, bytes_max: usize) -> Result<(), InvalidName> {
    if text.is_empty() {
        return Err(InvalidName::Empty { kind });
    }
    if bytes_max < text.len() {
        return Err(InvalidName::TooLong { kind, bytes: text.len(), bytes_max });
    }
    Ok(())
}

fn validate_label(kind: &'static str, text: &str) -> Result<(), InvalidName> {
    check_length(kind, text, limits::NAMESPACE_BYTES_MAX)?;
    let last = text.len() - 1;
    for (at, byte) in text.bytes().enumerate() {
        let inner_dash = byte == b'-' && at != 0 && at != last;
        if !(byte.is_ascii_lowercase() || byte.is_ascii_digit() || inner_dash) {
            return Err(InvalidName::Malformed { kind, at, rule: LABEL_RULE });
        }
    }
    Ok(())
}

fn validate_segment(kind: &'static str, text: &str) -> Result<(), InvalidName> {
    check_length(kind, text, limits::ID_BYTES_MAX)?;
    check_segment(kind, text, 0)
}

fn check_segment(kind: &'static str, segment: &str, offset: usize) -> Result<(), InvalidName> {
    let malformed = |at: usize| InvalidName::Malformed { kind, at: offset + at, rule: SEGMENT_RULE };
    if segment.is_empty() {
        return Err(malformed(0));
    }
    for (at, byte) in segment.bytes().enumerate() {
        let later = at != 0 && matches!(byte, b'.' | b'_' | b':' | b'-');
        if !(byte.is_ascii_alphanumeric() || later) || limits::ID_BYTES_MAX <= at {
            return Err(malformed(at));
        }
    }
    Ok(())
}

fn validate_path_of_segments(kind: &'static str, text: &str) -> Result<(), InvalidName> {
    check_length(kind, text, limits::LOCK_NAME_BYTES_MAX)?;
    let mut offset = 0;
    for segment in text.split('/') {
        check_segment(kind, segment, offset)?;
        offset += segment.len() + 1;
    }
    Ok(())
}

fn validate_key(kind: &'static str, text: &str) -> Result<(), InvalidName> {
    check_length(kind, text, limits::KEY_BYTES_MAX)?;
    if let Some((at, _)) = text.char_indices().find(|(_, c)| c.is_control()) {
        return Err(InvalidName::Malformed { kind, at, rule: KEY_RULE });
    }
    let mut at = 0;
    for segment in text.split('/') {
        if matches!(segment, "" | "." | "..") {
            return Err(InvalidName::Malformed { kind, at, rule: KEY_RULE });
        }
        at += segment.len() + 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{ClaimId, ConfigKey, InvalidName, LockName, NamespaceName, SessionId};

    #[test]
    fn names_of_every_kind_are_accepted_at_their_longest() {
        assert!(NamespaceName::new("a".repeat(63)).is_ok());
        assert!(SessionId::new("a".repeat(128)).is_ok());
        assert!(LockName::new(format!("{}/{}", "a".repeat(128), "b".repeat(127))).is_ok());
        assert!(ConfigKey::new("ä/".repeat(341) + "z").is_ok());
    }

    #[test]
    fn one_byte_more_is_refused() {
        assert!(matches!(NamespaceName::new("a".repeat(64)), Err(InvalidName::TooLong { bytes: 64, .. })));
        assert!(matches!(ClaimId::new("a".repeat(129)), Err(InvalidName::TooLong { bytes: 129, .. })));
        assert!(matches!(LockName::new("a".repeat(129)), Err(InvalidName::Malformed { at: 128, .. })));
        assert!(matches!(ConfigKey::new("k".repeat(1025)), Err(InvalidName::TooLong { .. })));
    }

    #[test]
    fn elections_and_locks_of_one_name_differ_and_read_back() {
        let (lock, election) = (LockName::new("a/b").unwrap(), LockName::election("a/b").unwrap());
        assert!(election < lock);
        assert_eq!((lock.as_election(), election.as_election()), (None, Some("a/b")));
        for name in [lock, election] {
            assert_eq!(LockName::try_from(String::from(name.clone())).unwrap(), name);
        }
        let sets = LockName::lock_sets();
        assert_eq!(LockName::try_from(String::from(sets.clone())).unwrap(), sets);
        assert!(sets.is_lock_sets() && sets < LockName::new("0").unwrap());
        assert!(LockName::new("#").is_err());
        assert!(LockName::new("!a").is_err());
        assert!(LockName::election("!a").is_err());
        assert!(LockName::election("").is_err());
        assert!(String::from(LockName::election("z").unwrap()) < LockName::after_elections());
        assert!(LockName::after_elections() < String::from(LockName::new("0").unwrap()));
    }

    #[test]
    fn malformed_names_say_where() {
        let at = |e: InvalidName| match e {
            InvalidName::Malformed { at, .. } => at,
            InvalidName::Empty { .. } | InvalidName::TooLong { .. } => usize::MAX,
        };
        assert_eq!(at(NamespaceName::new("a-").unwrap_err()), 1);
        assert_eq!(at(NamespaceName::new("A").unwrap_err()), 0);
        assert_eq!(at(LockName::new("a//b").unwrap_err()), 2);
        assert_eq!(at(LockName::new("a/.b").unwrap_err()), 2);
        assert_eq!(at(ConfigKey::new("a/../b").unwrap_err()), 2);
        assert_eq!(at(ConfigKey::new("a\u{0}").unwrap_err()), 1);
        assert_eq!(at(ConfigKey::new("/a").unwrap_err()), 0);
    }
}
