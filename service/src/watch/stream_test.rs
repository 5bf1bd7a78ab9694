//! Streams over random histories, rings and readers; and the rules of one stream, one by one.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use holdfast_core::domain::{
    Change, Command, ConfigItem, ConfigQuery, DeleteConfig, Event, LockRef, Precondition, PutConfig, Settings,
};
use holdfast_core::testing::{KEYS, LOCKS, NAMESPACES, Profile, Random, SESSIONS, history_of};
use holdfast_core::{ConfigKey, LockName, NamespaceName, Revision, SessionId};

use crate::drain::{Drain, DrainControl, DrainStage, drain};
use crate::watch::counters::{EndKind, FrameKind};
use crate::watch::feed::{Feed, RingLimits};
use crate::watch::past::{Listing, Origin};
use crate::watch::queue::QueueLimits;
use crate::watch::stream::{Ending, First, Frame, Patience, Start, Stream};
use crate::watch::subject::{Prefixes, Subject};
use crate::watch::testing::{Store, Told, expected, told};

/// Entries of a random history.
const ENTRIES: usize = 400;
/// Random histories.
const SEEDS: u64 = 60;
/// Readers at the same time.
const READERS: usize = 8;

/// What the state machine tells the rest, in order, and later than it happens.
enum Notice {
    Applied(Vec<Event>, Revision),
    Replaced,
}

/// A reader that goes on from where it was whenever its stream ends.
struct Reader {
    subject: Subject,
    stream: Stream<Store>,
    /// What it must be told from here on is what happened after this revision.
    since: Revision,
    told: Vec<Told>,
    /// The id of its last event.
    last: Revision,
    /// What its config keys have, if it began with them.
    items: Option<BTreeMap<ConfigKey, (Revision, Bytes)>>,
    is_listed: bool,
    is_over: bool,
}

/// One node with its readers.
struct World {
    random: Random,
    store: Store,
    feed: Feed,
    drain: Drain,
    _control: DrainControl,
    patience: Patience,
    all: Vec<Event>,
    notices: VecDeque<Notice>,
    readers: Vec<Reader>,
    met: Met,
}

/// What the histories brought about: a test that met nothing shows nothing.
#[derive(Debug, Default)]
struct Met {
    pages: u64,
    changes: u64,
    slow: usize,
    compacted: usize,
    gone: usize,
    over: usize,
    replaced: usize,
    lists: usize,
}

#[tokio::test]
async fn every_reader_is_told_everything_once_and_in_order_whatever_happens() {
    let mut met = Met::default();
    for seed in 0..SEEDS {
        let world = World::new(seed, std::mem::take(&mut met));
        met = world.live(seed).await;
    }
    let Met { pages, changes, slow, compacted, gone, over, replaced, lists } = met;
    assert!(1_000 < pages && 1_000 < changes, "{met:?}");
    assert!(20 < slow && 20 < compacted && 20 < gone && 20 < over, "{met:?}");
    assert!(100 < replaced && 50 < lists, "{met:?}");
}

impl World {
    fn new(seed: u64, met: Met) -> Self {
        let mut random = Random::new(seed ^ 0x77a7);
        let ring = RingLimits { commits_max: 1 + random.index(12), bytes_max: usize::MAX };
        let (control, drain) = drain();
        let patience = Patience {
            // A reader that is at the head is told so at once.
            progress_period: Duration::ZERO,
            reader_away_min: if random.percent(50) { Duration::ZERO } else { Duration::MAX },
            queue: QueueLimits { frames_max: 1 + random.index(6), bytes_max: usize::MAX },
        };
        Self {
            random,
            store: Store::new(),
            feed: Feed::with_limits(Revision::ZERO, ring),
            drain,
            _control: control,
            patience,
            all: Vec::new(),
            notices: VecDeque::new(),
            readers: Vec::new(),
            met,
        }
    }

    async fn live(mut self, seed: u64) -> Met {
        // Retentions below which readers fall behind, and others below which they do not.
        let profile = Profile::of_seed(seed);
        for (leader, proposal) in history_of(&profile, seed, ENTRIES) {
            let events = self.store.apply(leader, &proposal);
            self.happened(events);
            while self.random.percent(70) {
                self.step().await;
            }
        }
        while let Some(notice) = self.notices.pop_front() {
            self.notify(notice);
        }
        for at in 0..self.readers.len() {
            self.read_to_the_end(at).await;
        }
        let counters = self.feed.counters();
        self.met.pages += counters.pages();
        self.met.changes += counters.frames(FrameKind::Change);
        let ended = |kind| usize::try_from(counters.ends(kind)).unwrap();
        self.met.slow += ended(EndKind::SlowReader);
        self.met.compacted += ended(EndKind::Compacted);
        self.met
    }

    fn happened(&mut self, events: Vec<Event>) {
        self.all.extend(events.iter().cloned());
        // The state jumps ahead, as a snapshot makes it: nobody is told the events.
        if self.random.percent(2) {
            self.notices.push_back(Notice::Replaced);
        } else if !events.is_empty() {
            let jumped = matches!(self.notices.back(), Some(Notice::Replaced)) && self.random.percent(50);
            if !jumped {
                self.notices.push_back(Notice::Applied(events, self.store.revision()));
            }
        }
    }

    fn notify(&mut self, notice: Notice) {
        match notice {
            Notice::Applied(events, revision) => self.feed.push(events, revision),
            Notice::Replaced => {
                self.met.replaced += 1;
                // Notices of what this state has already come afterwards.
                self.feed.replace(self.store.revision());
            }
        }
        self.feed.pass_on();
    }

    async fn step(&mut self) {
        match self.random.below(10) {
            0..4 => {
                if let Some(notice) = self.notices.pop_front() {
                    self.notify(notice);
                }
            }
            4 if self.readers.len() < READERS => self.open(),
            _ => {
                if self.readers.is_empty() {
                    return;
                }
                let at = self.random.index(self.readers.len());
                if self.random.percent(5) {
                    self.resume(at);
                }
                for _ in 0..1 + self.random.below(3) {
                    self.pull(at).await;
                }
            }
        }
    }

    fn subject(&mut self) -> Subject {
        let random = &mut self.random;
        let namespace = NamespaceName::new(*random.pick(&NAMESPACES).unwrap()).unwrap();
        match random.below(4) {
            0 => Subject::Config { namespace, prefixes: Prefixes::new(Vec::new()) },
            1 => {
                let prefixes = (0..1 + random.below(2)).map(|_| (*random.pick(&KEYS).unwrap()).to_owned());
                Subject::Config { namespace, prefixes: Prefixes::new(prefixes.collect()) }
            }
            2 => {
                let lock = LockName::new(*random.pick(&LOCKS).unwrap()).unwrap();
                Subject::Lock(LockRef { namespace, lock })
            }
            _ => Subject::Session(SessionId::new(*random.pick(&SESSIONS).unwrap()).unwrap()),
        }
    }

    /// Opens a stream from a revision that is kept, or from what there is.
    fn open(&mut self) {
        let subject = self.subject();
        let standing = self.store.standing(&subject);
        let Some(created) = standing.created else { return };
        let origin = Origin { subject: subject.clone(), history: standing.history, created };
        let is_config = matches!(subject, Subject::Config { .. });
        let listed = is_config && self.random.percent(40);
        let oldest = standing.oldest.as_u64() - 1;
        let kept = standing.revision.as_u64() + 1 - oldest;
        let after = match listed {
            true => standing.revision,
            false => Revision::new(oldest + self.random.below(kept)),
        };
        let first = if listed { First::Listing(Listing::at(after)) } else { First::Cursor };
        let stream = self.stream(Start { origin, after, first });
        self.readers.push(Reader {
            subject,
            stream,
            since: after,
            told: Vec::new(),
            last: after,
            items: listed.then(BTreeMap::new),
            is_listed: !listed,
            is_over: false,
        });
    }

    fn stream(&self, start: Start) -> Stream<Store> {
        let place = self.feed.admit().unwrap();
        Stream::with_patience(&self.feed, place, self.store.clone(), self.drain.clone(), start, self.patience)
    }

    /// Goes on with another stream after the last event, as a client does that lost its connection.
    fn resume(&mut self, at: usize) {
        let reader = &self.readers[at];
        let mut told = reader.told.iter().flat_map(|(_, changes)| changes);
        // Whoever was told that its session ended does not come back: a later session of that id is another one.
        let ended = told.any(|change| match (&reader.subject, change) {
            (Subject::Session(session), Change::SessionEnded { id, .. }) => id == session,
            (_, _) => false,
        });
        if reader.is_over || !reader.is_listed || ended {
            return;
        }
        let (subject, last) = (reader.subject.clone(), reader.last);
        self.reopen(at, subject, last);
    }

    fn reopen(&mut self, at: usize, subject: Subject, after: Revision) {
        let standing = self.store.standing(&subject);
        let kept = standing.created.is_some() && standing.oldest <= after.next();
        let Some(created) = standing.created.filter(|_| kept) else {
            self.readers[at].is_over = true;
            return;
        };
        let origin = Origin { subject, history: standing.history, created };
        let stream = self.stream(Start { origin, after, first: First::Cursor });
        self.readers[at].stream = stream;
    }

    async fn pull(&mut self, at: usize) {
        let reader = &mut self.readers[at];
        if reader.is_over {
            return;
        }
        match reader.stream.next().await {
            Some(Frame::State { revision, items, more }) => {
                assert_eq!(revision, reader.since);
                let listed = reader.items.as_mut().expect("only who asked for the state is told it");
                for item in items {
                    assert!(item.mod_revision <= revision, "an item from after the state");
                    let twice = listed.insert(item.key, (item.mod_revision, item.value.unwrap()));
                    assert!(twice.is_none(), "a key is listed twice");
                }
                reader.is_listed = !more;
                self.met.lists += usize::from(!more);
            }
            Some(Frame::Change(delivery)) => {
                assert!(reader.is_listed, "a change before the state is complete");
                let told = told(&delivery);
                reader.last = told.0;
                reader.note(&told);
                reader.told.push(told);
                self.check_told(at);
            }
            Some(Frame::Progress(revision)) => {
                assert!(reader.last <= revision, "progress goes back");
                reader.last = revision;
                self.check_complete(at, revision);
            }
            Some(Frame::End { ending, resume }) => self.ended(at, &ending, resume),
            None => {
                self.met.over += 1;
                let reader = &mut self.readers[at];
                reader.is_over = true;
                let (all, over) = expected(&reader.subject, &self.all, reader.since);
                assert!(over, "a stream ended and its session lives");
                assert_eq!(reader.told, all);
            }
        }
    }

    /// What was told so far is the beginning of what must be told.
    fn check_told(&self, at: usize) {
        let reader = &self.readers[at];
        let (all, _) = expected(&reader.subject, &self.all, reader.since);
        let so_far = all.get(..reader.told.len());
        assert_eq!(Some(reader.told.as_slice()), so_far, "{:?} since {}", reader.subject, reader.since);
    }

    /// Nothing up to a revision is missing.
    fn check_complete(&self, at: usize, revision: Revision) {
        let reader = &self.readers[at];
        let (mut all, _) = expected(&reader.subject, &self.all, reader.since);
        all.retain(|(of, _)| *of <= revision);
        assert_eq!(reader.told, all, "{:?} since {} up to {revision}", reader.subject, reader.since);
    }

    fn ended(&mut self, at: usize, ending: &Ending, resume: Option<Revision>) {
        let reader = &mut self.readers[at];
        match ending {
            Ending::SlowReader => {
                let resume = resume.expect("a slow reader can resume");
                // Revisions that are not of its subject may lie between.
                assert!(reader.last <= resume, "a slow reader resumes after what it has");
                let subject = reader.subject.clone();
                self.check_complete(at, resume);
                self.reopen(at, subject, resume);
            }
            Ending::NamespaceGone => {
                self.met.gone += 1;
                reader.is_over = true;
                if reader.is_listed {
                    let (all, over) = expected(&reader.subject, &self.all, reader.since);
                    assert!(over, "the namespace was not deleted");
                    assert_eq!(reader.told, all);
                }
            }
            Ending::Compacted { oldest } => {
                reader.is_over = true;
                if reader.is_listed {
                    assert!(reader.last.next() < *oldest, "{oldest} is compacted, not {}", reader.last);
                }
            }
            Ending::ShuttingDown | Ending::HistoryChanged | Ending::Failed { .. } => {
                panic!("{ending:?} did not happen")
            }
        }
    }

    async fn read_to_the_end(&mut self, at: usize) {
        let newest = self.store.revision();
        while !self.readers[at].is_over && (self.readers[at].last < newest || !self.readers[at].is_listed) {
            self.pull(at).await;
        }
        let reader = &self.readers[at];
        if let (false, Some(items), Subject::Config { namespace, prefixes }) =
            (reader.is_over, &reader.items, &reader.subject)
        {
            let mut present = BTreeMap::new();
            for prefix in prefixes.as_slice() {
                let query =
                    ConfigQuery { namespace, prefix, after: None, limit: 1_000, at: None, with_values: true };
                let page = self.store.look(|view| view.config_list(&query));
                let items = page.items.into_iter();
                present.extend(items.map(|item| (item.key, (item.mod_revision, item.value.unwrap()))));
            }
            assert_eq!(*items, present, "the state and the changes after it do not give the state now");
        }
    }
}

impl Reader {
    #[expect(clippy::wildcard_enum_match_arm, reason = "every other change is a failure")]
    fn note(&mut self, (revision, changes): &Told) {
        let Some(items) = &mut self.items else { return };
        for change in changes {
            match change {
                Change::ConfigPut { item, .. } => {
                    assert_eq!(item.mod_revision, *revision);
                    items.insert(item.key.clone(), (*revision, item.value.clone()));
                }
                Change::ConfigDeleted { key, .. } => {
                    assert!(items.remove(key).is_some(), "{key} is deleted and was not there");
                }
                other => panic!("{other:?} in a watch of config"),
            }
        }
    }
}

// === the rules of one stream ===

/// A node with one key that is written again and again.
struct Node {
    store: Store,
    feed: Feed,
    control: DrainControl,
    drain: Drain,
}

impl Node {
    fn new() -> Self {
        let (control, drain) = drain();
        let store = Store::new();
        let found = Command::Found {
            cluster_id: "c".to_owned(),
            history_id: 7,
            settings: Settings { history_versions: 1, history_ms: 0, ..Settings::default() },
        };
        store.run(found);
        Self { feed: Feed::new(store.revision()), store, control, drain }
    }

    fn key(name: &str) -> ConfigKey {
        ConfigKey::new(name).unwrap()
    }

    fn put(&self, key: &str, bytes: usize) -> (Vec<Event>, Revision) {
        let put = PutConfig {
            namespace: NamespaceName::default_namespace(),
            key: Self::key(key),
            value: Bytes::from(vec![b'x'; bytes]),
            content_type: "text/plain".to_owned(),
            session: None,
            managed_by: String::new(),
            precondition: Precondition::None,
            guard: None,
        };
        (self.store.run(Command::PutConfig(put)), self.store.revision())
    }

    /// Writes a key, and the feed is told.
    fn write(&self, key: &str, bytes: usize) -> u64 {
        let (events, revision) = self.put(key, bytes);
        self.feed.push(events, revision);
        self.feed.pass_on();
        revision.as_u64()
    }

    fn watch(&self, prefix: &str, patience: Patience) -> Stream<Store> {
        let prefixes = Prefixes::new(vec![prefix.to_owned()]);
        let subject = Subject::Config { namespace: NamespaceName::default_namespace(), prefixes };
        let standing = self.store.standing(&subject);
        let origin = Origin { subject, history: 7, created: standing.created.unwrap() };
        let start = Start { origin, after: standing.revision, first: First::Changes };
        let place = self.feed.admit().unwrap();
        Stream::with_patience(&self.feed, place, self.store.clone(), self.drain.clone(), start, patience)
    }
}

/// The patience of a stream whose reader is slow as soon as the queue is full.
fn impatient() -> Patience {
    Patience { reader_away_min: Duration::ZERO, ..Patience::default() }
}

async fn next_change(stream: &mut Stream<Store>) -> u64 {
    match stream.next().await {
        Some(Frame::Change(delivery)) => delivery.revision().as_u64(),
        other => panic!("{other:?} is no change"),
    }
}

/// Lets a stream come to the head, where it waits.
fn wait_at_head(stream: &mut Stream<Store>) {
    assert!(stream.next().now_or_never().is_none(), "there is nothing to tell");
}

#[tokio::test]
async fn a_reader_that_lets_more_pile_up_than_the_queue_holds_is_told_where_to_resume() {
    let node = Node::new();
    let mut stream = node.watch("", impatient());
    wait_at_head(&mut stream);
    let first = node.write("a", 1);
    assert_eq!(next_change(&mut stream).await, first);
    let missed: Vec<u64> = (0..1_025).map(|_| node.write("a", 1)).collect();
    for revision in &missed[..1_024] {
        assert_eq!(next_change(&mut stream).await, *revision);
    }
    let end = stream.next().await;
    let Some(Frame::End { ending: Ending::SlowReader, resume: Some(resume) }) = end else {
        panic!("{end:?}")
    };
    assert_eq!(resume.as_u64(), missed[1_023]);
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn bytes_are_bounded_as_well_but_one_large_change_always_passes() {
    let node = Node::new();
    let mut stream = node.watch("", impatient());
    wait_at_head(&mut stream);
    let large = node.write("a", 1 << 20);
    assert_eq!(next_change(&mut stream).await, large);
    let second = node.write("a", 1 << 20);
    assert_eq!(next_change(&mut stream).await, second);
    let kept = node.write("a", 1 << 20);
    node.write("a", 1);
    assert_eq!(next_change(&mut stream).await, kept);
    let end = stream.next().await;
    assert!(matches!(end, Some(Frame::End { ending: Ending::SlowReader, .. })), "{end:?}");
}

#[tokio::test]
async fn a_burst_does_not_cut_a_reader_that_keeps_up() {
    let node = Node::new();
    // The writes of the burst take their time, and the reader is not away for it.
    let patience = Patience { reader_away_min: Duration::from_secs(3_600), ..Patience::default() };
    let mut stream = node.watch("", patience);
    wait_at_head(&mut stream);
    let burst: Vec<u64> = (0..5_000).map(|_| node.write("a", 1)).collect();
    for revision in burst {
        assert_eq!(next_change(&mut stream).await, revision);
    }
    wait_at_head(&mut stream);
}

#[tokio::test]
async fn what_is_not_the_readers_does_not_count_against_it() {
    let node = Node::new();
    let mut stream = node.watch("b", impatient());
    wait_at_head(&mut stream);
    for _ in 0..3_000 {
        node.write("a", 1);
    }
    let mine = node.write("b", 1);
    assert_eq!(next_change(&mut stream).await, mine);
    wait_at_head(&mut stream);
}

#[tokio::test]
async fn a_stream_that_read_the_state_ahead_of_the_ring_is_told_nothing_twice() {
    let node = Node::new();
    let mut stream = node.watch("", Patience::default());
    wait_at_head(&mut stream);
    let (early, early_at) = node.put("a", 1);
    let (late, late_at) = node.put("b", 1);
    // The state has both; the ring is emptied, and told of them only afterwards.
    node.feed.replace(early_at);
    node.feed.pass_on();
    assert_eq!(next_change(&mut stream).await, early_at.as_u64());
    assert_eq!(next_change(&mut stream).await, late_at.as_u64());
    node.feed.push(early, early_at);
    node.feed.push(late, late_at);
    node.feed.pass_on();
    wait_at_head(&mut stream);
    let next = node.write("a", 1);
    assert_eq!(next_change(&mut stream).await, next);
}

#[tokio::test]
async fn a_stream_that_falls_behind_what_is_kept_says_so() {
    let node = Node::new();
    let mut stream = node.watch("a", Patience::default());
    for _ in 0..3 {
        node.put("a", 1);
    }
    let compact = node.store.look(|view| view.compaction_due(holdfast_core::LogTime::from_ms(10)));
    node.store.run(Command::Compact(compact.unwrap()));
    node.feed.replace(node.store.revision());
    let end = stream.next().await;
    let Some(Frame::End { ending: Ending::Compacted { oldest }, resume: None }) = end else {
        panic!("{end:?}")
    };
    assert_eq!(oldest, node.store.revision().next());
}

#[tokio::test]
async fn a_node_that_shuts_down_says_where_to_resume_and_ends() {
    let node = Node::new();
    let mut stream = node.watch("", Patience::default());
    let first = node.write("a", 1);
    node.write("a", 1);
    assert_eq!(next_change(&mut stream).await, first);
    node.control.advance(DrainStage::Closing);
    let end = stream.next().await;
    let Some(Frame::End { ending: Ending::ShuttingDown, resume: Some(resume) }) = end else {
        panic!("{end:?}")
    };
    assert_eq!(resume.as_u64(), first);
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn an_idle_stream_says_how_far_it_is() {
    let node = Node::new();
    let patience = Patience { progress_period: Duration::from_millis(1), ..Patience::default() };
    let mut stream = node.watch("b", patience);
    let passed = node.write("a", 1);
    let frame = stream.next().await;
    assert!(matches!(frame, Some(Frame::Progress(revision)) if revision.as_u64() == passed), "{frame:?}");
}

#[tokio::test]
async fn changes_of_one_revision_are_told_together_in_the_order_of_their_keys() {
    let node = Node::new();
    let mut stream = node.watch("", Patience::default());
    let op = |key: &str| holdfast_core::domain::TxnOp::Put {
        key: Node::key(key),
        value: Bytes::new(),
        content_type: String::new(),
        session: None,
        managed_by: String::new(),
    };
    let txn = holdfast_core::domain::Txn {
        namespace: NamespaceName::default_namespace(),
        guard: None,
        compare: Vec::new(),
        success: vec![op("b"), op("a"), op("a/b")],
        failure: Vec::new(),
    };
    let events = node.store.run(Command::Txn(txn));
    node.feed.push(events, node.store.revision());
    let frame = stream.next().await;
    let Some(Frame::Change(delivery)) = frame else { panic!("{frame:?}") };
    let keys: Vec<String> = told(&delivery).1.iter().map(key_of).collect();
    assert_eq!(keys, ["a", "a/b", "b"]);
    let delete = DeleteConfig {
        namespace: NamespaceName::default_namespace(),
        key: Node::key("a"),
        precondition: Precondition::None,
        guard: None,
    };
    let events = node.store.run(Command::DeleteConfig(delete));
    node.feed.push(events, node.store.revision());
    assert_eq!(next_change(&mut stream).await, node.store.revision().as_u64());
}

#[expect(clippy::wildcard_enum_match_arm, reason = "every other change is a failure")]
fn key_of(change: &Change) -> String {
    match change {
        Change::ConfigPut { item: ConfigItem { key, .. }, .. } | Change::ConfigDeleted { key, .. } => {
            key.as_str().to_owned()
        }
        other => panic!("{other:?}"),
    }
}
