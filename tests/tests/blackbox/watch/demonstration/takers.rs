//! Who takes locks, in sessions that last, and remembers which grants were acknowledged.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Locks; more sessions than that, so that some wait.
pub(super) const LOCKS: usize = 5;
pub(super) const SESSIONS: usize = 10;
/// Longer than the scenario.
const TTL_MS: u64 = 600_000;
/// How long a claim waits, and how long it is held.
const WAIT_MS: u64 = 1_000;
const HOLD: Duration = Duration::from_millis(50);
/// Bound on one request.
const PATIENCE: Duration = Duration::from_secs(15);
/// Bound on a request that is repeated until it has an outcome.
const OUTCOME_LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

pub(super) fn lock(number: usize) -> String {
    format!("lock-{number}")
}

pub(super) fn session(number: usize) -> String {
    format!("session-{number}")
}

/// An acknowledged grant.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub(super) lock: usize,
    pub(super) claim: String,
    pub(super) session: String,
    pub(super) token: u64,
}

/// The takers at work.
pub(super) struct Takers {
    nodes: Nodes,
    tasks: JoinSet<Result<Vec<Grant>>>,
    stop: CancellationToken,
}

#[derive(Clone)]
struct Nodes {
    http: reqwest::Client,
    endpoints: Vec<String>,
}

impl Takers {
    /// Creates the sessions.
    pub(super) async fn new(endpoints: &[String]) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
        let nodes = Nodes { http, endpoints: endpoints.to_vec() };
        for number in 0..SESSIONS {
            let path = format!("/v1/sessions/{}", session(number));
            nodes.settle(Method::PUT, &path, Some(&json!({"ttl_ms": TTL_MS}))).await?;
        }
        Ok(Self { nodes, tasks: JoinSet::new(), stop: CancellationToken::new() })
    }

    /// Begins to take locks.
    pub(super) fn start(&mut self) {
        for number in 0..SESSIONS {
            self.tasks.spawn(take(self.nodes.clone(), number, self.stop.clone()));
        }
    }

    /// Ends the takers and their sessions: the acknowledged grants, and the revision after everything.
    pub(super) async fn finish(mut self) -> Result<(Vec<Grant>, u64)> {
        self.stop.cancel();
        let mut grants = Vec::new();
        while let Some(ended) = self.tasks.join_next().await {
            grants.extend(ended??);
        }
        let mut last = 0;
        for number in 0..SESSIONS {
            let path = format!("/v1/sessions/{}", session(number));
            last = self.nodes.settle(Method::DELETE, &path, None).await?.1;
        }
        Ok((grants, last))
    }
}

async fn take(nodes: Nodes, number: usize, stop: CancellationToken) -> Result<Vec<Grant>> {
    let mut grants = Vec::new();
    for round in 0_usize.. {
        if stop.is_cancelled() {
            break;
        }
        let (lock, claim) = ((number + round) % LOCKS, format!("c{number}-{round}"));
        let path = format!("/v1/namespaces/default/locks/{}/claims/{claim}", self::lock(lock));
        let body = json!({"session": session(number), "wait_ms": WAIT_MS});
        let answer = nodes.try_once(number + round, Method::PUT, &path, Some(&body)).await;
        if let Ok((StatusCode::OK | StatusCode::CREATED, _, text)) = answer {
            let held: Value = serde_json::from_str(&text)?;
            let token = held["fencing_token"].as_u64().context("a grant without a token")?;
            grants.push(Grant { lock, claim, session: session(number), token });
            tokio::time::sleep(HOLD).await;
        } else {
            tokio::time::sleep(PAUSE).await;
        }
        // Whatever became of it: afterwards it is over.
        nodes.settle(Method::DELETE, &path, None).await?;
    }
    Ok(grants)
}

impl Nodes {
    async fn try_once(
        &self,
        node: usize,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, u64, String)> {
        let endpoint = &self.endpoints[node % self.endpoints.len()];
        let request = self.http.request(method, format!("{endpoint}{path}"));
        let answer = match body {
            Some(body) => request.json(body).send().await?,
            None => request.send().await?,
        };
        let revision = answer.headers().get("revision").context("no revision")?.to_str()?.parse()?;
        Ok((answer.status(), revision, answer.text().await?))
    }

    /// Repeats what may be repeated until it succeeds: its status and the revision after it.
    async fn settle(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(StatusCode, u64)> {
        let deadline = tokio::time::Instant::now() + OUTCOME_LIMIT;
        for node in 0.. {
            let answer = self.try_once(node, method.clone(), path, body).await;
            match answer {
                Ok((status, revision, _)) if status.is_success() => return Ok((status, revision)),
                Ok((status, _, text))
                    if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS =>
                {
                    bail!("{path} was answered {status}: {text}")
                }
                other if deadline < tokio::time::Instant::now() => bail!("{path}: last {other:?}"),
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
        bail!("{path} was never asked for")
    }
}
