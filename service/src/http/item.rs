//! Config items as JSON shows them.

use holdfast_api::config::{ConfigItem, ConfigWrite};
use holdfast_core::domain;
use holdfast_core::{ConfigKey, Revision};

/// An item with its value.
pub(crate) fn of_item(item: domain::ConfigItem) -> ConfigItem {
    let domain::ConfigItem {
        key,
        value,
        content_type,
        create_revision,
        mod_revision,
        version,
        session,
        managed_by,
    } = item;
    ConfigItem {
        key: key.into(),
        value: Some(value.into()),
        content_type,
        create_revision: create_revision.as_u64(),
        mod_revision: mod_revision.as_u64(),
        version,
        session: session.map(String::from),
        managed_by: Some(managed_by).filter(|manager| !manager.is_empty()),
    }
}

/// An entry of a list, which has a value when the list has them.
pub(crate) fn of_entry(entry: domain::ConfigEntry) -> ConfigItem {
    let domain::ConfigEntry {
        key,
        value,
        value_bytes: _,
        content_type,
        create_revision,
        mod_revision,
        version,
        session,
        managed_by,
    } = entry;
    ConfigItem {
        key: key.into(),
        value: value.map(Vec::from),
        content_type,
        create_revision: create_revision.as_u64(),
        mod_revision: mod_revision.as_u64(),
        version,
        session: session.map(String::from),
        managed_by: Some(managed_by).filter(|manager| !manager.is_empty()),
    }
}

/// What a write made of a key.
pub(crate) fn of_write(
    key: &ConfigKey,
    create_revision: Revision,
    mod_revision: Revision,
    version: u64,
) -> ConfigWrite {
    ConfigWrite {
        key: key.as_str().to_owned(),
        create_revision: create_revision.as_u64(),
        mod_revision: mod_revision.as_u64(),
        version,
    }
}
