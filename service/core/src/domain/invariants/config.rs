//! Config keys and their versions.

use std::collections::BTreeMap;

use super::state::{ConfigRef, State};
use super::{Findings, Invariant};
use crate::Revision;
use crate::domain::config::{ConfigHead, ConfigVersion};

pub(super) fn check(state: &State, findings: &mut Findings) {
    for (config, head) in &state.heads {
        let newest = state.versions.get(config).and_then(BTreeMap::last_key_value);
        let same = newest.is_some_and(|(revision, version)| is_head(head, *revision, version));
        findings.expect(same, Invariant::HeadIsNewest, || {
            format!("{config:?} is at {head:?}, its newest version is {:?}", newest.map(|(at, _)| at))
        });
    }
    for (config, versions) in &state.versions {
        check_chain(config, versions, findings);
        let newest = versions.last_key_value();
        let exists = newest.is_some_and(|(_, version)| match version {
            ConfigVersion::Put { .. } => true,
            ConfigVersion::Deleted => false,
        });
        findings.expect(!exists || state.heads.contains_key(config), Invariant::HeadIsNewest, || {
            format!("{config:?} has no head")
        });
    }
}

fn is_head(head: &ConfigHead, revision: Revision, version: &ConfigVersion) -> bool {
    match version {
        ConfigVersion::Put { create_revision, version, content_type, value } => {
            let of_version = ConfigHead {
                create_revision: *create_revision,
                mod_revision: revision,
                version: *version,
                content_type: content_type.clone(),
                value_bytes: value.len() as u64,
            };
            *head == of_version
        }
        ConfigVersion::Deleted => false,
    }
}

fn check_chain(config: &ConfigRef, versions: &BTreeMap<Revision, ConfigVersion>, findings: &mut Findings) {
    let mut before: Option<(Revision, u64)> = None;
    for (revision, version) in versions {
        let follows = match (version, before) {
            (ConfigVersion::Put { create_revision, version, .. }, Some((created, count))) => {
                (*create_revision, *version) == (created, count + 1)
            }
            (ConfigVersion::Put { create_revision, version, .. }, None) => {
                (*create_revision, *version) == (*revision, 1)
            }
            (ConfigVersion::Deleted, Some(_)) => true,
            (ConfigVersion::Deleted, None) => false,
        };
        findings.expect(follows, Invariant::VersionChain, || {
            format!("{config:?} at {revision} does not follow {before:?}")
        });
        before = match version {
            ConfigVersion::Put { create_revision, version, .. } => Some((*create_revision, *version)),
            ConfigVersion::Deleted => None,
        };
    }
}
