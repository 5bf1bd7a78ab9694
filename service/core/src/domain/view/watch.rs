//! What happened since a revision, read back from the tables for those who watch.

use super::View;
use super::config::item_of;
use crate::domain::config::ConfigVersion;
use crate::domain::event_log::LoggedEvent;
use crate::domain::key::{KeyRange, KeyReader};
use crate::domain::{Change, Event, Fault, Table, Tables, key, record};
use crate::limits::{WATCH_BYTES_MAX, WATCH_ROWS_MAX};
use crate::{ConfigKey, NamespaceName, Revision};

/// A part of what happened, whole revisions only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPage {
    /// What happened, in the order of revisions.
    pub events: Vec<Event>,
    /// Everything up to this revision was looked at. At the end of what there is, the store's revision.
    pub seen: Revision,
}

impl<T: Tables> View<'_, T> {
    /// Changes of the config keys of a namespace that `wanted` names, after a revision that is not below the store's
    /// `compacted_revision`.
    ///
    /// # Errors
    /// As [`View::meta`].
    pub fn config_events(
        &self,
        namespace: &NamespaceName,
        after: Revision,
        wanted: impl Fn(&ConfigKey) -> bool,
    ) -> Result<EventPage, Fault> {
        self.event_page(Table::ConfigChange, after, |row, value, revision| {
            record::open::<()>(Table::ConfigChange, row, value)?;
            let mut reader = KeyReader::new(Table::ConfigChange, row);
            reader.revision()?;
            let (of, key) = reader.last_config()?;
            if of != *namespace || !wanted(&key) {
                return Ok(None);
            }
            let version_row = key::config_version(namespace, &key, revision);
            let missing = || Fault::damaged(Table::ConfigVersion, &version_row, "it is missing");
            let version: ConfigVersion =
                record::read(self.0, Table::ConfigVersion, &version_row)?.ok_or_else(missing)?;
            let expired = matches!(version, ConfigVersion::Deleted { expired: true, .. });
            let namespace = namespace.clone();
            Ok(Some(match item_of(&key, revision, version) {
                Some(item) => Change::ConfigPut { namespace, item },
                None => Change::ConfigDeleted { namespace, key, expired },
            }))
        })
    }

    /// Changes of locks and sessions that `wanted` picks, after a revision that is not below the store's
    /// `events_compacted_revision`.
    ///
    /// # Errors
    /// As [`View::meta`].
    pub fn logged_events(
        &self,
        after: Revision,
        wanted: impl Fn(&Change) -> bool,
    ) -> Result<EventPage, Fault> {
        self.event_page(Table::Event, after, |row, value, _| {
            let LoggedEvent { time: _, change } = record::open(Table::Event, row, value)?;
            Ok(wanted(&change).then_some(change))
        })
    }

    /// Rows of a table that is ordered by revision, up to the bounds and then to the end of the revision that they fall in.
    fn event_page(
        &self,
        table: Table,
        after: Revision,
        change: impl Fn(&[u8], &[u8], Revision) -> Result<Option<Change>, Fault>,
    ) -> Result<EventPage, Fault> {
        let (mut events, mut seen) = (Vec::new(), after);
        let (mut rows_seen, mut bytes) = (0, 0);
        let mut range = KeyRange::at_or_after(key::revision_prefix(after.next()));
        loop {
            let rows = record::rows(self.0, table, &range, WATCH_ROWS_MAX)?;
            let ended = rows.len() < WATCH_ROWS_MAX;
            for (row, value) in &rows {
                let revision = KeyReader::new(table, row).revision()?;
                let full = WATCH_ROWS_MAX <= rows_seen || WATCH_BYTES_MAX <= bytes;
                if full && seen < revision {
                    return Ok(EventPage { events, seen });
                }
                seen = revision;
                rows_seen += 1;
                if let Some(change) = change(row, value, revision)? {
                    bytes += value_bytes(&change);
                    events.push(Event { revision, change });
                }
            }
            match rows.into_iter().next_back() {
                Some((row, _)) if !ended => range = range.after(row),
                Some(_) | None => {
                    let seen = seen.max(self.meta()?.revision);
                    return Ok(EventPage { events, seen });
                }
            }
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only a written value has a size worth counting")]
fn value_bytes(change: &Change) -> usize {
    match change {
        Change::ConfigPut { item, .. } => item.value.len(),
        _ => 0,
    }
}
