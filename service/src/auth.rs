//! Who asks, and whether they may: every request passes [`Policy::authorize`] once, over everything that it touches.
//! Handlers never check rights by themselves.

use holdfast_core::domain::{ClaimRef, LockRef};
use holdfast_core::{ConfigKey, NamespaceName, SessionId};

/// Who sends a request. Until identities are configured, everybody is the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Identity {
    /// Nobody in particular.
    Anonymous,
}

impl Identity {
    /// A stable text for scopes of idempotency keys.
    pub(crate) fn scope(&self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
        }
    }
}

/// What a request does to what it touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Looks.
    Read,
    /// Changes.
    Write,
    /// Overrides others or changes the cluster.
    Administer,
}

/// One thing that a request touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resource {
    /// A namespace itself, or the list of them.
    Namespace(Option<NamespaceName>),
    /// A session, or the list of them.
    Session(Option<SessionId>),
    /// A lock.
    Lock(LockRef),
    /// A claim.
    Claim(ClaimRef),
    /// The locks of a namespace with a prefix.
    Locks(NamespaceName, String),
    /// One key.
    Key(NamespaceName, ConfigKey),
    /// The keys of a namespace with a prefix.
    Keys(NamespaceName, String),
    /// The cluster.
    Cluster,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forbidden;

/// The access policy of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// Everybody may do everything: for trusted networks only.
    Open,
}

impl Policy {
    /// Whether `identity` may do `verb` to all of `resources`.
    ///
    /// # Errors
    /// [`Forbidden`] when it may not, for any of them.
    #[expect(
        clippy::unnecessary_wraps,
        reason = "the open policy refuses nothing; policies with identities will"
    )]
    pub(crate) fn authorize(
        self,
        identity: &Identity,
        verb: Verb,
        resources: &[Resource],
    ) -> Result<(), Forbidden> {
        match (self, identity, verb) {
            (Self::Open, Identity::Anonymous, Verb::Read | Verb::Write | Verb::Administer) => {
                tracing::trace!(?verb, ?resources, "allowed by the open policy");
                Ok(())
            }
        }
    }
}
