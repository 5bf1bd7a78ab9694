//! Config keys, their versions, and the indexes of what is kept of them.

use std::collections::{BTreeMap, BTreeSet};

use super::state::{ConfigRef, State};
use super::{Findings, Invariant};
use crate::Revision;
use crate::domain::compaction::Superseded;
use crate::domain::config::{ConfigHead, ConfigVersion};

type Versions = BTreeMap<Revision, ConfigVersion>;

pub(super) fn check(state: &State, findings: &mut Findings) {
    check_heads(state, findings);
    check_superseded(state, findings);
    check_prunable(state, findings);
    check_changes(state, findings);
    check_owners(state, findings);
    for (revision, _) in state.events.keys() {
        let kept = state.meta.events_compacted_revision <= *revision;
        findings.expect(kept, Invariant::EventsKept, || {
            format!("{revision} is kept, {} is dropped", state.meta.events_compacted_revision)
        });
    }
}

fn check_heads(state: &State, findings: &mut Findings) {
    for (config, head) in &state.heads {
        let newest = state.versions.get(config).and_then(BTreeMap::last_key_value);
        let same = newest.is_some_and(|(revision, version)| is_head(head, *revision, version));
        findings.expect(same, Invariant::HeadIsNewest, || {
            format!("{config:?} is at {head:?}, its newest version is {:?}", newest.map(|(at, _)| at))
        });
    }
    for (config, versions) in &state.versions {
        check_chain(state.meta.compacted_revision, config, versions, findings);
        let exists = versions.last_key_value().is_some_and(|(_, version)| is_put(version));
        findings.expect(!exists || state.heads.contains_key(config), Invariant::HeadIsNewest, || {
            format!("{config:?} has no head")
        });
    }
}

fn is_put(version: &ConfigVersion) -> bool {
    match version {
        ConfigVersion::Put { .. } => true,
        ConfigVersion::Deleted { .. } => false,
    }
}

fn is_head(head: &ConfigHead, revision: Revision, version: &ConfigVersion) -> bool {
    match version {
        ConfigVersion::Put {
            create_revision,
            version,
            content_type,
            session,
            managed_by,
            time: _,
            value,
        } => {
            let of_version = ConfigHead {
                create_revision: *create_revision,
                mod_revision: revision,
                version: *version,
                content_type: content_type.clone(),
                value_bytes: value.len() as u64,
                session: session.clone(),
                managed_by: managed_by.clone(),
                window: head.window,
            };
            *head == of_version
        }
        ConfigVersion::Deleted { .. } => false,
    }
}

fn check_chain(compacted: Revision, config: &ConfigRef, versions: &Versions, findings: &mut Findings) {
    let mut before: Option<(Revision, u64)> = None;
    for (at, (revision, version)) in versions.iter().enumerate() {
        let follows = match (version, before) {
            (ConfigVersion::Put { create_revision, version, .. }, Some((created, count))) => {
                (*create_revision, *version) == (created, count + 1)
            }
            (ConfigVersion::Put { create_revision, version, .. }, None) => {
                let begins = (*create_revision, *version) == (*revision, 1);
                begins || (at == 0 && *revision <= compacted)
            }
            (ConfigVersion::Deleted { .. }, Some(_)) => true,
            (ConfigVersion::Deleted { .. }, None) => false,
        };
        findings.expect(follows, Invariant::VersionChain, || {
            format!("{config:?} at {revision} does not follow {before:?}")
        });
        before = match version {
            ConfigVersion::Put { create_revision, version, .. } => Some((*create_revision, *version)),
            ConfigVersion::Deleted { .. } => None,
        };
    }
}

/// What the kept versions say that they superseded.
fn superseded_by(state: &State) -> BTreeMap<(Revision, ConfigRef), Superseded> {
    let mut found = BTreeMap::new();
    for (config, versions) in &state.versions {
        for ((earlier, version), (by, next)) in versions.iter().zip(versions.iter().skip(1)) {
            let ConfigVersion::Put { value, .. } = version else { continue };
            let (ConfigVersion::Put { time, .. } | ConfigVersion::Deleted { time, .. }) = next;
            let bytes = (config.1.as_str().len() + value.len()) as u64;
            let by_delete = !is_put(next);
            let superseded = Superseded { version: *earlier, bytes, time: *time, by_delete };
            found.insert((*by, config.clone()), superseded);
        }
    }
    found
}

fn check_superseded(state: &State, findings: &mut Findings) {
    let invariant = Invariant::SupersededIndexed;
    let right = superseded_by(state);
    for (place, superseded) in &right {
        findings.expect(state.superseded.get(place) == Some(superseded), invariant, || {
            format!("{place:?} superseded {superseded:?} and says {:?}", state.superseded.get(place))
        });
    }
    for place in state.superseded.keys() {
        findings
            .expect(right.contains_key(place), invariant, || format!("{place:?} superseded nothing kept"));
    }
}

fn check_prunable(state: &State, findings: &mut Findings) {
    let invariant = Invariant::PrunableIndexed;
    for (place, superseded) in &state.superseded {
        let (by, config) = place;
        let prunable = state.prunable.contains(place);
        let head = state.heads.get(config).filter(|head| head.create_revision < *by);
        let right = match head {
            Some(head) => prunable == (*by <= head.window),
            // Of a life that is over, what its window left out depends on what the settings were then.
            None => prunable || !superseded.by_delete,
        };
        findings
            .expect(right, invariant, || format!("{place:?} is prunable: {prunable}; its head is {head:?}"));
    }
    for place in &state.prunable {
        findings.expect(state.superseded.contains_key(place), invariant, || {
            format!("{place:?} is prunable and superseded nothing")
        });
    }
}

fn check_changes(state: &State, findings: &mut Findings) {
    let versions = state
        .versions
        .iter()
        .flat_map(|(config, versions)| versions.keys().map(move |revision| (*revision, config.clone())));
    let versions: BTreeSet<(Revision, ConfigRef)> = versions.collect();
    let watchable = |place: &&(Revision, ConfigRef)| state.meta.compacted_revision < place.0;
    for place in versions.iter().filter(watchable) {
        findings.expect(state.changes.contains(place), Invariant::ChangesIndexed, || {
            format!("the change at {place:?} cannot be watched")
        });
    }
    if let Some((first, _)) = state.changes.first() {
        findings.expect(state.meta.changes_from <= *first, Invariant::ChangesIndexed, || {
            format!("the change at {first} is from before {}", state.meta.changes_from)
        });
    }
    for place in state.changes.iter().filter(watchable) {
        findings.expect(versions.contains(place), Invariant::ChangesIndexed, || {
            format!("the change at {place:?} has no version")
        });
    }
}

fn check_owners(state: &State, findings: &mut Findings) {
    for (config, head) in &state.heads {
        let Some(id) = &head.session else { continue };
        let owned = state.session_keys.contains(&(id.clone(), config.clone()));
        findings.expect(owned && state.sessions.contains_key(id), Invariant::KeyIsOwned, || {
            format!("{config:?} is not among the keys of {id}, or that does not live")
        });
    }
    for (id, config) in &state.session_keys {
        let owns = state.heads.get(config).is_some_and(|head| head.session.as_ref() == Some(id));
        findings.expect(owns, Invariant::KeyIsOwned, || format!("{id} does not own {config:?}"));
    }
}
