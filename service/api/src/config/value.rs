//! How the bytes of a value are written in JSON: as text where they are UTF-8, in base64 otherwise.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// Bytes in base64, decoded while they are read, so that what is wrong with them is told at their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base64(pub(crate) Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(|error| D::Error::custom(format_args!("not base64: {error}")))
    }
}

/// The two members that a value can have, of which it has one at most.
#[derive(Debug, Default)]
pub(crate) struct ValueJson {
    pub(crate) value: Option<String>,
    pub(crate) value_base64: Option<Base64>,
}

/// A value is given in both forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a value is given as `value` or as `value_base64`, not as both")]
pub(crate) struct BothForms;

impl From<Option<Vec<u8>>> for ValueJson {
    fn from(bytes: Option<Vec<u8>>) -> Self {
        match bytes.map(String::from_utf8) {
            None => Self::default(),
            Some(Ok(text)) => Self { value: Some(text), value_base64: None },
            Some(Err(not_text)) => Self { value: None, value_base64: Some(Base64(not_text.into_bytes())) },
        }
    }
}

impl ValueJson {
    pub(crate) fn into_bytes(self) -> Result<Option<Vec<u8>>, BothForms> {
        match (self.value, self.value_base64) {
            (None, None) => Ok(None),
            (Some(text), None) => Ok(Some(text.into_bytes())),
            (None, Some(Base64(bytes))) => Ok(Some(bytes)),
            (Some(_), Some(_)) => Err(BothForms),
        }
    }
}
