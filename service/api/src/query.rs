//! Query parameters of reads, lists and streams of events, the same for every resource.

use std::{fmt, str::FromStr};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, MapAccess, Visitor},
    ser::SerializeMap,
};

use crate::path;

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Consistency {
    /// Sees every write that was answered before the read was sent.
    #[default]
    Linearizable,
    /// What the asked node has; may go back in time after that node restarted.
    Stale,
}

impl Consistency {
    /// The value of the `consistency` parameter.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Linearizable => "linearizable",
            Self::Stale => "stale",
        }
    }
}

impl fmt::Display for Consistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no consistency.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("consistency is linearizable or stale, not {0:?}")]
pub struct UnknownConsistency(pub String);

impl FromStr for Consistency {
    type Err = UnknownConsistency;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "linearizable" => Ok(Self::Linearizable),
            "stale" => Ok(Self::Stale),
            other => Err(UnknownConsistency(other.to_owned())),
        }
    }
}

/// Parameters of reading one resource.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadQuery {
    /// How fresh the answer must be.
    #[serde(default)]
    pub consistency: Option<Consistency>,
    /// Wait until the node has applied this revision.
    #[serde(default)]
    pub min_revision: Option<u64>,
    /// Read the config item as it was at this revision.
    #[serde(default)]
    pub at_revision: Option<u64>,
}

/// Parameters of a list.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// Only names that begin with this.
    #[serde(default)]
    pub prefix: Option<String>,
    /// At most so many items in this page.
    #[serde(default)]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Config only: include the values.
    #[serde(default)]
    pub values: bool,
    /// Config only: the list as it was at this revision. A cursor pins the revision by itself.
    #[serde(default)]
    pub at_revision: Option<u64>,
    /// How fresh the answer must be.
    #[serde(default)]
    pub consistency: Option<Consistency>,
    /// Wait until the node has applied this revision.
    #[serde(default)]
    pub min_revision: Option<u64>,
}

/// Parameters of the history of a key.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryQuery {
    /// At most so many versions in this page.
    #[serde(default)]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(default)]
    pub cursor: Option<String>,
    /// How fresh the answer must be.
    #[serde(default)]
    pub consistency: Option<Consistency>,
    /// Wait until the node has applied this revision.
    #[serde(default)]
    pub min_revision: Option<u64>,
}

/// Parameters of the difference between two versions of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiffQuery {
    /// One side: the value as of this revision.
    pub from: u64,
    /// The other side; the newest value when absent.
    #[serde(default)]
    pub to: Option<u64>,
    /// How fresh the answer must be.
    #[serde(default)]
    pub consistency: Option<Consistency>,
    /// Wait until the node has applied this revision.
    #[serde(default)]
    pub min_revision: Option<u64>,
}

/// Parameters of writing a config item.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutQuery {
    /// The session whose end deletes the item; it is permanent when absent.
    #[serde(default)]
    pub session: Option<String>,
}

/// What a stream of events begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Initial {
    /// What is there now, then the changes.
    State,
}

impl fmt::Display for Initial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State => f.write_str("state"),
        }
    }
}

/// Parameters of the events of a lock, an election or a session.
///
/// Without `from_revision` and `initial` a stream begins after the revision that the store has at the time of the request.
/// The header `Last-Event-ID` wins over both.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    /// The first revision that is wanted. Excludes `initial`.
    #[serde(default)]
    pub from_revision: Option<u64>,
    /// What the stream begins with.
    #[serde(default)]
    pub initial: Option<Initial>,
    /// How the starting point is found.
    #[serde(default)]
    pub consistency: Option<Consistency>,
}

/// Parameters of a watch on config items: those of [`EventsQuery`], and `prefix`, which may be repeated.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WatchQuery {
    /// Only keys that begin with one of these; every key when empty.
    pub prefix: Vec<String>,
    /// The first revision that is wanted. Excludes `initial`.
    pub from_revision: Option<u64>,
    /// What the stream begins with.
    pub initial: Option<Initial>,
    /// How the starting point is found.
    pub consistency: Option<Consistency>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum WatchParameter {
    Prefix,
    FromRevision,
    Initial,
    Consistency,
}

impl Serialize for WatchQuery {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { prefix, from_revision, initial, consistency } = self;
        let mut map = serializer.serialize_map(None)?;
        for prefix in prefix {
            map.serialize_entry("prefix", prefix)?;
        }
        if let Some(from_revision) = from_revision {
            map.serialize_entry("from_revision", from_revision)?;
        }
        if let Some(initial) = initial {
            map.serialize_entry("initial", initial)?;
        }
        if let Some(consistency) = consistency {
            map.serialize_entry("consistency", consistency)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for WatchQuery {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(WatchQueryVisitor)
    }
}

struct WatchQueryVisitor;

impl<'de> Visitor<'de> for WatchQueryVisitor {
    type Value = WatchQuery;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the parameters of a watch")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WatchQuery, A::Error> {
        let mut query = WatchQuery::default();
        while let Some(parameter) = map.next_key()? {
            match parameter {
                WatchParameter::Prefix => query.prefix.push(map.next_value()?),
                WatchParameter::FromRevision => once("from_revision", &mut query.from_revision, &mut map)?,
                WatchParameter::Initial => once("initial", &mut query.initial, &mut map)?,
                WatchParameter::Consistency => once("consistency", &mut query.consistency, &mut map)?,
            }
        }
        Ok(query)
    }
}

/// Takes the value of a parameter that is given once at most.
fn once<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    name: &'static str,
    slot: &mut Option<T>,
    map: &mut A,
) -> Result<(), A::Error> {
    if slot.is_some() {
        return Err(A::Error::duplicate_field(name));
    }
    *slot = Some(map.next_value()?);
    Ok(())
}

impl ReadQuery {
    /// The query string with its `?`, empty when everything is the default.
    #[must_use]
    pub fn to_query_string(&self) -> String {
        let Self { consistency, min_revision, at_revision } = self;
        let mut query = QueryString::default();
        query.push("consistency", *consistency);
        query.push("min_revision", *min_revision);
        query.push("at_revision", *at_revision);
        query.text
    }
}

impl ListQuery {
    /// The query string with its `?`, empty when everything is the default.
    #[must_use]
    pub fn to_query_string(&self) -> String {
        let Self { prefix, limit, cursor, values, at_revision, consistency, min_revision } = self;
        let mut query = QueryString::default();
        query.push("prefix", prefix.as_ref());
        query.push("limit", *limit);
        query.push("cursor", cursor.as_ref());
        query.push("values", values.then_some(true));
        query.push("at_revision", *at_revision);
        query.push("consistency", *consistency);
        query.push("min_revision", *min_revision);
        query.text
    }
}

impl HistoryQuery {
    /// The query string with its `?`, empty when everything is the default.
    #[must_use]
    pub fn to_query_string(&self) -> String {
        let Self { limit, cursor, consistency, min_revision } = self;
        let mut query = QueryString::default();
        query.push("limit", *limit);
        query.push("cursor", cursor.as_ref());
        query.push("consistency", *consistency);
        query.push("min_revision", *min_revision);
        query.text
    }
}

impl DiffQuery {
    /// The query string with its `?`.
    #[must_use]
    pub fn to_query_string(&self) -> String {
        let Self { from, to, consistency, min_revision } = self;
        let mut query = QueryString::default();
        query.push("from", Some(*from));
        query.push("to", *to);
        query.push("consistency", *consistency);
        query.push("min_revision", *min_revision);
        query.text
    }
}

impl PutQuery {
    /// The query string with its `?`, empty when everything is the default.
    #[must_use]
    pub fn to_query_string(&self) -> String {
        let Self { session } = self;
        let mut query = QueryString::default();
        query.push("session", session.as_ref());
        query.text
    }
}

impl EventsQuery {
    /// The query string with its `?`, empty when everything is the default.
    #[must_use]
    pub fn to_query_string(&self) -> String {
        let Self { from_revision, initial, consistency } = self;
        let mut query = QueryString::default();
        query.push("from_revision", *from_revision);
        query.push("initial", *initial);
        query.push("consistency", *consistency);
        query.text
    }
}

impl WatchQuery {
    /// The query string with its `?`, empty when everything is the default.
    #[must_use]
    pub fn to_query_string(&self) -> String {
        let Self { prefix, from_revision, initial, consistency } = self;
        let mut query = QueryString::default();
        for prefix in prefix {
            query.push("prefix", Some(prefix));
        }
        query.push("from_revision", *from_revision);
        query.push("initial", *initial);
        query.push("consistency", *consistency);
        query.text
    }
}

#[derive(Default)]
struct QueryString {
    text: String,
}

impl QueryString {
    fn push(&mut self, name: &str, value: Option<impl fmt::Display>) {
        let Some(value) = value else { return };
        self.text.push(if self.text.is_empty() { '?' } else { '&' });
        self.text.push_str(name);
        self.text.push('=');
        self.text.push_str(&path::segment(&value.to_string()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_left_out_of_the_query_string() {
        assert_eq!(ReadQuery::default().to_query_string(), "");
        assert_eq!(ListQuery::default().to_query_string(), "");
    }

    #[test]
    fn values_are_encoded_and_joined() {
        let list = ListQuery {
            prefix: Some("a/b c&d".to_owned()),
            limit: Some(10),
            values: true,
            consistency: Some(Consistency::Stale),
            ..ListQuery::default()
        };
        assert_eq!(list.to_query_string(), "?prefix=a%2Fb%20c%26d&limit=10&values=true&consistency=stale");
        let read = ReadQuery { min_revision: Some(7), at_revision: Some(5), ..ReadQuery::default() };
        assert_eq!(read.to_query_string(), "?min_revision=7&at_revision=5");
    }

    #[test]
    fn a_watch_names_each_of_its_prefixes() {
        let watch = WatchQuery {
            prefix: vec!["a/".to_owned(), "b&c".to_owned()],
            from_revision: Some(7),
            initial: Some(Initial::State),
            consistency: Some(Consistency::Stale),
        };
        let text = "?prefix=a%2F&prefix=b%26c&from_revision=7&initial=state&consistency=stale";
        assert_eq!(watch.to_query_string(), text);
        let events = EventsQuery { from_revision: Some(7), ..EventsQuery::default() };
        assert_eq!(events.to_query_string(), "?from_revision=7");
    }

    #[test]
    fn only_the_prefix_of_a_watch_may_be_repeated() {
        let parse = |json: &str| serde_json::from_str::<WatchQuery>(json).map_err(|error| error.to_string());
        let prefix = vec!["a".to_owned(), "b".to_owned()];
        let expected = WatchQuery { prefix, from_revision: Some(1), ..WatchQuery::default() };
        assert_eq!(parse(r#"{"prefix":"a","from_revision":1,"prefix":"b"}"#), Ok(expected));
        let twice = parse(r#"{"from_revision":1,"from_revision":1}"#).unwrap_err();
        assert!(twice.contains("duplicate field `from_revision`"), "{twice}");
        let unknown = parse(r#"{"at_revision":1}"#).unwrap_err();
        assert!(unknown.contains("unknown field `at_revision`"), "{unknown}");
    }

    #[test]
    fn other_reads_write_their_parameters_in_a_fixed_order() {
        let history =
            HistoryQuery { limit: Some(5), cursor: Some("9.x".to_owned()), ..HistoryQuery::default() };
        assert_eq!(history.to_query_string(), "?limit=5&cursor=9.x");
        let diff = DiffQuery { from: 3, to: Some(9), consistency: None, min_revision: Some(9) };
        assert_eq!(diff.to_query_string(), "?from=3&to=9&min_revision=9");
        assert_eq!(PutQuery { session: Some("a/b".to_owned()) }.to_query_string(), "?session=a%2Fb");
    }

    #[test]
    fn consistency_reads_back_from_its_text() {
        for consistency in [Consistency::Linearizable, Consistency::Stale] {
            assert_eq!(consistency.as_str().parse(), Ok(consistency));
        }
        assert!("lease".parse::<Consistency>().is_err());
    }
}
