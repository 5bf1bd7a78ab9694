//! The changes of locks and sessions, kept for a while for those who watch: the newest `events_max`, for `events_ms` at most.
//!
//! Config changes are not in here: they are read from the versions that they made.

use serde::{Deserialize, Serialize};

use crate::domain::entry::Entry;
use crate::domain::key::{KeyRange, KeyReader};
use crate::domain::machine::Oldest;
use crate::domain::{Change, Fault, Table, Tables, key, record};
use crate::limits::DROPPED_PER_ENTRY_MAX;
use crate::{LogTime, Revision};

/// A change that is kept; its key has its revision and its place among the changes of that revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LoggedEvent {
    /// When it happened.
    pub(crate) time: LogTime,
    /// The change.
    pub(crate) change: Change,
}

impl<T: Tables> Entry<'_, '_, T> {
    /// Keeps what the entry changed of locks and sessions.
    pub(crate) fn log_events(&mut self) {
        let time = self.meta.time;
        let mut ordinal = 0;
        let mut last = None;
        for event in self.events.iter().filter(|event| event.change.is_logged()) {
            ordinal = if last == Some(event.revision) { ordinal + 1 } else { 0 };
            last = Some(event.revision);
            let logged = LoggedEvent { time, change: event.change.clone() };
            self.rows.put(Table::Event, key::event(event.revision, ordinal), &logged);
            self.meta.counters.events += 1;
        }
        if last.is_some() {
            self.oldest.event = self.oldest.event.min(time);
        }
    }

    /// Drops the oldest ones while there are too many or they are too old, a bounded number.
    pub(crate) fn drop_events(&mut self) -> Result<(), Fault> {
        if !self.is_event_droppable(self.oldest.event) {
            return Ok(());
        }
        // All of those before it are dropped, and a scan would pass them one by one.
        let from = KeyRange::at_or_after(key::revision_prefix(self.meta.events_compacted_revision));
        let rows = record::rows(self.rows, Table::Event, &from, DROPPED_PER_ENTRY_MAX)?;
        if rows.is_empty() {
            self.oldest.event = Oldest::NEVER;
        }
        for (row, value) in rows {
            let LoggedEvent { time, change: _ } = record::open(Table::Event, &row, &value)?;
            self.oldest.event = time;
            if !self.is_event_droppable(time) {
                break;
            }
            let revision = KeyReader::new(Table::Event, &row).revision()?;
            self.rows.delete(Table::Event, row);
            self.meta.counters.events -= 1;
            self.note_dropped(revision);
        }
        Ok(())
    }

    fn note_dropped(&mut self, revision: Revision) {
        let compacted = &mut self.meta.events_compacted_revision;
        *compacted = (*compacted).max(revision);
    }

    fn is_event_droppable(&self, time: LogTime) -> bool {
        let (settings, counters) = (&self.meta.settings, &self.meta.counters);
        let too_many = settings.events_max < counters.events;
        0 < counters.events && (too_many || settings.events_ms <= self.meta.time.ms_since(time))
    }
}
