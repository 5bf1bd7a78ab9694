//! What is kept of the past: versions of config keys, and the changes of locks and sessions.

use std::collections::BTreeMap;

use crate::domain::{Change, Compact, ConfigAt, ConfigItem, ConfigVersionView, Event, Success};
use crate::{ConfigKey, LogTime, NamespaceName, Revision, limits};

use super::{Model, ModelVersion};

/// A version and what superseded it, both by their place in the list of what is kept.
#[derive(Debug, Clone, Copy)]
struct Pair {
    version: usize,
    by: usize,
}

impl Model {
    pub(super) fn keep_version(&mut self, version: ModelVersion) {
        self.changes.insert((version.revision, version.namespace.clone(), version.key.clone()));
        self.versions.push(version);
    }

    fn versions_of(&self, namespace: &NamespaceName, key: &ConfigKey) -> Vec<usize> {
        let of_key =
            |at: &usize| self.versions[*at].namespace == *namespace && self.versions[*at].key == *key;
        let mut found: Vec<usize> = (0..self.versions.len()).filter(of_key).collect();
        found.sort_by_key(|at| self.versions[*at].revision);
        found
    }

    /// All superseded versions, in the order of what superseded them.
    fn superseded(&self) -> Vec<Pair> {
        let mut by_key: BTreeMap<(NamespaceName, ConfigKey), Vec<usize>> = BTreeMap::new();
        for (at, version) in self.versions.iter().enumerate() {
            by_key.entry((version.namespace.clone(), version.key.clone())).or_default().push(at);
        }
        let mut pairs = Vec::new();
        for mut places in by_key.into_values() {
            places.sort_by_key(|at| self.versions[*at].revision);
            let next = places.windows(2).map(|two| Pair { version: two[0], by: two[1] });
            pairs.extend(next.filter(|pair| self.versions[pair.version].item.is_some()));
        }
        pairs.sort_by_key(|pair| self.place(pair.by));
        pairs
    }

    fn place(&self, at: usize) -> (Revision, NamespaceName, ConfigKey) {
        let ModelVersion { revision, namespace, key, .. } = &self.versions[at];
        (*revision, namespace.clone(), key.clone())
    }

    fn bytes(&self, pair: Pair) -> u64 {
        let version = &self.versions[pair.version];
        let value = version.item.as_ref().map_or(0, |item| item.value.len());
        (version.key.as_str().len() + value) as u64
    }

    /// How many superseded versions are kept, and the bytes of their keys and values.
    #[must_use]
    pub fn superseded_totals(&self) -> (u64, u64) {
        let pairs = self.superseded();
        (pairs.len() as u64, pairs.iter().map(|pair| self.bytes(*pair)).sum())
    }

    /// Whether nothing but its age keeps a version: a delete ended it, or its key has enough newer ones since its creation.
    fn is_prunable(&self, pair: Pair) -> bool {
        let (version, by) = (&self.versions[pair.version], &self.versions[pair.by]);
        let Some(item) = &version.item else { return false };
        let places = self.versions_of(&version.namespace, &version.key);
        let newest = places
            .iter()
            .filter_map(|at| self.versions[*at].item.as_ref())
            .filter(|other| other.create_revision == item.create_revision)
            .map(|other| other.version)
            .max();
        let newer = newest.unwrap_or(item.version) - item.version;
        by.item.is_none() || self.settings.history_versions.max(1) <= newer
    }

    /// Drops a version and, when that superseded it, a delete. Returns how many rows that are.
    fn drop_pair(&mut self, pair: Pair) -> u64 {
        let (version, by) = (self.versions[pair.version].clone(), self.versions[pair.by].clone());
        self.compacted = self.compacted.max(by.revision);
        self.versions.retain(|kept| *kept != version);
        if by.item.is_some() {
            return 1;
        }
        self.versions.retain(|kept| *kept != by);
        2
    }

    pub(super) fn compact(&mut self, compact: &Compact) -> Success {
        let limit = compact.rows.clamp(1, limits::COMPACT_ROWS_MAX);
        let mut rows = 0;
        let more = self.prune(compact.superseded_before, limit, &mut rows)
            || self.make_room(compact.history_bytes, limit, &mut rows)
            || self.drop_changes(limit, &mut rows);
        Success::Compacted { rows, compacted_revision: self.compacted, more }
    }

    /// Whether a leader's compaction at this time would drop anything.
    #[must_use]
    pub fn would_compact(&self, now: LogTime) -> bool {
        let superseded_before = LogTime::from_ms(now.as_ms().saturating_sub(self.settings.history_ms));
        let history_bytes = self.settings.history_bytes_max;
        let mut tried = self.clone();
        let outcome = tried.compact(&Compact { superseded_before, history_bytes, rows: u64::MAX });
        matches!(outcome, Success::Compacted { rows, .. } if 0 < rows)
    }

    fn prune(&mut self, before: LogTime, limit: u64, rows: &mut u64) -> bool {
        loop {
            let pairs = self.superseded();
            let Some(pair) = pairs.into_iter().find(|pair| self.is_prunable(*pair)) else { return false };
            if before <= self.versions[pair.by].at {
                return false;
            }
            if limit <= *rows {
                return true;
            }
            let ended = self.versions[pair.by].clone();
            *rows += self.drop_pair(pair);
            if ended.item.is_none() {
                // Of a key that was deleted, everything from before the delete goes at once.
                let older = |kept: &ModelVersion| {
                    kept.namespace == ended.namespace
                        && kept.key == ended.key
                        && kept.revision < ended.revision
                };
                *rows += self.versions.iter().filter(|kept| older(kept)).count() as u64;
                self.versions.retain(|kept| !older(kept));
            }
        }
    }

    fn make_room(&mut self, bytes_max: u64, limit: u64, rows: &mut u64) -> bool {
        while bytes_max < self.superseded_totals().1 {
            if limit <= *rows {
                return true;
            }
            let oldest = self.superseded()[0];
            *rows += self.drop_pair(oldest);
        }
        false
    }

    fn drop_changes(&mut self, limit: u64, rows: &mut u64) -> bool {
        while self.changes.first().is_some_and(|(revision, _, _)| *revision <= self.compacted) {
            if limit <= *rows {
                return true;
            }
            self.changes.pop_first();
            *rows += 1;
        }
        false
    }

    /// What a key had at a revision, as far as what is kept tells.
    #[must_use]
    pub fn config_kept_at(&self, namespace: &NamespaceName, key: &ConfigKey, at: Revision) -> ConfigAt {
        let Some(created) = self.namespaces.get(namespace).filter(|created| **created <= at) else {
            return ConfigAt::Absent;
        };
        let older = self.versions_of(namespace, key).into_iter().rfind(|v| self.versions[*v].revision <= at);
        match older {
            None if at < self.compacted => ConfigAt::Compacted,
            None => ConfigAt::Absent,
            Some(found) if self.versions[found].revision < *created => ConfigAt::Absent,
            // What it was is asked of the snapshot of that revision, not of the version that was found.
            Some(_) => match self.config_at(namespace, key, at) {
                Some(item) => ConfigAt::Item(item.to_item(key)),
                None => ConfigAt::Absent,
            },
        }
    }

    /// The versions of a key that are kept, the newest first.
    #[must_use]
    pub fn config_versions(&self, namespace: &NamespaceName, key: &ConfigKey) -> Vec<ConfigVersionView> {
        let Some(created) = self.namespaces.get(namespace) else { return Vec::new() };
        let places = self.versions_of(namespace, key).into_iter().rev();
        let kept = places.map(|at| &self.versions[at]).filter(|version| *created <= version.revision);
        kept.map(|version| {
            let age_ms = self.clock.ms_since(version.at);
            match &version.item {
                Some(item) => ConfigVersionView::Put { item: item.to_item(key), age_ms },
                None => {
                    let (revision, expired) = (version.revision, version.expired);
                    ConfigVersionView::Deleted { revision, age_ms, expired }
                }
            }
        })
        .collect()
    }

    /// Keeps what an entry changed of locks and sessions.
    pub(super) fn log_changes(&mut self, events: &[Event]) {
        for Event { revision, change } in events {
            let of_locks = matches!(
                change,
                Change::SessionCreated { .. }
                    | Change::SessionEnded { .. }
                    | Change::ClaimQueued { .. }
                    | Change::SetQueued { .. }
                    | Change::ClaimGranted { .. }
                    | Change::SetGranted { .. }
                    | Change::Proclaimed { .. }
                    | Change::ClaimEnded { .. }
            );
            if of_locks {
                self.log.push((*revision, self.clock, change.clone()));
            }
        }
    }

    pub(super) fn drop_old_changes(&mut self) {
        for _ in 0..limits::DROPPED_PER_ENTRY_MAX {
            let Some((revision, at, _)) = self.log.first() else { return };
            let old = self.settings.events_ms <= self.clock.ms_since(*at);
            if !old && self.log.len() as u64 <= self.settings.events_max {
                return;
            }
            self.log_dropped = self.log_dropped.max(*revision);
            self.log.remove(0);
        }
    }
}

impl super::ModelItem {
    /// The item as readers see it.
    #[must_use]
    pub fn to_item(&self, key: &ConfigKey) -> ConfigItem {
        let Self { value, content_type, create_revision, mod_revision, version, session, managed_by } =
            self.clone();
        let key = key.clone();
        ConfigItem { key, value, content_type, create_revision, mod_revision, version, session, managed_by }
    }
}
