//! What an item was: its versions, the difference of two of them, and the way back to one.

use serde::{Deserialize, Serialize};

use crate::config::ConfigItem;

/// A page of the versions of one key, newest first. An item that was deleted and written again has one history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigHistory {
    /// The key.
    pub key: String,
    /// The page.
    pub versions: Vec<ConfigVersion>,
    /// The store's revision that the page reflects. A cursor pins nothing: what is compacted between two pages is gone.
    pub revision: u64,
    /// Give it as `cursor` to get the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// One step in the life of a key. In JSON a deletion is marked by `"deleted": true`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ConfigVersion {
    /// It was deleted.
    Deleted(DeletedVersion),
    /// It was written.
    Written(Box<WrittenVersion>),
}

impl ConfigVersion {
    /// The revision of this step.
    #[must_use]
    pub const fn mod_revision(&self) -> u64 {
        match self {
            Self::Deleted(deleted) => deleted.mod_revision,
            Self::Written(written) => written.item.mod_revision,
        }
    }

    /// How long ago it happened, in milliseconds of replicated time.
    #[must_use]
    pub const fn age_ms(&self) -> u64 {
        match self {
            Self::Deleted(deleted) => deleted.age_ms,
            Self::Written(written) => written.age_ms,
        }
    }
}

/// A version that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenVersion {
    /// The item as it was, with its value.
    #[serde(flatten)]
    pub item: ConfigItem,
    /// How long ago it was written, in milliseconds of replicated time.
    pub age_ms: u64,
}

/// A deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "DeletedJson", into = "DeletedJson")]
pub struct DeletedVersion {
    /// The revision of the deletion.
    pub mod_revision: u64,
    /// How long ago it happened, in milliseconds of replicated time.
    pub age_ms: u64,
    /// Whether the end of its session deleted it.
    pub expired: bool,
}

#[derive(Serialize, Deserialize)]
struct DeletedJson {
    deleted: bool,
    mod_revision: u64,
    age_ms: u64,
    expired: bool,
}

impl From<DeletedVersion> for DeletedJson {
    fn from(version: DeletedVersion) -> Self {
        let DeletedVersion { mod_revision, age_ms, expired } = version;
        Self { deleted: true, mod_revision, age_ms, expired }
    }
}

impl TryFrom<DeletedJson> for DeletedVersion {
    type Error = &'static str;

    fn try_from(json: DeletedJson) -> Result<Self, Self::Error> {
        let DeletedJson { deleted, mod_revision, age_ms, expired } = json;
        if deleted { Ok(Self { mod_revision, age_ms, expired }) } else { Err("`deleted` is true or absent") }
    }
}

/// What differs between two versions of one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigDiff {
    /// The key.
    pub key: String,
    /// The revision of the one side.
    pub from: u64,
    /// The revision of the other side.
    pub to: u64,
    /// Whether both sides have the same bytes; a key that did not exist is not equal to an empty one.
    pub equal: bool,
    /// The differences in unified form; null when a side is not UTF-8 text, or when the texts are too large to compare.
    pub unified: Option<String>,
    /// SHA-256 of the value at `from` in hex; null when the key did not exist then.
    pub from_sha256: Option<String>,
    /// SHA-256 of the value at `to` in hex; null when the key did not exist then.
    pub to_sha256: Option<String>,
}

/// Body that writes an earlier value again, as a new version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// The value and the content type that the key had at this revision are written.
    pub to_revision: u64,
}

/// What a write made of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigWrite {
    /// The key.
    pub key: String,
    /// The revision that created the item.
    pub create_revision: u64,
    /// The revision of the write.
    pub mod_revision: u64,
    /// 1 when the write created the item.
    pub version: u64,
}
