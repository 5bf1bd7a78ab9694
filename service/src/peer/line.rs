//! All calls of one channel to one peer: a bounded window of calls, and one task that owns the connection.
//!
//! The task dials when a call needs it, fails calls at once while it backs off, and starts over when the
//! connection breaks. It never sends a call twice: whether to try again is the caller's decision, because
//! only the caller knows what a repetition does.

use crate::peer::connection::{self, Ended, Terms};
use crate::peer::frame::FrameError;
use crate::peer::handshake::{CallChannel, Channel};
use crate::peer::limits::{
    APPEND_SILENCE_MAX, BACKOFF_MAX, BACKOFF_MIN, CALL_BYTES_MAX, CALLS_IN_FLIGHT_MAX, CONTROL_SILENCE_MAX,
    IN_FLIGHT_BYTES_MAX,
};
use crate::peer::metrics::PeerMetrics;
use crate::peer::pool::{DialError, Dialer};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

/// How a call failed, split by what the caller needs to know: can the peer have seen it?
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum CallError {
    /// No byte of the request left this node.
    #[error("not sent: {0}")]
    NotSent(NotSent),
    /// The request was handed to the connection, and no answer came: the peer may or may not have acted on
    /// it.
    #[error("sent, no answer: {0}")]
    Lost(Lost),
}

/// Why a request was not sent.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum NotSent {
    /// No connection could be made. During the pause after a failed dial this comes at once, with that dial's
    /// reason.
    #[error("{0}")]
    Unreachable(DialError),
    /// The connection broke while the request was queued, or was dropped by the peer before it answered
    /// anything.
    #[error("{0}")]
    Broken(Arc<FrameError>),
    /// As many calls or bytes wait for answers as may.
    #[error("too many calls to the peer are in flight")]
    WindowFull,
    /// The payload does not fit a frame.
    #[error("a payload of {bytes} bytes is larger than {CALL_BYTES_MAX}")]
    TooLarge { bytes: usize },
    /// The time was over before the request's turn came.
    #[error("timed out in the queue")]
    TimedOut,
    /// The pool is closed.
    #[error("the peer transport is closed")]
    Closed,
}

/// Why no answer came.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Lost {
    /// The time was over.
    #[error("timed out")]
    TimedOut,
    /// The connection broke.
    #[error("{0}")]
    Broken(Arc<FrameError>),
    /// The pool was closed.
    #[error("the peer transport is closed")]
    Closed,
}

/// Where a request stands. Exactly one side moves it away from `QUEUED`.
const QUEUED: u8 = 0;
/// The connection took it: it counts as sent.
const SENT: u8 = 1;
/// The caller gave up first: it will never be sent.
const ABANDONED: u8 = 2;

/// A request in the line's queue.
pub(super) struct Request {
    kind: u8,
    payload: Bytes,
    reply: oneshot::Sender<Result<Bytes, CallError>>,
    state: Arc<AtomicU8>,
    /// Held by both sides: an abandoned request takes its place until it leaves the queue.
    _window: Arc<WindowShare>,
}

/// A request that counts as sent.
pub(super) struct SentRequest {
    pub(super) kind: u8,
    pub(super) payload: Bytes,
    pub(super) reply: oneshot::Sender<Result<Bytes, CallError>>,
}

struct WindowShare {
    _call: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

impl Request {
    /// Takes the request for sending; nothing when its caller gave up.
    pub(super) fn claim(self) -> Option<SentRequest> {
        let Self { kind, payload, reply, state, _window } = self;
        settle(&state, SENT).then_some(SentRequest { kind, payload, reply })
    }

    /// Fails the request without sending it.
    pub(super) fn refuse(self, why: NotSent) {
        // The caller may have gone.
        let _ = self.reply.send(Err(CallError::NotSent(why)));
    }

    fn is_abandoned(&self) -> bool {
        self.state.load(Ordering::Acquire) == ABANDONED
    }
}

fn settle(state: &AtomicU8, to: u8) -> bool {
    state.compare_exchange(QUEUED, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
}

/// A call that was started. Dropping it gives it up: it is not sent if it is still queued.
#[must_use = "a call that is dropped may never be sent"]
pub(crate) struct PendingCall {
    reply: oneshot::Receiver<Result<Bytes, CallError>>,
    state: Arc<AtomicU8>,
    deadline: Instant,
    _window: Arc<WindowShare>,
    /// Keeps the line alive until the answer.
    _line: mpsc::UnboundedSender<Request>,
}

impl PendingCall {
    /// Waits for the answer until the call's time is over.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) async fn answer(mut self) -> Result<Bytes, CallError> {
        match tokio::time::timeout_at(self.deadline, &mut self.reply).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_line_ended)) => Err(self.give_up(NotSent::Closed, Lost::Closed)),
            Err(_elapsed) => Err(self.give_up(NotSent::TimedOut, Lost::TimedOut)),
        }
    }

    fn give_up(&self, not_sent: NotSent, lost: Lost) -> CallError {
        if settle(&self.state, ABANDONED) { CallError::NotSent(not_sent) } else { CallError::Lost(lost) }
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        // Already sent or answered: nothing to take back.
        let _ = settle(&self.state, ABANDONED);
    }
}

/// The callers' end of a line.
#[derive(Debug)]
pub(super) struct Line {
    requests: mpsc::UnboundedSender<Request>,
    calls: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

impl Line {
    /// A line and its task, which the pool runs.
    pub(super) fn new(channel: CallChannel, dialer: Dialer) -> (Self, LineTask) {
        // Without bound of its own: the window bounds it.
        let (requests, queue) = mpsc::unbounded_channel();
        let calls = Arc::new(Semaphore::new(CALLS_IN_FLIGHT_MAX));
        let bytes = Arc::new(Semaphore::new(IN_FLIGHT_BYTES_MAX));
        let task = LineTask { channel, dialer, queue, backoff: Backoff::default(), unreachable: false };
        (Self { requests, calls, bytes }, task)
    }

    /// Queues a call. Calls are sent in the order in which they are started.
    ///
    /// # Errors
    /// `NotSent` when the window is full, the payload too large or the pool closed.
    pub(super) fn start(
        &self,
        kind: u8,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<PendingCall, CallError> {
        let bytes = payload.len();
        let too_large = CallError::NotSent(NotSent::TooLarge { bytes });
        if CALL_BYTES_MAX < bytes {
            return Err(too_large);
        }
        let share = u32::try_from(bytes).map_err(|_| too_large)?;
        let full = |_| CallError::NotSent(NotSent::WindowFull);
        let window = Arc::new(WindowShare {
            _call: Arc::clone(&self.calls).try_acquire_owned().map_err(full)?,
            _bytes: Arc::clone(&self.bytes).try_acquire_many_owned(share).map_err(full)?,
        });
        let (reply, answer) = oneshot::channel();
        let state = Arc::new(AtomicU8::new(QUEUED));
        let request =
            Request { kind, payload, reply, state: Arc::clone(&state), _window: Arc::clone(&window) };
        self.requests.send(request).map_err(|_| CallError::NotSent(NotSent::Closed))?;
        let deadline = Instant::now() + timeout;
        Ok(PendingCall { reply: answer, state, deadline, _window: window, _line: self.requests.clone() })
    }
}

/// The owner of a line's connection.
pub(super) struct LineTask {
    channel: CallChannel,
    dialer: Dialer,
    queue: mpsc::UnboundedReceiver<Request>,
    backoff: Backoff,
    /// The last dial failed and a warning was logged.
    unreachable: bool,
}

impl LineTask {
    /// Serves the line until the pool closes or every handle to it is gone.
    pub(super) async fn run(mut self) {
        let stop = self.dialer.stop().clone();
        while let Some(Some(request)) = stop.run_until_cancelled(self.queue.recv()).await {
            if request.is_abandoned() {
                continue;
            }
            match self.backoff.failure(Instant::now()) {
                Some(why) => request.refuse(why),
                None => self.connect_and_serve(request).await,
            }
        }
        self.queue.close();
        self.refuse_queued(&NotSent::Closed);
    }

    async fn connect_and_serve(&mut self, first: Request) {
        let stop = self.dialer.stop().clone();
        let channel = Channel::from(self.channel);
        let Some(dialed) = stop.run_until_cancelled(self.dialer.dial(channel)).await else {
            first.refuse(NotSent::Closed);
            return;
        };
        let link = match dialed {
            Ok(link) => link,
            Err(error) => {
                self.log_unreachable(&error);
                let why = NotSent::Unreachable(error);
                first.refuse(why.clone());
                self.refuse_queued(&why);
                self.backoff.failed(why, Instant::now());
                return;
            }
        };
        self.unreachable = false;
        tracing::info!(peer = %self.dialer.peer(), channel = channel.name(), "connected to peer");
        let terms = Terms { silence_max: silence_max(self.channel), rtt: self.rtt_metrics(), stop };
        let Ended { cause, answered } = connection::run(link, first, &mut self.queue, &terms).await;
        let Some(cause) = cause else { return };
        let peer = self.dialer.peer();
        tracing::info!(%peer, channel = channel.name(), %cause, "lost connection to peer");
        if answered {
            self.backoff = Backoff::default();
        } else {
            // A peer that accepts and then drops us must not be dialed in a tight loop.
            self.backoff.failed(NotSent::Broken(cause), Instant::now());
        }
    }

    fn rtt_metrics(&self) -> Option<Arc<PeerMetrics>> {
        match self.channel {
            CallChannel::Append => None,
            CallChannel::Control => Some(Arc::clone(self.dialer.metrics())),
        }
    }

    fn refuse_queued(&mut self, why: &NotSent) {
        while let Ok(request) = self.queue.try_recv() {
            request.refuse(why.clone());
        }
    }

    /// Once per outage: a peer that is down for a day is one line, not a hundred thousand.
    fn log_unreachable(&mut self, error: &DialError) {
        let (peer, address, channel) =
            (self.dialer.peer(), self.dialer.address(), Channel::from(self.channel).name());
        if self.unreachable {
            tracing::debug!(%peer, address, channel, %error, "peer is still unreachable");
        } else {
            tracing::warn!(%peer, address, channel, %error, "peer is unreachable");
        }
        self.unreachable = true;
    }
}

const fn silence_max(channel: CallChannel) -> Duration {
    match channel {
        CallChannel::Append => APPEND_SILENCE_MAX,
        CallChannel::Control => CONTROL_SILENCE_MAX,
    }
}

/// The pause after failed dials.
#[derive(Default)]
struct Backoff {
    failures: u32,
    pause: Option<(Instant, NotSent)>,
}

impl Backoff {
    /// The reason of the last failure while its pause lasts.
    fn failure(&self, now: Instant) -> Option<NotSent> {
        self.pause.as_ref().filter(|(until, _)| now < *until).map(|(_, why)| why.clone())
    }

    fn failed(&mut self, why: NotSent, now: Instant) {
        let doubled = BACKOFF_MIN.saturating_mul(1 << self.failures.min(16)).min(BACKOFF_MAX);
        self.failures = self.failures.saturating_add(1);
        self.pause = Some((now + doubled.mul_f64(rand::random_range(0.5..=1.0)), why));
    }
}

#[cfg(test)]
mod tests {
    use super::{Backoff, CallError, Line, Lost, NotSent};
    use crate::peer::connection::{self, Terms};
    use crate::peer::frame::Link;
    use crate::peer::limits::{BACKOFF_MAX, BACKOFF_MIN};
    use bytes::Bytes;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::sync::{Semaphore, mpsc};
    use tokio::time::Instant;
    use tokio_util::sync::CancellationToken;

    #[tokio::test]
    async fn a_broken_connection_tells_what_it_had_taken_from_what_was_still_queued() {
        let long = Duration::from_secs(60);
        let (requests, mut queue) = mpsc::unbounded_channel();
        let [calls, bytes] = [10, 100_000].map(|permits| Arc::new(Semaphore::new(permits)));
        let line = Line { requests, calls, bytes };
        // The first fits no buffer on the way, so the second never gets its turn.
        let taken = line.start(1, Bytes::from(vec![0; 90_000]), long).unwrap();
        let queued = line.start(1, Bytes::new(), long).unwrap();
        let first = queue.recv().await.unwrap();

        let (near, mut far) = tokio::io::duplex(1 << 10);
        let terms = Terms { silence_max: long, rtt: None, stop: CancellationToken::new() };
        let breaking = async move {
            let mut start = [0; 100];
            tokio::io::AsyncReadExt::read_exact(&mut far, &mut start).await.unwrap();
        };
        let running = connection::run(Link::new(near, long), first, &mut queue, &terms);
        let (ended, ()) = tokio::join!(running, breaking);
        assert!(ended.cause.is_some() && !ended.answered);
        let (taken, queued) = tokio::join!(taken.answer(), queued.answer());
        assert!(matches!(taken, Err(CallError::Lost(Lost::Broken(_)))), "{taken:?}");
        assert!(matches!(queued, Err(CallError::NotSent(NotSent::Broken(_)))), "{queued:?}");
    }

    #[test]
    fn the_pause_doubles_is_jittered_and_stays_bounded() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        let mut expected = BACKOFF_MIN;
        for _ in 0..40 {
            backoff.failed(NotSent::Closed, now);
            let (until, _) = backoff.pause.clone().unwrap();
            let pause = until - now;
            assert!(expected.mul_f64(0.49) <= pause && pause <= expected, "{pause:?} of {expected:?}");
            assert!(backoff.failure(until - BACKOFF_MIN.mul_f64(0.01)).is_some());
            assert!(backoff.failure(until).is_none());
            expected = (expected * 2).min(BACKOFF_MAX);
        }
    }
}
