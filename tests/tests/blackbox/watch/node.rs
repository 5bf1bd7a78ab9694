//! Nodes to watch, and the requests that change what they hold.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_api::watch::{EventId, Progress};
use holdfast_tests::harness::{Cluster, EventStream, NodeOptions, RefusedStream, SentEvent, Serial, serial};
use reqwest::Method;
use serde_json::Value;

/// Longer than anything takes that must come soon.
pub(super) const SOON: Duration = Duration::from_secs(20);

/// A cluster of a test that has its turn.
#[derive(Debug)]
pub(super) struct Nodes {
    // Before the turn, which ends only when the cluster is gone.
    pub(super) cluster: Cluster,
    /// Without a limit on time: streams last.
    pub(super) http: reqwest::Client,
    _turn: Serial,
}

/// The answer to a request.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) revision: u64,
    pub(super) body: String,
}

impl Nodes {
    pub(super) async fn start(count: usize, args: &[&str]) -> Result<Self> {
        let turn = serial().await;
        let args = args.iter().map(ToString::to_string).collect();
        let cluster = Cluster::start_with(count, &NodeOptions { args, env: Vec::new() }).await?;
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { cluster, http, _turn: turn })
    }

    pub(super) fn url(&self, node: usize, path: &str) -> String {
        format!("{}{path}", self.cluster.nodes()[node].api_url())
    }

    /// A request to the first node.
    pub(super) async fn send(&self, method: Method, path: &str, body: impl Into<Body>) -> Result<Answer> {
        self.send_to(0, method, path, body).await
    }

    pub(super) async fn send_to(
        &self,
        node: usize,
        method: Method,
        path: &str,
        body: impl Into<Body>,
    ) -> Result<Answer> {
        let request = self.http.request(method, self.url(node, path)).timeout(SOON);
        let request = match body.into() {
            Body::None => request,
            Body::Json(value) => request.json(&value),
            Body::Bytes(bytes) => request.header("Content-Type", "text/plain").body(bytes),
        };
        let answer = request.send().await.with_context(|| format!("ask for {path}"))?;
        let revision = answer.headers().get("revision").context("no revision")?.to_str()?.parse()?;
        Ok(Answer { status: answer.status().as_u16(), revision, body: answer.text().await? })
    }

    /// Sends what must succeed: the revision after it.
    pub(super) async fn done(&self, method: Method, path: &str, body: impl Into<Body>) -> Result<u64> {
        let answer = self.send(method, path, body).await?;
        ensure!(answer.status < 300, "{path} answered {answer:?}");
        Ok(answer.revision)
    }

    /// Writes a key of the default namespace: its revision.
    pub(super) async fn put(&self, key: &str, value: impl Into<Vec<u8>>) -> Result<u64> {
        let path = format!("/v1/namespaces/default/config/{key}");
        self.done(Method::PUT, &path, Body::Bytes(value.into())).await
    }

    /// Opens a stream on the first node, which must be there.
    pub(super) async fn open(&self, path: &str) -> Result<EventStream> {
        self.open_after(0, path, None).await
    }

    pub(super) async fn open_after(
        &self,
        node: usize,
        path: &str,
        last_event_id: Option<&str>,
    ) -> Result<EventStream> {
        let opened = EventStream::open(&self.http, &self.url(node, path), last_event_id).await?;
        opened.map_err(|refused| anyhow::anyhow!("{path} was refused: {refused:?}"))
    }

    /// Opens a stream that must be refused: its status and code.
    pub(super) async fn refused(&self, path: &str, last_event_id: Option<&str>) -> Result<RefusedStream> {
        match EventStream::open(&self.http, &self.url(0, path), last_event_id).await? {
            Ok(_) => anyhow::bail!("{path} was not refused"),
            Err(refused) => Ok(refused),
        }
    }
}

/// What a request carries.
#[derive(Debug)]
pub(super) enum Body {
    None,
    Json(Value),
    Bytes(Vec<u8>),
}

impl From<()> for Body {
    fn from((): ()) -> Self {
        Self::None
    }
}

impl From<Value> for Body {
    fn from(value: Value) -> Self {
        Self::Json(value)
    }
}

/// The status and the code of a refusal.
pub(super) fn code(refused: &RefusedStream) -> (u16, &str) {
    (refused.status.as_u16(), refused.problem["code"].as_str().unwrap_or_default())
}

/// The first event of a stream that does not begin with the state: where it begins.
pub(super) async fn beginning(stream: &mut EventStream) -> Result<EventId> {
    let event = stream.next_within(SOON).await?;
    ensure!(event.kind == "progress", "a stream begins with {event:?}");
    let id = id_of(&event)?;
    let progress: Progress = event.parse()?;
    ensure!(progress.revision == id.revision, "{event:?}");
    Ok(id)
}

/// The id of an event, which must have one.
pub(super) fn id_of(event: &SentEvent) -> Result<EventId> {
    let id = event.id.as_deref().with_context(|| format!("{event:?} has no id"))?;
    id.parse().with_context(|| format!("{event:?}"))
}

/// The data of an event of a kind as plain JSON.
pub(super) fn data(event: &SentEvent, kind: &str) -> Result<Value> {
    ensure!(event.kind == kind, "{event:?} is no {kind}");
    event.parse()
}
