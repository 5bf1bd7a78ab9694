//! The newest revisions in memory, and the bell that wakes whoever waits for the next one.
//!
//! Pushing costs the same however many watch: it appends to the ring and rings one bell. A task of its own passes that on to
//! the streams, once for everything that came meanwhile.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holdfast_core::Revision;
use holdfast_core::domain::Event;
use tokio::sync::{Notify, Semaphore, watch};

use crate::seeded_bugs::{self, SeededBug};
use crate::watch::commit::{Commit, commits};
use crate::watch::counters::WatchCounters;

/// Revisions in the ring: some seconds of a busy store, for streams that are a little behind.
const RING_COMMITS_MAX: usize = 4_096;
/// Bytes of what they changed, in all.
const RING_BYTES_MAX: usize = 16 << 20;
/// Streams of one node: each costs a connection and a wake-up for every batch of revisions.
const STREAMS_MAX: usize = 10_000;
/// Revisions that a stream takes from the ring at once: the ring is locked no longer than that takes.
const TAKEN_MAX: usize = 256;
/// Reads of the state for streams at the same time; the others wait, and so does everything else less.
const READS_MAX: usize = 2;

/// How much a ring keeps.
#[derive(Debug, Clone, Copy)]
pub(super) struct RingLimits {
    pub(super) commits_max: usize,
    pub(super) bytes_max: usize,
}

impl Default for RingLimits {
    fn default() -> Self {
        Self { commits_max: RING_COMMITS_MAX, bytes_max: RING_BYTES_MAX }
    }
}

/// The newest revisions of one node. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Feed {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    ring: Mutex<Ring>,
    bell: Notify,
    head: watch::Sender<Revision>,
    reads: Arc<Semaphore>,
    open: AtomicUsize,
    counters: WatchCounters,
}

/// Invariant: what happened after `base` up to `head` is in `commits`, in order.
#[derive(Debug)]
struct Ring {
    limits: RingLimits,
    commits: VecDeque<Arc<Commit>>,
    bytes: usize,
    base: Revision,
    head: Revision,
    /// Counts the replacements of the state: after each of them everybody looks at the state again.
    replaced: u64,
}

/// What a stream takes from the ring.
#[derive(Debug)]
pub(super) enum Taken {
    /// The next revisions.
    Commits {
        /// They.
        commits: Vec<Arc<Commit>>,
        /// Everything up to here is in them or before them.
        up_to: Revision,
        /// Whether nothing newer is known.
        at_head: bool,
    },
    /// They are not in the ring: the state must be asked.
    Behind {
        /// The replacements of the state so far.
        replaced: u64,
    },
}

/// A stream's place among those of the node; given back when it is dropped.
#[derive(Debug)]
#[must_use = "a place that is dropped is given back"]
pub(crate) struct Place {
    feed: Feed,
}

impl Feed {
    /// The feed of a node whose state is at a revision. Events up to there are taken for known.
    pub(crate) fn new(at: Revision) -> Self {
        Self::with_limits(at, RingLimits::default())
    }

    pub(super) fn with_limits(at: Revision, limits: RingLimits) -> Self {
        let ring = Ring { limits, commits: VecDeque::new(), bytes: 0, base: at, head: at, replaced: 0 };
        Self {
            inner: Arc::new(Inner {
                ring: Mutex::new(ring),
                bell: Notify::new(),
                head: watch::Sender::new(at),
                reads: Arc::new(Semaphore::new(READS_MAX)),
                open: AtomicUsize::new(0),
                counters: WatchCounters::default(),
            }),
        }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.inner.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what happened, in order. The state has it already.
    pub(crate) fn push(&self, events: Vec<Event>, revision: Revision) {
        let commits = commits(events);
        self.ring().push(commits, revision);
        self.inner.bell.notify_one();
    }

    /// Forgets everything: the whole state was replaced by one at this revision.
    pub(crate) fn replace(&self, revision: Revision) {
        self.ring().replace(revision);
        self.inner.bell.notify_one();
    }

    /// Wakes the streams after each push. Runs for the life of the node.
    pub(crate) async fn wake(self) {
        loop {
            self.inner.bell.notified().await;
            self.pass_on();
        }
    }

    pub(super) fn pass_on(&self) {
        let head = self.ring().head;
        self.inner.head.send_replace(head);
    }

    /// A place for one more stream; none when there are too many.
    pub(crate) fn admit(&self) -> Option<Place> {
        let added = |open: usize| (open < STREAMS_MAX).then_some(open + 1);
        let admitted = self.inner.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, added);
        admitted.ok().map(|_| Place { feed: self.clone() })
    }

    /// Streams that are open.
    pub(crate) fn open(&self) -> usize {
        self.inner.open.load(Ordering::Relaxed)
    }

    /// What the streams count.
    pub(crate) fn counters(&self) -> &WatchCounters {
        &self.inner.counters
    }

    /// The newest revision that was pushed, and its changes.
    pub(super) fn watch_head(&self) -> watch::Receiver<Revision> {
        self.inner.head.subscribe()
    }

    pub(super) fn reads(&self) -> Arc<Semaphore> {
        Arc::clone(&self.inner.reads)
    }

    /// What happened after a revision. `replaced` is what the last look at the state was told.
    pub(super) fn after(&self, cursor: Revision, replaced: u64) -> Taken {
        self.ring().after(cursor, replaced)
    }

    /// The replacements of the state so far.
    pub(super) fn replaced(&self) -> u64 {
        self.ring().replaced
    }
}

impl Ring {
    fn push(&mut self, commits: Vec<Commit>, revision: Revision) {
        for commit in commits {
            // Behind the state that the ring began with, or that replaced another one.
            if commit.revision <= self.head {
                continue;
            }
            self.head = commit.revision;
            self.bytes += commit.bytes;
            self.commits.push_back(Arc::new(commit));
        }
        self.head = self.head.max(revision);
        while self.limits.commits_max < self.commits.len() || self.limits.bytes_max < self.bytes {
            let Some(oldest) = self.commits.pop_front() else { break };
            self.bytes -= oldest.bytes;
            self.base = oldest.revision;
        }
    }

    fn replace(&mut self, revision: Revision) {
        self.commits.clear();
        self.bytes = 0;
        self.base = self.head.max(revision);
        self.head = self.base;
        self.replaced += 1;
    }

    fn after(&self, cursor: Revision, replaced: u64) -> Taken {
        let within = self.base <= cursor || seeded_bugs::active(SeededBug::WatchPastSkipped);
        if !within || replaced != self.replaced {
            return Taken::Behind { replaced: self.replaced };
        }
        let from = self.commits.partition_point(|commit| commit.revision <= cursor);
        let commits: Vec<_> = self.commits.iter().skip(from).take(TAKEN_MAX).cloned().collect();
        let at_head = self.commits.len() - from <= TAKEN_MAX;
        let up_to = match commits.last() {
            Some(last) if !at_head => last.revision,
            Some(_) | None => self.head,
        };
        Taken::Commits { commits, up_to, at_head }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.feed.inner.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::{Feed, RingLimits, STREAMS_MAX, Taken};
    use holdfast_core::domain::{Change, Event};
    use holdfast_core::{NamespaceName, Revision};

    fn event(revision: u64) -> Event {
        let change = Change::NamespaceCreated { name: NamespaceName::default_namespace() };
        Event { revision: Revision::new(revision), change }
    }

    fn feed(at: u64, commits_max: usize) -> Feed {
        Feed::with_limits(Revision::new(at), RingLimits { commits_max, bytes_max: usize::MAX })
    }

    fn push(feed: &Feed, revisions: impl IntoIterator<Item = u64>) {
        let events: Vec<Event> = revisions.into_iter().map(event).collect();
        let last = events.last().unwrap().revision;
        feed.push(events, last);
    }

    /// The revisions after a cursor, none when the cursor is below the ring.
    fn after(feed: &Feed, cursor: u64) -> Option<(Vec<u64>, u64)> {
        match feed.after(Revision::new(cursor), feed.replaced()) {
            Taken::Commits { commits, up_to, .. } => {
                Some((commits.iter().map(|commit| commit.revision.as_u64()).collect(), up_to.as_u64()))
            }
            Taken::Behind { .. } => None,
        }
    }

    #[test]
    fn a_cursor_is_within_the_ring_from_the_revision_before_its_oldest() {
        let feed = feed(10, 3);
        push(&feed, [11, 12, 14, 15]);
        assert_eq!(after(&feed, 10), None);
        assert_eq!(after(&feed, 11), Some((vec![12, 14, 15], 15)));
        assert_eq!(after(&feed, 12), Some((vec![14, 15], 15)));
        assert_eq!(after(&feed, 13), Some((vec![14, 15], 15)));
        assert_eq!(after(&feed, 15), Some((vec![], 15)));
    }

    #[test]
    fn a_cursor_ahead_of_the_ring_is_given_only_what_is_newer() {
        let feed = feed(10, 3);
        push(&feed, [11, 12]);
        assert_eq!(after(&feed, 20), Some((vec![], 12)));
        push(&feed, [13, 21]);
        assert_eq!(after(&feed, 20), Some((vec![21], 21)));
    }

    #[test]
    fn bytes_bound_the_ring_as_well() {
        let feed = Feed::with_limits(
            Revision::ZERO,
            RingLimits {
                commits_max: 100,
                bytes_max: 2 * super::super::commit::commits(vec![event(1)])[0].bytes,
            },
        );
        push(&feed, 1..=5);
        assert_eq!(after(&feed, 2), None);
        assert_eq!(after(&feed, 3), Some((vec![4, 5], 5)));
    }

    #[test]
    fn events_that_the_state_had_from_the_start_are_not_taken_twice() {
        let feed = feed(10, 100);
        push(&feed, [9, 10, 11]);
        assert_eq!(after(&feed, 10), Some((vec![11], 11)));
        feed.replace(Revision::new(20));
        push(&feed, [12, 20, 21]);
        assert_eq!(after(&feed, 19), None);
        assert_eq!(after(&feed, 20), Some((vec![21], 21)));
    }

    #[test]
    fn after_a_replacement_everybody_looks_at_the_state() {
        let feed = feed(10, 100);
        let before = feed.replaced();
        push(&feed, [11]);
        feed.replace(Revision::new(11));
        assert!(matches!(feed.after(Revision::new(11), before), Taken::Behind { .. }));
        assert_eq!(after(&feed, 11), Some((vec![], 11)));
    }

    #[test]
    fn a_long_way_is_taken_in_parts() {
        let feed = feed(0, 1_000);
        push(&feed, 1..=600);
        let (mut cursor, mut seen) = (0, Vec::new());
        while let Some((revisions, up_to)) = after(&feed, cursor).filter(|(some, _)| !some.is_empty()) {
            assert!(revisions.len() <= super::TAKEN_MAX);
            seen.extend(revisions);
            cursor = up_to;
        }
        assert_eq!(seen, (1..=600).collect::<Vec<_>>());
    }

    #[test]
    fn the_places_of_a_node_are_bounded_and_given_back() {
        let feed = feed(0, 1);
        let places: Vec<_> = std::iter::from_fn(|| feed.admit()).collect();
        assert_eq!((places.len(), feed.open()), (STREAMS_MAX, STREAMS_MAX));
        drop(places);
        assert!(feed.admit().is_some());
        assert_eq!(feed.open(), 0);
    }
}
