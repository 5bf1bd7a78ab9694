//! Locks and elections: one thing in two name spaces. The state machine knows them by names that never meet; paths, guards
//! and answers know them by kind and plain name, and this is where the one becomes the other.

use holdfast_api::claims::{ClaimMode, ContestKind, ContestName};
use holdfast_core::domain::{ClaimRef, LockMode, LockRef};
use holdfast_core::{ClaimId, InvalidName, LockName};

use crate::http::error::ApiError;
use crate::http::request;

/// The name within the state machine of a lock or an election.
///
/// # Errors
/// [`InvalidName`] says which rule the text breaks.
pub(crate) fn lock_name(kind: ContestKind, text: String) -> Result<LockName, InvalidName> {
    match kind {
        ContestKind::Lock => LockName::new(text),
        ContestKind::Election => LockName::election(&text),
    }
}

/// What a name within the state machine is the name of.
pub(crate) fn kind_and_name(lock: &LockName) -> (ContestKind, &str) {
    match lock.as_election() {
        Some(election) => (ContestKind::Election, election),
        None => (ContestKind::Lock, lock.as_str()),
    }
}

/// The name as answers show it.
pub(crate) fn contest_name(lock: &LockName) -> ContestName {
    let (kind, name) = kind_and_name(lock);
    ContestName::new(kind, name)
}

/// How a claim shares its lock, in the words of the API, with its permits.
pub(crate) fn share(mode: LockMode) -> (ClaimMode, Option<u32>) {
    match mode {
        LockMode::Exclusive => (ClaimMode::Exclusive, None),
        LockMode::Shared => (ClaimMode::Shared, None),
        LockMode::Permits { permits, of: _ } => (ClaimMode::Permits, Some(permits)),
    }
}

/// The lock or election of a path.
pub(crate) fn lock_ref(kind: ContestKind, namespace: String, name: String) -> Result<LockRef, ApiError> {
    Ok(LockRef { namespace: request::namespace(namespace)?, lock: lock_name(kind, name)? })
}

/// The claim or candidate of a path.
pub(crate) fn claim_ref(
    kind: ContestKind,
    (namespace, name, claim): (String, String, String),
) -> Result<ClaimRef, ApiError> {
    Ok(ClaimRef { lock: lock_ref(kind, namespace, name)?, claim: ClaimId::new(claim)? })
}

#[cfg(test)]
mod tests {
    use super::{ContestKind, kind_and_name, lock_name};

    #[test]
    fn a_lock_and_an_election_of_one_name_differ_inside_and_look_alike_outside() {
        let names = ContestKind::ALL.map(|kind| lock_name(kind, "a/b".to_owned()).unwrap());
        assert_ne!(names[0], names[1]);
        for (kind, name) in ContestKind::ALL.iter().zip(&names) {
            assert_eq!(kind_and_name(name), (*kind, "a/b"));
        }
        for kind in ContestKind::ALL {
            assert!(lock_name(kind, "!a".to_owned()).is_err());
        }
    }
}
