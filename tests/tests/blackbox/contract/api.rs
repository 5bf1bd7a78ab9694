//! Plain HTTP requests to one node, with their whole answers: a rule looks at statuses, tokens and problem codes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_tests::harness::{Cluster, Seen, poll};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};

const NAMESPACE_URL: &str = "/v1/namespaces/default";
/// Above every wait that a rule asks for.
const REQUEST_LIMIT: Duration = Duration::from_secs(40);
/// Above everything that a rule waits for to come about.
pub(super) const SETTLE_LIMIT: Duration = Duration::from_secs(20);

/// One node's REST API. Clones share their connections.
#[derive(Clone, Debug)]
pub(super) struct Api {
    http: Client,
    url: String,
}

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) etag: Option<u64>,
    /// JSON, or null for anything else.
    pub(super) body: Value,
}

impl Reply {
    /// The reply, if it has this status.
    pub(super) fn expect(self, status: u16) -> Result<Self> {
        ensure!(self.status == status, "expected status {status}, got {self:?}");
        Ok(self)
    }

    /// The fencing token of a grant.
    pub(super) fn token(&self) -> Result<u64> {
        self.body["fencing_token"].as_u64().with_context(|| format!("no token in {self:?}"))
    }

    /// The problem's code, empty when it is none.
    pub(super) fn code(&self) -> &str {
        self.text("code")
    }

    /// A member of the body, empty when it is no text.
    pub(super) fn text(&self, member: &str) -> &str {
        self.body[member].as_str().unwrap_or_default()
    }

    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl Api {
    /// The API of one node of the cluster.
    pub(super) fn of(cluster: &Cluster, index: usize) -> Result<Self> {
        let http = Client::builder().no_proxy().timeout(REQUEST_LIMIT).build()?;
        Ok(Self { http, url: cluster.nodes()[index].api_url() })
    }

    /// The APIs of all nodes.
    pub(super) fn of_all(cluster: &Cluster) -> Result<Vec<Self>> {
        (0..cluster.nodes().len()).map(|index| Self::of(cluster, index)).collect()
    }

    async fn send(&self, request: RequestBuilder) -> Result<Reply> {
        let answer = request.send().await?;
        let etag = answer.headers().get("etag").and_then(|etag| etag.to_str().ok());
        let etag = etag.and_then(|etag| etag.trim_matches('"').parse().ok());
        let status = answer.status().as_u16();
        let body = serde_json::from_slice(&answer.bytes().await?).unwrap_or(Value::Null);
        Ok(Reply { status, etag, body })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    /// Creates a session without a lock delay.
    pub(super) async fn open_session(&self, id: &str, ttl_ms: u64) -> Result<()> {
        self.put_session(id, &json!({ "ttl_ms": ttl_ms })).await
    }

    pub(super) async fn put_session(&self, id: &str, body: &Value) -> Result<()> {
        let request = self.request(Method::PUT, &format!("/v1/sessions/{id}")).json(body);
        self.send(request).await?.expect(201).map(drop)
    }

    pub(super) async fn keepalive(&self, id: &str) -> Result<Reply> {
        self.send(self.request(Method::POST, &format!("/v1/sessions/{id}/keepalive"))).await
    }

    pub(super) async fn session(&self, id: &str) -> Result<Reply> {
        self.send(self.request(Method::GET, &format!("/v1/sessions/{id}"))).await
    }

    pub(super) async fn end_session(&self, id: &str) -> Result<()> {
        self.send(self.request(Method::DELETE, &format!("/v1/sessions/{id}"))).await?.expect(204).map(drop)
    }

    /// Asks for a lock with the given body.
    pub(super) async fn put_claim(&self, lock: &str, claim: &str, body: &Value) -> Result<Reply> {
        let path = format!("{NAMESPACE_URL}/locks/{lock}/claims/{claim}");
        self.send(self.request(Method::PUT, &path).json(body)).await
    }

    /// Tries to take a lock.
    pub(super) async fn try_lock(&self, lock: &str, claim: &str, session: &str) -> Result<Reply> {
        self.put_claim(lock, claim, &json!({ "session": session })).await
    }

    /// Waits for a lock.
    pub(super) async fn wait_for(
        &self,
        lock: &str,
        claim: &str,
        session: &str,
        wait: Duration,
    ) -> Result<Reply> {
        let wait_ms = u64::try_from(wait.as_millis())?;
        self.put_claim(lock, claim, &json!({ "session": session, "wait_ms": wait_ms })).await
    }

    /// Joins a queue without waiting for the grant.
    pub(super) async fn join_queue(&self, lock: &str, claim: &str, session: &str) -> Result<()> {
        let body = json!({ "session": session, "wait_ms": 1, "keep_waiting": true });
        self.put_claim(lock, claim, &body).await?.expect(202).map(drop)
    }

    pub(super) async fn claim(&self, lock: &str, claim: &str) -> Result<Reply> {
        let path = format!("{NAMESPACE_URL}/locks/{lock}/claims/{claim}");
        self.send(self.request(Method::GET, &path)).await
    }

    pub(super) async fn release(&self, lock: &str, claim: &str) -> Result<()> {
        let path = format!("{NAMESPACE_URL}/locks/{lock}/claims/{claim}");
        self.send(self.request(Method::DELETE, &path)).await?.expect(204).map(drop)
    }

    pub(super) async fn lock(&self, lock: &str) -> Result<Reply> {
        self.send(self.request(Method::GET, &format!("{NAMESPACE_URL}/locks/{lock}"))).await?.expect(200)
    }

    /// The claims that hold the lock.
    pub(super) async fn holders(&self, lock: &str) -> Result<Vec<String>> {
        Ok(claims_in(&self.lock(lock).await?.body["holders"]))
    }

    /// The claims that wait for the lock, the next one first.
    pub(super) async fn queue(&self, lock: &str) -> Result<Vec<String>> {
        Ok(claims_in(&self.lock(lock).await?.body["queue"]))
    }

    /// Looks until so many claims wait for the lock.
    pub(super) async fn wait_queued(&self, lock: &str, count: usize) -> Result<()> {
        poll("the queue to fill", SETTLE_LIMIT, async || match self.queue(lock).await {
            Ok(queue) if queue.len() == count => Seen::Ready(()),
            other => Seen::NotYet(format!("{other:?}")),
        })
        .await
    }

    pub(super) async fn force_release(&self, lock: &str, token: u64) -> Result<Reply> {
        let body = json!({ "fencing_token": token, "reason": "a trial" });
        let path = format!("{NAMESPACE_URL}/locks/{lock}/force-release");
        self.send(self.request(Method::POST, &path).json(&body)).await
    }

    pub(super) async fn put_config(&self, key: &str, value: &str, headers: &[(&str, &str)]) -> Result<Reply> {
        let request = self.request(Method::PUT, &format!("{NAMESPACE_URL}/config/{key}"));
        let request = request.header("content-type", "text/plain").body(value.to_owned());
        self.send(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
    }

    pub(super) async fn delete_config(&self, key: &str, headers: &[(&str, &str)]) -> Result<Reply> {
        let request = self.request(Method::DELETE, &format!("{NAMESPACE_URL}/config/{key}"));
        self.send(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
    }

    pub(super) async fn config(&self, key: &str) -> Result<Reply> {
        self.send(self.request(Method::GET, &format!("{NAMESPACE_URL}/config/{key}"))).await
    }

    /// Hands the leadership to the member with this id.
    pub(super) async fn transfer_to(&self, id: &str) -> Result<()> {
        let request = self.request(Method::POST, "/v1/cluster/transfer-leader").json(&json!({ "to": id }));
        self.send(request).await?.expect(200).map(drop)
    }
}

fn claims_in(list: &Value) -> Vec<String> {
    let claims = list.as_array().into_iter().flatten().filter_map(|one| one["claim"].as_str());
    claims.map(ToOwned::to_owned).collect()
}
