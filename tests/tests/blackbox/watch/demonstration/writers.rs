//! Who writes config keys, through all nodes, and remembers what became of each write.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Prefixes of keys.
pub(super) const PREFIXES: usize = 20;
const WRITERS: usize = 9;
/// Further ones while there is a hurry.
const HURRIED: usize = 30;
/// Pause after a write, usually.
const PACE: Duration = Duration::from_millis(25);
/// Bound on one request.
const PATIENCE: Duration = Duration::from_secs(15);

/// The keys of a prefix.
pub(super) fn prefix(number: usize) -> String {
    format!("p{number:02}/")
}

/// What a write does to one key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Effect {
    Put(String),
    Delete,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was acknowledged at this revision.
    At(u64),
    /// It was acknowledged; whether there was something to delete is not known.
    AtIfThere(u64),
    /// It may have happened.
    Unknown,
}

/// One write to one key. No two put the same value.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) key: String,
    pub(super) effect: Effect,
    pub(super) fate: Fate,
}

/// The writers at work.
pub(super) struct Writers {
    shared: Arc<Shared>,
    tasks: JoinSet<Result<Vec<Written>>>,
    seed: u64,
    count: usize,
    stop: CancellationToken,
}

struct Shared {
    http: reqwest::Client,
    endpoints: Vec<String>,
    last_revision: AtomicU64,
}

impl Writers {
    pub(super) fn start(endpoints: &[String], seed: u64) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
        let shared =
            Arc::new(Shared { http, endpoints: endpoints.to_vec(), last_revision: AtomicU64::new(0) });
        let stop = CancellationToken::new();
        let mut writers = Self { shared, tasks: JoinSet::new(), seed, count: 0, stop: stop.clone() };
        writers.spawn(WRITERS, PACE, &stop);
        Ok(writers)
    }

    fn spawn(&mut self, count: usize, pace: Duration, stop: &CancellationToken) {
        for number in self.count..self.count + count {
            let writer = Writer {
                shared: Arc::clone(&self.shared),
                number,
                random: StdRng::seed_from_u64(self.seed + number as u64),
                exists: BTreeMap::new(),
                written: Vec::new(),
                count: 0,
                pace,
            };
            self.tasks.spawn(writer.work(stop.clone()));
        }
        self.count += count;
    }

    /// Writes as much as the cluster takes, until the returned guard is dropped.
    pub(super) fn hurry(&mut self) -> DropGuard {
        let stop = self.stop.child_token();
        self.spawn(HURRIED, Duration::ZERO, &stop);
        stop.drop_guard()
    }

    /// The newest revision that was acknowledged.
    pub(super) fn last_revision(&self) -> u64 {
        self.shared.last_revision.load(Ordering::Relaxed)
    }

    /// Lets the writers end: what they wrote, and what the store has afterwards.
    pub(super) async fn finish(
        mut self,
        endpoints: &[String],
    ) -> Result<(Vec<Written>, BTreeMap<String, String>)> {
        self.stop.cancel();
        let mut written = Vec::new();
        while let Some(ended) = self.tasks.join_next().await {
            written.extend(ended??);
        }
        Ok((written, self.shared.state(endpoints).await?))
    }
}

impl Shared {
    /// Every key with its value, read from the leader.
    async fn state(&self, endpoints: &[String]) -> Result<BTreeMap<String, String>> {
        let mut state = BTreeMap::new();
        let mut cursor = String::new();
        loop {
            let url = format!("{}/v1/namespaces/default/config?values=true{cursor}", endpoints[0]);
            let page: Value = self.http.get(&url).send().await?.error_for_status()?.json().await?;
            for item in page["items"].as_array().context("no items")? {
                let text = |name: &str| item[name].as_str().map(str::to_owned).context("an item without it");
                state.insert(text("key")?, text("value")?);
            }
            let Some(next) = page["next_cursor"].as_str() else { return Ok(state) };
            cursor = format!("&cursor={}", holdfast_api::path::segment(next));
        }
    }
}

struct Writer {
    shared: Arc<Shared>,
    number: usize,
    random: StdRng,
    /// Whether each key exists, while that is known. Nobody else writes the keys of this writer.
    exists: BTreeMap<String, Option<bool>>,
    written: Vec<Written>,
    count: usize,
    /// Pause after a write.
    pace: Duration,
}

impl Writer {
    async fn work(mut self, stop: CancellationToken) -> Result<Vec<Written>> {
        while !stop.is_cancelled() {
            match self.random.random_range(0..10) {
                0 => self.delete().await?,
                1 | 2 => self.put_several().await?,
                _ => self.put().await?,
            }
            tokio::time::sleep(self.pace).await;
        }
        Ok(self.written)
    }

    fn key(&mut self) -> String {
        format!("{}w{}", prefix(self.random.random_range(0..PREFIXES)), self.number)
    }

    fn value(&mut self) -> String {
        self.count += 1;
        format!("{}-{}", self.number, self.count)
    }

    async fn put(&mut self) -> Result<()> {
        let (key, value) = (self.key(), self.value());
        let path = format!("/v1/namespaces/default/config/{key}");
        let fate = self.send(Method::PUT, &path, Some(value.clone()), None).await?;
        self.note(key, Effect::Put(value), fate);
        Ok(())
    }

    /// Several keys of different prefixes at one revision.
    async fn put_several(&mut self) -> Result<()> {
        let count = self.random.random_range(2..5);
        let mut puts = BTreeMap::new();
        for _ in 0..count {
            puts.insert(self.key(), self.value());
        }
        let ops = puts.iter().map(|(key, value)| json!({"put": {"key": key, "value": value}}));
        let body = json!({"success": ops.collect::<Vec<_>>()});
        let fate = self.send(Method::POST, "/v1/namespaces/default/txn", None, Some(body)).await?;
        for (key, value) in puts {
            self.note(key, Effect::Put(value), fate);
        }
        Ok(())
    }

    async fn delete(&mut self) -> Result<()> {
        let key = self.key();
        let there = self.exists.get(&key).copied().unwrap_or(Some(false));
        let path = format!("/v1/namespaces/default/config/{key}");
        let fate = match (self.send(Method::DELETE, &path, None, None).await?, there) {
            // Nothing was deleted, so nothing happened.
            (Some(Fate::At(_)), Some(false)) => None,
            (Some(Fate::At(revision)), None) => Some(Fate::AtIfThere(revision)),
            (fate, _) => fate,
        };
        self.note(key, Effect::Delete, fate);
        Ok(())
    }

    fn note(&mut self, key: String, effect: Effect, fate: Option<Fate>) {
        let Some(fate) = fate else { return };
        let exists = match (fate, &effect) {
            (Fate::Unknown, _) => None,
            (Fate::At(_) | Fate::AtIfThere(_), Effect::Put(_)) => Some(true),
            (Fate::At(_) | Fate::AtIfThere(_), Effect::Delete) => Some(false),
        };
        self.exists.insert(key.clone(), exists);
        self.written.push(Written { key, effect, fate });
    }

    /// What became of a write; none when it certainly did not happen.
    async fn send(
        &mut self,
        method: Method,
        path: &str,
        text: Option<String>,
        json: Option<Value>,
    ) -> Result<Option<Fate>> {
        let node = self.random.random_range(0..self.shared.endpoints.len());
        let mut request = self.shared.http.request(method, format!("{}{path}", self.shared.endpoints[node]));
        if let Some(text) = text {
            request = request.header("Content-Type", "text/plain").body(text);
        }
        if let Some(json) = json {
            request = request.json(&json);
        }
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) if error.is_connect() => return Ok(None),
            Err(_) => return Ok(Some(Fate::Unknown)),
        };
        let status = answer.status().as_u16();
        let revision = answer.headers().get("revision").and_then(|value| value.to_str().ok());
        match (status, revision.and_then(|text| text.parse().ok())) {
            (200..300, Some(revision)) => {
                self.shared.last_revision.fetch_max(revision, Ordering::Relaxed);
                Ok(Some(Fate::At(revision)))
            }
            (503 | 429, _) => Ok(None),
            (500.., _) => Ok(Some(Fate::Unknown)),
            (_, _) => bail!("{path} was answered {status}: {}", answer.text().await.unwrap_or_default()),
        }
    }
}
