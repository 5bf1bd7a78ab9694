//! The versions of one config key, and what of all versions may go.

use super::View;
use super::config::{ConfigItem, item_of};
use crate::domain::compaction::Superseded;
use crate::domain::config::ConfigVersion;
use crate::domain::key::{KeyRange, KeyReader};
use crate::domain::{Compact, Fault, Table, Tables, key, record};
use crate::limits::{COMPACT_ROWS_MAX, PAGE_ROWS_MAX, PAGE_VALUE_BYTES_MAX};
use crate::{ConfigKey, LogTime, NamespaceName, Revision};

/// A version of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigVersionView {
    /// A write.
    Put {
        /// What was written.
        item: ConfigItem,
        /// How long ago, in replicated milliseconds.
        age_ms: u64,
    },
    /// A delete.
    Deleted {
        /// The delete.
        revision: Revision,
        /// How long ago, in replicated milliseconds.
        age_ms: u64,
        /// Whether the end of its session deleted it.
        expired: bool,
    },
}

/// A part of the versions of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigHistory {
    /// The versions, the newest first.
    pub versions: Vec<ConfigVersionView>,
    /// Where to go on: what to give as `before` for the next part. None at the end.
    pub next: Option<Revision>,
}

impl<T: Tables> View<'_, T> {
    /// The versions of a key that are kept, the newest first, those before a revision.
    ///
    /// # Errors
    /// As [`View::meta`].
    pub fn config_history(
        &self,
        namespace: &NamespaceName,
        key: &ConfigKey,
        before: Option<Revision>,
        limit: usize,
    ) -> Result<ConfigHistory, Fault> {
        let mut history = ConfigHistory { versions: Vec::new(), next: None };
        let Some(created) = self.namespace(namespace)?.map(|namespace| namespace.create_revision) else {
            return Ok(history);
        };
        let now = self.meta()?.time;
        let (limit, mut value_bytes) = (limit.clamp(1, PAGE_ROWS_MAX), 0);
        let mut last = before;
        loop {
            let Some((revision, version)) = self.version_before(namespace, key, last)? else {
                return Ok(history);
            };
            if revision < created {
                return Ok(history);
            }
            let bytes = match &version {
                ConfigVersion::Put { value, .. } => value.len(),
                ConfigVersion::Deleted { .. } => 0,
            };
            let full = history.versions.len() == limit || PAGE_VALUE_BYTES_MAX < value_bytes + bytes;
            if full && !history.versions.is_empty() {
                history.next = last;
                return Ok(history);
            }
            value_bytes += bytes;
            history.versions.push(ConfigVersionView::new(key, revision, version, now));
            last = Some(revision);
        }
    }

    /// The newest version of a key, or the newest before a revision.
    fn version_before(
        &self,
        namespace: &NamespaceName,
        key: &ConfigKey,
        before: Option<Revision>,
    ) -> Result<Option<(Revision, ConfigVersion)>, Fault> {
        let mut range = KeyRange::prefix(key::config_versions_prefix(namespace, key));
        if let Some(before) = before {
            let Some(before) = before.as_u64().checked_sub(1) else { return Ok(None) };
            range = range.up_to(key::config_version(namespace, key, Revision::new(before)));
        }
        let row = self.0.range_back(Table::ConfigVersion, range.from(), range.to(), 1)?.pop();
        row.map(|(row, value)| {
            let mut reader = KeyReader::new(Table::ConfigVersion, &row);
            reader.config()?;
            Ok((reader.revision()?, record::open(Table::ConfigVersion, &row, &value)?))
        })
        .transpose()
    }

    /// What a leader whose replicated clock shows `now` should compact; none while nothing may go.
    ///
    /// # Errors
    /// As [`View::meta`].
    pub fn compaction_due(&self, now: LogTime) -> Result<Option<Compact>, Fault> {
        let meta = self.meta()?;
        let superseded_before = LogTime::from_ms(now.as_ms().saturating_sub(meta.settings.history_ms));
        let history_bytes = meta.settings.history_bytes_max;
        let due = history_bytes < meta.counters.history_bytes
            || self.oldest_prunable(superseded_before)?
            || self.oldest_change()?.is_some_and(|oldest| oldest <= meta.compacted_revision);
        Ok(due.then_some(Compact { superseded_before, history_bytes, rows: COMPACT_ROWS_MAX }))
    }

    fn oldest_prunable(&self, before: LogTime) -> Result<bool, Fault> {
        let Some((row, _)) = record::rows(self.0, Table::Prunable, &KeyRange::all(), 1)?.pop() else {
            return Ok(false);
        };
        let superseded: Option<Superseded> = record::read(self.0, Table::Superseded, &row)?;
        Ok(superseded.is_some_and(|superseded| superseded.time < before))
    }

    fn oldest_change(&self) -> Result<Option<Revision>, Fault> {
        let from = KeyRange::at_or_after(key::revision_prefix(self.meta()?.changes_from));
        let row = record::rows(self.0, Table::ConfigChange, &from, 1)?.pop();
        row.map(|(row, _)| KeyReader::new(Table::ConfigChange, &row).revision()).transpose()
    }
}

impl ConfigVersionView {
    fn new(key: &ConfigKey, revision: Revision, version: ConfigVersion, now: LogTime) -> Self {
        let (ConfigVersion::Put { time, .. } | ConfigVersion::Deleted { time, .. }) = version;
        let (age_ms, expired) =
            (now.ms_since(time), matches!(version, ConfigVersion::Deleted { expired: true, .. }));
        match item_of(key, revision, version) {
            Some(item) => Self::Put { item, age_ms },
            None => Self::Deleted { revision, age_ms, expired },
        }
    }
}
