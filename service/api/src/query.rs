//! Query parameters of reads and lists, the same for every resource.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

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
    /// How fresh the answer must be.
    #[serde(default)]
    pub consistency: Option<Consistency>,
    /// Wait until the node has applied this revision.
    #[serde(default)]
    pub min_revision: Option<u64>,
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
        let Self { prefix, limit, cursor, values, consistency, min_revision } = self;
        let mut query = QueryString::default();
        query.push("prefix", prefix.as_ref());
        query.push("limit", *limit);
        query.push("cursor", cursor.as_ref());
        query.push("values", values.then_some(true));
        query.push("consistency", *consistency);
        query.push("min_revision", *min_revision);
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
    fn consistency_reads_back_from_its_text() {
        for consistency in [Consistency::Linearizable, Consistency::Stale] {
            assert_eq!(consistency.as_str().parse(), Ok(consistency));
        }
        assert!("lease".parse::<Consistency>().is_err());
    }
}
