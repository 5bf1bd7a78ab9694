//! A session that keeps itself alive.
//!
//! One task owns the keepalives: it sends one every third of the TTL and tries every endpoint while there is lease left.
//! The same task releases claims that were given up without waiting, so that nothing else has to be spawned for them.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    ErrorCode,
    client::{
        Client, ClientError, LeaseTime,
        claims::Contest,
        lease::{Lease, Lost, WatchedClaim},
        millis, random_id, read_json,
    },
    error::Problem,
    sessions::{KeepaliveView, SessionRequest, SessionView},
};

/// The shortest time that one keepalive attempt gets.
const KEEPALIVE_ATTEMPT_MIN: Duration = Duration::from_millis(100);

/// Describes a session before it is started.
#[derive(Debug, Clone)]
#[must_use]
pub struct SessionBuilder {
    client: Client,
    id: String,
    ttl: Duration,
    name: Option<String>,
    labels: BTreeMap<String, String>,
    lock_delay: Duration,
}

/// A live session. Clones share it; when the last one is dropped the keepalives stop and the service ends the session one
/// TTL later. [`end`](Self::end) ends it at once.
#[derive(Debug, Clone)]
pub struct Session {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    id: String,
    keeper: Keeper,
}

impl Client {
    /// Describes a session with that TTL.
    pub fn session(&self, ttl: Duration) -> SessionBuilder {
        SessionBuilder {
            client: self.clone(),
            id: random_id(),
            ttl,
            name: None,
            labels: BTreeMap::new(),
            lock_delay: Duration::ZERO,
        }
    }
}

impl SessionBuilder {
    /// An id of the caller's choice instead of a random one. An id is used once.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// What people see beside a lock that the session holds.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// A free label.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// How long a lock stays free after the session lost it.
    pub const fn lock_delay(mut self, lock_delay: Duration) -> Self {
        self.lock_delay = lock_delay;
        self
    }

    /// Creates the session and begins to keep it alive.
    ///
    /// # Errors
    /// As [`Client::put_session`].
    pub async fn start(self) -> Result<Session, ClientError> {
        let Self { client, id, ttl, name, labels, lock_delay } = self;
        let lock_delay_ms = (!lock_delay.is_zero()).then(|| millis(lock_delay));
        let request = SessionRequest { ttl_ms: Some(millis(ttl)), name, labels, lock_delay_ms };
        let reply = client.send_session(&id, &request).await?;
        let ttl = Duration::from_millis(read_json::<SessionView>(&reply)?.value.ttl_ms);
        // A replay says nothing about when the session was last renewed; only a PUT that made it does.
        let made_by_this_attempt = reply.wire.status == 201 && !reply.repeated;
        let keeper = if made_by_this_attempt {
            Keeper::start(&client, &id, ttl, reply.sent_at)
        } else {
            Keeper::start_by_keepalive(&client, &id, ttl).await?.0
        };
        Ok(Session { shared: Arc::new(Shared { client, id, keeper }) })
    }
}

impl Session {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.shared.id
    }

    /// Whether the session certainly lives at this moment.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// For how long it certainly lives on, if no further keepalive is answered.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.shared.keeper.lease.remaining()
    }

    /// Ends when the session is lost: its lease ran out here, the service says that it is gone, or it was ended.
    pub fn lost(&self) -> impl Future<Output = Lost> + Send + use<> {
        self.shared.keeper.lease.lost()
    }

    /// Sends a keepalive at once instead of at the next third of the TTL.
    ///
    /// # Errors
    /// As [`Client::keepalive`].
    pub async fn renew(&self) -> Result<KeepaliveView, ClientError> {
        let Shared { client, id, keeper } = self.shared.as_ref();
        keep_alive_once(client, id, &keeper.lease).await
    }

    /// Ends the session and releases everything that it owns, for all clones. From the call on it counts as lost here,
    /// whatever the service answers.
    ///
    /// # Errors
    /// As [`Client::delete_session`]; the session then ends one TTL after its last keepalive.
    pub async fn end(self) -> Result<(), ClientError> {
        let Shared { client, id, keeper } = self.shared.as_ref();
        keeper.stop().await;
        client.delete_session(id).await?;
        Ok(())
    }

    pub(crate) fn lease(&self) -> &Arc<Lease> {
        &self.shared.keeper.lease
    }

    /// Leaves it to the keepalive task to release this claim.
    pub(crate) fn abandon(&self, claim: ClaimPath) {
        self.shared.keeper.abandoned.push(claim);
    }
}

/// Where a claim is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClaimPath {
    pub(crate) contest: Contest,
    pub(crate) claim: String,
}

/// Claims to be released. At most as many as a session can own, because each of them was one of its claims.
#[derive(Debug, Default)]
struct Abandoned {
    claims: Mutex<Vec<ClaimPath>>,
    added: Notify,
}

impl Abandoned {
    fn push(&self, claim: ClaimPath) {
        self.put_back(claim);
        self.added.notify_one();
    }

    /// Keeps the claim without asking for a try at once.
    fn put_back(&self, claim: ClaimPath) {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner).push(claim);
    }

    fn pop(&self) -> Option<ClaimPath> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

/// Keeps one session alive until it is dropped or stopped.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) lease: Arc<Lease>,
    abandoned: Arc<Abandoned>,
    stop: CancellationToken,
    /// Stops the task when the keeper is dropped.
    _stop_on_drop: DropGuard,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Keeper {
    /// Begins to keep a session alive that was made or renewed by a request sent at `sent_at`.
    pub(crate) fn start(client: &Client, id: &str, ttl: Duration, sent_at: LeaseTime) -> Self {
        let lease = Arc::new(Lease::new(Arc::clone(client.clock()), ttl, sent_at));
        let abandoned = Arc::new(Abandoned::default());
        let stop = CancellationToken::new();
        let attempt_timeout = keepalive_attempt_timeout(client, ttl);
        let task = Task {
            client: client.with_attempt_timeout(attempt_timeout),
            id: id.to_owned(),
            lease: Arc::clone(&lease),
            abandoned: Arc::clone(&abandoned),
        };
        let task = tokio::spawn(task.run(sent_at, stop.clone()));
        let stop_on_drop = stop.clone().drop_guard();
        Self { lease, abandoned, stop, _stop_on_drop: stop_on_drop, task: Mutex::new(Some(task)) }
    }

    /// Renews a session of which nothing is known but its id, and begins to keep it alive.
    pub(crate) async fn start_by_keepalive(
        client: &Client,
        id: &str,
        ttl: Duration,
    ) -> Result<(Self, KeepaliveView), ClientError> {
        let patient = client.with_attempt_timeout(keepalive_attempt_timeout(client, ttl));
        let reply = patient.send_keepalive(id).await?;
        let view = read_json::<KeepaliveView>(&reply)?.value;
        let keeper = Self::start(client, id, ttl, reply.sent_at);
        keeper.lease.renew(reply.sent_at, view.claims.clone());
        Ok((keeper, view))
    }

    /// Ends the lease here and the task with it.
    pub(crate) async fn stop(&self) {
        self.lease.end(Lost::GivenUp);
        self.stop.cancel();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // It ends by itself, or with the runtime; a panic in it has already been reported by the runtime.
            let _ = task.await;
        }
    }

    pub(crate) fn holds(&self, claim: &WatchedClaim) -> bool {
        !self.lease.remaining_of(claim).is_zero()
    }
}

/// Short enough that an endpoint that hangs leaves time for others within the lease.
fn keepalive_attempt_timeout(client: &Client, ttl: Duration) -> Duration {
    client.limits.attempt.min((ttl / 6).max(KEEPALIVE_ATTEMPT_MIN))
}

/// What the keepalive task owns.
struct Task {
    client: Client,
    id: String,
    lease: Arc<Lease>,
    abandoned: Arc<Abandoned>,
}

impl Task {
    async fn run(self, last_sent_at: LeaseTime, stop: CancellationToken) {
        tokio::select! {
            // A keepalive that is due at the same moment must not be sent any more.
            biased;
            () = stop.cancelled() => {}
            _ = self.lease.lost() => {}
            () = self.keep_alive(last_sent_at) => {}
        }
    }

    async fn keep_alive(&self, mut last_sent_at: LeaseTime) {
        let clock = self.client.clock();
        loop {
            let due_at = last_sent_at + self.lease.ttl() / 3;
            tokio::select! {
                // Releases must never starve keepalives.
                biased;
                () = clock.sleep_until(due_at) => {
                    last_sent_at = clock.now();
                    // Within what is left of the lease; without an answer by then there is nothing left to keep.
                    let client = self.client.with_deadline(self.lease.remaining());
                    // A failure that is not about the session itself may pass: the next keepalive is due soon enough.
                    let _ = keep_alive_once(&client, &self.id, &self.lease).await;
                }
                () = self.abandoned.added.notified() => {}
            }
            self.release_abandoned(last_sent_at + self.lease.ttl() / 3).await;
        }
    }

    /// Tries abandoned claims until one fails or a keepalive is due; the rest is tried after the next keepalive.
    async fn release_abandoned(&self, until: LeaseTime) {
        let clock = self.client.clock();
        let client = self.client.with_deadline(keepalive_attempt_timeout(&self.client, self.lease.ttl()));
        while clock.now() < until
            && let Some(path) = self.abandoned.pop()
        {
            let ClaimPath { contest, claim } = &path;
            match client.end_claim(contest, claim).await {
                Ok(_) => {}
                Err(error) if is_definite(&error) => {}
                Err(_) => {
                    self.abandoned.put_back(path);
                    return;
                }
            }
        }
    }
}

/// Whether repeating a release would change nothing.
fn is_definite(error: &ClientError) -> bool {
    match error {
        ClientError::Problem(problem) => !problem.retryable,
        ClientError::Protocol { .. } | ClientError::InvalidRequest(_) => true,
        ClientError::OutcomeUnknown { .. } | ClientError::Unreachable { .. } => false,
    }
}

/// Sends one keepalive and tells the lease what came of it.
async fn keep_alive_once(client: &Client, id: &str, lease: &Lease) -> Result<KeepaliveView, ClientError> {
    match client.send_keepalive(id).await {
        Ok(reply) => {
            let view = read_json::<KeepaliveView>(&reply)?.value;
            lease.renew(reply.sent_at, view.claims.clone());
            Ok(view)
        }
        Err(error) => {
            if matches!(error.code(), Some(ErrorCode::SessionNotFound | ErrorCode::SessionExpired)) {
                lease.end(Lost::SessionEnded);
            }
            Err(error)
        }
    }
}

/// What a caller gets whose session turned out to be over on this side.
pub(crate) fn lease_ran_out() -> ClientError {
    Problem::new(ErrorCode::SessionExpired, "no keepalive of the session was answered in time").into()
}
