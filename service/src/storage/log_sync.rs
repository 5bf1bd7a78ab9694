//! Group commit: one thread that makes writes of the log durable.
//!
//! It takes *all* requests that wait, flushes the write-ahead log once, and answers them in order; the next group forms
//! during that flush. There is no timer: a lone write waits for one fsync, and a thousand concurrent ones share one.
//!
//! The first failed flush is latched: every request waiting then or later gets that error, and nothing is tried again.

use crate::seeded_bugs::{SeededBug, active};
use crate::storage::latch::{Latch, StorageError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Called once, on the sync thread, when what was written before it was queued is durable, or never will be.
/// It must not block.
pub(crate) type FlushCallback = Box<dyn FnOnce(Result<(), StorageError>) + Send>;

/// A write-ahead log that the thread flushes.
pub(super) trait Wal: Send + Sync + 'static {
    /// Notes what is written so far: the next flush makes it durable.
    fn mark(&self);

    /// Makes everything written so far durable.
    fn flush(&self) -> Result<(), StorageError>;

    /// Announces that what was marked is durable.
    fn publish(&self);

    /// Work that may wait until the answers are out.
    fn tidy(&self) -> Result<(), StorageError>;
}

/// Upper bounds of the buckets of [`SyncStats::durations`], in microseconds; the last bucket has none.
pub(crate) const SYNC_DURATION_US_MAX: [u64; 13] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000];

/// What the sync thread did, since the start.
#[derive(Debug, Default)]
pub(crate) struct SyncStats {
    syncs: AtomicU64,
    appends: AtomicU64,
    duration_us_sum: AtomicU64,
    durations: [AtomicU64; SYNC_DURATION_US_MAX.len() + 1],
}

impl SyncStats {
    /// How often the log was flushed to the disk for waiting requests.
    pub(crate) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// How many appends those flushes made durable.
    pub(crate) fn appends(&self) -> u64 {
        self.appends.load(Ordering::Relaxed)
    }

    /// The time spent in them, in microseconds.
    pub(crate) fn duration_us_sum(&self) -> u64 {
        self.duration_us_sum.load(Ordering::Relaxed)
    }

    /// How many took at most [`SYNC_DURATION_US_MAX`] each and more than the bound before; the last: longer than all.
    pub(crate) fn durations(&self) -> [u64; SYNC_DURATION_US_MAX.len() + 1] {
        self.durations.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    fn record(&self, appends: u64, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = SYNC_DURATION_US_MAX.partition_point(|bound| *bound < micros);
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.appends.fetch_add(appends, Ordering::Relaxed);
        self.duration_us_sum.fetch_add(micros, Ordering::Relaxed);
        self.durations[bucket].fetch_add(1, Ordering::Relaxed);
    }
}

/// What waits for the next flush.
pub(super) enum Request {
    /// Rows were appended.
    Append(FlushCallback),
    /// Anything else that was written, or nothing.
    Other(FlushCallback),
}

impl Request {
    fn answer(self, result: Result<(), StorageError>) {
        match self {
            Self::Append(done) | Self::Other(done) => done(result),
        }
    }

    fn is_append(&self) -> bool {
        match self {
            Self::Append(_) => true,
            Self::Other(_) => false,
        }
    }
}

/// The handle of the thread. Dropping it answers what still waits, then ends the thread.
pub(super) struct LogSync {
    /// Not bounded here: each request belongs to a write that its caller awaits or that the Raft core has accepted, and
    /// the core's own queues are bounded.
    queue: Option<Sender<Request>>,
    thread: Option<JoinHandle<()>>,
    path: PathBuf,
    stats: Arc<SyncStats>,
}

impl LogSync {
    pub(super) fn start(wal: Arc<impl Wal>, latch: Latch, path: &Path) -> Result<Self, StorageError> {
        let (queue, requests) = channel();
        let stats = Arc::new(SyncStats::default());
        let shared_stats = Arc::clone(&stats);
        let thread = thread::Builder::new()
            .name("log-sync".to_owned())
            .spawn(move || run(&*wal, &latch, &requests, &shared_stats))
            .map_err(|error| StorageError::failed("start the sync thread", path, &error))?;
        Ok(Self { queue: Some(queue), thread: Some(thread), path: path.to_owned(), stats })
    }

    /// Queues a request behind all earlier ones.
    pub(super) fn request(&self, request: Request) {
        let unsent = match &self.queue {
            Some(queue) => queue.send(request).err().map(|error| error.0),
            None => Some(request),
        };
        if let Some(request) = unsent {
            request.answer(Err(StorageError::Stopped { path: self.path.clone() }));
        }
    }

    pub(super) fn stats(&self) -> Arc<SyncStats> {
        Arc::clone(&self.stats)
    }
}

impl Drop for LogSync {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A callback may hold the last handle, and a thread cannot wait for itself.
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                tracing::error!(path = %self.path.display(), "the sync thread panicked");
            }
        }
    }
}

fn run(wal: &impl Wal, latch: &Latch, requests: &Receiver<Request>, stats: &SyncStats) {
    let mut group = Vec::new();
    while let Ok(first) = requests.recv() {
        group.push(first);
        group.extend(requests.try_iter());
        serve(wal, latch, &mut group, stats);
    }
}

fn serve(wal: &impl Wal, latch: &Latch, group: &mut Vec<Request>, stats: &SyncStats) {
    let result = latch.check().and_then(|()| {
        wal.mark();
        if active(SeededBug::AnswerBeforeFsync) {
            answer_appends_early(wal, group);
        }
        let appends = group.iter().filter(|request| request.is_append()).count();
        let start = Instant::now();
        wal.flush().map_err(|error| latch.fail(error))?;
        stats.record(u64::try_from(appends).unwrap_or(u64::MAX), start.elapsed());
        wal.publish();
        Ok(())
    });
    for request in group.drain(..) {
        request.answer(result.clone());
    }
    if result.is_ok()
        && let Err(error) = wal.tidy()
    {
        latch.fail(error);
    }
}

/// The seeded bug `answer-before-fsync`, with a window wide enough for a crash to fall into.
fn answer_appends_early(wal: &impl Wal, group: &mut Vec<Request>) {
    let mut appends = group.extract_if(.., |request| request.is_append()).peekable();
    if appends.peek().is_none() {
        // A vote alone is not slowed down, else no election would come to an end.
        return;
    }
    wal.publish();
    for request in appends {
        request.answer(Ok(()));
    }
    thread::sleep(Duration::from_millis(500));
}

#[cfg(test)]
mod tests {
    use super::{LogSync, Request, StorageError, Wal};
    use crate::storage::latch::Latch;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::sync::{Arc, Mutex};

    /// A log whose flushes the test lets pass one by one.
    struct GatedWal {
        flushing: Mutex<Sender<()>>,
        gate: Mutex<Receiver<()>>,
        failing: AtomicBool,
        flushes: AtomicU64,
    }

    impl Wal for GatedWal {
        fn mark(&self) {}

        fn flush(&self) -> Result<(), StorageError> {
            self.flushing.lock().unwrap().send(()).unwrap();
            self.gate.lock().unwrap().recv().unwrap();
            self.flushes.fetch_add(1, Ordering::SeqCst);
            if self.failing.load(Ordering::SeqCst) {
                return Err(StorageError::failed("flush the log", Path::new("/log"), &"input/output error"));
            }
            Ok(())
        }

        fn publish(&self) {}

        fn tidy(&self) -> Result<(), StorageError> {
            Ok(())
        }
    }

    struct Fixture {
        wal: Arc<GatedWal>,
        latch: Latch,
        sync: LogSync,
        flushing: Receiver<()>,
        gate: Sender<()>,
        answers: Receiver<(u64, bool)>,
        answer: Sender<(u64, bool)>,
    }

    fn fixture() -> Fixture {
        let (flushing, flushing_seen) = channel();
        let (gate, gate_passed) = channel();
        let (answer, answers) = channel();
        let wal = Arc::new(GatedWal {
            flushing: Mutex::new(flushing),
            gate: Mutex::new(gate_passed),
            failing: AtomicBool::new(false),
            flushes: AtomicU64::new(0),
        });
        let latch = Latch::default();
        let sync = LogSync::start(Arc::clone(&wal), latch.clone(), Path::new("/log")).unwrap();
        Fixture { wal, latch, sync, flushing: flushing_seen, gate, answers, answer }
    }

    impl Fixture {
        fn request(&self, number: u64) {
            let answer = self.answer.clone();
            let done = move |result: Result<(), StorageError>| answer.send((number, result.is_ok())).unwrap();
            self.sync.request(Request::Append(Box::new(done)));
        }

        fn answers(&self, count: usize) -> Vec<(u64, bool)> {
            self.answers.iter().take(count).collect()
        }
    }

    #[test]
    fn what_arrives_during_a_flush_shares_the_next_one_and_is_answered_in_order() {
        let fixture = fixture();
        fixture.request(0);
        fixture.flushing.recv().unwrap();
        for number in 1..=64 {
            fixture.request(number);
        }
        fixture.gate.send(()).unwrap();
        assert_eq!(fixture.answers(1), [(0, true)]);
        fixture.flushing.recv().unwrap();
        assert!(fixture.answers.try_recv().is_err(), "nobody is answered before the flush has ended");
        fixture.gate.send(()).unwrap();
        assert_eq!(fixture.answers(64), (1..=64).map(|number| (number, true)).collect::<Vec<_>>());
        assert_eq!(fixture.wal.flushes.load(Ordering::SeqCst), 2);
        let stats = fixture.sync.stats();
        assert_eq!((stats.syncs(), stats.appends()), (2, 65));
        assert_eq!(stats.durations().iter().sum::<u64>(), 2);
    }

    #[test]
    fn a_failed_flush_fails_everyone_after_it_and_is_not_tried_again() {
        let fixture = fixture();
        fixture.wal.failing.store(true, Ordering::SeqCst);
        fixture.request(0);
        fixture.flushing.recv().unwrap();
        fixture.request(1);
        fixture.gate.send(()).unwrap();
        assert_eq!(fixture.answers(2), [(0, false), (1, false)]);
        fixture.wal.failing.store(false, Ordering::SeqCst);
        fixture.request(2);
        assert_eq!(fixture.answers(1), [(2, false)]);
        assert_eq!(fixture.wal.flushes.load(Ordering::SeqCst), 1);
        assert_eq!(fixture.latch.error().unwrap().to_string(), "flush the log in /log: input/output error");
    }

    #[test]
    fn ending_the_thread_answers_what_still_waits() {
        let fixture = fixture();
        fixture.request(0);
        fixture.flushing.recv().unwrap();
        fixture.request(1);
        fixture.gate.send(()).unwrap();
        fixture.gate.send(()).unwrap();
        drop(fixture.sync);
        assert_eq!(fixture.answers.try_iter().collect::<Vec<_>>(), [(0, true), (1, true)]);
    }
}
