//! Who waits for a claim to change, on the node that holds the connection.
//!
//! A waiter registers before it proposes and looks at the state whenever it is woken, so that no change can fall between the
//! look and the wait. It owns nothing else: the queue itself is in the replicated state.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use holdfast_core::domain::{Change, ClaimRef, Event};
use tokio::sync::Notify;

/// The waiters of one node. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waits {
    by_claim: Arc<Mutex<HashMap<ClaimRef, Vec<Arc<Notify>>>>>,
}

/// One waiter; it ends when it is dropped.
#[derive(Debug)]
#[must_use = "a waiter that is dropped is not woken"]
pub(crate) struct Waiter {
    waits: Waits,
    claim: ClaimRef,
    bell: Arc<Notify>,
}

impl Waits {
    /// Wakes the returned waiter at each later change of the claim.
    pub(crate) fn register(&self, claim: ClaimRef) -> Waiter {
        let bell = Arc::new(Notify::new());
        self.lock().entry(claim.clone()).or_default().push(Arc::clone(&bell));
        Waiter { waits: self.clone(), claim, bell }
    }

    /// How many wait.
    pub(crate) fn count(&self) -> usize {
        self.lock().values().map(Vec::len).sum()
    }

    /// Wakes those whose claims were granted or ended.
    pub(crate) fn on_events(&self, events: &[Event]) {
        for event in events {
            if let Change::ClaimGranted { claim, .. }
            | Change::SetGranted { claim, .. }
            | Change::ClaimEnded { claim, .. } = &event.change
            {
                self.lock().get(claim).into_iter().flatten().for_each(|bell| bell.notify_one());
            }
        }
    }

    /// Wakes everybody: the whole state was replaced.
    pub(crate) fn on_replaced(&self) {
        self.lock().values().flatten().for_each(|bell| bell.notify_one());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ClaimRef, Vec<Arc<Notify>>>> {
        self.by_claim.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    /// Waits for a change since the last call. A change that came before the call counts.
    pub(crate) async fn changed(&self) {
        self.bell.notified().await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut by_claim = self.waits.lock();
        if let Some(bells) = by_claim.get_mut(&self.claim) {
            bells.retain(|bell| !Arc::ptr_eq(bell, &self.bell));
            if bells.is_empty() {
                by_claim.remove(&self.claim);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Waits;
    use holdfast_core::domain::{Change, ClaimRef, Event, LockMode, LockRef};
    use holdfast_core::{ClaimId, FencingToken, LockName, NamespaceName, Revision, SessionId};

    fn claim(id: &str) -> ClaimRef {
        let lock =
            LockRef { namespace: NamespaceName::default_namespace(), lock: LockName::new("l").unwrap() };
        ClaimRef { lock, claim: ClaimId::new(id).unwrap() }
    }

    fn granted(id: &str) -> Event {
        let revision = Revision::new(7);
        let change = Change::ClaimGranted {
            claim: claim(id),
            session: SessionId::new("s").unwrap(),
            mode: LockMode::Exclusive,
            token: FencingToken::of_grant(revision),
        };
        Event { revision, change }
    }

    #[tokio::test]
    async fn a_change_before_the_wait_is_not_lost() {
        let waits = Waits::default();
        let waiter = waits.register(claim("a"));
        waits.on_events(&[granted("a")]);
        waiter.changed().await;
    }

    #[tokio::test]
    async fn another_claims_change_wakes_nobody_and_a_replaced_state_wakes_all() {
        let waits = Waits::default();
        let waiter = waits.register(claim("a"));
        waits.on_events(&[granted("b")]);
        let mut wait = Box::pin(waiter.changed());
        assert!(futures_util::poll!(wait.as_mut()).is_pending());
        waits.on_replaced();
        wait.await;
    }

    #[test]
    fn a_dropped_waiter_leaves_nothing() {
        let waits = Waits::default();
        let (one, two) = (waits.register(claim("a")), waits.register(claim("a")));
        drop(one);
        assert_eq!(waits.count(), 1);
        drop(two);
        assert!(waits.lock().is_empty());
    }
}
