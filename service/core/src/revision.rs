//! The one counter of the store, and the fencing tokens taken from it.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A point in the store's history. It stays below 2^53, so that JSON carries it as a number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Revision(u64);

impl Revision {
    /// Before anything happened.
    pub const ZERO: Self = Self(0);
    /// The last revision that JSON numbers carry exactly.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// A revision from its number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number itself.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The revision after this one.
    ///
    /// # Panics
    /// At 2^53: at a million revisions a second that is 285 years away, and going on would hand out tokens that
    /// clients cannot read exactly.
    #[must_use]
    pub const fn next(self) -> Self {
        assert!(self.0 < Self::MAX.0, "the revision counter is exhausted");
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The revision of one grant. A later grant, of any lock, has a larger token; no two grants share one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FencingToken(Revision);

impl FencingToken {
    /// The token of the grant that took this revision.
    #[must_use]
    pub const fn of_grant(revision: Revision) -> Self {
        Self(revision)
    }

    /// The revision of the grant.
    #[must_use]
    pub const fn revision(self) -> Revision {
        self.0
    }

    /// The number that clients see.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0.0
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
