//! What streams of events carry: `…/watch`, `…/locks/{name}/events`, `…/elections/{name}/events`, `…/sessions/{id}/events`.
//!
//! ```text
//!   id: 1f03a9-812                                                  event: state     what is there now, before changes
//!   event: change                                                   event: change    one whole revision
//!   data: {"revision":812,"changes":[{"op":"put","key":"a",…}]}     event: progress  all up to it was delivered
//!                                                                   event: error     a problem; the stream ends
//! ```
//!
//! The streams are server-sent events (`text/event-stream`). An event's `id`, sent as `Last-Event-ID`, resumes after it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::{
    claims::{ClaimMode, ContestName, EndReason},
    config::ConfigItem,
    config::decimal,
    elections::Published,
    locks::LockView,
    sessions::SessionView,
};

/// What an event of a stream is: its `event` field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// What is there when the stream begins.
    State,
    /// The changes of one revision.
    Change,
    /// Everything up to a revision has been delivered.
    Progress,
    /// A [`Problem`](crate::Problem); the stream ends.
    Error,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::State, Self::Change, Self::Progress, Self::Error];

    /// The kind as it is written in the stream.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Change => "change",
            Self::Progress => "progress",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The id of an event: a revision within one history. A restore from a backup begins another history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// The history.
    pub history_id: u64,
    /// Everything up to this revision has been delivered with the event.
    pub revision: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{}", self.history_id, self.revision)
    }
}

/// The text is not the id of an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the id of an event is a history in hex, a dash and a revision, not {0:?}")]
pub struct InvalidEventId(pub String);

impl FromStr for EventId {
    type Err = InvalidEventId;

    /// Takes only what `Display` writes, so that each id has one spelling.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (history, revision) = text.split_once('-')?;
            let id =
                Self { history_id: u64::from_str_radix(history, 16).ok()?, revision: decimal(revision)? };
            (id.to_string() == text).then_some(id)
        };
        parse().ok_or_else(|| InvalidEventId(text.to_owned()))
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Event `change`: all that one revision changed and that the stream is about. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeEvent<C> {
    /// The revision.
    pub revision: u64,
    /// Its changes.
    pub changes: Vec<C>,
}

/// Event `progress`: everything up to this revision has been delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The revision.
    pub revision: u64,
}

/// A change of a config item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Change {
    /// It was written; with its value.
    Put(ConfigItem),
    /// It was deleted.
    Delete(Deletion),
    /// It was deleted because its session ended.
    Expire(Deletion),
}

impl Change {
    /// The key of the item.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Put(item) => &item.key,
            Self::Delete(deletion) | Self::Expire(deletion) => &deletion.key,
        }
    }

    /// What was done, as it is written on the wire.
    #[must_use]
    pub const fn op(&self) -> &'static str {
        match self {
            Self::Put(_) => "put",
            Self::Delete(_) => "delete",
            Self::Expire(_) => "expire",
        }
    }
}

/// The end of a config item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// Its key.
    pub key: String,
    /// The revision that deleted it.
    pub mod_revision: u64,
}

/// Event `state` of a watch on config items: a part of the items as they are at one revision. Changes follow once all
/// parts have been delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateEvent {
    /// The revision of the items.
    pub revision: u64,
    /// Items with their values, in the order of their keys.
    pub items: Vec<ConfigItem>,
    /// Whether another part follows; only the last part has an id.
    pub more: bool,
}

/// A change of a lock or of an election.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum LockChange {
    /// A claim waits for it.
    Queued {
        /// Id of the claim.
        claim: String,
        /// The session that owns it.
        session: String,
        /// How it shares the lock.
        #[serde(default)]
        mode: ClaimMode,
        /// Mode `permits`: how many it takes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        permits: Option<u32>,
    },
    /// A claim holds it.
    Granted {
        /// Id of the claim.
        claim: String,
        /// The session that owns it.
        session: String,
        /// How it shares the lock.
        #[serde(default)]
        mode: ClaimMode,
        /// Mode `permits`: how many it takes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        permits: Option<u32>,
        /// The token of the grant.
        fencing_token: u64,
    },
    /// The leader of the election published a value.
    Proclaimed {
        /// Id of the candidate that leads.
        claim: String,
        /// The session that owns it.
        session: String,
        /// The leader's token.
        fencing_token: u64,
        /// What it published.
        published: Published,
    },
    /// A claim has ended.
    Ended {
        /// Id of the claim.
        claim: String,
        /// The session that owned it; absent when the service never saw one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<String>,
        /// How it ended.
        reason: EndReason,
        /// The token that it had, if it was ever granted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fencing_token: Option<u64>,
    },
}

/// Event `state` of a lock or of an election.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockStateEvent {
    /// The revision of the view.
    pub revision: u64,
    /// The lock, or the election in the form of a lock.
    pub lock: LockView,
}

/// A change of a session or of what it owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum SessionChange {
    /// It was created.
    Created {
        /// Its id.
        session: String,
        /// How long it lives after its last keepalive, in milliseconds.
        ttl_ms: u64,
    },
    /// One of its claims waits.
    Queued {
        /// Namespace of the lock or election.
        namespace: String,
        /// Name of the lock or election.
        #[serde(flatten)]
        contest: ContestName,
        /// Id of the claim.
        claim: String,
    },
    /// One of its claims holds its lock.
    Granted {
        /// Namespace of the lock or election.
        namespace: String,
        /// Name of the lock or election.
        #[serde(flatten)]
        contest: ContestName,
        /// Id of the claim.
        claim: String,
        /// The token of the grant.
        fencing_token: u64,
    },
    /// One of its claims has ended.
    Ended {
        /// Namespace of the lock or election.
        namespace: String,
        /// Name of the lock or election.
        #[serde(flatten)]
        contest: ContestName,
        /// Id of the claim.
        claim: String,
        /// How it ended.
        reason: EndReason,
        /// The token that it had, if it was ever granted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fencing_token: Option<u64>,
    },
    /// It has ended; the stream ends after this.
    SessionEnded {
        /// Its id.
        session: String,
        /// How it ended.
        reason: EndReason,
    },
}

/// Event `state` of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStateEvent {
    /// The revision of the view.
    pub revision: u64,
    /// The session.
    pub session: SessionView,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_id_reads_back_and_has_one_spelling() {
        for id in [
            EventId { history_id: 0, revision: 0 },
            EventId { history_id: 0x1f_03a9, revision: 812 },
            EventId { history_id: u64::MAX, revision: u64::MAX },
        ] {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        assert_eq!(EventId { history_id: 0x1f_03a9, revision: 812 }.to_string(), "1f03a9-812");
        for bad in [
            "",
            "-",
            "1f",
            "1f-",
            "-812",
            "1F-812",
            "01f-812",
            "+1-812",
            "1f-0812",
            "1f-+812",
            "1f--812",
            "1f-812 ",
            " 1f-812",
            "1g-812",
            "10000000000000000-1",
            "1f-99999999999999999999",
            "1f-812-1",
        ] {
            assert_eq!(bad.parse::<EventId>(), Err(InvalidEventId(bad.to_owned())));
        }
    }

    #[test]
    fn an_event_id_is_text_in_json() {
        let id = EventId { history_id: 0xab, revision: 3 };
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"ab-3\"");
        assert_eq!(serde_json::from_str::<EventId>("\"ab-3\"").unwrap(), id);
        assert!(serde_json::from_str::<EventId>("\"ab-03\"").is_err());
    }

    #[test]
    fn a_change_may_carry_bytes_that_are_no_text() {
        let json = r#"{"op":"put","key":"a","value_base64":"/wA=","content_type":"x/y","create_revision":1,"mod_revision":1,"version":1}"#;
        let change: Change = serde_json::from_str(json).unwrap();
        assert_eq!((change.key(), change.op()), ("a", "put"));
        assert_eq!(serde_json::to_string(&change).unwrap(), json);
    }
}
