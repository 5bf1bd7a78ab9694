//! Taking a lock and holding it; campaigning and leading, which is the same on an election.

use std::{future::Future, sync::Arc, time::Duration};

use crate::{
    ErrorCode,
    claims::{ClaimMode, ClaimRequest, ClaimView, HeldClaim},
    client::{
        Client, ClientError, ProtocolError, Session,
        claims::Contest,
        lease::{Lease, Lost, WatchedClaim},
        millis, random_id, read_json,
        session::{ClaimPath, Keeper, lease_ran_out},
        transport::Reply,
    },
    error::{Applied, Problem},
};

/// The TTL of a guard that has a session of its own, unless the request says otherwise.
const TTL_DEFAULT: Duration = Duration::from_secs(15);
/// How long the clean-up after a failed or unclear acquisition may take.
const CLEAN_UP_MAX: Duration = Duration::from_secs(5);

/// Describes how a lock is to be taken, or the leadership of an election.
#[derive(Debug, Clone)]
#[must_use]
pub struct LockRequest {
    client: Client,
    path: ClaimPath,
    session: Option<Session>,
    ttl: Duration,
    wait: Duration,
    label: Option<String>,
    /// Mode, permits and their number.
    share: (Option<ClaimMode>, Option<u32>, Option<u32>),
}

/// A lock that this process holds, or an election that it leads.
///
/// Look at [`is_held`](Self::is_held) right before each side effect and send [`fencing_token`](Self::fencing_token) with
/// it. Dropping the guard without [`release`](Self::release) gives the lock up without waiting for it: with a session of
/// its own the guard stops its keepalives and the service frees the lock when the TTL has passed; with a given session
/// that session's keepalive task releases the claim.
#[derive(Debug)]
pub struct LockGuard {
    client: Client,
    claim: Arc<WatchedClaim>,
    owner: Owner,
    /// Whether the lock still has to be given up when the guard is dropped.
    armed: bool,
}

/// Whose lease the guard lives on.
#[derive(Debug)]
enum Owner {
    /// A session that the service made for this claim and that ends with it.
    Own { session: String, keeper: Keeper },
    /// A session that the caller gave.
    Given(Session),
}

impl Client {
    /// Describes how to take a lock: exclusively, in one try, with a session of its own, until told otherwise.
    pub fn lock(&self, namespace: impl Into<String>, lock: impl Into<String>) -> LockRequest {
        self.contend(Contest::lock(namespace, lock))
    }

    /// Describes how to campaign in an election; the guard is the leadership. As [`lock`](Self::lock) otherwise.
    pub fn campaign(&self, namespace: impl Into<String>, election: impl Into<String>) -> LockRequest {
        self.contend(Contest::election(namespace, election))
    }

    fn contend(&self, contest: Contest) -> LockRequest {
        LockRequest {
            client: self.clone(),
            path: ClaimPath { contest, claim: random_id() },
            session: None,
            ttl: TTL_DEFAULT,
            wait: Duration::ZERO,
            label: None,
            share: (None, None, None),
        }
    }
}

impl LockRequest {
    /// The id of the claim instead of a random one. An id is used once.
    pub fn claim(mut self, claim: impl Into<String>) -> Self {
        self.path.claim = claim.into();
        self
    }

    /// Take it by this session; the TTL is then that session's.
    pub fn session(mut self, session: &Session) -> Self {
        self.session = Some(session.clone());
        self
    }

    /// The TTL of the guard's own session.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Wait so long for the grant.
    pub const fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Share the lock with others that share it.
    pub const fn shared(mut self) -> Self {
        self.share = (Some(ClaimMode::Shared), None, None);
        self
    }

    /// Take the lock as a semaphore that has `of` permits in all: so many of them.
    pub const fn permits(mut self, permits: u32, of: u32) -> Self {
        self.share = (Some(ClaimMode::Permits), Some(permits), Some(of));
        self
    }

    /// What people see beside the claim.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Takes the lock.
    ///
    /// When it cannot be said whether an attempt still takes the lock, the claim is deleted before the error is returned,
    /// so that no lock is held by nobody. Dropping the future before its end stops the wait; by a given session the claim
    /// is then released by that session's keepalive task, by a session of its own it runs out.
    ///
    /// # Errors
    /// `lock-held` from a try, `wait-timeout` from a wait; else as [`Client::put_claim`].
    pub async fn acquire(self) -> Result<LockGuard, ClientError> {
        let Self { client, path, session, ttl, wait, label, share: (mode, permits, of) } = self;
        let request = ClaimRequest {
            session: session.as_ref().map(|session| session.id().to_owned()),
            ttl_ms: session.is_none().then(|| millis(ttl)),
            wait_ms: millis(wait),
            label,
            mode,
            permits,
            of,
            ..ClaimRequest::default()
        };
        let mut pending =
            PendingClaim { client: client.clone(), session: session.clone(), path: Some(path.clone()) };
        let granted = Box::pin(grant(&client, &path, &request)).await;
        let (held, reply) = match granted {
            Ok(granted) => granted,
            Err(error) if error.applied() == Applied::No => {
                pending.path = None;
                return Err(error);
            }
            Err(error) => {
                pending.delete().await;
                return Err(error);
            }
        };
        let fencing_token = held.fencing_token;
        let claim = WatchedClaim { path, fencing_token, known_at: client.clock().now() };
        // Only a grant that was neither waited for nor replayed says when the session was last renewed.
        let fresh = wait.is_zero() && reply.wire.status == 201 && !reply.repeated;
        match Box::pin(own(&client, &claim, held.session, session, ttl, fresh.then_some(&reply))).await {
            Ok(owner) => {
                pending.path = None;
                Ok(LockGuard { client, claim: Arc::new(claim), owner, armed: true })
            }
            Err(error) => {
                pending.delete().await;
                Err(error)
            }
        }
    }
}

async fn grant(
    client: &Client,
    path: &ClaimPath,
    request: &ClaimRequest,
) -> Result<(HeldClaim, Reply), ClientError> {
    let reply = client.send_claim(&path.contest, &path.claim, request).await?;
    match read_json(&reply)?.value {
        ClaimView::Held(held) => Ok((held, reply)),
        ClaimView::Queued(_) | ClaimView::Released(_) | ClaimView::Lost(_) => {
            Err(ClientError::Protocol { status: reply.wire.status, detail: ProtocolError::State })
        }
    }
}

/// Makes sure that the granted claim has a lease that is known to run.
async fn own(
    client: &Client,
    claim: &WatchedClaim,
    session_id: String,
    session: Option<Session>,
    ttl: Duration,
    fresh: Option<&Reply>,
) -> Result<Owner, ClientError> {
    if let Some(session) = session {
        if fresh.is_none() {
            held_still(claim, &session.renew().await?.claims)?;
        }
        return if session.is_live() { Ok(Owner::Given(session)) } else { Err(lease_ran_out()) };
    }
    let keeper = match fresh {
        Some(reply) => Keeper::start(client, &session_id, ttl, reply.sent_at),
        None => {
            let (keeper, view) = Keeper::start_by_keepalive(client, &session_id, ttl).await?;
            held_still(claim, &view.claims)?;
            keeper
        }
    };
    if keeper.holds(claim) { Ok(Owner::Own { session: session_id, keeper }) } else { Err(lease_ran_out()) }
}

fn held_still(claim: &WatchedClaim, claims: &[crate::sessions::ClaimRef]) -> Result<(), ClientError> {
    if claim.is_held_in(claims) {
        return Ok(());
    }
    let detail = "the claim ended between its grant and the keepalive that followed";
    Err(Problem::new(ErrorCode::ClaimEnded, detail).into())
}

/// A claim that may exist although nobody holds a guard of it.
struct PendingClaim {
    client: Client,
    session: Option<Session>,
    path: Option<ClaimPath>,
}

impl PendingClaim {
    /// Makes sure that the claim is not held, and can never be.
    async fn delete(&mut self) {
        let Some(ClaimPath { contest, claim }) = &self.path else { return };
        let client = self.client.with_deadline(CLEAN_UP_MAX);
        if client.end_claim(contest, claim).await.is_ok() {
            self.path = None;
        }
    }
}

impl Drop for PendingClaim {
    fn drop(&mut self) {
        if let (Some(session), Some(path)) = (&self.session, self.path.take()) {
            session.abandon(path);
        }
    }
}

impl LockGuard {
    /// The token of this grant: larger than that of every earlier one. Whatever the lock protects should refuse a smaller
    /// one than it has seen.
    #[must_use]
    pub fn fencing_token(&self) -> u64 {
        self.claim.fencing_token
    }

    /// The id of the claim.
    #[must_use]
    pub fn claim(&self) -> &str {
        &self.claim.path.claim
    }

    /// The id of the session that owns the claim.
    #[must_use]
    pub fn session(&self) -> &str {
        match &self.owner {
            Owner::Own { session, .. } => session,
            Owner::Given(session) => session.id(),
        }
    }

    /// Whether the lock is certainly held at this moment, as far as clocks run at the speed that the lease allows for.
    #[must_use]
    pub fn is_held(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// For how long it is certainly held on, if no further keepalive is answered.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.lease().remaining_of(&self.claim)
    }

    /// Ends when a keepalive was answered after this call, so that [`remaining`](Self::remaining) has grown, or when the
    /// lease is over.
    pub fn renewed(&self) -> impl Future<Output = ()> + Send + use<> {
        self.lease().renewed()
    }

    /// Ends when the lock is lost.
    pub fn lost(&self) -> impl Future<Output = Lost> + Send + use<> {
        self.lease().lost_claim(Arc::clone(&self.claim))
    }

    /// Releases the lock and waits until that is certain. From the call on it counts as given up here, whatever the
    /// service answers.
    ///
    /// # Errors
    /// As [`Client::delete_claim`]; the lock is then freed one TTL after the last keepalive at the latest, by a given
    /// session as soon as that session's keepalive task reaches the service.
    pub async fn release(mut self) -> Result<(), ClientError> {
        if let Owner::Own { keeper, .. } = &self.owner {
            keeper.stop().await;
        }
        let ClaimPath { contest, claim } = &self.claim.path;
        self.client.end_claim(contest, claim).await?;
        self.armed = false;
        Ok(())
    }

    fn lease(&self) -> &Arc<Lease> {
        match &self.owner {
            Owner::Own { keeper, .. } => &keeper.lease,
            Owner::Given(session) => session.lease(),
        }
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        // An own session needs nothing: its keeper is dropped with the guard and stops.
        if let Owner::Given(session) = &self.owner {
            session.abandon(self.claim.path.clone());
        }
    }
}
