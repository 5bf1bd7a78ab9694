//! Seeded concurrent clients over all nodes, recording into one history.
//!
//! Config clients read, write, compare-and-set and delete a few keys. Lock clients keep a session each, take and
//! release a few locks, and write under the lock's guard while they hold it. Writes carry no idempotency key, so
//! an unknown outcome stays unknown.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::harness::client::CallClient;
use crate::harness::recorder::Recorder;
use crate::history::{
    Answer, Call, ClaimName, ClientId, Condition, Guard, History, Key, LockName, Outcome, Refusal,
    SessionName, ValueId,
};

/// Requests for one claim after an unknown outcome, before the client gives the claim up.
const REPLAYS_MAX: u32 = 20;
/// Pause after a node that does not serve; a down node would otherwise fill the history with refusals.
const REFUSED_PAUSE: Duration = Duration::from_millis(20);

/// The size and shape of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadOptions {
    /// The seed of all choices. What the cluster answers is not seeded.
    pub seed: u64,
    /// Clients that work on config.
    pub config_clients: u32,
    /// Clients that work on locks.
    pub lock_clients: u32,
    /// Keys that the config clients share.
    pub keys: u32,
    /// Locks that the lock clients share; each guards a key of its own.
    pub locks: u32,
    /// Rounds of each client, unless stopped before. A config round is one call, a lock round several.
    pub rounds: u32,
    /// TTL of the lock clients' sessions.
    pub ttl_ms: u64,
    /// Bound on one call, above the bound on a wait.
    pub call_limit: Duration,
    /// Bound on a wait for a lock.
    pub wait_ms_max: u64,
    /// Pause of a client after each call, which spreads the calls over the time of the harm.
    pub pace: Duration,
}

impl Default for WorkloadOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            config_clients: 6,
            lock_clients: 6,
            keys: 4,
            locks: 2,
            rounds: 500,
            ttl_ms: 5_000,
            call_limit: Duration::from_secs(5),
            wait_ms_max: 2_000,
            pace: Duration::ZERO,
        }
    }
}

/// How a workload's operations ended, for tests that must not be vacuous.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Operations in all.
    pub operations: usize,
    /// Acknowledged writes.
    pub writes: usize,
    /// Acknowledged grants, each claim once per answer.
    pub grants: usize,
    /// Refusals.
    pub refused: usize,
    /// Unknown outcomes.
    pub unknown: usize,
}

impl Tally {
    /// Counts a history.
    pub fn of(history: &History) -> Self {
        let mut tally = Self { operations: history.operations.len(), ..Self::default() };
        for op in &history.operations {
            match &op.outcome {
                Outcome::Ok { answer: Answer::Written { .. }, .. } => tally.writes += 1,
                Outcome::Ok { answer: Answer::Held { .. }, .. } => tally.grants += 1,
                Outcome::Ok { .. } => {}
                Outcome::Refused { .. } => tally.refused += 1,
                Outcome::Unknown => tally.unknown += 1,
            }
        }
        tally
    }
}

/// A workload against given endpoints.
#[derive(Clone, Debug)]
pub struct Workload {
    options: WorkloadOptions,
    endpoints: Vec<String>,
    recorder: Recorder,
}

impl Workload {
    /// Prepares clients for the base URLs `endpoints`; nothing is sent yet.
    pub fn new(options: WorkloadOptions, endpoints: Vec<String>) -> Self {
        Self { options, endpoints, recorder: Recorder::default() }
    }

    /// Runs all clients until their rounds are over or `stop` is cancelled; each ends with its last call
    /// answered. Fails on the first answer that the API does not allow.
    pub async fn run(&self, stop: &CancellationToken) -> Result<History> {
        let mut clients = JoinSet::new();
        let http = reqwest::Client::builder().no_proxy().timeout(self.options.call_limit).build()?;
        for id in 0..self.options.config_clients + self.options.lock_clients {
            let client = WorkloadClient {
                calls: CallClient::new(http.clone(), self.recorder.clone(), ClientId(id)),
                options: self.options.clone(),
                endpoints: self.endpoints.clone(),
                rng: StdRng::seed_from_u64(self.options.seed ^ (u64::from(id) << 32)),
                id,
                values: 0,
                names: 0,
                known_revisions: BTreeMap::new(),
            };
            let stop = stop.clone();
            if id < self.options.config_clients {
                clients.spawn(client.work_on_config(stop));
            } else {
                clients.spawn(client.work_on_locks(stop));
            }
        }
        while let Some(ended) = clients.join_next().await {
            ended.context("a client panicked")??;
        }
        Ok(self.recorder.history())
    }

    /// What was recorded so far.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }
}

/// What a client knows after asking for a lock.
enum Acquired {
    Held(u64),
    Nothing,
    Unknown,
}

struct WorkloadClient {
    calls: CallClient,
    options: WorkloadOptions,
    endpoints: Vec<String>,
    rng: StdRng,
    id: u32,
    values: u32,
    names: u32,
    /// The last revision that this client saw of each key, for compare-and-set.
    known_revisions: BTreeMap<Key, u64>,
}

impl WorkloadClient {
    async fn work_on_config(mut self, stop: CancellationToken) -> Result<()> {
        for _ in 0..self.options.rounds {
            if stop.is_cancelled() {
                break;
            }
            let key = Key::new(format!("key-{}", self.rng.random_range(0..self.options.keys)));
            let call = self.config_call(key.clone());
            if let Outcome::Ok { answer, .. } = self.send(call).await? {
                self.remember(key, &answer);
            }
        }
        Ok(())
    }

    fn config_call(&mut self, key: Key) -> Call {
        let value = self.fresh_value();
        let known = self.known_revisions.get(&key).copied();
        match self.rng.random_range(0..100) {
            0..40 => Call::Read { key },
            40..65 => Call::Write { key, value, condition: Condition::Always, guard: None },
            65..90 => {
                let condition = known.map_or(Condition::Absent, Condition::Revision);
                Call::Write { key, value, condition, guard: None }
            }
            90..95 => Call::Delete { key, condition: Condition::Always },
            _ => Call::Delete { key, condition: known.map_or(Condition::Always, Condition::Revision) },
        }
    }

    fn remember(&mut self, key: Key, answer: &Answer) {
        match answer {
            Answer::Item { mod_revision, .. } | Answer::Written { mod_revision } => {
                self.known_revisions.insert(key, *mod_revision);
            }
            Answer::NoItem | Answer::Deleted => {
                self.known_revisions.remove(&key);
            }
            Answer::SessionOpen
            | Answer::Renewed
            | Answer::SessionEnded
            | Answer::Held { .. }
            | Answer::Released
            | Answer::Lock { .. } => {}
        }
    }

    async fn work_on_locks(mut self, stop: CancellationToken) -> Result<()> {
        let mut session = None;
        for _ in 0..self.options.rounds {
            if stop.is_cancelled() {
                break;
            }
            let live = match session.take() {
                Some(live) => live,
                None => match self.open_session().await? {
                    Some(opened) => opened,
                    None => continue,
                },
            };
            if self.lock_round(&live).await? {
                session = Some(live);
            }
        }
        if let Some(session) = session {
            self.send(Call::EndSession { session }).await?;
        }
        Ok(())
    }

    async fn open_session(&mut self) -> Result<Option<SessionName>> {
        let session = SessionName::new(self.fresh_name("session"));
        let ttl_ms = self.options.ttl_ms;
        let outcome = self.send(Call::OpenSession { session: session.clone(), ttl_ms }).await?;
        Ok(matches!(outcome, Outcome::Ok { .. }).then_some(session))
    }

    /// Renews the session, takes a lock, uses it and gives it back. False once the session may be over.
    async fn lock_round(&mut self, session: &SessionName) -> Result<bool> {
        if !matches!(self.send(Call::KeepAlive { session: session.clone() }).await?, Outcome::Ok { .. }) {
            // An unknown or refused renewal: ending the session on purpose leaves nothing held behind.
            self.send(Call::EndSession { session: session.clone() }).await?;
            return Ok(false);
        }
        let lock = LockName::new(format!("lock-{}", self.rng.random_range(0..self.options.locks)));
        if self.rng.random_bool(0.1) {
            self.send(Call::LookAtLock { lock: lock.clone() }).await?;
        }
        let claim = ClaimName::new(self.fresh_name("claim"));
        let is_clean = match self.acquire(&lock, &claim, session).await? {
            Acquired::Held(token) => {
                self.use_lock(&lock, token).await?;
                // Now and then a hold is given back only by its session's end.
                !self.rng.random_bool(0.05) && self.release(&lock, &claim).await?
            }
            Acquired::Nothing => true,
            Acquired::Unknown => self.release(&lock, &claim).await?,
        };
        if !is_clean {
            self.send(Call::EndSession { session: session.clone() }).await?;
        }
        Ok(is_clean)
    }

    /// Asks until the answer is definite, always under the same claim id.
    async fn acquire(
        &mut self,
        lock: &LockName,
        claim: &ClaimName,
        session: &SessionName,
    ) -> Result<Acquired> {
        let tries = self.rng.random_bool(0.5);
        let wait_ms = if tries { 0 } else { self.rng.random_range(1..=self.options.wait_ms_max.max(1)) };
        let call =
            Call::Acquire { lock: lock.clone(), claim: claim.clone(), session: session.clone(), wait_ms };
        let mut is_open = false;
        for _ in 0..REPLAYS_MAX {
            match self.send(call.clone()).await? {
                Outcome::Ok { answer: Answer::Held { token }, .. } => return Ok(Acquired::Held(token)),
                Outcome::Refused { refusal: Refusal::NotServed { .. }, .. } if is_open => {}
                // An earlier request may still be on its way, and a refusal of this one does not stop it.
                Outcome::Ok { .. } | Outcome::Refused { .. } if is_open => return Ok(Acquired::Unknown),
                Outcome::Ok { .. } | Outcome::Refused { .. } => return Ok(Acquired::Nothing),
                Outcome::Unknown => is_open = true,
            }
        }
        Ok(Acquired::Unknown)
    }

    /// Releases until it is answered, and says whether it was.
    async fn release(&mut self, lock: &LockName, claim: &ClaimName) -> Result<bool> {
        let call = Call::Release { lock: lock.clone(), claim: claim.clone() };
        for _ in 0..REPLAYS_MAX {
            if matches!(self.send(call.clone()).await?, Outcome::Ok { .. }) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn use_lock(&mut self, lock: &LockName, token: u64) -> Result<()> {
        for _ in 0..self.rng.random_range(0..3) {
            let guard = Some(Guard { lock: lock.clone(), token });
            let key = Key::new(format!("of-{lock}"));
            let value = self.fresh_value();
            self.send(Call::Write { key, value, condition: Condition::Always, guard }).await?;
        }
        Ok(())
    }

    async fn send(&mut self, call: Call) -> Result<Outcome> {
        let endpoint = self.endpoints.choose(&mut self.rng).context("a workload needs an endpoint")?;
        let outcome = self.calls.send(endpoint, call).await?;
        if matches!(&outcome, Outcome::Refused { refusal: Refusal::NotServed { .. }, .. }) {
            tokio::time::sleep(REFUSED_PAUSE).await;
        }
        if !self.options.pace.is_zero() {
            tokio::time::sleep(self.options.pace).await;
        }
        Ok(outcome)
    }

    fn fresh_value(&mut self) -> ValueId {
        self.values += 1;
        ValueId(u64::from(self.id) << 32 | u64::from(self.values))
    }

    fn fresh_name(&mut self, kind: &str) -> String {
        self.names += 1;
        format!("{kind}-{}-{}-{}", self.options.seed, self.id, self.names)
    }
}
