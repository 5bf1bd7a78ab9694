//! One stream: a cursor over everything that happens, and a bounded queue of what its reader has not taken.
//!
//! ```text
//!   Listing ──▶ CatchingUp ◀──────────── a burst while the reader kept up
//!                   │ at the head  ▲          │
//!                   └────────▶ Live ──────────┴──▶ SlowReader: the queue, then an error, then nothing
//! ```
//!
//! Catching up is paced by the reader: nothing is read ahead of it, and it may take as long as it likes. At the head a stream
//! is live: what happens goes into the queue at the next pull, and a reader that lets more pile up there than the queue holds
//! is told where to resume and let go. That is decided when it comes back for more: until then nothing is kept for it, and the
//! server drops one that takes nothing at all.

use std::sync::Arc;
use std::time::Duration;

use holdfast_core::Revision;
use holdfast_core::domain::ConfigEntry;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::drain::Drain;
use crate::watch::commit::Commit;
use crate::watch::counters::{EndKind, FrameKind};
use crate::watch::feed::{Feed, Place, Taken};
use crate::watch::past::{ListPage, Listing, Origin, Page, Past, Unreadable};
use crate::watch::queue::{Delivery, Full, Queue, QueueLimits};
use crate::watch::subject::LastChange;

/// The longest time without a frame.
const PROGRESS_PERIOD: Duration = Duration::from_secs(1);
/// A reader that left a full queue alone for less than this while it filled was not slow: a burst was fast.
const READER_AWAY_MIN: Duration = Duration::from_millis(100);

/// What a stream keeps for its reader, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) progress_period: Duration,
    pub(super) reader_away_min: Duration,
    pub(super) queue: QueueLimits,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            progress_period: PROGRESS_PERIOD,
            reader_away_min: READER_AWAY_MIN,
            queue: QueueLimits::default(),
        }
    }
}

/// What a stream hands to its reader.
#[derive(Debug)]
pub(crate) enum Frame {
    /// A part of what there is.
    State {
        /// The revision at which it is.
        revision: Revision,
        /// The items.
        items: Vec<ConfigEntry>,
        /// Whether another part follows.
        more: bool,
    },
    /// What one revision changed.
    Change(Delivery),
    /// Everything up to this revision has been delivered.
    Progress(Revision),
    /// The stream ends.
    End {
        /// Why.
        ending: Ending,
        /// Where another stream goes on; none when that makes no sense.
        resume: Option<Revision>,
    },
}

/// Why a stream ends although there may be more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Its reader let too much pile up.
    SlowReader,
    /// The node shuts down.
    ShuttingDown,
    /// Its namespace was deleted.
    NamespaceGone,
    /// What comes next is compacted.
    Compacted {
        /// The oldest revision to watch from.
        oldest: Revision,
    },
    /// The revisions belong to another line of history.
    HistoryChanged,
    /// The state cannot be read.
    Failed {
        /// What the storage said.
        reason: String,
    },
}

/// Where a stream begins.
#[derive(Debug)]
pub(crate) struct Start {
    /// What it is opened on.
    pub(crate) origin: Origin,
    /// Everything up to here is known to the reader, or will be by what is told first.
    pub(crate) after: Revision,
    /// What is told first.
    pub(crate) first: First,
}

/// What a stream tells first.
#[derive(Debug)]
pub(crate) enum First {
    /// Where it begins: a reader that loses its connection before the first change must know that to go on from there.
    Cursor,
    /// What there is at the revision where it begins.
    Listing(Listing),
    /// Nothing: the reader was told by other means.
    Changes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    CatchingUp,
    Live,
}

/// What comes when the queue is empty.
#[derive(Debug)]
enum Last {
    /// The end, without a word: what the stream was about is over.
    Over,
    Error(Ending),
}

/// A stream. Whoever sends its frames pulls them with [`Stream::next`].
pub(crate) struct Stream<P> {
    feed: Feed,
    head: watch::Receiver<Revision>,
    past: P,
    drain: Drain,
    origin: Origin,
    listing: Option<Listing>,
    /// Everything up to here was looked at: it is in the queue or not the subject's.
    cursor: Revision,
    /// The last revision that was handed out, or that a listing gave.
    delivered: Revision,
    queue: Queue,
    patience: Patience,
    pace: Pace,
    last: Option<Last>,
    /// Whether the reader knows where the stream begins.
    is_told: bool,
    is_done: bool,
    /// The replacements of the state before the last look at it.
    replaced: u64,
    last_frame: Instant,
    /// When the reader was last given something, and for how long it was away since the queue was last empty.
    given: Instant,
    away: Duration,
    _place: Place,
}

/// What a look for more came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looked {
    /// There may be more.
    Further,
    /// There is nothing more at the moment.
    AtHead,
    /// The queue holds no more.
    Full,
}

impl<P: Past> Stream<P> {
    /// A stream from a start.
    pub(crate) fn new(feed: &Feed, place: Place, past: P, drain: Drain, start: Start) -> Self {
        Self::with_patience(feed, place, past, drain, start, Patience::default())
    }

    pub(super) fn with_patience(
        feed: &Feed,
        place: Place,
        past: P,
        drain: Drain,
        start: Start,
        patience: Patience,
    ) -> Self {
        let Start { origin, after, first } = start;
        let (is_told, listing) = match first {
            First::Cursor => (false, None),
            First::Listing(listing) => (true, Some(listing)),
            First::Changes => (true, None),
        };
        let now = Instant::now();
        Self {
            head: feed.watch_head(),
            replaced: feed.replaced(),
            feed: feed.clone(),
            past,
            drain,
            origin,
            is_told,
            listing,
            cursor: after,
            delivered: after,
            queue: Queue::new(patience.queue),
            patience,
            pace: Pace::CatchingUp,
            last: None,
            is_done: false,
            last_frame: now,
            given: now,
            away: Duration::ZERO,
            _place: place,
        }
    }

    /// The next frame; none at the end. A call that is dropped loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let now = Instant::now();
        self.away += now.duration_since(std::mem::replace(&mut self.given, now));
        let frame = self.pull().await;
        self.given = Instant::now();
        let frame = frame?;
        self.feed.counters().count_frame(frame.kind());
        self.last_frame = self.given;
        Some(frame)
    }

    async fn pull(&mut self) -> Option<Frame> {
        loop {
            if self.is_done {
                return None;
            }
            if self.drain.is_closed() {
                self.count_end(EndKind::ShuttingDown);
                return Some(self.end(Ending::ShuttingDown));
            }
            if let Some(listing) = self.listing.clone() {
                if let Some(frame) = self.list(listing).await {
                    return Some(frame);
                }
                continue;
            }
            if !self.is_told {
                self.is_told = true;
                return Some(Frame::Progress(self.cursor));
            }
            let at_head = self.fill().await;
            if let Some(delivery) = self.queue.pop() {
                self.delivered = delivery.revision();
                return Some(Frame::Change(delivery));
            }
            self.delivered = self.cursor;
            match self.last.take() {
                Some(Last::Over) => {
                    self.is_done = true;
                    return None;
                }
                Some(Last::Error(ending)) => return Some(self.end(ending)),
                None => {}
            }
            let due = self.last_frame + self.patience.progress_period;
            if at_head {
                self.pace = Pace::Live;
                self.away = Duration::ZERO;
                tokio::select! {
                    // A closed channel means that the node ends, and so does the drain.
                    _ = self.head.changed() => continue,
                    () = self.drain.closing() => continue,
                    () = tokio::time::sleep_until(due) => {}
                }
            }
            if due <= Instant::now() {
                return Some(Frame::Progress(self.cursor));
            }
        }
    }

    /// Looks for more: all that there is while the stream is live, one part for an empty queue otherwise. Says whether that
    /// was all.
    async fn fill(&mut self) -> bool {
        if self.pace == Pace::CatchingUp && !self.queue.is_empty() {
            return false;
        }
        while self.last.is_none() {
            match self.look().await {
                Looked::AtHead => return true,
                Looked::Further if self.pace == Pace::CatchingUp => return false,
                Looked::Further => {}
                Looked::Full if self.pace == Pace::CatchingUp => return false,
                Looked::Full if self.away < self.patience.reader_away_min => self.pace = Pace::CatchingUp,
                Looked::Full => self.conclude(Last::Error(Ending::SlowReader)),
            }
            if self.pace == Pace::CatchingUp {
                return false;
            }
        }
        false
    }

    /// Moves the cursor on by one part, from the ring or from the state.
    async fn look(&mut self) -> Looked {
        // Seen before the ring is, so that what is pushed after that wakes the stream.
        self.head.borrow_and_update();
        let replaced = match self.feed.after(self.cursor, self.replaced) {
            Taken::Commits { commits, up_to, at_head } => {
                if self.offer(commits.iter(), up_to) == Err(Full) {
                    return Looked::Full;
                }
                return if at_head { Looked::AtHead } else { Looked::Further };
            }
            Taken::Behind { replaced } => replaced,
        };
        match self.page().await {
            Ok(Page { commits, seen, is_gone }) => {
                if self.offer(commits.iter(), seen) == Err(Full) {
                    return Looked::Full;
                }
                // Only now: the state is asked again for what did not fit.
                self.replaced = replaced;
                if is_gone && self.last.is_none() {
                    self.conclude(Last::Error(Ending::NamespaceGone));
                }
            }
            Err(unreadable) => self.conclude(Last::Error(unreadable.into())),
        }
        Looked::Further
    }

    /// Queues what is the subject's, and moves the cursor over the rest.
    fn offer<'a>(
        &mut self,
        commits: impl Iterator<Item = &'a Arc<Commit>>,
        up_to: Revision,
    ) -> Result<(), Full> {
        for commit in commits {
            if let Some(delivery) = Delivery::of(&self.origin.subject, commit) {
                self.queue.push(delivery)?;
            }
            self.cursor = commit.revision;
            let ends =
                commit.changes.iter().find_map(|happened| self.origin.subject.ends_with(happened.change()));
            if let Some(last) = ends {
                self.conclude(match last {
                    LastChange::OfNamespace => Last::Error(Ending::NamespaceGone),
                    LastChange::OfSession => Last::Over,
                });
                return Ok(());
            }
        }
        self.cursor = self.cursor.max(up_to);
        Ok(())
    }

    async fn page(&self) -> Result<Page, Unreadable> {
        self.feed.counters().count_page();
        let after = self.cursor;
        self.read(move |past, origin| past.page(origin, after)).await
    }

    /// The next part of the listing; none when it has no items and more follows, or when it is over.
    async fn list(&mut self, listing: Listing) -> Option<Frame> {
        let revision = listing.revision();
        let read = self.read(move |past, origin| past.list(origin, &listing)).await;
        match read {
            Ok(ListPage { items, next }) => {
                let more = next.is_some();
                self.listing = next;
                (!more || !items.is_empty()).then_some(Frame::State { revision, items, more })
            }
            Err(unreadable) => {
                let ending = Ending::from(unreadable);
                self.count_end(ending.kind());
                Some(self.end(ending))
            }
        }
    }

    /// Reads the state beside the async workers, a few streams at a time.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&P, &Origin) -> Result<T, Unreadable> + Send + 'static,
    ) -> Result<T, Unreadable> {
        let closed = |_| Unreadable::Failed { reason: "the node ends".to_owned() };
        let turn = self.feed.reads().acquire_owned().await.map_err(closed)?;
        let (past, origin) = (self.past.clone(), self.origin.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let read = read(&past, &origin);
            drop(turn);
            read
        });
        reading.await.unwrap_or_else(|error| Err(Unreadable::Failed { reason: error.to_string() }))
    }

    /// Decides how the stream ends once the queue is empty.
    fn conclude(&mut self, last: Last) {
        self.count_end(match &last {
            Last::Over => EndKind::Over,
            Last::Error(ending) => ending.kind(),
        });
        self.last = Some(last);
    }

    fn count_end(&self, kind: EndKind) {
        self.feed.counters().count_end(kind);
    }

    /// The last frame. What is still in the queue is for the next stream.
    fn end(&mut self, ending: Ending) -> Frame {
        self.is_done = true;
        self.queue.clear();
        let resume = match &ending {
            // A reader without all of the state has nothing to resume from.
            _ if self.listing.is_some() => None,
            Ending::SlowReader | Ending::ShuttingDown | Ending::Failed { .. } => Some(self.delivered),
            Ending::NamespaceGone | Ending::Compacted { .. } | Ending::HistoryChanged => None,
        };
        Frame::End { ending, resume }
    }
}

impl Frame {
    const fn kind(&self) -> FrameKind {
        match self {
            Self::State { .. } => FrameKind::State,
            Self::Change(_) => FrameKind::Change,
            Self::Progress(_) => FrameKind::Progress,
            Self::End { .. } => FrameKind::Error,
        }
    }
}

impl Ending {
    const fn kind(&self) -> EndKind {
        match self {
            Self::SlowReader => EndKind::SlowReader,
            Self::ShuttingDown => EndKind::ShuttingDown,
            Self::NamespaceGone => EndKind::Over,
            Self::Compacted { .. } => EndKind::Compacted,
            Self::HistoryChanged => EndKind::HistoryChanged,
            Self::Failed { .. } => EndKind::Failed,
        }
    }
}

impl From<Unreadable> for Ending {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Compacted { oldest } => Self::Compacted { oldest },
            Unreadable::HistoryChanged => Self::HistoryChanged,
            Unreadable::Gone => Self::NamespaceGone,
            Unreadable::Failed { reason } => Self::Failed { reason },
        }
    }
}
