//! Writers and lock takers that work through all nodes and remember every acknowledgement.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use holdfast_api::ErrorCode;
use holdfast_api::claims::{ClaimRequest, ClaimView};
use holdfast_api::client::{Client, ClientError, WriteOptions};
use holdfast_api::config::WriteGuard;
use holdfast_api::sessions::SessionRequest;
use holdfast_tests::harness::{Seen, poll};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::durability::evidence::{Evidence, Grant, Write};

/// The namespace of everything here.
pub(super) const NAMESPACE: &str = "default";
/// One attempt may take so long: longer than a change of leader.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(4);
/// A call through one given node may take so long. That node may be down.
const NODE_LIMIT: Duration = Duration::from_secs(3);
/// Longer than any scenario, so that no claim ends by expiry and its tombstone is there to be read at the end.
const SESSION_TTL_MS: u64 = 3_600_000;
/// How long a lock taker waits in the queue.
const LOCK_WAIT_MS: u64 = 5_000;
/// Calls after which a client is made anew, so that it begins at its own node again instead of where it fled to.
const CALLS_PER_CLIENT: u32 = 50;
/// Every so many writes one goes to a key that is written again and again.
const WRITES_PER_OVERWRITE: u32 = 4;
/// Tries to release one claim before the lock taker fails.
const RELEASE_TRIES: usize = 10;
/// A load that makes no progress for so long is stuck.
const PROGRESS_LIMIT: Duration = Duration::from_secs(60);

/// How the calls of a client are spread over the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Each call goes through the next node, whether it is up or not.
    EveryNode,
    /// The client library goes where it is answered.
    FailOver,
}

/// The size of a load.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoadOptions {
    /// Which nodes take the calls.
    pub(super) route: Route,
    /// Clients that write config.
    pub(super) writers: u32,
    /// Clients that take and release locks, three to a lock.
    pub(super) takers: u32,
    /// Pause of each client between two calls.
    pub(super) pace: Duration,
}

/// A running load. Dropping it ends its tasks.
pub(super) struct Load {
    evidence: Shared,
    tasks: JoinSet<Result<()>>,
    stop: CancellationToken,
}

/// The evidence as the clients fill it.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Evidence>>);

impl Shared {
    fn with<T>(&self, look: impl FnOnce(&mut Evidence) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How much a load has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// Acknowledged writes.
    pub(super) writes: usize,
    /// Acknowledged grants.
    pub(super) grants: usize,
}

impl Load {
    /// Starts clients whose first choices are the endpoints in turn.
    pub(super) fn start(endpoints: &[String], options: LoadOptions) -> Self {
        let (evidence, mut tasks, stop) = (Shared::default(), JoinSet::new(), CancellationToken::new());
        for id in 0..options.writers + options.takers {
            let endpoints = rotated(endpoints, id);
            let (evidence, clients) = (evidence.clone(), Vec::new());
            let worker = Worker { id, endpoints, options, evidence, clients, calls: 0 };
            if id < options.writers {
                tasks.spawn(worker.write(stop.clone()));
            } else {
                tasks.spawn(worker.take_locks(stop.clone()));
            }
        }
        Self { evidence, tasks, stop }
    }

    /// What was acknowledged so far.
    pub(super) fn done(&self) -> Done {
        self.evidence.with(|all| Done { writes: all.writes.len(), grants: all.grants.len() })
    }

    /// How many calls of each writer were acknowledged so far.
    pub(super) fn writes_by_worker(&self) -> Vec<u32> {
        self.evidence.with(|all| all.writes_by_worker.clone())
    }

    /// Waits until so much is acknowledged in all.
    pub(super) async fn reach(&mut self, goal: Done) -> Result<()> {
        let what = format!("{goal:?} under load");
        let (tasks, evidence) = (&mut self.tasks, &self.evidence);
        poll(&what, PROGRESS_LIMIT, async || {
            // A client ends only when it was told to, or when it saw something wrong.
            if let Some(ended) = tasks.try_join_next() {
                return Seen::Ready(Err(anyhow::anyhow!("a client ended: {ended:?}")));
            }
            let done = evidence.with(|all| Done { writes: all.writes.len(), grants: all.grants.len() });
            if goal.writes <= done.writes && goal.grants <= done.grants {
                return Seen::Ready(Ok(()));
            }
            Seen::NotYet(format!("{done:?}; last errors {:?}", evidence.with(|all| all.last_errors())))
        })
        .await?
    }

    /// Waits until so much more is acknowledged.
    pub(super) async fn advance(&mut self, by: Done) -> Result<()> {
        let now = self.done();
        self.reach(Done { writes: now.writes + by.writes, grants: now.grants + by.grants }).await
    }

    /// Ends all clients, each after its last call, and gives out what they saw.
    pub(super) async fn finish(mut self) -> Result<Evidence> {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("a client panicked")??;
        }
        Ok(self.evidence.with(std::mem::take))
    }
}

fn rotated(endpoints: &[String], by: u32) -> Vec<String> {
    let mut endpoints = endpoints.to_vec();
    if let Some(first) = usize::try_from(by).unwrap_or_default().checked_rem(endpoints.len()) {
        endpoints.rotate_left(first);
    }
    endpoints
}

struct Worker {
    id: u32,
    endpoints: Vec<String>,
    options: LoadOptions,
    evidence: Shared,
    /// One for each node, or one for all.
    clients: Vec<Client>,
    calls: u32,
}

impl Worker {
    /// The client of the next call, and the node that it is bound to.
    fn client(&mut self) -> Result<(Client, Option<String>)> {
        self.calls += 1;
        if self.clients.is_empty() || self.calls.is_multiple_of(CALLS_PER_CLIENT) {
            self.clients = self.new_clients()?;
        }
        let turn = usize::try_from(self.calls)? % self.clients.len();
        let node = match self.options.route {
            Route::EveryNode => Some(self.endpoints[turn].clone()),
            Route::FailOver => None,
        };
        Ok((self.clients[turn].clone(), node))
    }

    fn new_clients(&self) -> Result<Vec<Client>> {
        let clients = match self.options.route {
            Route::EveryNode => self
                .endpoints
                .iter()
                .map(|endpoint| Client::builder([endpoint]).deadline(NODE_LIMIT).build())
                .collect::<Result<_, _>>()?,
            Route::FailOver => vec![Client::builder(&self.endpoints).attempt_timeout(ATTEMPT_LIMIT).build()?],
        };
        Ok(clients)
    }

    async fn write(mut self, stop: CancellationToken) -> Result<()> {
        let mut written = 0;
        while !stop.is_cancelled() {
            written += 1;
            let key = if written % WRITES_PER_OVERWRITE == 0 {
                format!("again/{}", self.id)
            } else {
                format!("once/{}/{written}", self.id)
            };
            let value = format!("{}-{written}", self.id);
            self.put(key, value, WriteOptions::default()).await?;
            tokio::time::sleep(self.options.pace).await;
        }
        Ok(())
    }

    async fn put(&mut self, key: String, value: String, options: WriteOptions) -> Result<()> {
        let (client, node) = self.client()?;
        let asked = Instant::now();
        let answer = client.put_config(NAMESPACE, &key, value.clone(), "text/plain", &options).await;
        match answer {
            Ok(answer) => {
                let revision = answer.value.mod_revision;
                let write = Write { key, value, revision };
                self.evidence.with(|all| all.acknowledge_write(self.id, write, node));
            }
            // The holder of a live session asked with its own token.
            Err(ClientError::Problem(problem)) if problem.code() == ErrorCode::StaleToken => {
                bail!("a write with guard {:?} was refused: {problem}", options.guard);
            }
            Err(error) => self.failed("put", asked, &error),
        }
        Ok(())
    }

    fn failed(&self, call: &str, asked: Instant, error: &ClientError) {
        let text = format!("{call} by client {} after {:?}: {error}", self.id, asked.elapsed());
        self.evidence.with(|all| all.errors.push(text));
    }

    async fn take_locks(mut self, stop: CancellationToken) -> Result<()> {
        let session = format!("taker-{}", self.id);
        let request = SessionRequest { ttl_ms: Some(SESSION_TTL_MS), ..SessionRequest::default() };
        self.client()?.0.put_session(&session, &request).await.context("open a session")?;
        let lock = format!("lock-{}", self.id / 3);
        let mut claims = 0;
        while !stop.is_cancelled() {
            claims += 1;
            let claim = format!("claim-{}-{claims}", self.id);
            self.take(&lock, &claim, &session).await?;
            tokio::time::sleep(self.options.pace).await;
        }
        Ok(())
    }

    async fn take(&mut self, lock: &str, claim: &str, session: &str) -> Result<()> {
        let (client, _) = self.client()?;
        let request = ClaimRequest {
            session: Some(session.to_owned()),
            wait_ms: LOCK_WAIT_MS,
            ..ClaimRequest::default()
        };
        let asked = Instant::now();
        let answer = client.put_claim(NAMESPACE, lock, claim, &request).await;
        let told = Instant::now();
        let mut held = None;
        match answer {
            Ok(answer) => {
                let ClaimView::Held(view) = answer.value else {
                    bail!("claim {claim} on {lock} was answered {:?}", answer.value)
                };
                held = Some(view.fencing_token);
            }
            Err(error) => self.failed("claim", asked, &error),
        }
        if let Some(token) = held {
            let guard = Some(WriteGuard::lock(lock, token));
            let options = WriteOptions { guard, ..WriteOptions::default() };
            self.put(format!("guarded/{lock}"), claim.to_owned(), options).await?;
        }
        let released = Instant::now();
        if let Some(token) = held {
            let (lock, claim) = (lock.to_owned(), claim.to_owned());
            let grant = Grant { lock, claim, token, asked, told, released };
            self.evidence.with(|all| all.grants.push(grant));
        }
        self.release(lock, claim).await
    }

    async fn release(&mut self, lock: &str, claim: &str) -> Result<()> {
        for _ in 0..RELEASE_TRIES {
            let (client, _) = self.client()?;
            let asked = Instant::now();
            match client.delete_claim(NAMESPACE, lock, claim).await {
                Ok(_) => return Ok(()),
                Err(error) => self.failed("release", asked, &error),
            }
        }
        bail!("claim {claim} on {lock} was not released in {RELEASE_TRIES} calls")
    }
}
