//! Elections: `/v1/namespaces/{ns}/elections`. An election is an exclusive lock in a name space of its own; its claims are
//! called candidates and are made, shown and ended as [claims](crate::claims) are.

use serde::{Deserialize, Serialize};

use crate::config::value::{Base64, BothForms, ValueJson};
use crate::locks::{HolderView, QueuedView};

/// One election with its leader and the candidates that wait. An election never used has no leader; it is not absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElectionView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who leads it; null when nobody does.
    pub leader: Option<HolderView>,
    /// What the leader published; absent until it publishes something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Published>,
    /// Who waits, in the order in which they will lead.
    pub queue: Vec<QueuedView>,
    /// The token of its newest leadership, 0 before the first.
    pub last_token: u64,
    /// How long it stays without a leader after one was lost, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_remaining_ms: Option<u64>,
}

/// What the leader of an election published. It is there for as long as that leadership is.
///
/// In JSON the value is `value` when its bytes are UTF-8 and `value_base64` otherwise, never both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PublishedJson", into = "PublishedJson")]
pub struct Published {
    /// Its bytes.
    pub value: Vec<u8>,
    /// Media type of the value, as it was sent.
    pub content_type: String,
    /// The revision that published it.
    pub revision: u64,
}

/// A published value as JSON has it.
#[derive(Clone, Serialize, Deserialize)]
struct PublishedJson {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value_base64: Option<Base64>,
    content_type: String,
    revision: u64,
}

impl From<Published> for PublishedJson {
    fn from(published: Published) -> Self {
        let Published { value, content_type, revision } = published;
        let ValueJson { value, value_base64 } = ValueJson::from(Some(value));
        Self { value, value_base64, content_type, revision }
    }
}

impl TryFrom<PublishedJson> for Published {
    type Error = BothForms;

    fn try_from(json: PublishedJson) -> Result<Self, Self::Error> {
        let PublishedJson { value, value_base64, content_type, revision } = json;
        let value = ValueJson { value, value_base64 }.into_bytes()?.unwrap_or_default();
        Ok(Self { value, content_type, revision })
    }
}
