//! One client of Holdfast on one connection.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::bench::http::Connection;

const NAMESPACE: &str = "/v1/namespaces/default";
/// How long a request for a lock waits for it, in milliseconds: longer than any measurement.
const WAIT_MS: u64 = 600_000;

/// A client of Holdfast.
#[derive(Debug)]
pub(super) struct HoldfastClient {
    connection: Connection,
    /// The session that its locks belong to.
    session: Option<String>,
    claims: u64,
}

impl HoldfastClient {
    pub(super) fn new(api: SocketAddr) -> Result<Self> {
        Ok(Self { connection: Connection::new(api)?, session: None, claims: 0 })
    }

    async fn expect(
        &mut self,
        method: Method,
        path: &str,
        json: bool,
        body: Bytes,
        expected: &[StatusCode],
    ) -> Result<Bytes> {
        let (status, answer) = self.connection.call(method, path, json, body).await?;
        if !expected.contains(&status) {
            bail!("{path} answered {status}: {}", String::from_utf8_lossy(&answer));
        }
        Ok(answer)
    }

    pub(super) async fn put(&mut self, key: &str, value: Bytes) -> Result<()> {
        let path = format!("{NAMESPACE}/config/{key}");
        self.expect(Method::PUT, &path, false, value, &[StatusCode::OK, StatusCode::CREATED]).await.map(drop)
    }

    pub(super) async fn get(&mut self, key: &str) -> Result<Bytes> {
        let path = format!("{NAMESPACE}/config/{key}");
        self.expect(Method::GET, &path, false, Bytes::new(), &[StatusCode::OK]).await
    }

    pub(super) async fn put_all(&mut self, keys: &[String], value: &str) -> Result<()> {
        let puts: Vec<_> =
            keys.iter().map(|key| serde_json::json!({ "put": { "key": key, "value": value } })).collect();
        let body = serde_json::to_vec(&serde_json::json!({ "success": puts }))?;
        let path = format!("{NAMESPACE}/txn");
        self.expect(Method::POST, &path, true, body.into(), &[StatusCode::OK]).await.map(drop)
    }

    pub(super) async fn open_session(&mut self, ttl_seconds: u32) -> Result<String> {
        let id = format!("bench-{:016x}", rand::random::<u64>());
        let body = format!("{{\"ttl_ms\":{}}}", u64::from(ttl_seconds) * 1_000);
        let path = format!("/v1/sessions/{id}");
        self.expect(Method::PUT, &path, true, body.into(), &[StatusCode::CREATED]).await?;
        self.session = Some(id.clone());
        Ok(id)
    }

    pub(super) async fn keep_alive(&mut self, session: &str) -> Result<()> {
        let path = format!("/v1/sessions/{session}/keepalive");
        self.expect(Method::POST, &path, false, Bytes::new(), &[StatusCode::OK]).await.map(drop)
    }

    /// Takes a lock, waiting for it; returns the path of the claim.
    pub(super) async fn lock(&mut self, name: &str) -> Result<Bytes> {
        let session = self.session.as_deref().context("a client that locks has a session")?;
        self.claims += 1;
        let path = format!("{NAMESPACE}/locks/{name}/claims/{session}-{}", self.claims);
        let body = format!("{{\"session\":\"{session}\",\"wait_ms\":{WAIT_MS}}}");
        self.expect(Method::PUT, &path, true, body.into(), &[StatusCode::CREATED]).await?;
        Ok(path.into())
    }

    pub(super) async fn unlock(&mut self, claim: &Bytes) -> Result<()> {
        let path = std::str::from_utf8(claim)?;
        self.expect(Method::DELETE, path, false, Bytes::new(), &[StatusCode::NO_CONTENT]).await.map(drop)
    }

    pub(super) async fn watch(mut self, prefix: &str) -> Result<HoldfastWatch> {
        let path = format!("{NAMESPACE}/watch?prefix={prefix}");
        let answer = self.connection.send(Method::GET, &path, false, Bytes::new()).await?;
        if answer.status() != StatusCode::OK {
            bail!("{path} answered {}", answer.status());
        }
        Ok(HoldfastWatch { body: answer.into_body(), text: Vec::new(), _client: self })
    }
}

/// A stream of changes.
#[derive(Debug)]
pub(super) struct HoldfastWatch {
    body: Incoming,
    text: Vec<u8>,
    _client: HoldfastClient,
}

impl HoldfastWatch {
    /// Waits for more, and calls `each` with the value of every key that was written.
    pub(super) async fn next(&mut self, each: &mut impl FnMut(&[u8])) -> Result<()> {
        let Some(frame) = self.body.frame().await else { bail!("the stream has ended") };
        let Some(data) = frame?.into_data().ok() else { return Ok(()) };
        self.text.extend_from_slice(&data);
        let mut told = 0;
        while let Some(end) = self.text[told..].windows(2).position(|pair| pair == b"\n\n") {
            let event = std::str::from_utf8(&self.text[told..told + end])?;
            if event.contains("event: error") {
                bail!("the stream has ended: {event}");
            }
            for (_, value) in
                event.match_indices("\"value\":\"").map(|(at, found)| (at, &event[at + found.len()..]))
            {
                each(value.as_bytes());
            }
            told += end + 2;
        }
        self.text.drain(..told);
        Ok(())
    }
}
