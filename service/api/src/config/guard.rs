//! The guard of a write: header [`Holdfast-Guard`](crate::header::GUARD).

use std::{fmt, str::FromStr};

use crate::{claims::ContestKind, config::decimal};

/// A write with a guard happens only while a claim of this lock holds it, or a candidate of this election leads it, with
/// exactly this token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteGuard {
    /// Whether `name` is that of a lock or of an election; the two have separate name spaces.
    pub kind: ContestKind,
    /// Name of a lock or an election in the namespace of the write.
    pub name: String,
    /// The fencing token of the grant.
    pub token: u64,
}

impl WriteGuard {
    /// Only while the lock is held with this token.
    #[must_use]
    pub fn lock(name: impl Into<String>, token: u64) -> Self {
        Self { kind: ContestKind::Lock, name: name.into(), token }
    }

    /// Only while the election is led with this token.
    #[must_use]
    pub fn election(name: impl Into<String>, token: u64) -> Self {
        Self { kind: ContestKind::Election, name: name.into(), token }
    }
}

impl fmt::Display for WriteGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}; token={}", self.kind, self.name, self.token)
    }
}

/// The text is not a guard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a guard is `lock=<name>; token=<number>` or `election=<name>; token=<number>`, not {0:?}")]
pub struct InvalidWriteGuard(pub String);

impl FromStr for WriteGuard {
    type Err = InvalidWriteGuard;

    /// Takes optional blanks around both parts; the name itself is checked where locks are named.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (contest, token) = text.split_once(';')?;
            let (kind, name) = contest.trim().split_once('=')?;
            let kind = ContestKind::ALL.into_iter().find(|known| known.as_str() == kind)?;
            let token = decimal(token.trim().strip_prefix("token=")?)?;
            (!name.is_empty()).then(|| Self { kind, name: name.to_owned(), token })
        };
        parse().ok_or_else(|| InvalidWriteGuard(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_reads_back_and_refuses_anything_else() {
        let guard = WriteGuard::lock("jobs/a", 812);
        assert_eq!(guard.to_string(), "lock=jobs/a; token=812");
        assert_eq!(guard.to_string().parse(), Ok(guard.clone()));
        assert_eq!("lock=jobs/a;token=812".parse(), Ok(guard));
        let election = WriteGuard::election("jobs/a", 812);
        assert_eq!(election.to_string(), "election=jobs/a; token=812");
        assert_eq!(election.to_string().parse(), Ok(election));
        for bad in [
            "",
            "lock=a",
            "token=1; lock=a",
            "lock=; token=1",
            "lock=a; token=",
            "lock=a; token=-1",
            "election=; token=1",
            "leader=a; token=1",
        ] {
            assert_eq!(bad.parse::<WriteGuard>(), Err(InvalidWriteGuard(bad.to_owned())));
        }
    }
}
