//! Calls on config items.

use bytes::Bytes;
use reqwest::{
    Method,
    header::{CONTENT_TYPE, ETAG},
};

use crate::{
    claims::ContestKind,
    client::{
        Answer, Call, Client, ClientError, InvalidRequest, ProtocolError, Replay, read_headers,
        transport::Reply,
    },
    config::{
        ConfigDiff, ConfigHistory, ConfigList, ConfigWrite, ETag, RollbackRequest, TxnAnswer, TxnRequest,
        WriteGuard,
    },
    header, path,
    query::{DiffQuery, HistoryQuery, ListQuery, PutQuery, ReadQuery},
};

/// A config item's value as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigValue {
    /// Its bytes.
    pub bytes: Bytes,
    /// Its media type.
    pub content_type: Option<String>,
    /// The revision that wrote it.
    pub mod_revision: u64,
}

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfigWritten {
    /// The revision that wrote the item.
    pub mod_revision: u64,
    /// Whether the item did not exist before.
    pub created: bool,
}

/// What must hold of the item for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WriteCondition {
    /// Nothing.
    #[default]
    None,
    /// It does not exist.
    Absent,
    /// It exists.
    Present,
    /// It exists and this is its revision.
    Revision(ETag),
}

/// How a write is made safe to repeat.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum IdempotencyKey {
    /// The client draws a key for this call.
    #[default]
    Random,
    /// The caller keeps a key of its own, to repeat the call even after a crash.
    Given(String),
    /// No key: after a lost answer the call ends with an unknown outcome and is never repeated.
    Without,
}

/// Everything about a write but what it writes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WriteOptions {
    /// What must hold of the item.
    pub condition: WriteCondition,
    /// The lock that must be held, or the election that must be led.
    pub guard: Option<WriteGuard>,
    /// Who manages the item; nobody when absent.
    pub managed_by: Option<String>,
    /// [`put_config`](Client::put_config) only: the session whose end deletes the item; it is permanent when absent.
    pub session: Option<String>,
    /// How the call is made safe to repeat.
    pub idempotency_key: IdempotencyKey,
}

/// Everything about a transaction but what it compares and does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TxnOptions {
    /// The lock that must be held, or the election that must be led; else nothing is done at all.
    pub guard: Option<WriteGuard>,
    /// How the call is made safe to repeat.
    pub idempotency_key: IdempotencyKey,
}

impl Client {
    /// Publishes what others are to know of the leader of an election, for as long as it leads.
    ///
    /// # Errors
    /// `stale-token` when the token is not the leader's, `too-large`; else as every call.
    pub async fn publish(
        &self,
        namespace: &str,
        election: &str,
        fencing_token: u64,
        value: impl Into<Bytes>,
        content_type: &str,
    ) -> Result<Answer<()>, ClientError> {
        let guard =
            WriteGuard { kind: ContestKind::Election, name: election.to_owned(), token: fencing_token };
        let options = WriteOptions { guard: Some(guard), ..WriteOptions::default() };
        let path = path::election_value(namespace, election);
        let mut call = write_call(Method::PUT, path, &options)?.with_header("Content-Type", content_type)?;
        call.wire.body = Some(value.into());
        self.empty(call).await
    }

    /// Reads a config item.
    ///
    /// # Errors
    /// `key-not-found`, `revision-compacted`, `future-revision`; else as every call.
    pub async fn get_config(
        &self,
        namespace: &str,
        key: &str,
        query: &ReadQuery,
    ) -> Result<Answer<ConfigValue>, ClientError> {
        let call = Call::get(path::config_key(namespace, key) + &query.to_query_string());
        read_value(&self.send(call).await?)
    }

    /// Reads a config item unless it still has the revision that the caller knows: then the value is `None`.
    ///
    /// # Errors
    /// As [`get_config`](Self::get_config).
    pub async fn get_config_if_changed(
        &self,
        namespace: &str,
        key: &str,
        known: ETag,
        query: &ReadQuery,
    ) -> Result<Answer<Option<ConfigValue>>, ClientError> {
        let call = Call::get(path::config_key(namespace, key) + &query.to_query_string())
            .with_header("If-None-Match", &known.to_string())?;
        let reply = self.send(call).await?;
        if reply.wire.status == 304 {
            return Ok(read_headers(&reply).map(|()| None));
        }
        Ok(read_value(&reply)?.map(Some))
    }

    /// Writes a config item.
    ///
    /// # Errors
    /// `revision-mismatch`, `stale-token`, `too-large`; `session-not-found`, `session-expired`, `overloaded` when the
    /// session cannot own the item; else as every call.
    pub async fn put_config(
        &self,
        namespace: &str,
        key: &str,
        value: impl Into<Bytes>,
        content_type: &str,
        options: &WriteOptions,
    ) -> Result<Answer<ConfigWritten>, ClientError> {
        let query = PutQuery { session: options.session.clone() };
        let path = path::config_key(namespace, key) + &query.to_query_string();
        let mut call = write_call(Method::PUT, path, options)?.with_header("Content-Type", content_type)?;
        call.wire.body = Some(value.into());
        let reply = self.send(call).await?;
        let mod_revision = etag(&reply)?.0;
        let created = reply.wire.status == 201;
        Ok(read_headers(&reply).map(|()| ConfigWritten { mod_revision, created }))
    }

    /// Deletes a config item; one that does not exist is a success, unless a condition asks for it.
    ///
    /// # Errors
    /// `revision-mismatch`, `stale-token`; else as every call.
    pub async fn delete_config(
        &self,
        namespace: &str,
        key: &str,
        options: &WriteOptions,
    ) -> Result<Answer<()>, ClientError> {
        refuse_session(options)?;
        self.empty(write_call(Method::DELETE, path::config_key(namespace, key), options)?).await
    }

    /// A page of the versions of a key, newest first.
    ///
    /// # Errors
    /// `key-not-found` when no version is left; else as every call.
    pub async fn config_history(
        &self,
        namespace: &str,
        key: &str,
        query: &HistoryQuery,
    ) -> Result<Answer<ConfigHistory>, ClientError> {
        self.json(Call::get(path::history(namespace, key) + &query.to_query_string())).await
    }

    /// What differs between two versions of a key.
    ///
    /// # Errors
    /// `key-not-found` when it existed at neither revision, `revision-compacted`, `future-revision`; else as every call.
    pub async fn diff_config(
        &self,
        namespace: &str,
        key: &str,
        query: &DiffQuery,
    ) -> Result<Answer<ConfigDiff>, ClientError> {
        self.json(Call::get(path::diff(namespace, key) + &query.to_query_string())).await
    }

    /// Writes the value and the content type that a key had at an earlier revision, as a new version.
    ///
    /// # Errors
    /// `key-not-found` when it did not exist then, `revision-compacted`, `future-revision`, `revision-mismatch`,
    /// `stale-token`; else as every call.
    pub async fn rollback_config(
        &self,
        namespace: &str,
        key: &str,
        request: &RollbackRequest,
        options: &WriteOptions,
    ) -> Result<Answer<ConfigWrite>, ClientError> {
        refuse_session(options)?;
        let call = write_call(Method::POST, path::rollback(namespace, key), options)?;
        self.json(call.with_json(request)).await
    }

    /// Compares and carries out one of two lists of operations, in one step.
    ///
    /// # Errors
    /// `invalid-field` with the place in the request, `stale-token`, `too-large`, `session-not-found`, `session-expired`;
    /// else as every call. Conditions that do not hold are no error: [`TxnAnswer::succeeded`] tells them.
    pub async fn txn(
        &self,
        namespace: &str,
        request: &TxnRequest,
        options: &TxnOptions,
    ) -> Result<Answer<TxnAnswer>, ClientError> {
        let TxnOptions { guard, idempotency_key } = options.clone();
        let options = WriteOptions { guard, idempotency_key, ..WriteOptions::default() };
        let call = write_call(Method::POST, path::txn(namespace), &options)?;
        self.json(call.with_json(request)).await
    }

    /// A page of config items.
    ///
    /// # Errors
    /// `revision-compacted` when the list's revision is gone; else as every call.
    pub async fn list_config(
        &self,
        namespace: &str,
        query: &ListQuery,
    ) -> Result<Answer<ConfigList>, ClientError> {
        self.json(Call::get(path::config(namespace) + &query.to_query_string())).await
    }
}

/// Only a put can give an item an owner. Nothing that a caller asked for is dropped in silence.
fn refuse_session(options: &WriteOptions) -> Result<(), ClientError> {
    match options.session {
        None => Ok(()),
        Some(_) => Err(ClientError::InvalidRequest(InvalidRequest::Session)),
    }
}

fn write_call(method: Method, path: String, options: &WriteOptions) -> Result<Call, ClientError> {
    // The session is part of the path of a put.
    let WriteOptions { condition, guard, managed_by, idempotency_key, session: _ } = options;
    let mut call = match idempotency_key {
        IdempotencyKey::Random => Call::keyed(method, path),
        IdempotencyKey::Given(key) => {
            Call::new(method, path, Replay::ByKey).with_header(header::IDEMPOTENCY_KEY, key)?
        }
        IdempotencyKey::Without => Call::new(method, path, Replay::Never),
    };
    call = match condition {
        WriteCondition::None => call,
        WriteCondition::Absent => call.with_header("If-None-Match", "*")?,
        WriteCondition::Present => call.with_header("If-Match", "*")?,
        WriteCondition::Revision(etag) => call.with_header("If-Match", &etag.to_string())?,
    };
    if let Some(guard) = guard {
        call = call.with_header(header::GUARD, &guard.to_string())?;
    }
    if let Some(managed_by) = managed_by {
        call = call.with_header(header::MANAGED_BY, managed_by)?;
    }
    Ok(call)
}

fn read_value(reply: &Reply) -> Result<Answer<ConfigValue>, ClientError> {
    let value = ConfigValue {
        bytes: reply.wire.body.clone(),
        content_type: reply
            .wire
            .headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .map(ToOwned::to_owned),
        mod_revision: etag(reply)?.0,
    };
    Ok(read_headers(reply).map(|()| value))
}

fn etag(reply: &Reply) -> Result<ETag, ClientError> {
    reply
        .wire
        .headers
        .get(ETAG)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse().ok())
        .ok_or(ClientError::Protocol { status: reply.wire.status, detail: ProtocolError::Header("ETag") })
}
