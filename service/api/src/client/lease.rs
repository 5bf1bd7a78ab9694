//! What a holder may believe about its session.
//!
//! The service ends a session no earlier than one TTL after it *received* the last renewal that it answered. Receiving
//! comes after sending, so a lease that runs from the moment of sending ends first, whatever the network did in between:
//!
//! ```text
//!   client   send ──────────────── answer ───────── local lease ends
//!              ╲                  ╱                  ↓  (send + TTL − 1 % − 10 ms)
//!   service     receive ─────────────────────────────────── earliest end (receive + TTL)
//! ```

use std::{future::Future, sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::{
    claims::ContestName,
    client::{LeaseClock, LeaseTime, session::ClaimPath},
    sessions::{ClaimRef, LiveState},
};

/// Taken off every lease besides 1 % of its TTL: the step between looking at the clock and acting on it.
const MARGIN: Duration = Duration::from_millis(10);

/// Why a lease or a lock is no longer held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lost {
    /// No keepalive was answered in time. The service may keep the session a little longer.
    LeaseRanOut,
    /// The service says that the session has ended.
    SessionEnded,
    /// The session lives, but the claim is gone: somebody released it by force.
    ClaimEnded,
    /// This process ended or released it.
    GivenUp,
}

/// The part of a TTL that a holder may use: 1 % is left to clocks that run at different speeds, and a margin.
fn usable(ttl: Duration) -> Duration {
    (ttl - ttl / 100).saturating_sub(MARGIN)
}

#[derive(Debug)]
struct State {
    /// Invariant: once the clock has passed it or `end` is set, the lease never lives again.
    expires_at: LeaseTime,
    end: Option<Lost>,
    /// What the newest answered keepalive listed, and when it was sent.
    listed: Option<Listed>,
}

#[derive(Debug, Clone)]
struct Listed {
    sent_at: LeaseTime,
    claims: Vec<ClaimRef>,
}

/// The lease of one session. All who hold something by that session share it.
#[derive(Debug)]
pub(crate) struct Lease {
    clock: Arc<dyn LeaseClock>,
    ttl: Duration,
    state: watch::Sender<State>,
}

impl Lease {
    /// A lease that was granted or renewed by a request sent at `sent_at`.
    pub(crate) fn new(clock: Arc<dyn LeaseClock>, ttl: Duration, sent_at: LeaseTime) -> Self {
        let state = State { expires_at: sent_at + usable(ttl), end: None, listed: None };
        Self { clock, ttl, state: watch::Sender::new(state) }
    }

    pub(crate) const fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Takes in an answered keepalive. Comes it too late, the lease stays over: somebody may have been told already.
    pub(crate) fn renew(&self, sent_at: LeaseTime, claims: Vec<ClaimRef>) {
        let expires_at = sent_at + usable(self.ttl);
        self.state.send_modify(|state| {
            expire_if_due(state, self.clock.now());
            if state.end.is_none() {
                state.expires_at = state.expires_at.max(expires_at);
                if state.listed.as_ref().is_none_or(|listed| listed.sent_at < sent_at) {
                    state.listed = Some(Listed { sent_at, claims });
                }
            }
        });
    }

    /// Ends the lease, if it has not ended before.
    pub(crate) fn end(&self, reason: Lost) {
        self.state.send_modify(|state| {
            expire_if_due(state, self.clock.now());
            state.end.get_or_insert(reason);
        });
    }

    /// What is left, zero when it is over.
    pub(crate) fn remaining(&self) -> Duration {
        self.remaining_unless(|_| None)
    }

    pub(crate) fn remaining_of(&self, claim: &WatchedClaim) -> Duration {
        self.remaining_unless(|state| claim.ended(state))
    }

    fn remaining_unless(&self, also: impl Fn(&State) -> Option<Lost>) -> Duration {
        // The clock is read under the lock, so that no renewal comes between and "not live" is said only once and for all.
        let state = self.state.borrow();
        if state.end.is_some() || also(&state).is_some() {
            return Duration::ZERO;
        }
        state.expires_at.saturating_since(self.clock.now())
    }

    /// Ends when a keepalive was answered after this call, or the lease is over.
    pub(crate) fn renewed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut changes = self.state.subscribe();
        async move {
            // Without the lease there is nobody left to renew it.
            let _ = changes.changed().await;
        }
    }

    /// Ends when the lease is over.
    pub(crate) fn lost(self: &Arc<Self>) -> impl Future<Output = Lost> + Send + use<> {
        Arc::clone(self).lost_when(|_| None)
    }

    /// Ends when the lease is over or the claim is gone.
    pub(crate) fn lost_claim(
        self: &Arc<Self>,
        claim: Arc<WatchedClaim>,
    ) -> impl Future<Output = Lost> + Send + use<> {
        Arc::clone(self).lost_when(move |state| claim.ended(state))
    }

    async fn lost_when(self: Arc<Self>, also: impl Fn(&State) -> Option<Lost> + Send) -> Lost {
        let mut changes = self.state.subscribe();
        loop {
            self.state.send_if_modified(|state| expire_if_due(state, self.clock.now()));
            let expires_at = {
                let state = changes.borrow_and_update();
                if let Some(reason) = state.end.or_else(|| also(&state)) {
                    return reason;
                }
                state.expires_at
            };
            tokio::select! {
                () = self.clock.sleep_until(expires_at) => {}
                changed = changes.changed() => changed.expect("the lease owns the sender"),
            }
        }
    }
}

/// Latches the end of a lease that the clock has passed; true when that changed it.
fn expire_if_due(state: &mut State, now: LeaseTime) -> bool {
    let due = state.end.is_none() && state.expires_at <= now;
    if due {
        state.end = Some(Lost::LeaseRanOut);
    }
    due
}

/// A held claim, to be looked for in what keepalives list.
#[derive(Debug)]
pub(crate) struct WatchedClaim {
    pub(crate) path: ClaimPath,
    pub(crate) fencing_token: u64,
    /// When its grant was known. A keepalive sent before may have been answered before the grant.
    pub(crate) known_at: LeaseTime,
}

impl WatchedClaim {
    /// Whether this list has the claim as held with its token.
    pub(crate) fn is_held_in(&self, claims: &[ClaimRef]) -> bool {
        let ClaimPath { contest, claim } = &self.path;
        claims.iter().any(|listed| {
            listed.state == LiveState::Held
                && listed.fencing_token == Some(self.fencing_token)
                && listed.claim == *claim
                && listed.contest == ContestName::new(contest.kind, &*contest.name)
                && listed.namespace == contest.namespace
        })
    }

    fn ended(&self, state: &State) -> Option<Lost> {
        let listed = state.listed.as_ref()?;
        let gone = self.known_at <= listed.sent_at && !self.is_held_in(&listed.claims);
        gone.then_some(Lost::ClaimEnded)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::client::{ManualClock, claims::Contest};

    const TTL: Duration = Duration::from_secs(10);
    const USABLE: Duration = Duration::from_millis(9_890);

    fn lease() -> (Arc<ManualClock>, Arc<Lease>) {
        let clock = Arc::new(ManualClock::default());
        let lease = Arc::new(Lease::new(Arc::clone(&clock) as _, TTL, clock.now()));
        (clock, lease)
    }

    fn watched(clock: &ManualClock) -> (WatchedClaim, ClaimRef) {
        let watched = WatchedClaim {
            path: ClaimPath { contest: Contest::lock("default", "a"), claim: "mine".to_owned() },
            fencing_token: 7,
            known_at: clock.now(),
        };
        let listed = ClaimRef {
            namespace: "default".to_owned(),
            contest: ContestName::Lock("a".to_owned()),
            claim: "mine".to_owned(),
            state: LiveState::Held,
            fencing_token: Some(7),
        };
        (watched, listed)
    }

    #[test]
    fn a_lease_ends_one_percent_and_the_margin_before_its_ttl() {
        let (clock, lease) = lease();
        assert_eq!(lease.remaining(), USABLE);
        clock.advance(USABLE - Duration::from_millis(1));
        assert_eq!(lease.remaining(), Duration::from_millis(1));
        clock.advance(Duration::from_millis(1));
        assert_eq!(lease.remaining(), Duration::ZERO);
    }

    #[test]
    fn a_renewal_counts_from_when_it_was_sent_and_never_shortens_the_lease() {
        let (clock, lease) = lease();
        let start = clock.now();
        let sent_at = start + Duration::from_secs(2);
        clock.advance(Duration::from_secs(5));
        lease.renew(sent_at, Vec::new());
        assert_eq!(lease.remaining(), USABLE - Duration::from_secs(3));
        lease.renew(start, Vec::new());
        assert_eq!(lease.remaining(), USABLE - Duration::from_secs(3));
    }

    #[test]
    fn a_renewal_that_comes_after_the_end_does_not_revive_the_lease() {
        let (clock, lease) = lease();
        clock.advance(USABLE);
        lease.renew(clock.now(), Vec::new());
        assert_eq!(lease.remaining(), Duration::ZERO);
        assert_eq!(lease.lost().now_or_never(), Some(Lost::LeaseRanOut));
    }

    #[tokio::test]
    async fn renewed_fires_for_a_renewal_after_the_call_and_not_before() {
        let (clock, lease) = lease();
        lease.renew(clock.now(), Vec::new());
        let mut renewed = Box::pin(lease.renewed());
        assert_eq!((&mut renewed).now_or_never(), None);
        lease.renew(clock.now(), Vec::new());
        renewed.await;
    }

    #[tokio::test]
    async fn lost_fires_when_the_lease_runs_out() {
        let (clock, lease) = lease();
        let mut lost = Box::pin(lease.lost());
        assert_eq!((&mut lost).now_or_never(), None);
        clock.advance(USABLE);
        assert_eq!(lost.await, Lost::LeaseRanOut);
    }

    #[tokio::test]
    async fn the_first_reason_of_an_end_stays() {
        let (_clock, lease) = lease();
        let lost = lease.lost();
        lease.end(Lost::SessionEnded);
        lease.end(Lost::GivenUp);
        assert_eq!(lost.await, Lost::SessionEnded);
    }

    #[tokio::test]
    async fn a_claim_is_lost_when_a_later_keepalive_does_not_list_it() {
        let (clock, lease) = lease();
        let before = clock.now();
        clock.advance(Duration::from_secs(1));
        let (claim, listed) = watched(&clock);
        lease.renew(before, Vec::new());
        assert_ne!(lease.remaining_of(&claim), Duration::ZERO, "an older keepalive says nothing about it");
        lease.renew(clock.now(), vec![listed]);
        assert_ne!(lease.remaining_of(&claim), Duration::ZERO);
        clock.advance(Duration::from_secs(1));
        lease.renew(clock.now(), Vec::new());
        assert_eq!(lease.remaining_of(&claim), Duration::ZERO);
        assert_eq!(lease.lost_claim(Arc::new(claim)).await, Lost::ClaimEnded);
        assert_ne!(lease.remaining(), Duration::ZERO, "the session itself lives");
    }
}
