//! What is kept of config's past, and how the rest goes.
//!
//! A version is *superseded* by the next write or delete of its key, and only what is superseded ever goes:
//!
//! - by age and number: it was superseded `history_ms` ago, and its key either has `history_versions` newer versions since it
//!   was created or was deleted. A delete goes together with the last version that it superseded.
//! - by size: while all superseded versions together are larger than `history_bytes_max`, the oldest ones go.
//!
//! Versions of a key go from the oldest on, so what is left of a key is always its newest part, without holes. What goes moves
//! `compacted_revision` to the revision that superseded it, as etcd's compaction does: from there on config is complete.
//!
//! ```text
//!   write ─▶ Superseded(S) ──window slides, or delete──▶ Prunable(S) ──old enough──▶ gone, compacted_revision ≥ S
//!                 └──────────────too large together────────────────────────────────▶ gone, compacted_revision ≥ S
//! ```
//!
//! Dropping is a command of its own with its bounds in it, in slices: never a side effect of the database.

use serde::{Deserialize, Serialize};

use crate::domain::config::{ConfigHead, ConfigVersion};
use crate::domain::entry::Entry;
use crate::domain::key::{KeyRange, KeyReader};
use crate::domain::{Compact, Fault, Outcome, Success, Table, Tables, key, record};
use crate::limits::{COMPACT_ROWS_MAX, PAGE_ROWS_MAX};
use crate::{ConfigKey, LogTime, NamespaceName, Revision};

/// The version that a revision superseded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Superseded {
    /// Its revision.
    pub(crate) version: Revision,
    /// The bytes of its key and value.
    pub(crate) bytes: u64,
    /// When it was superseded.
    pub(crate) time: LogTime,
    /// Whether a delete did it: then that delete is a row of its own that goes with it.
    pub(crate) by_delete: bool,
}

/// A place in the tables that are ordered by revision.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    revision: Revision,
    namespace: NamespaceName,
    key: ConfigKey,
}

impl Superseded {
    pub(crate) fn by_put(key: &ConfigKey, head: &ConfigHead, time: LogTime) -> Self {
        let bytes = key.as_str().len() as u64 + head.value_bytes;
        Self { version: head.mod_revision, bytes, time, by_delete: false }
    }

    pub(crate) fn by_delete(key: &ConfigKey, head: &ConfigHead, time: LogTime) -> Self {
        Self { by_delete: true, ..Self::by_put(key, head, time) }
    }
}

impl Place {
    fn of_key(table: Table, key: &[u8]) -> Result<Self, Fault> {
        let mut reader = KeyReader::new(table, key);
        let revision = reader.revision()?;
        let (namespace, key) = reader.last_config()?;
        Ok(Self { revision, namespace, key })
    }

    fn row(&self) -> Vec<u8> {
        key::config_by_revision(self.revision, &self.namespace, &self.key)
    }

    fn at(&self, revision: Revision) -> Self {
        Self { revision, ..self.clone() }
    }
}

/// What one slice has done.
#[derive(Debug, Default)]
struct Slice {
    rows: u64,
}

impl<T: Tables> Entry<'_, '_, T> {
    /// Notes what a revision superseded. After a delete only its age keeps it.
    pub(crate) fn supersede(
        &mut self,
        namespace: &NamespaceName,
        key: &ConfigKey,
        by: Revision,
        superseded: &Superseded,
    ) {
        let row = key::config_by_revision(by, namespace, key);
        self.rows.put(Table::Superseded, row.clone(), superseded);
        self.meta.counters.superseded += 1;
        self.meta.counters.history_bytes += superseded.bytes;
        if superseded.by_delete {
            self.rows.put(Table::Prunable, row, &());
        }
    }

    /// Lets the version go by its age that a new one pushes out of those that its number keeps. Returns the oldest that it
    /// keeps. One step is enough: each write adds one version.
    pub(crate) fn slide_window(
        &mut self,
        namespace: &NamespaceName,
        key: &ConfigKey,
        window: Revision,
        newest: u64,
    ) -> Result<Revision, Fault> {
        let kept = self.meta.settings.history_versions.max(1);
        #[cfg(feature = "seeded-bugs")]
        let kept = if self.bugs.window_one_short { (kept - 1).max(1) } else { kept };
        if newest <= kept {
            return Ok(window);
        }
        let range = KeyRange::prefix(key::config_versions_prefix(namespace, key))
            .after(key::config_version(namespace, key, window));
        let Some((row, value)) = record::rows(self.rows, Table::ConfigVersion, &range, 1)?.pop() else {
            let row = key::config(namespace, key);
            return Err(Fault::damaged(Table::ConfigHead, &row, "its newest version is missing"));
        };
        let mut reader = KeyReader::new(Table::ConfigVersion, &row);
        reader.config()?;
        let next = reader.revision()?;
        // Behind a hole that a lack of room left, the next version may be younger than the window's edge.
        match record::open(Table::ConfigVersion, &row, &value)? {
            ConfigVersion::Put { version, .. } if version <= newest - kept + 1 => {
                let row = key::config_by_revision(next, namespace, key);
                if self.rows.read::<Superseded>(Table::Superseded, &row)?.is_some() {
                    self.rows.put(Table::Prunable, row, &());
                }
                Ok(next)
            }
            ConfigVersion::Put { .. } => Ok(window),
            ConfigVersion::Deleted { .. } => Err(Fault::damaged(
                Table::ConfigVersion,
                &row,
                "it is a delete among the versions of a key that exists",
            )),
        }
    }

    /// Drops one slice of what may go.
    pub(crate) fn compact(&mut self, compact: &Compact) -> Result<Outcome, Fault> {
        let Compact { superseded_before, history_bytes, rows } = *compact;
        let limit = rows.clamp(1, COMPACT_ROWS_MAX);
        let mut slice = Slice::default();
        let more = self.prune(superseded_before, limit, &mut slice)?
            || self.make_room(history_bytes, limit, &mut slice)?
            || self.drop_changes(limit, &mut slice)?;
        let compacted_revision = self.meta.compacted_revision;
        Ok(Ok(Success::Compacted { rows: slice.rows, compacted_revision, more }))
    }

    /// Drops what only its age kept and was superseded long enough ago. Returns whether more is left than the limit allows.
    fn prune(&mut self, before: LogTime, limit: u64, slice: &mut Slice) -> Result<bool, Fault> {
        // Page by page, because a scan from the beginning passes everything that was dropped before it.
        let mut range = KeyRange::all();
        loop {
            let page = record::rows(self.rows, Table::Prunable, &range, PAGE_ROWS_MAX)?;
            let Some((last, _)) = page.last() else { return Ok(false) };
            range = range.after(last.clone());
            for (row, value) in page {
                record::open::<()>(Table::Prunable, &row, &value)?;
                let place = Place::of_key(Table::Prunable, &row)?;
                let superseded = self.superseded(&place)?.ok_or_else(|| {
                    Fault::damaged(Table::Superseded, &row, "it is missing while it is prunable")
                })?;
                if before <= superseded.time {
                    return Ok(false);
                }
                if limit <= slice.rows {
                    return Ok(true);
                }
                self.drop_superseded(&place, &superseded, slice);
                if superseded.by_delete {
                    self.drop_life(&place, &superseded, slice)?;
                }
            }
        }
    }

    /// Drops what is left of a key before one of its deletes, from the newest version on.
    fn drop_life(&mut self, delete: &Place, last: &Superseded, slice: &mut Slice) -> Result<(), Fault> {
        let mut place = delete.at(last.version);
        while let Some(superseded) = self.superseded(&place)? {
            self.drop_superseded(&place, &superseded, slice);
            place = place.at(superseded.version);
        }
        Ok(())
    }

    /// Drops the oldest superseded versions while all of them together are too large. Returns whether more must go than the
    /// limit allows.
    fn make_room(&mut self, bytes_max: u64, limit: u64, slice: &mut Slice) -> Result<bool, Fault> {
        let mut range = KeyRange::all();
        while bytes_max < self.meta.counters.history_bytes {
            let page = record::rows(self.rows, Table::Superseded, &range, PAGE_ROWS_MAX)?;
            let Some((last, _)) = page.last() else {
                let what = "it counts superseded versions that are missing";
                return Err(Fault::damaged(Table::Meta, key::META, what));
            };
            range = range.after(last.clone());
            for (row, value) in page {
                if self.meta.counters.history_bytes <= bytes_max {
                    return Ok(false);
                }
                if limit <= slice.rows {
                    return Ok(true);
                }
                let place = Place::of_key(Table::Superseded, &row)?;
                self.drop_superseded(&place, &record::open(Table::Superseded, &row, &value)?, slice);
            }
        }
        Ok(false)
    }

    /// Drops the changes that nobody can watch any more. Returns whether there are more than the limit allows.
    fn drop_changes(&mut self, limit: u64, slice: &mut Slice) -> Result<bool, Fault> {
        // One row more tells whether any is left.
        let left = usize::try_from(limit.saturating_sub(slice.rows)).unwrap_or(usize::MAX).saturating_add(1);
        // All of those before it are dropped, and a scan would pass them one by one.
        let from = KeyRange::at_or_after(key::revision_prefix(self.meta.changes_from));
        let rows = record::rows(self.rows, Table::ConfigChange, &from, left)?;
        for (row, value) in rows {
            record::open::<()>(Table::ConfigChange, &row, &value)?;
            let revision = Place::of_key(Table::ConfigChange, &row)?.revision;
            if self.meta.compacted_revision < revision {
                return Ok(false);
            }
            if limit <= slice.rows {
                return Ok(true);
            }
            self.rows.delete(Table::ConfigChange, row);
            self.meta.changes_from = revision;
            slice.rows += 1;
        }
        Ok(false)
    }

    fn superseded(&self, place: &Place) -> Result<Option<Superseded>, Fault> {
        self.rows.read(Table::Superseded, &place.row())
    }

    /// Drops the version that was superseded at a place, and the delete that did it.
    fn drop_superseded(&mut self, place: &Place, superseded: &Superseded, slice: &mut Slice) {
        let Place { revision, namespace, key } = place;
        let version = |revision| key::config_version(namespace, key, revision);
        self.rows.delete(Table::ConfigVersion, version(superseded.version));
        if superseded.by_delete {
            self.rows.delete(Table::ConfigVersion, version(*revision));
            slice.rows += 1;
        }
        self.rows.delete(Table::Superseded, place.row());
        self.rows.delete(Table::Prunable, place.row());
        self.meta.counters.superseded -= 1;
        self.meta.counters.history_bytes -= superseded.bytes;
        let compacted = *revision;
        #[cfg(feature = "seeded-bugs")]
        let compacted = if self.bugs.compacted_too_low { superseded.version } else { compacted };
        self.meta.compacted_revision = self.meta.compacted_revision.max(compacted);
        slice.rows += 1;
    }
}
