//! Rounds that confirm a leadership, each shared by all reads that came before it began.
//!
//! ```text
//!   read ─┐
//!   read ─┼─▶ waiting ──▶ one round: heartbeats to a majority ──▶ all of them go on
//!   read ─┘      ▲
//!                └── whoever comes meanwhile waits for the next round
//! ```
//!
//! A read must never join a round that has begun: what was committed between that and its arrival would be missing.

use tokio::sync::{mpsc, oneshot};

use crate::raft::ReadError;
use crate::raft::handle::stopped;

/// The index of what was committed when the round began, or why nobody may read.
type Confirmed = Result<u64, ReadError>;

/// The reads that wait for a round. Not bounded here: each belongs to a request, which waits for its answer.
pub(super) type Asked = mpsc::UnboundedReceiver<oneshot::Sender<Confirmed>>;

/// The way to a round.
#[derive(Debug)]
pub(super) struct Rounds {
    asking: mpsc::UnboundedSender<oneshot::Sender<Confirmed>>,
}

impl Rounds {
    /// The way, and where it leads to: [`run`].
    pub(super) fn new() -> (Self, Asked) {
        let (asking, asked) = mpsc::unbounded_channel();
        (Self { asking }, asked)
    }

    /// Waits for a round that begins after this call.
    pub(super) async fn confirm(&self) -> Confirmed {
        let (answer, confirmed) = oneshot::channel();
        self.asking.send(answer).map_err(|_| stopped())?;
        confirmed.await.unwrap_or_else(|_| Err(stopped()))
    }
}

/// Makes one round after another, as long as somebody waits for one. Ends with the last [`Rounds`].
pub(super) async fn run(mut asked: Asked, round: impl AsyncFn() -> Confirmed) {
    let mut waiting = Vec::new();
    while let Some(first) = asked.recv().await {
        waiting.push(first);
        while let Ok(next) = asked.try_recv() {
            waiting.push(next);
        }
        let confirmed = round().await;
        for answer in waiting.drain(..) {
            // Whoever asked may be gone.
            let _ = answer.send(confirmed.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use futures_util::future::join_all;
    use tokio::sync::Semaphore;

    use super::{Rounds, run};
    use crate::raft::ReadError;

    #[tokio::test]
    async fn a_read_that_comes_during_a_round_waits_for_the_next_which_all_of_those_share() {
        let (rounds, asked) = Rounds::new();
        let (begun, gate) = (Arc::new(AtomicU64::new(0)), Arc::new(Semaphore::new(0)));
        let (counted, passed) = (Arc::clone(&begun), Arc::clone(&gate));
        let running = tokio::spawn(run(asked, async move || {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            passed.acquire().await.unwrap().forget();
            Ok(number)
        }));
        let first = async {
            let confirmed = rounds.confirm().await;
            // The second round has begun by now, or begins without this read.
            gate.add_permits(1);
            confirmed
        };
        let later = async {
            while begun.load(Ordering::SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
            let later = join_all((0..10).map(|_| rounds.confirm()));
            gate.add_permits(1);
            later.await
        };
        let (first, later) = tokio::join!(first, later);
        assert_eq!(first, Ok(0));
        assert_eq!(later, vec![Ok(1); 10]);
        assert_eq!(begun.load(Ordering::SeqCst), 2);
        drop(rounds);
        running.await.unwrap();
    }

    #[tokio::test]
    async fn whoever_asks_when_nobody_confirms_any_more_is_told() {
        let (rounds, asked) = Rounds::new();
        drop(asked);
        assert!(matches!(rounds.confirm().await, Err(ReadError::Failed { .. })));
    }
}
