//! Reads of config.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Page, View};
use crate::domain::config::{ConfigHead, ConfigVersion};
use crate::domain::key::{KeyRange, KeyReader};
use crate::domain::{Fault, Table, Tables, key, record};
use crate::limits::{PAGE_ROWS_MAX, PAGE_VALUE_BYTES_MAX};
use crate::{ConfigKey, NamespaceName, Revision, SessionId};

/// A config value with what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigItem {
    /// Its key.
    pub key: ConfigKey,
    /// The bytes.
    pub value: Bytes,
    /// Their media type.
    pub content_type: String,
    /// When the key was created, this time.
    pub create_revision: Revision,
    /// This version's write.
    pub mod_revision: Revision,
    /// Writes since the key was created, this one included.
    pub version: u64,
    /// The session whose end deletes the key; none for a key that stays.
    pub session: Option<SessionId>,
    /// Who manages the key; empty for nobody.
    pub managed_by: String,
}

/// What a key had at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigAt {
    /// This value.
    Item(ConfigItem),
    /// None: it did not exist, or only in an earlier namespace of that name.
    Absent,
    /// That is not known any more.
    Compacted,
}

/// A key in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its key.
    pub key: ConfigKey,
    /// The bytes, when the list has values.
    pub value: Option<Bytes>,
    /// How many bytes the value has.
    pub value_bytes: u64,
    /// Their media type.
    pub content_type: String,
    /// When the key was created, this time.
    pub create_revision: Revision,
    /// This version's write.
    pub mod_revision: Revision,
    /// Writes since the key was created, this one included.
    pub version: u64,
    /// The session whose end deletes the key; none for a key that stays.
    pub session: Option<SessionId>,
    /// Who manages the key; empty for nobody.
    pub managed_by: String,
}

/// What a list of config keys shall have.
#[derive(Debug, Clone, Copy)]
pub struct ConfigQuery<'q> {
    /// The namespace.
    pub namespace: &'q NamespaceName,
    /// What the keys begin with; may be empty.
    pub prefix: &'q str,
    /// The last key of the part before.
    pub after: Option<&'q ConfigKey>,
    /// Keys at most.
    pub limit: usize,
    /// The revision to read at; none for the newest.
    pub at: Option<Revision>,
    /// Whether the values come along.
    pub with_values: bool,
}

impl<T: Tables> View<'_, T> {
    /// The newest value of a key; none when it does not exist.
    ///
    /// # Errors
    /// As [`View::meta`].
    pub fn config_get(
        &self,
        namespace: &NamespaceName,
        key: &ConfigKey,
    ) -> Result<Option<ConfigItem>, Fault> {
        let head: Option<ConfigHead> = record::read(self.0, Table::ConfigHead, &key::config(namespace, key))?;
        match head {
            Some(head) => self.config_version(namespace, key, head.mod_revision),
            None => Ok(None),
        }
    }

    /// What a key had at a revision, which is not in the future. `compacted` is the store's `compacted_revision`.
    ///
    /// What is left of a key is its newest part without holes, so a version that is found is the right one even below that
    /// revision; only where none is found there, one may have been dropped.
    ///
    /// # Errors
    /// As [`View::meta`].
    pub fn config_at(
        &self,
        namespace: &NamespaceName,
        key: &ConfigKey,
        at: Revision,
        compacted: Revision,
    ) -> Result<ConfigAt, Fault> {
        let Some(created) = self.namespace(namespace)?.map(|namespace| namespace.create_revision) else {
            return Ok(ConfigAt::Absent);
        };
        if at < created {
            return Ok(ConfigAt::Absent);
        }
        match self.newest_version(namespace, key, at)? {
            Some(found) if found < created => Ok(ConfigAt::Absent),
            Some(found) => {
                let item = self.config_version(namespace, key, found)?;
                Ok(item.map_or(ConfigAt::Absent, ConfigAt::Item))
            }
            None if compacted <= at => Ok(ConfigAt::Absent),
            None => Ok(ConfigAt::Compacted),
        }
    }

    /// The revision of the newest version of a key up to `at`, a delete included.
    fn newest_version(
        &self,
        namespace: &NamespaceName,
        key: &ConfigKey,
        at: Revision,
    ) -> Result<Option<Revision>, Fault> {
        let range = KeyRange::prefix(key::config_versions_prefix(namespace, key))
            .up_to(key::config_version(namespace, key, at));
        let row = self.0.range_back(Table::ConfigVersion, range.from(), range.to(), 1)?.pop();
        row.map(|(key, _)| {
            let mut reader = KeyReader::new(Table::ConfigVersion, &key);
            reader.config()?;
            reader.revision()
        })
        .transpose()
    }

    /// The version of a key that was written at exactly this revision; none when that was a delete.
    pub(super) fn config_version(
        &self,
        namespace: &NamespaceName,
        key: &ConfigKey,
        mod_revision: Revision,
    ) -> Result<Option<ConfigItem>, Fault> {
        let row_key = key::config_version(namespace, key, mod_revision);
        let missing = || Fault::damaged(Table::ConfigVersion, &row_key, "it is missing");
        match record::read(self.0, Table::ConfigVersion, &row_key)?.ok_or_else(missing)? {
            version @ ConfigVersion::Put { .. } => Ok(item_of(key, mod_revision, version)),
            ConfigVersion::Deleted { .. } => Ok(None),
        }
    }

    /// The keys of a namespace, by key; `at` must not be below the store's `compacted_revision`. A part ends early when its values are too large together or when too many keys
    /// that did not exist at the revision lie in the way; `next` says where to go on.
    ///
    /// # Errors
    /// As [`View::meta`].
    pub fn config_list(&self, query: &ConfigQuery<'_>) -> Result<Page<ConfigEntry, ConfigKey>, Fault> {
        let newest = match query.at {
            Some(at) => self.meta()?.revision <= at,
            None => true,
        };
        match (self.namespace(query.namespace)?, query.at) {
            (None, _) => Ok(Page { items: Vec::new(), next: None }),
            (Some(namespace), Some(at)) if !newest => {
                self.config_list_at(query, at, namespace.create_revision)
            }
            (Some(_), _) => self.config_list_newest(query),
        }
    }

    fn config_list_newest(&self, query: &ConfigQuery<'_>) -> Result<Page<ConfigEntry, ConfigKey>, Fault> {
        let limit = query.limit.clamp(1, PAGE_ROWS_MAX);
        let mut range = KeyRange::prefix(key::text_prefix(query.namespace, query.prefix));
        if let Some(after) = query.after {
            range = range.after(key::config(query.namespace, after));
        }
        let mut page = EntryPage::default();
        for (row_key, value) in record::rows(self.0, Table::ConfigHead, &range, limit + 1)? {
            let (_, key) = KeyReader::new(Table::ConfigHead, &row_key).last_config()?;
            let head: ConfigHead = record::open(Table::ConfigHead, &row_key, &value)?;
            if page.entries.len() == limit || !page.has_room(query, head.value_bytes) {
                return Ok(page.continued());
            }
            let value = match query.with_values {
                true => self.config_version(query.namespace, &key, head.mod_revision)?.map(|item| item.value),
                false => None,
            };
            let ConfigHead {
                create_revision,
                mod_revision,
                version,
                content_type,
                value_bytes,
                session,
                managed_by,
                window: _,
            } = head;
            page.push(ConfigEntry {
                key,
                value,
                value_bytes,
                content_type,
                create_revision,
                mod_revision,
                version,
                session,
                managed_by,
            });
        }
        Ok(Page { items: page.entries, next: None })
    }

    /// Two seeks a key: one to find it, one to its version at the revision.
    fn config_list_at(
        &self,
        query: &ConfigQuery<'_>,
        at: Revision,
        namespace_created: Revision,
    ) -> Result<Page<ConfigEntry, ConfigKey>, Fault> {
        let limit = query.limit.clamp(1, PAGE_ROWS_MAX);
        let mut range = KeyRange::prefix(key::text_prefix(query.namespace, query.prefix));
        if let Some(after) = query.after {
            range = range.after(key::config_version(query.namespace, after, Revision::new(u64::MAX)));
        }
        let mut page = EntryPage::default();
        for _ in 0..PAGE_ROWS_MAX {
            let Some((row_key, _)) = record::rows(self.0, Table::ConfigVersion, &range, 1)?.pop() else {
                return Ok(Page { items: page.entries, next: None });
            };
            let (_, key) = KeyReader::new(Table::ConfigVersion, &row_key).config()?;
            let item = match self.newest_version(query.namespace, &key, at)? {
                Some(revision) if namespace_created <= revision => {
                    self.config_version(query.namespace, &key, revision)?
                }
                Some(_) | None => None,
            };
            if let Some(item) = item {
                let value_bytes = item.value.len() as u64;
                if page.entries.len() == limit || !page.has_room(query, value_bytes) {
                    return Ok(page.continued());
                }
                let ConfigItem {
                    key,
                    value,
                    content_type,
                    create_revision,
                    mod_revision,
                    version,
                    session,
                    managed_by,
                } = item;
                page.push(ConfigEntry {
                    key,
                    value: query.with_values.then_some(value),
                    value_bytes,
                    content_type,
                    create_revision,
                    mod_revision,
                    version,
                    session,
                    managed_by,
                });
            }
            range = range.after(key::config_version(query.namespace, &key, Revision::new(u64::MAX)));
            page.passed = Some(key);
        }
        Ok(page.continued())
    }
}

/// The item of a version; none when it is a delete.
pub(super) fn item_of(key: &ConfigKey, mod_revision: Revision, version: ConfigVersion) -> Option<ConfigItem> {
    match version {
        ConfigVersion::Put {
            create_revision,
            version,
            content_type,
            session,
            managed_by,
            time: _,
            value,
        } => Some(ConfigItem {
            key: key.clone(),
            value,
            content_type,
            create_revision,
            mod_revision,
            version,
            session,
            managed_by,
        }),
        ConfigVersion::Deleted { .. } => None,
    }
}

/// A page of keys that grows.
#[derive(Debug, Default)]
struct EntryPage {
    entries: Vec<ConfigEntry>,
    value_bytes: usize,
    /// The last key that was looked at, listed or not.
    passed: Option<ConfigKey>,
}

impl EntryPage {
    /// Whether one more value fits. The first one always does.
    fn has_room(&self, query: &ConfigQuery<'_>, value_bytes: u64) -> bool {
        let value_bytes = usize::try_from(value_bytes).unwrap_or(usize::MAX);
        self.entries.is_empty()
            || !query.with_values
            || self.value_bytes.saturating_add(value_bytes) <= PAGE_VALUE_BYTES_MAX
    }

    fn push(&mut self, entry: ConfigEntry) {
        self.value_bytes += entry.value.as_ref().map_or(0, Bytes::len);
        self.passed = Some(entry.key.clone());
        self.entries.push(entry);
    }

    fn continued(self) -> Page<ConfigEntry, ConfigKey> {
        Page { items: self.entries, next: self.passed }
    }
}
