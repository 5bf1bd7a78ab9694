//! One version of one item, pages of them, and the entity tag that names a version.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::config::value::{Base64, BothForms, ValueJson};

/// One version of one config item.
///
/// In JSON the value is `value` when its bytes are UTF-8 and `value_base64` otherwise, never both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ItemJson", into = "ItemJson")]
pub struct ConfigItem {
    /// Its key.
    pub key: String,
    /// Its bytes; absent in lists without values.
    pub value: Option<Vec<u8>>,
    /// Media type of the value, as it was written.
    pub content_type: String,
    /// The revision that created the item.
    pub create_revision: u64,
    /// The revision that wrote this version.
    pub mod_revision: u64,
    /// 1 for the first version since it was created.
    pub version: u64,
    /// The session whose end deletes the item.
    pub session: Option<String>,
    /// Who manages the item.
    pub managed_by: Option<String>,
}

/// A config item as JSON has it.
#[derive(Clone, Serialize, Deserialize)]
struct ItemJson {
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value_base64: Option<Base64>,
    content_type: String,
    create_revision: u64,
    mod_revision: u64,
    version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    managed_by: Option<String>,
}

impl From<ConfigItem> for ItemJson {
    fn from(item: ConfigItem) -> Self {
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
        let ValueJson { value, value_base64 } = ValueJson::from(value);
        Self {
            key,
            value,
            value_base64,
            content_type,
            create_revision,
            mod_revision,
            version,
            session,
            managed_by,
        }
    }
}

impl TryFrom<ItemJson> for ConfigItem {
    type Error = BothForms;

    fn try_from(json: ItemJson) -> Result<Self, Self::Error> {
        let ItemJson {
            key,
            value,
            value_base64,
            content_type,
            create_revision,
            mod_revision,
            version,
            session,
            managed_by,
        } = json;
        let value = ValueJson { value, value_base64 }.into_bytes()?;
        Ok(Self { key, value, content_type, create_revision, mod_revision, version, session, managed_by })
    }
}

/// A page of config items, in the order of their keys, all read at one revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigList {
    /// The page.
    pub items: Vec<ConfigItem>,
    /// The revision at which every page of this list is read.
    pub revision: u64,
    /// Give it as `cursor` to get the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// A config item's strong entity tag (RFC 9110 §8.8.3): its `mod_revision` in quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ETag(pub u64);

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

/// The text is not an entity tag of this service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an entity tag is a revision in double quotes, not {0:?}")]
pub struct InvalidETag(pub String);

impl FromStr for ETag {
    type Err = InvalidETag;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .and_then(decimal)
            .map(Self)
            .ok_or_else(|| InvalidETag(text.to_owned()))
    }
}

/// A decimal number without a sign and without leading zeros, so that each number has one spelling.
pub(crate) fn decimal(digits: &str) -> Option<u64> {
    let canonical = digits == "0" || (!digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()));
    if canonical { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(value: Option<&[u8]>) -> ConfigItem {
        ConfigItem {
            key: "a".to_owned(),
            value: value.map(<[u8]>::to_vec),
            content_type: "text/plain".to_owned(),
            create_revision: 1,
            mod_revision: 2,
            version: 3,
            session: None,
            managed_by: None,
        }
    }

    #[test]
    fn a_value_is_text_when_it_is_utf8_and_base64_otherwise() {
        let text = serde_json::to_value(item(Some("ö".as_bytes()))).unwrap();
        assert_eq!((text.get("value"), text.get("value_base64")), (Some(&"ö".into()), None));
        let bytes = serde_json::to_value(item(Some(&[0xff, 0]))).unwrap();
        assert_eq!((bytes.get("value"), bytes.get("value_base64")), (None, Some(&"/wA=".into())));
    }

    #[test]
    fn every_value_reads_back() {
        for value in [None, Some(&b""[..]), Some(b"abc"), Some(&[0xff, 0xfe])] {
            let json = serde_json::to_string(&item(value)).unwrap();
            assert_eq!(serde_json::from_str::<ConfigItem>(&json).unwrap(), item(value));
        }
    }

    #[test]
    fn a_malformed_value_is_refused() {
        let mut both = serde_json::to_value(item(Some(b"abc"))).unwrap();
        both["value_base64"] = "YWJj".into();
        assert!(serde_json::from_value::<ConfigItem>(both).is_err());
        let mut bad = serde_json::to_value(item(None)).unwrap();
        bad["value_base64"] = "***".into();
        assert!(serde_json::from_value::<ConfigItem>(bad).is_err());
    }

    #[test]
    fn an_etag_is_a_revision_in_quotes_and_nothing_else() {
        assert_eq!(ETag(42).to_string(), "\"42\"");
        assert_eq!("\"42\"".parse(), Ok(ETag(42)));
        assert_eq!("\"0\"".parse(), Ok(ETag(0)));
        for bad in
            ["42", "W/\"42\"", "\"\"", "\"042\"", "\"+42\"", "\"a\"", "\"", "*", "\"99999999999999999999\""]
        {
            assert_eq!(bad.parse::<ETag>(), Err(InvalidETag(bad.to_owned())));
        }
    }
}
