//! The leader's deadlines in real time: follows the state, answers keepalives, proposes what is due.
//!
//! The bookkeeping is `core::deadlines`, which knows no clock. This module gives it one (monotonic), feeds it every event in
//! order, and turns what is due into entries. Only such an entry ends a session; nothing here does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use holdfast_core::deadlines::{Deadlines, Renewal};
use holdfast_core::domain::{Change, ClaimRef, ClaimView, Command, Event, Expire, SessionState, WaitRef};
use holdfast_core::{LeaderId, Revision, SessionId};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::raft::{Handle, Notice, ProposeError, ReadError};
use crate::seeded_bugs::{self, SeededBug};
use crate::waits::Waits;
use crate::watch::Feed;

/// The loop looks at least this often, so that its own lateness is noticed soon.
const LOOK_PERIOD: Duration = Duration::from_millis(100);
/// A loop that is later than this was stalled, and so were the keepalives: all deadlines move by the stall.
const STALL_MIN: Duration = Duration::from_millis(200);
/// An idle leader moves the replicated clock this often, for what ages by it.
const TICK_PERIOD: Duration = Duration::from_secs(60);
/// How long the loop pauses after a proposal that was refused.
const REFUSED_PAUSE: Duration = Duration::from_millis(50);
/// How long a keepalive waits for this node to have followed its own state.
const FOLLOW_PATIENCE: Duration = Duration::from_secs(5);

/// The deadlines of one node, filled while it leads. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Leases {
    inner: Arc<Inner>,
}

struct Inner {
    origin: Instant,
    current: Mutex<Current>,
    followed: watch::Sender<Followed>,
}

#[derive(Default)]
struct Current {
    leadership: Option<LeaderId>,
    deadlines: Deadlines,
    /// What the deadlines were rebuilt from: events up to here are in them.
    rebuilt_at: Revision,
}

/// How far the deadlines follow the state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Followed {
    leadership: Option<LeaderId>,
    revision: Revision,
    /// Counts the expiries that have an outcome.
    settled: u64,
}

/// An acknowledged keepalive.
pub(crate) struct Kept {
    /// The session's time to live in milliseconds.
    pub(crate) ttl_ms: u64,
    /// What is left of it, from the receipt of the keepalive.
    pub(crate) remaining_ms: u64,
    /// What the session holds and waits for.
    pub(crate) claims: Vec<ClaimView>,
    /// The revision of that.
    pub(crate) revision: Revision,
}

/// Why a keepalive is not acknowledged.
pub(crate) enum KeepaliveError {
    /// The session is over, or was never seen.
    Gone(Option<SessionState>),
    /// This node cannot answer for the cluster.
    Read(ReadError),
}

impl From<ReadError> for KeepaliveError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl Default for Leases {
    fn default() -> Self {
        let followed = watch::Sender::new(Followed::default());
        Self { inner: Arc::new(Inner { origin: Instant::now(), current: Mutex::default(), followed }) }
    }
}

impl Leases {
    /// This node's monotonic clock, in milliseconds.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.inner.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.inner.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a session has left, when this node leads.
    pub(crate) fn remaining_ms(&self, session: &SessionId) -> Option<u64> {
        let current = self.current();
        current.leadership?;
        current.deadlines.remaining_ms(session, self.now_ms())
    }

    /// Follows the state for the life of the node: every event in order, and every change of leadership.
    pub(crate) async fn follow(
        self,
        handle: Handle,
        waits: Waits,
        feed: Feed,
        mut notices: mpsc::UnboundedReceiver<Notice>,
    ) {
        let mut status = handle.watch_status();
        loop {
            tokio::select! {
                // Events first: a new leadership's deadlines are rebuilt from a state that is at least as new.
                biased;
                notice = notices.recv() => match notice {
                    Some(Notice::Applied { events, revision }) => {
                        tell_grants(&events);
                        self.on_events(&events, revision);
                        waits.on_events(&events);
                        feed.push(events, revision);
                    }
                    Some(Notice::Replaced) => {
                        self.lead(&handle, None);
                        waits.on_replaced();
                        feed.replace(handle.applied().revision);
                    }
                    None => return,
                },
                changed = status.changed() => if changed.is_err() { return },
            }
            let leading = status.borrow_and_update().leading;
            if leading != self.current().leadership {
                self.lead(&handle, leading);
            }
        }
    }

    fn on_events(&self, events: &[Event], revision: Revision) {
        let now_ms = self.now_ms();
        let mut current = self.current();
        if current.leadership.is_some() {
            let rebuilt_at = current.rebuilt_at;
            for event in events.iter().filter(|event| rebuilt_at < event.revision) {
                current.deadlines.on_event(event, now_ms);
            }
        }
        drop(current);
        self.inner.followed.send_modify(|followed| followed.revision = followed.revision.max(revision));
    }

    /// Begins or ends a leadership: every session gets its full time again.
    fn lead(&self, handle: &Handle, leadership: Option<LeaderId>) {
        let rebuilt = leadership.map(|leader| {
            let now_ms = self.now_ms();
            handle.look(|view| Ok((leader, view.meta()?.revision, Deadlines::rebuild(view, now_ms)?)))
        });
        let mut current = self.current();
        *current = match rebuilt {
            Some(Ok((leader, rebuilt_at, deadlines))) => {
                Current { leadership: Some(leader), deadlines, rebuilt_at }
            }
            Some(Err(error)) => {
                tracing::error!(%error, "failed to read the sessions; nothing expires until this node leads again");
                Current::default()
            }
            None => Current::default(),
        };
        let (leadership, revision) = (current.leadership, current.rebuilt_at);
        drop(current);
        self.inner.followed.send_modify(|followed| {
            followed.leadership = leadership;
            followed.revision = followed.revision.max(revision);
        });
    }

    /// Waits until the deadlines of the present leadership have followed the state to a revision.
    async fn wait_followed(&self, handle: &Handle, revision: Revision) -> Result<(), ReadError> {
        let mut followed = self.inner.followed.subscribe();
        let reached = followed.wait_for(|followed| {
            followed.leadership.is_some()
                && followed.leadership == handle.status().leading
                && revision <= followed.revision
        });
        match tokio::time::timeout(FOLLOW_PATIENCE, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(ReadError::NotLeading),
        }
    }

    /// Renews a session from the receipt of a keepalive.
    ///
    /// # Errors
    /// [`KeepaliveError`]; the session is not renewed then.
    pub(crate) async fn keepalive(
        &self,
        handle: &Handle,
        session: &SessionId,
        received_at_ms: u64,
    ) -> Result<Kept, KeepaliveError> {
        loop {
            let mut followed = self.inner.followed.subscribe();
            let settled = followed.borrow_and_update().settled;
            if seeded_bugs::active(SeededBug::KeepaliveFromMemory) {
                tracing::trace!("answering a keepalive without a leadership round");
            } else {
                // A round that began after the keepalive came: only a leader that still leads may promise more time.
                handle.confirm_leadership().await?;
            }
            let (state, claims, revision) = handle.look(|view| {
                Ok((view.session(session)?, view.session_claims(session)?, view.meta()?.revision))
            })?;
            if !matches!(state, Some(SessionState::Live(_))) {
                return Err(KeepaliveError::Gone(state));
            }
            self.wait_followed(handle, revision).await?;
            let renewal = self.current().deadlines.renew(session, received_at_ms);
            match renewal {
                Renewal::Renewed { ttl_ms } => {
                    let remaining_ms = self.remaining_ms(session).unwrap_or(0);
                    return Ok(Kept { ttl_ms, remaining_ms, claims, revision });
                }
                // The entry that names the session decides; the keepalive waits for it.
                Renewal::Expiring => {
                    let outcome = followed.wait_for(|followed| {
                        followed.settled != settled || followed.leadership != handle.status().leading
                    });
                    match tokio::time::timeout(FOLLOW_PATIENCE, outcome).await {
                        Ok(Ok(_)) => {}
                        Ok(Err(_)) | Err(_) => return Err(ReadError::NotLeading.into()),
                    }
                }
                // It ended after the look.
                Renewal::Unknown => {}
            }
        }
    }

    /// Counts a request that waits for a claim, until the returned value is dropped.
    ///
    /// # Errors
    /// [`ReadError::NotLeading`] when this node no longer leads.
    pub(crate) async fn open_wait(
        &self,
        handle: &Handle,
        wait: WaitRef,
        revision: Revision,
    ) -> Result<OpenWait, ReadError> {
        self.wait_followed(handle, revision).await?;
        let counted = self.current().deadlines.wait_open(&wait.claim);
        Ok(OpenWait { leases: self.clone(), claim: wait.claim, counted })
    }

    /// Proposes what is due, while this node leads. Runs for the life of the node.
    pub(crate) async fn expire(self, handle: Handle) {
        let mut last_tick = Instant::now();
        loop {
            let wake = Instant::now() + self.until_due();
            tokio::time::sleep_until(wake).await;
            self.move_by_stall(wake.elapsed());
            let Some(leader) = handle.status().leading else {
                last_tick = Instant::now();
                continue;
            };
            let due = self.due(leader);
            if let Some(expire) = due {
                self.propose(&handle, expire).await;
                last_tick = Instant::now();
            } else if TICK_PERIOD <= last_tick.elapsed() || self.lock_delay_is_over(&handle) {
                last_tick = Instant::now();
                if let Err(error) = handle.propose(Command::Tick, None).await {
                    tracing::debug!(%error, "the clock was not moved");
                    tokio::time::sleep(REFUSED_PAUSE).await;
                }
            }
        }
    }

    fn until_due(&self) -> Duration {
        let due = self.current().deadlines.next_due();
        let wait = due.map(|due_ms| Duration::from_millis(due_ms.saturating_sub(self.now_ms())));
        wait.unwrap_or(LOOK_PERIOD).clamp(Duration::from_millis(1), LOOK_PERIOD)
    }

    fn move_by_stall(&self, late: Duration) {
        if STALL_MIN < late {
            let stall_ms = u64::try_from(late.as_millis()).unwrap_or(u64::MAX);
            let mut current = self.current();
            if current.leadership.is_some() {
                current.deadlines.stall(stall_ms);
                tracing::warn!(stall_ms, "this node was stalled; all sessions get that much more time");
            }
        }
    }

    fn due(&self, leader: LeaderId) -> Option<Expire> {
        let now_ms = self.now_ms();
        let mut current = self.current();
        if current.leadership != Some(leader) {
            return None;
        }
        current.deadlines.due(leader, now_ms)
    }

    async fn propose(&self, handle: &Handle, expire: Expire) {
        if seeded_bugs::active(SeededBug::ExpiryWithoutLeaderCheck) {
            // A window wide enough for the leadership to go and come back: the entry then carries an earlier one.
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        match handle.propose(Command::Expire(expire.clone()), None).await {
            Ok(applied) => {
                if let Ok(ended) = &applied.outcome {
                    tracing::debug!(?ended, "expired what was due");
                }
                if self.wait_followed(handle, applied.revision).await.is_ok() {
                    self.settled(&expire);
                }
            }
            Err(
                error @ (ProposeError::NotLeading | ProposeError::Overloaded | ProposeError::TooLarge { .. }),
            ) => {
                tracing::debug!(%error, "nothing was expired");
                self.settled(&expire);
                tokio::time::sleep(REFUSED_PAUSE).await;
            }
            // It may still be applied. While this leadership lasts it will be, and another one counts afresh.
            Err(ProposeError::Unknown { reason }) => {
                tracing::debug!(reason, "the outcome of an expiry is open")
            }
        }
    }

    fn settled(&self, expire: &Expire) {
        self.current().deadlines.settled(expire);
        self.inner.followed.send_modify(|followed| followed.settled += 1);
    }

    fn lock_delay_is_over(&self, handle: &Handle) -> bool {
        match handle.look(|view| view.next_lock_delay()) {
            Ok(Some(due)) => due <= handle.log_time(),
            Ok(None) => false,
            Err(error) => {
                tracing::error!(%error, "failed to read the lock delays");
                false
            }
        }
    }
}

/// Writes the grants to the log, before anybody who waits for one is told.
fn tell_grants(events: &[Event]) {
    for event in events {
        if let Change::ClaimGranted { claim, session, mode: _, token } = &event.change {
            tracing::debug!(
                namespace = claim.lock.namespace.as_str(),
                lock = claim.lock.lock.as_str(),
                claim = claim.claim.as_str(),
                session = session.as_str(),
                fencing_token = token.as_u64(),
                "granted"
            );
        }
    }
}

/// A request that waits for a queued claim.
#[must_use = "dropping it says that nobody waits"]
pub(crate) struct OpenWait {
    leases: Leases,
    claim: ClaimRef,
    counted: bool,
}

impl OpenWait {
    /// Renews the session that the waiting claim made: the connection that waits is its sign of life.
    pub(crate) fn renew(&self, session: &SessionId) {
        let now_ms = self.leases.now_ms();
        // A session that is expiring or gone is not saved by a wait.
        let _: Renewal = self.leases.current().deadlines.renew(session, now_ms);
    }
}

impl Drop for OpenWait {
    fn drop(&mut self) {
        if self.counted {
            let now_ms = self.leases.now_ms();
            self.leases.current().deadlines.wait_closed(&self.claim, now_ms);
        }
    }
}
