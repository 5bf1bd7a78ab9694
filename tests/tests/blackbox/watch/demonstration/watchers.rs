//! Who watches: each goes on from the last event that it has, at the next node when its own is gone.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use holdfast_api::watch::EventId;
use holdfast_tests::harness::{EventStream, SentEvent};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::takers;

/// A reader that hears nothing for so long takes its node for dead, unless it reads only there.
const SILENCE_MAX: Duration = Duration::from_secs(5);
const SILENCE_MAX_ONLY: Duration = Duration::from_secs(60);
/// Bound on the answer to a request for a stream.
const OPEN_MAX: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);
/// Bound on the beginning of all streams.
const BEGIN_LIMIT: Duration = Duration::from_secs(30);

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// Keys with these prefixes, all when there is none.
    Keys(Vec<String>),
    Lock(usize),
    Session(usize),
}

/// Where a watcher reads.
#[derive(Clone, Copy, Debug)]
pub(super) enum Home {
    /// At this node first, and at any other when it is gone.
    Any(usize),
    /// At this node, whatever happens to it.
    Only(usize),
}

/// Where it begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Begin {
    Now,
    /// With this revision.
    From(u64),
}

/// What one watcher was told.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) name: String,
    pub(super) subject: Subject,
    /// It must be told everything after this revision.
    pub(super) since: u64,
    /// Revisions with their changes, as they came.
    pub(super) revisions: Vec<(u64, Vec<Value>)>,
    /// Everything up to here was delivered, it was told.
    pub(super) up_to: u64,
    /// Whether it was told that its subject is over.
    pub(super) is_over: bool,
    pub(super) resumptions: usize,
    /// Why it gave up, if it did.
    pub(super) broken: Option<String>,
}

/// The watchers at work.
pub(super) struct Watchers {
    shared: Arc<Shared>,
    goal: watch::Sender<Option<u64>>,
    tasks: JoinSet<Result<Told>>,
    count: usize,
}

struct Shared {
    http: reqwest::Client,
    endpoints: Vec<String>,
    next_connection: AtomicU64,
    /// Open connections, each with its node.
    connections: Mutex<BTreeSet<(usize, u64)>>,
    began: watch::Sender<usize>,
}

impl Watchers {
    pub(super) fn new(endpoints: &[String]) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().connect_timeout(Duration::from_secs(2)).build()?;
        let shared = Arc::new(Shared {
            http,
            endpoints: endpoints.to_vec(),
            next_connection: AtomicU64::new(0),
            connections: Mutex::default(),
            began: watch::Sender::new(0),
        });
        Ok(Self { shared, goal: watch::Sender::new(None), tasks: JoinSet::new(), count: 0 })
    }

    pub(super) fn add(&mut self, subject: Subject, home: Home, begin: Begin) {
        let name = format!("watcher {} of {subject:?} at {home:?} from {begin:?}", self.count);
        self.count += 1;
        let told = Told {
            name,
            subject,
            since: 0,
            revisions: Vec::new(),
            up_to: 0,
            is_over: false,
            resumptions: 0,
            broken: None,
        };
        let watcher = Watcher {
            shared: Arc::clone(&self.shared),
            home,
            begin,
            last: None,
            goal: self.goal.subscribe(),
            told,
        };
        self.tasks.spawn(watcher.work());
    }

    /// Waits until all know where they begin.
    pub(super) async fn all_began(&self) -> Result<()> {
        let mut began = self.shared.began.subscribe();
        let all = began.wait_for(|began| *began == self.count);
        tokio::time::timeout(BEGIN_LIMIT, all).await.context("not all watchers have begun")??;
        Ok(())
    }

    /// The open connections to a node.
    pub(super) fn connections(&self, node: usize) -> BTreeSet<u64> {
        let connections = self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.iter().filter(|(of, _)| *of == node).map(|(_, connection)| *connection).collect()
    }

    /// Lets every watcher read up to a revision: what they were told.
    pub(super) async fn finish(mut self, goal: u64, limit: Duration) -> Result<Vec<Told>> {
        self.goal.send_replace(Some(goal));
        let all = async {
            let mut told = Vec::new();
            while let Some(ended) = self.tasks.join_next().await {
                told.push(ended??);
            }
            anyhow::Ok(told)
        };
        tokio::time::timeout(limit, all).await.context("not all watchers have arrived")?
    }
}

struct Watcher {
    shared: Arc<Shared>,
    home: Home,
    begin: Begin,
    /// The id of the last event.
    last: Option<EventId>,
    goal: watch::Receiver<Option<u64>>,
    told: Told,
}

/// How a connection ended.
enum Left {
    /// Everything was told.
    Arrived,
    /// Another one goes on.
    Lost,
    /// Nothing goes on.
    Broken(String),
}

impl Watcher {
    async fn work(mut self) -> Result<Told> {
        let mut node = match self.home {
            Home::Any(node) | Home::Only(node) => node,
        };
        loop {
            match self.read(node).await? {
                Left::Arrived => break,
                Left::Lost => {}
                Left::Broken(why) => {
                    self.told.broken = Some(why);
                    break;
                }
            }
            if let Home::Any(_) = self.home {
                node = (node + 1) % self.shared.endpoints.len();
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(self.told)
    }

    fn url(&self, node: usize) -> String {
        let mut query = Vec::new();
        let path = match &self.told.subject {
            Subject::Keys(prefixes) => {
                query.extend(prefixes.iter().map(|prefix| format!("prefix={prefix}")));
                "/v1/namespaces/default/watch".to_owned()
            }
            Subject::Lock(lock) => format!("/v1/namespaces/default/locks/{}/events", takers::lock(*lock)),
            Subject::Session(session) => format!("/v1/sessions/{}/events", takers::session(*session)),
        };
        if let Begin::From(revision) = self.begin {
            query.push(format!("from_revision={revision}"));
        }
        format!("{}{path}?{}", self.shared.endpoints[node], query.join("&"))
    }

    /// Reads at one node until the connection is lost.
    async fn read(&mut self, node: usize) -> Result<Left> {
        let url = self.url(node);
        let last = self.last.map(|id| id.to_string());
        let opening = EventStream::open(&self.shared.http, &url, last.as_deref());
        let mut stream = match tokio::time::timeout(OPEN_MAX, opening).await {
            Err(_) | Ok(Err(_)) => return Ok(Left::Lost),
            Ok(Ok(Ok(stream))) => stream,
            Ok(Ok(Err(refused))) => {
                let status = refused.status.as_u16();
                // A 503 is about the node, everything else about the request.
                return Ok(if status == 503 || status == 504 {
                    Left::Lost
                } else {
                    Left::Broken(format!("refused after {last:?}: {refused:?}"))
                });
            }
        };
        self.told.resumptions += usize::from(self.last.is_some());
        let _open = self.shared.open(node);
        let silence_max = match self.home {
            Home::Any(_) => SILENCE_MAX,
            Home::Only(_) => SILENCE_MAX_ONLY,
        };
        loop {
            if self.has_arrived() {
                return Ok(Left::Arrived);
            }
            let next = tokio::select! {
                next = tokio::time::timeout(silence_max, stream.next()) => next,
                _ = self.goal.changed() => continue,
            };
            let event = match next {
                Err(_) | Ok(Err(_)) => return Ok(Left::Lost),
                Ok(Ok(None)) if self.told.is_over => return Ok(Left::Arrived),
                Ok(Ok(None)) => return Ok(Left::Lost),
                Ok(Ok(Some(event))) => event,
            };
            if let Some(left) = self.note(&event)? {
                return Ok(left);
            }
        }
    }

    fn has_arrived(&self) -> bool {
        self.goal.borrow().is_some_and(|goal| goal <= self.told.up_to)
    }

    fn note(&mut self, event: &SentEvent) -> Result<Option<Left>> {
        let id = event.id.as_deref().map(str::parse::<EventId>).transpose()?;
        match (event.kind.as_str(), id) {
            ("progress" | "change", Some(id)) => {
                if self.last.is_none() {
                    self.told.since = id.revision;
                    self.shared.began.send_modify(|began| *began += 1);
                }
                if event.kind == "change" {
                    let data: Value = event.parse()?;
                    let changes = data["changes"].as_array().cloned().context("no changes")?;
                    self.told.is_over |= changes.iter().any(|change| change["op"] == "session-ended");
                    self.told.revisions.push((id.revision, changes));
                }
                self.last = Some(id);
                self.told.up_to = id.revision;
                Ok(None)
            }
            ("error", None) => {
                let problem: Value = event.parse()?;
                match problem["resume"].as_str() {
                    Some(resume) => {
                        self.last = Some(resume.parse()?);
                        Ok(Some(Left::Lost))
                    }
                    None => Ok(Some(Left::Broken(format!("ended: {problem}")))),
                }
            }
            _ => bail!("{} was told {event:?}", self.told.name),
        }
    }
}

/// An open connection; closed when it is dropped.
struct Open {
    shared: Arc<Shared>,
    connection: (usize, u64),
}

impl Shared {
    fn open(self: &Arc<Self>, node: usize) -> Open {
        let connection = (node, self.next_connection.fetch_add(1, Ordering::Relaxed));
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).insert(connection);
        Open { shared: Arc::clone(self), connection }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut connections = self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.remove(&self.connection);
    }
}
