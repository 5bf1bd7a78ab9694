//! Taking the lock: one try, then a place in the queue.
//!
//! The claim belongs to a session of this process, which its client keeps alive while it waits. So a waiter that is stopped
//! or gone leaves the queue one TTL later, and never gets a lock that it cannot use.

use std::convert::Infallible;
use std::time::Duration;

use holdfast_api::claims::{ClaimMode, ClaimRequest, ClaimView, ContestKind};
use holdfast_api::client::{Client, ClientError, LockGuard, LockRequest, Lost, Session};
use holdfast_api::query::{Consistency, ReadQuery};
use holdfast_api::{ErrorCode, Problem};
use tokio::time::Instant;

use crate::cli::lock_run::signals::{Relayed, Signals};
use crate::cli::lock_run::waiting::{WaitingLine, held_by};
use crate::cli::lock_run::{Exit, Failure, Run, Wait, brief, say, terminal};

/// How long a call tries to find a leader before the cluster counts as unreachable: two elections fit in.
const REACH_PATIENCE: Duration = Duration::from_secs(10);
/// How long one request waits for the grant; then the next one goes on in the same place of the queue.
const REQUEST_WAIT_MAX: Duration = Duration::from_secs(60);
/// How much later than asked for an answer to a waiting request may come.
const ANSWER_LATE_MAX: Duration = Duration::from_secs(1);
/// How often the place in the queue is looked at, to be shown.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// How long leaving the queue may take.
const WITHDRAW_PATIENCE: Duration = Duration::from_secs(2);

/// Takes the lock.
pub(super) async fn take(run: &Run<'_>, signals: &mut Signals) -> Result<(Session, LockGuard), Failure> {
    let client = run.target.client().with_deadline(REACH_PATIENCE);
    let mut session = client.session(run.timing.ttl());
    if let Some(name) = process_name() {
        session = session.name(name);
    }
    let session = tokio::select! {
        started = Box::pin(session.start()) => started.map_err(|error| refused(run, &error))?,
        signal = asked_to_end(signals) => return Err(signalled(run, signal)),
    };
    let contender = Contender { run, client, session: &session, claim: random_id() };
    let guard = tokio::select! {
        guard = Box::pin(contender.compete()) => guard,
        signal = asked_to_end(signals) => Err(signalled(run, signal)),
    };
    match guard {
        Ok(guard) => Ok((session, guard)),
        Err(failure) => {
            // With the session ends the claim. If nobody answers, both end one TTL later.
            let _ = tokio::time::timeout(WITHDRAW_PATIENCE, Box::pin(session.end())).await;
            Err(failure)
        }
    }
}

/// What people know this process by.
fn process_name() -> Option<String> {
    let system = rustix::system::uname();
    let host = system.nodename().to_str().ok().filter(|host| !host.is_empty())?;
    Some(format!("{host}:{}", std::process::id()))
}

fn random_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Waits for a signal that asks to end. Ctrl-Z does what it always does.
async fn asked_to_end(signals: &mut Signals) -> Relayed {
    loop {
        let signal = signals.next().await;
        if signal.asks_to_end() {
            return signal;
        }
        if signal == Relayed::Tstp {
            terminal::stop_self();
        }
    }
}

fn signalled(run: &Run<'_>, signal: Relayed) -> Failure {
    let reason = format!("a signal to end came before {} was granted; the command did not run", run.what());
    Failure::new(Exit::Signalled(signal), reason)
}

/// What a refusal, or no answer, means for the run.
fn refused(run: &Run<'_>, error: &ClientError) -> Failure {
    let reason = run.target.failed(&format!("take {}", run.what()), error).reason;
    Failure::new(exit_of(error), reason)
}

fn exit_of(error: &ClientError) -> Exit {
    match error {
        ClientError::Problem(problem) => exit_of_code(problem.code()),
        ClientError::OutcomeUnknown { .. }
        | ClientError::Unreachable { .. }
        | ClientError::Protocol { .. } => Exit::Unreachable,
        ClientError::InvalidRequest(_) => Exit::Failed,
    }
}

const fn exit_of_code(code: ErrorCode) -> Exit {
    match code {
        ErrorCode::LockHeld
        | ErrorCode::LockModeConflict
        | ErrorCode::WaitTimeout
        | ErrorCode::QueueFull
        | ErrorCode::ClaimEnded => Exit::NotAcquired,
        ErrorCode::Unauthenticated | ErrorCode::Forbidden => Exit::Denied,
        ErrorCode::Overloaded
        | ErrorCode::NoLeader
        | ErrorCode::ShuttingDown
        | ErrorCode::NotBootstrapped
        | ErrorCode::RevisionNotReached
        | ErrorCode::OutcomeUnknown
        | ErrorCode::DiskReserve
        // The session ended while this process waited by it: the cluster did not hear from it for a TTL.
        | ErrorCode::SessionNotFound
        | ErrorCode::SessionExpired => Exit::Unreachable,
        ErrorCode::InvalidJson
        | ErrorCode::InvalidField
        | ErrorCode::InvalidName
        | ErrorCode::InvalidHeader
        | ErrorCode::FutureRevision
        | ErrorCode::NamespaceNotFound
        | ErrorCode::ClaimNotFound
        | ErrorCode::KeyNotFound
        | ErrorCode::MemberNotFound
        | ErrorCode::RouteNotFound
        | ErrorCode::MethodNotAllowed
        | ErrorCode::SessionExists
        | ErrorCode::ClaimConflict
        | ErrorCode::WouldDeadlock
        | ErrorCode::NamespaceNotEmpty
        | ErrorCode::IdempotencyInFlight
        | ErrorCode::AlreadyBootstrapped
        | ErrorCode::ChangeInFlight
        | ErrorCode::NotCaughtUp
        | ErrorCode::WouldLoseQuorum
        | ErrorCode::LastVoter
        | ErrorCode::RevisionCompacted
        | ErrorCode::HistoryChanged
        | ErrorCode::TooLarge
        | ErrorCode::RevisionMismatch
        | ErrorCode::StaleToken
        | ErrorCode::TokenMismatch
        | ErrorCode::MembershipChanged
        | ErrorCode::UnsupportedMediaType
        | ErrorCode::OutOfRange
        | ErrorCode::IdempotencyKeyReused => Exit::Failed,
    }
}

/// This process in its contest for the lock.
struct Contender<'a> {
    run: &'a Run<'a>,
    client: Client,
    session: &'a Session,
    claim: String,
}

impl Contender<'_> {
    async fn compete(&self) -> Result<LockGuard, Failure> {
        match Box::pin(self.request().acquire()).await {
            Ok(guard) => return Ok(guard),
            // A refused try leaves nothing behind, so the same claim may queue.
            Err(ClientError::Problem(problem)) if problem.code() == ErrorCode::LockHeld => {
                if self.run.wait == Wait::For(Duration::ZERO) {
                    return Err(self.held(&problem));
                }
            }
            Err(error) => return Err(refused(self.run, &error)),
        }
        let since = Instant::now();
        self.queue(since).await?;
        // The claim is granted: the same request again is answered with its token, and makes the lease count.
        let guard = Box::pin(self.request().acquire()).await.map_err(|error| refused(self.run, &error))?;
        let token = guard.fencing_token();
        say(&format!("{} granted after {}, token {token}", self.run.what(), brief(since.elapsed())));
        Ok(guard)
    }

    fn request(&self) -> LockRequest {
        let (namespace, name) = (&self.run.target.namespace, &self.run.name);
        let request = match self.run.contest {
            ContestKind::Lock => self.client.lock(namespace, name),
            ContestKind::Election => self.client.campaign(namespace, name),
        };
        let request = request.claim(&self.claim).session(self.session);
        let request = match (self.run.share.mode(), self.run.share.of) {
            (Some(ClaimMode::Shared), _) => request.shared(),
            (Some(ClaimMode::Permits), Some(of)) => request.permits(self.run.share.permits.unwrap_or(1), of),
            (Some(ClaimMode::Exclusive | ClaimMode::Permits) | None, _) => request,
        };
        match &self.run.label {
            Some(label) => request.label(label),
            None => request,
        }
    }

    fn held(&self, problem: &Problem) -> Failure {
        let holders = problem.holders.as_deref().unwrap_or_default();
        let what = self.run.what();
        Failure::new(
            Exit::NotAcquired,
            format!("{what} is {}; the command did not run", held_by(holders, problem.delay_remaining_ms)),
        )
    }

    /// Waits in the queue until the claim is granted.
    async fn queue(&self, since: Instant) -> Result<(), Failure> {
        let until = match self.run.wait {
            Wait::For(wait) => since.checked_add(wait),
            Wait::Forever => None,
        };
        let mut line = WaitingLine::start(&self.run.what());
        // The first request only asks for the place.
        let mut wait = Duration::ZERO;
        let mut patience = REACH_PATIENCE;
        loop {
            let answer = tokio::select! {
                biased;
                lost = self.session.lost() => return Err(self.lost_while_waiting(lost)),
                answer = tokio::time::timeout(patience, self.put(wait)) => answer,
                never = self.look_on(&mut line) => match never {},
            };
            match answer {
                Ok(Ok(ClaimView::Held(_))) => return Ok(()),
                Ok(Ok(ClaimView::Queued(view))) => line.show(&view),
                Ok(Ok(ClaimView::Released(_) | ClaimView::Lost(_))) => {
                    let reason = format!("the claim on {} was ended by somebody else", self.run.what());
                    return Err(Failure::new(Exit::NotAcquired, reason));
                }
                // As long as the session lives, so does the place in the queue.
                Ok(Err(error)) if passes(&error) => {}
                Ok(Err(error)) => return Err(refused(self.run, &error)),
                Err(_elapsed) => {}
            }
            let left =
                until.map_or(REQUEST_WAIT_MAX, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Err(self.waited_in_vain(&line));
            }
            wait = left.min(REQUEST_WAIT_MAX);
            patience = wait + ANSWER_LATE_MAX;
        }
    }

    async fn put(&self, wait: Duration) -> Result<ClaimView, ClientError> {
        let request = ClaimRequest {
            session: Some(self.session.id().to_owned()),
            wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            keep_waiting: true,
            label: self.run.label.clone(),
            mode: self.run.share.mode(),
            permits: self.run.share.of.map(|_| self.run.share.permits.unwrap_or(1)),
            of: self.run.share.of,
            ..ClaimRequest::default()
        };
        let (namespace, name) = (&self.run.target.namespace, &self.run.name);
        let answer = match self.run.contest {
            ContestKind::Lock => self.client.put_claim(namespace, name, &self.claim, &request).await,
            ContestKind::Election => self.client.put_candidate(namespace, name, &self.claim, &request).await,
        };
        Ok(answer?.value)
    }

    /// Shows how the queue moves. Never ends.
    async fn look_on(&self, line: &mut WaitingLine) -> Infallible {
        let stale = ReadQuery { consistency: Some(Consistency::Stale), ..ReadQuery::default() };
        let (namespace, name) = (&self.run.target.namespace, &self.run.name);
        loop {
            tokio::time::sleep(LOOK_PERIOD).await;
            let look = match self.run.contest {
                ContestKind::Lock => self.client.get_claim(namespace, name, &self.claim, &stale).await,
                ContestKind::Election => {
                    self.client.get_candidate(namespace, name, &self.claim, &stale).await
                }
            };
            // What cannot be seen now may be seen at the next look; the waiting request decides.
            if let Ok(view) = look
                && let ClaimView::Queued(queued) = view.value
            {
                line.show(&queued);
            }
        }
    }

    fn lost_while_waiting(&self, lost: Lost) -> Failure {
        let what = self.run.what();
        match lost {
            Lost::SessionEnded | Lost::ClaimEnded => Failure::new(
                Exit::NotAcquired,
                format!(
                    "the session that waited for {what} was ended by somebody else; the command did not run"
                ),
            ),
            Lost::LeaseRanOut | Lost::GivenUp => Failure::new(
                Exit::Unreachable,
                format!(
                    "the cluster has not answered for {} while this waited for {what}; the command did not run\n  next:  \
                     `holdfast cluster status` shows whether it has a majority",
                    brief(self.run.timing.ttl())
                ),
            ),
        }
    }

    fn waited_in_vain(&self, line: &WaitingLine) -> Failure {
        let wait = match self.run.wait {
            Wait::For(wait) => brief(wait),
            Wait::Forever => "ever".to_owned(),
        };
        let what = self.run.what();
        let reason = format!(
            "{what} was not granted within {wait}: {}; the command did not run\n  next:  a longer --wait; {}",
            line.last_seen(),
            self.run.look_advice()
        );
        Failure::new(Exit::NotAcquired, reason)
    }
}

/// Whether the same request may be answered otherwise in a while.
fn passes(error: &ClientError) -> bool {
    match error {
        ClientError::Problem(problem) => problem.retryable,
        ClientError::OutcomeUnknown { .. } | ClientError::Unreachable { .. } => true,
        ClientError::Protocol { .. } | ClientError::InvalidRequest(_) => false,
    }
}
