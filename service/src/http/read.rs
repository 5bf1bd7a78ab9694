//! Reads: linearizable by default, local when asked for.

use axum::response::Response;
use bytes::Bytes;
use holdfast_api::ErrorCode;
use holdfast_api::query::{Consistency, ListQuery, ReadQuery};
use holdfast_core::Revision;
use holdfast_core::domain::{Fault, View};
use serde::de::DeserializeOwned;

use crate::http::App;
use crate::http::dispatch::{Call, dispatch};
use crate::http::error::{self, ApiError};
use crate::http::request::Context;
use crate::raft::StateReader;

/// How a read is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadMode {
    /// On the leader, after a round that confirms it.
    Linearizable,
    /// Here, once this node has applied a revision. Reads one's own writes on any node.
    AtLeast(u64),
    /// Here, as it is. May go back after a restart.
    Stale,
}

impl ReadMode {
    /// The mode of a request that takes only the common read parameters.
    pub(crate) fn of(context: &Context) -> Result<Self, ApiError> {
        let query: ReadQuery = query(context)?;
        if query.at_revision.is_some() {
            return Err(ApiError::new(ErrorCode::InvalidField, "at_revision is for config reads only"));
        }
        Ok(Self::from_parameters(query.consistency, query.min_revision))
    }

    /// The mode that the parameters ask for: an explicit consistency wins, `min_revision` alone asks for a local read.
    pub(crate) fn from_parameters(consistency: Option<Consistency>, min_revision: Option<u64>) -> Self {
        match (consistency, min_revision) {
            (Some(Consistency::Linearizable), _) | (None, None) => Self::Linearizable,
            (Some(Consistency::Stale) | None, Some(revision)) => Self::AtLeast(revision),
            (Some(Consistency::Stale), None) => Self::Stale,
        }
    }
}

/// The query of a request, unknown parameters refused.
pub(crate) fn query<T: DeserializeOwned>(context: &Context) -> Result<T, ApiError> {
    axum::extract::Query::<T>::try_from_uri(&context.uri).map(|query| query.0).map_err(|rejection| {
        ApiError::new(ErrorCode::InvalidField, format!("query: {}", rejection.body_text()))
    })
}

/// A page of a list.
pub(crate) struct Page {
    /// What the names begin with.
    pub(crate) prefix: String,
    /// Rows at most.
    pub(crate) limit: usize,
    /// Where the page before ended.
    pub(crate) after: Option<Cursor>,
    /// Whether values are wanted.
    pub(crate) values: bool,
    /// The revision that the cursor or the request pins.
    pub(crate) at: Option<Revision>,
    /// How the read is made.
    pub(crate) mode: ReadMode,
}

/// Where a list goes on: the revision that pins it, and the last name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The revision of the first page.
    pub(crate) revision: Revision,
    /// The last name of the page before.
    pub(crate) after: String,
}

impl Cursor {
    /// The text that clients send back.
    pub(crate) fn to_text(&self) -> String {
        format!("{}.{}", self.revision, self.after)
    }

    fn parse(text: &str) -> Option<Self> {
        let (revision, after) = text.split_once('.')?;
        let number: u64 = revision.parse().ok()?;
        (number <= Revision::MAX.as_u64() && !after.is_empty())
            .then(|| Self { revision: Revision::new(number), after: after.to_owned() })
    }
}

impl Page {
    /// The page that a request asks for.
    pub(crate) fn of(context: &Context) -> Result<Self, ApiError> {
        let query: ListQuery = query(context)?;
        if query.at_revision.is_some() {
            return Err(ApiError::new(ErrorCode::InvalidField, "at_revision is for config reads only"));
        }
        Self::from_parameters(query)
    }

    /// The page of a list that also has a past. A cursor pins its own revision.
    pub(crate) fn at_any_revision(context: &Context) -> Result<Self, ApiError> {
        Self::from_parameters(query(context)?)
    }

    fn from_parameters(query: ListQuery) -> Result<Self, ApiError> {
        let ListQuery { prefix, limit, cursor, values, at_revision, consistency, min_revision } = query;
        let limit = row_limit(limit)?;
        let prefix = prefix.unwrap_or_default();
        if holdfast_core::limits::KEY_BYTES_MAX < prefix.len() {
            return Err(ApiError::new(ErrorCode::InvalidField, "prefix is longer than any name"));
        }
        let after = cursor.map(|text| Cursor::parse(&text).ok_or_else(foreign_cursor)).transpose()?;
        let at = after.as_ref().map(|cursor| cursor.revision).or_else(|| at_revision.map(Revision::new));
        let mode = ReadMode::from_parameters(consistency, min_revision);
        Ok(Self { prefix, limit, after, values, at, mode })
    }
}

/// The rows that one page has at most.
pub(crate) fn row_limit(given: Option<u32>) -> Result<usize, ApiError> {
    let rows_max = holdfast_core::limits::PAGE_ROWS_MAX;
    match given.map(usize::try_from) {
        None => Ok(rows_max),
        Some(Ok(limit)) if 1 <= limit && limit <= rows_max => Ok(limit),
        Some(_) => Err(ApiError::new(ErrorCode::OutOfRange, format!("limit must be from 1 to {rows_max}"))),
    }
}

/// A cursor that is nothing but a revision.
pub(crate) fn revision_cursor(text: &str) -> Result<Revision, ApiError> {
    let number = text.parse::<u64>().ok().filter(|number| *number <= Revision::MAX.as_u64());
    number.map(Revision::new).ok_or_else(foreign_cursor)
}

fn foreign_cursor() -> ApiError {
    ApiError::new(ErrorCode::InvalidField, "cursor is not one that this API gave out")
}

/// Makes a read and answers it.
///
/// `answer` looks at the state at one moment; it may be called once per attempt.
pub(crate) async fn read<F>(
    app: &App,
    context: &Context,
    mode: ReadMode,
    answer: F,
) -> Result<Response, ApiError>
where
    F: Fn(&View<'_, StateReader<'_>>) -> Result<Result<Response, ApiError>, Fault>,
{
    read_then(app, context, mode, answer, |response| std::future::ready(Ok(response))).await
}

/// Makes a read, and then an answer that takes a while.
///
/// `look` looks at the state at one moment; both may be called once per attempt.
pub(crate) async fn read_then<T, L, A, Fut>(
    app: &App,
    context: &Context,
    mode: ReadMode,
    look: L,
    answer: A,
) -> Result<Response, ApiError>
where
    L: Fn(&View<'_, StateReader<'_>>) -> Result<Result<T, ApiError>, Fault>,
    A: Fn(T) -> Fut,
    Fut: Future<Output = Result<Response, ApiError>>,
{
    match mode {
        ReadMode::Linearizable => {
            let no_body = |_| Bytes::new();
            dispatch(app, Call::same(context, &no_body, true), || async {
                app.raft.confirm_leadership().await.map_err(error::from_read)?;
                answer(app.raft.look(&look).map_err(error::from_read)??).await
            })
            .await
        }
        ReadMode::AtLeast(revision) => {
            app.raft.wait_revision(revision).await.map_err(error::from_read)?;
            answer(app.raft.look(&look).map_err(error::from_read)??).await
        }
        ReadMode::Stale => answer(app.raft.look(&look).map_err(error::from_read)??).await,
    }
}

#[cfg(test)]
mod tests {
    use super::{Cursor, ReadMode};
    use holdfast_api::query::Consistency;
    use holdfast_core::Revision;

    #[test]
    fn a_cursor_reads_back_and_nothing_else_does() {
        let cursor = Cursor { revision: Revision::new(42), after: "a.b/c".to_owned() };
        assert_eq!(Cursor::parse(&cursor.to_text()), Some(cursor));
        for bad in ["", "42", "42.", "x.a", "-1.a", "99999999999999999999.a"] {
            assert_eq!(Cursor::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_explicit_consistency_wins_over_a_minimum_revision() {
        let mode = ReadMode::from_parameters;
        assert_eq!(mode(None, None), ReadMode::Linearizable);
        assert_eq!(mode(Some(Consistency::Linearizable), Some(7)), ReadMode::Linearizable);
        assert_eq!(mode(None, Some(7)), ReadMode::AtLeast(7));
        assert_eq!(mode(Some(Consistency::Stale), Some(7)), ReadMode::AtLeast(7));
        assert_eq!(mode(Some(Consistency::Stale), None), ReadMode::Stale);
    }
}
