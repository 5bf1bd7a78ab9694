//! One open connection of the dialer, for calls: writes requests, matches answers by request id.

use crate::peer::frame::{Frame, FrameError, FrameReader, FrameType, FrameWriter, Link};
use crate::peer::line::{CallError, Lost, NotSent, Request};
use crate::peer::metrics::PeerMetrics;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Answers that nobody waits for are kept until there are this many, then forgotten together.
const FORGET_ABOVE: usize = 1_024;

/// How a connection is used and when it is given up.
pub(super) struct Terms {
    /// Longest time without a byte from the peer while it owes an answer.
    pub(super) silence_max: Duration,
    /// Where round trips are counted, when they are.
    pub(super) rtt: Option<Arc<PeerMetrics>>,
    /// Ends the connection.
    pub(super) stop: CancellationToken,
}

/// How a connection ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Why; nothing when this side wanted it.
    pub(super) cause: Option<Arc<FrameError>>,
    /// Whether the peer ever answered on it.
    pub(super) answered: bool,
}

/// What writer, reader and watchdog of one connection share.
#[derive(Default)]
struct Owed {
    waiting: HashMap<u64, Waiting>,
    /// Since when the peer owes an answer and has sent nothing.
    silent_since: Option<Instant>,
    answered: bool,
}

struct Waiting {
    reply: oneshot::Sender<Result<Bytes, CallError>>,
    since: Instant,
}

/// Runs the connection until it breaks, `terms.stop` fires or every handle to the line is gone. All calls on
/// it and all that are queued have failed when this returns.
pub(super) async fn run<S>(
    link: Link<S>,
    first: Request,
    requests: &mut mpsc::UnboundedReceiver<Request>,
    terms: &Terms,
) -> Ended
where
    S: AsyncRead + AsyncWrite,
{
    let owed = Mutex::new(Owed::default());
    let Link { reader, writer } = link;
    // The reader goes first: after a pause of this process, answers that have arrived count before the
    // watchdog looks.
    let cause = tokio::select! {
        biased;
        cause = read(reader, &owed, terms) => Some(cause),
        cause = write(writer, first, requests, &owed) => cause,
        cause = watch(&owed, terms.silence_max) => Some(cause),
        () = terms.stop.cancelled() => None,
    };
    let cause = cause.map(Arc::new);
    let Owed { waiting, answered, .. } = std::mem::take(&mut *lock(&owed));
    for (_, call) in waiting {
        let lost = cause.as_ref().map_or(Lost::Closed, |cause| Lost::Broken(Arc::clone(cause)));
        // The caller may have gone.
        let _ = call.reply.send(Err(CallError::Lost(lost)));
    }
    while let Ok(request) = requests.try_recv() {
        request.refuse(cause.as_ref().map_or(NotSent::Closed, |cause| NotSent::Broken(Arc::clone(cause))));
    }
    Ended { cause, answered }
}

/// Returns only when the connection failed, or nothing when every handle to the line is gone.
async fn write<W: AsyncWrite + Unpin>(
    mut writer: FrameWriter<W>,
    first: Request,
    requests: &mut mpsc::UnboundedReceiver<Request>,
    owed: &Mutex<Owed>,
) -> Option<FrameError> {
    let mut next_id = 1;
    let mut next = Some(first);
    loop {
        let request = match next.take() {
            Some(request) => request,
            None => match requests.try_recv() {
                Ok(request) => request,
                Err(mpsc::error::TryRecvError::Empty) => {
                    if let Err(error) = writer.flush().await {
                        return Some(error);
                    }
                    requests.recv().await?
                }
                Err(mpsc::error::TryRecvError::Disconnected) => return None,
            },
        };
        let id = next_id;
        next_id += 1;
        let Some(claimed) = request.claim() else { continue };
        expect_answer(owed, id, claimed.reply);
        if let Err(error) = writer.write(FrameType::Request, id, &[claimed.kind], &claimed.payload).await {
            return Some(error);
        }
    }
}

fn expect_answer(owed: &Mutex<Owed>, id: u64, reply: oneshot::Sender<Result<Bytes, CallError>>) {
    let mut owed = lock(owed);
    let since = Instant::now();
    if FORGET_ABOVE <= owed.waiting.len() {
        owed.waiting.retain(|_, call| !call.reply.is_closed());
    }
    owed.waiting.insert(id, Waiting { reply, since });
    owed.silent_since.get_or_insert(since);
}

/// Returns only when the connection failed.
async fn read<R>(mut reader: FrameReader<R>, owed: &Mutex<Owed>, terms: &Terms) -> FrameError
where
    R: AsyncRead + Unpin,
{
    loop {
        let Frame { kind, id, payload } = match reader.next().await {
            Ok(frame) => frame,
            Err(error) => return error,
        };
        if kind != FrameType::Response {
            return FrameError::Unexpected { kind: kind.code() };
        }
        let Some(call) = take_waiting(owed, id) else { continue };
        if let Some(metrics) = &terms.rtt {
            metrics.control_answered(call.since.elapsed());
        }
        // The caller may have gone.
        let _ = call.reply.send(Ok(payload));
    }
}

/// The call that an answer is for; nothing when it was given up and forgotten.
fn take_waiting(owed: &Mutex<Owed>, id: u64) -> Option<Waiting> {
    let mut owed = lock(owed);
    let call = owed.waiting.remove(&id);
    owed.answered = true;
    owed.silent_since = if owed.waiting.is_empty() { None } else { Some(Instant::now()) };
    call
}

/// Returns when the peer owed an answer and sent nothing for `silence_max`.
async fn watch(owed: &Mutex<Owed>, silence_max: Duration) -> FrameError {
    loop {
        let now = Instant::now();
        let due = lock(owed).silent_since.map_or(now, |since| since) + silence_max;
        if due <= now {
            return FrameError::Silent { after: silence_max };
        }
        tokio::time::sleep_until(due).await;
    }
}

/// The data stays whole when a holder panics: every section is one step.
fn lock(owed: &Mutex<Owed>) -> MutexGuard<'_, Owed> {
    owed.lock().unwrap_or_else(PoisonError::into_inner)
}
