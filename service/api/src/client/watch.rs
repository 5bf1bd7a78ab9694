//! Watches: streams of events that go on where they were.
//!
//! ```text
//!   connect ──▶ frames ──▶ items of the caller
//!      ▲           │  the connection broke, was silent, or the service asks to come back
//!      └─ pause ◀──┘  Last-Event-ID: the id of the last item that was given out; then the next endpoint
//! ```
//!
//! A position moves only with an item that is given out, and never back: what comes again after a reconnect is dropped,
//! and what was not given out is asked for again. Nothing runs beside the caller: a watch reads while
//! [`next`](Watch::next) is awaited, and dropping it closes its connection.

use std::{collections::VecDeque, fmt::Debug, marker::PhantomData, mem, time::Duration};

use reqwest::{
    Method,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::time::Instant;

use crate::{
    ErrorCode, Problem,
    client::{
        AttemptError, Client, ClientError, ProtocolError,
        attempt::{Conclusion, NextPlace, WireRequest},
        clock::CallDeadline,
        header_name,
        sse::{Frame, Parser, StreamFault},
        transport::no_answer,
    },
    header, path,
    query::{EventsQuery, WatchQuery},
    watch::{
        Change, ChangeEvent, EventId, EventKind, LockChange, LockStateEvent, Progress, SessionChange,
        SessionStateEvent, StateEvent,
    },
};

/// How much longer than an attempt the head of a stream may take: a node that lags waits for the revision to begin with.
const HEAD_EXTRA: Duration = Duration::from_secs(5);

/// The changes that a stream can be about.
pub trait Watched: DeserializeOwned + Debug + Send + sealed::Sealed {
    /// What `initial=state` begins a stream with.
    type State: DeserializeOwned + Debug + Send;

    /// The revision of a state.
    fn revision(state: &Self::State) -> u64;

    /// Whether another part of this state follows.
    fn is_partial(state: &Self::State) -> bool;

    /// Appends the next part of a state of the same revision.
    fn append(state: &mut Self::State, part: Self::State);

    /// Whether nothing can come after this change.
    fn is_last(&self) -> bool;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for crate::watch::Change {}
    impl Sealed for crate::watch::LockChange {}
    impl Sealed for crate::watch::SessionChange {}
}

impl Watched for Change {
    type State = StateEvent;

    fn revision(state: &StateEvent) -> u64 {
        state.revision
    }

    fn is_partial(state: &StateEvent) -> bool {
        state.more
    }

    fn append(state: &mut StateEvent, part: StateEvent) {
        let StateEvent { revision: _, items, more } = part;
        state.items.extend(items);
        state.more = more;
    }

    fn is_last(&self) -> bool {
        false
    }
}

impl Watched for LockChange {
    type State = LockStateEvent;

    fn revision(state: &LockStateEvent) -> u64 {
        state.revision
    }

    fn is_partial(_state: &LockStateEvent) -> bool {
        false
    }

    fn append(state: &mut LockStateEvent, part: LockStateEvent) {
        *state = part;
    }

    fn is_last(&self) -> bool {
        false
    }
}

impl Watched for SessionChange {
    type State = SessionStateEvent;

    fn revision(state: &SessionStateEvent) -> u64 {
        state.revision
    }

    fn is_partial(_state: &SessionStateEvent) -> bool {
        false
    }

    fn append(state: &mut SessionStateEvent, part: SessionStateEvent) {
        *state = part;
    }

    fn is_last(&self) -> bool {
        matches!(self, Self::SessionEnded { .. })
    }
}

/// What a watch gives out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchItem<C: Watched> {
    /// What was there when the watch began, whole; first and once, where it was asked for.
    State(C::State),
    /// All that one revision changed. Revisions come in order, each once, none left out.
    Change(ChangeEvent<C>),
    /// Everything up to this revision has been given out.
    Progress(Progress),
}

/// Why a watch cannot go on by itself.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The revisions after the position are gone; [`Problem::revision`] is the oldest one to watch from. Read the state
    /// again and watch from there.
    #[error("{0}")]
    Compacted(Box<Problem>),
    /// The store was restored from a backup: revisions mean something else. Read the state again.
    #[error("{0}")]
    HistoryChanged(Box<Problem>),
    /// The namespace or the session does not exist, or does not any more.
    #[error("{0}")]
    Gone(Box<Problem>),
    /// The session that was watched has ended, as the last change said.
    #[error("the session has ended")]
    Ended,
    /// The request was refused, something else than this API answers, or no endpoint could be reached in the beginning.
    #[error(transparent)]
    Failed(#[from] ClientError),
}

impl WatchError {
    /// The code of the service's refusal, if it was one.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Compacted(problem) | Self::HistoryChanged(problem) | Self::Gone(problem) => {
                Some(problem.code())
            }
            Self::Ended => None,
            Self::Failed(error) => error.code(),
        }
    }
}

/// A stream of events that goes on through changes of leader, restarts of nodes and broken connections.
///
/// Without a starting point in its query a watch begins where the store is when the first connection is made; until its
/// first item the beginning is not fixed, and a reconnect moves it.
#[derive(Debug)]
pub struct Watch<C: Watched> {
    client: Client,
    path: String,
    query: WatchQuery,
    /// The id of the last item that was given out.
    position: Option<EventId>,
    /// The parts of a state that is not whole yet.
    state: Option<C::State>,
    frames: VecDeque<Frame>,
    connection: Option<Connection>,
    endpoint: usize,
    retry: Retry,
    ended: bool,
    changes: PhantomData<fn() -> C>,
}

#[derive(Debug)]
struct Connection {
    response: reqwest::Response,
    parser: Parser,
    /// When the last frame came, or the head.
    heard_at: Instant,
}

/// What is known about failed attempts to keep a stream.
#[derive(Debug, Default)]
struct Retry {
    /// How many there were since the last frame.
    failures: u32,
    last: Option<AttemptError>,
    not_before: Option<Instant>,
    /// When to give up; none once a frame has come.
    give_up: Option<CallDeadline>,
    reached: bool,
}

impl Client {
    /// Watches config items. Nothing is sent before [`Watch::next`].
    #[must_use]
    pub fn watch_config(&self, namespace: &str, query: &WatchQuery) -> Watch<Change> {
        Watch::new(self, path::watch(namespace), query.clone())
    }

    /// Watches a lock. Nothing is sent before [`Watch::next`].
    #[must_use]
    pub fn watch_lock(&self, namespace: &str, lock: &str, query: &EventsQuery) -> Watch<LockChange> {
        Watch::new(self, path::lock_events(namespace, lock), without_prefix(query))
    }

    /// Watches an election. Nothing is sent before [`Watch::next`].
    #[must_use]
    pub fn watch_election(&self, namespace: &str, election: &str, query: &EventsQuery) -> Watch<LockChange> {
        Watch::new(self, path::election_events(namespace, election), without_prefix(query))
    }

    /// Watches a session and its claims, until its end. Nothing is sent before [`Watch::next`].
    #[must_use]
    pub fn watch_session(&self, id: &str, query: &EventsQuery) -> Watch<SessionChange> {
        Watch::new(self, path::session_events(id), without_prefix(query))
    }
}

fn without_prefix(query: &EventsQuery) -> WatchQuery {
    let EventsQuery { from_revision, initial, consistency } = query.clone();
    WatchQuery { prefix: Vec::new(), from_revision, initial, consistency }
}

impl<C: Watched> Watch<C> {
    fn new(client: &Client, path: String, query: WatchQuery) -> Self {
        Self {
            client: client.clone(),
            path,
            query,
            position: None,
            state: None,
            frames: VecDeque::new(),
            connection: None,
            endpoint: client.transport.current(),
            retry: Retry::default(),
            ended: false,
            changes: PhantomData,
        }
    }

    /// Goes on after an item that an earlier watch gave out, instead of where the query says.
    #[must_use]
    pub const fn after(mut self, position: EventId) -> Self {
        self.position = Some(position);
        self
    }

    /// The id of the last item that was given out, to go on [`after`](Self::after) it.
    #[must_use]
    pub const fn position(&self) -> Option<EventId> {
        self.position
    }

    /// What the last attempt to keep the stream failed with; none while it runs.
    #[must_use]
    pub const fn trouble(&self) -> Option<&AttemptError> {
        self.retry.last.as_ref()
    }

    /// The next item. Waits for as long as it takes, through any number of broken connections; only before the first item
    /// of all the client's deadline ends it.
    ///
    /// A future that is dropped before its end loses nothing: the next call goes on.
    ///
    /// # Errors
    /// [`WatchError`] for what the caller has to decide. Another call then tries to go on from the same position.
    pub async fn next(&mut self) -> Result<WatchItem<C>, WatchError> {
        loop {
            if self.ended {
                return Err(WatchError::Ended);
            }
            while let Some(frame) = self.frames.pop_front() {
                match self.take(frame) {
                    Ok(Some(item)) => return Ok(item),
                    Ok(None) => {}
                    Err(error) => {
                        self.disconnect();
                        return Err(error);
                    }
                }
            }
            let silence = self.client.limits.silence;
            let Some(connection) = &mut self.connection else {
                Box::pin(self.connect()).await?;
                continue;
            };
            match connection.read(&mut self.frames, silence).await {
                Ok(()) => {}
                Err(Broken::Attempt(error)) => self.failed(error, None, NextPlace::OtherEndpoint),
                Err(Broken::Fault(fault)) => {
                    self.disconnect();
                    return Err(protocol(fault));
                }
            }
        }
    }

    async fn connect(&mut self) -> Result<(), WatchError> {
        if !self.retry.reached {
            let overall = self.client.limits.overall;
            let give_up = self.retry.give_up.get_or_insert_with(|| CallDeadline::after(overall));
            let pause = self.retry.not_before.map_or(Duration::ZERO, |at| at.duration_since(Instant::now()));
            if give_up.remaining() <= pause {
                let Retry { failures, last, .. } = mem::take(&mut self.retry);
                return Err(no_answer(failures, last.unwrap_or(AttemptError::NoTime)).into());
            }
        }
        if let Some(not_before) = self.retry.not_before {
            tokio::time::sleep_until(not_before).await;
        }
        let timeout = self.client.limits.attempt.saturating_add(HEAD_EXTRA);
        let request = self.request();
        match self.client.transport.open(self.endpoint, &request, timeout).await {
            Ok(response) => self.connected(response),
            Err(Conclusion::NotApplied { error, retry_after, place }) => {
                self.failed(error, retry_after, place);
                Ok(())
            }
            Err(Conclusion::Uncertain { error, retry_after, replays: _ }) => {
                self.failed(error, retry_after, NextPlace::OtherEndpoint);
                Ok(())
            }
            Err(Conclusion::Failure(error)) => Err(refused(error)),
            Err(Conclusion::Success(answer)) => {
                let detail = ProtocolError::Status;
                Err(ClientError::Protocol { status: answer.status, detail }.into())
            }
        }
    }

    fn request(&self) -> WireRequest {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        let mut query = self.query.clone();
        if let Some(position) = self.position {
            query.from_revision = None;
            query.initial = None;
            let id = HeaderValue::from_str(&position.to_string()).expect("an event id is ASCII");
            headers.insert(header_name(header::LAST_EVENT_ID), id);
        }
        let path_and_query = self.path.clone() + &query.to_query_string();
        WireRequest { method: Method::GET, path_and_query, headers, body: None }
    }

    fn connected(&mut self, response: reqwest::Response) -> Result<(), WatchError> {
        let media_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = media_type.and_then(|text| text.split(';').next()).unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case(header::EVENT_STREAM) {
            let detail = ProtocolError::Header("Content-Type");
            return Err(ClientError::Protocol { status: 200, detail }.into());
        }
        self.connection = Some(Connection { response, parser: Parser::default(), heard_at: Instant::now() });
        Ok(())
    }

    /// Takes note of a failure and says when and where to try again.
    fn failed(&mut self, error: AttemptError, retry_after: Option<Duration>, place: NextPlace) {
        self.disconnect();
        let transport = &self.client.transport;
        self.retry.failures += 1;
        if place != NextPlace::SameEndpoint {
            self.endpoint = transport.after(self.endpoint);
        }
        self.retry.not_before =
            Some(Instant::now() + transport.pause(self.retry.failures, retry_after, place));
        self.retry.last = Some(error);
    }

    fn disconnect(&mut self) {
        self.connection = None;
        self.frames.clear();
        self.state = None;
    }

    /// Makes an item of a frame; none if there is nothing to give out.
    fn take(&mut self, frame: Frame) -> Result<Option<WatchItem<C>>, WatchError> {
        let kind = EventKind::ALL.into_iter().find(|kind| kind.as_str() == frame.event);
        let item = match kind.ok_or_else(|| protocol(StreamFault::UnknownEvent))? {
            EventKind::Error => return self.take_problem(&frame).map(|()| None),
            EventKind::State => self.take_state(&frame)?,
            EventKind::Change => self.take_change(&frame)?,
            EventKind::Progress => self.take_progress(&frame)?,
        };
        self.retry = Retry { reached: true, ..Retry::default() };
        Ok(item)
    }

    fn take_state(&mut self, frame: &Frame) -> Result<Option<WatchItem<C>>, WatchError> {
        if !self.expects_state() {
            return Err(protocol(StreamFault::State));
        }
        let part: C::State = read_data(frame)?;
        let revision = C::revision(&part);
        let state = match self.state.take() {
            None => part,
            Some(mut state) if C::revision(&state) == revision => {
                C::append(&mut state, part);
                state
            }
            Some(_) => return Err(protocol(StreamFault::State)),
        };
        if C::is_partial(&state) {
            self.state = Some(state);
            return Ok(None);
        }
        self.position = Some(read_id(frame, revision)?);
        Ok(Some(WatchItem::State(state)))
    }

    fn take_change(&mut self, frame: &Frame) -> Result<Option<WatchItem<C>>, WatchError> {
        let event: ChangeEvent<C> = read_data(frame)?;
        let id = self.advance(frame, event.revision)?;
        let seen = self.position.is_some_and(|position| id.revision <= position.revision);
        let unwanted = self.query.from_revision.is_some_and(|from| id.revision < from);
        if seen || unwanted {
            return Ok(None);
        }
        self.position = Some(id);
        self.ended = event.changes.iter().any(C::is_last);
        if self.ended {
            self.connection = None;
        }
        Ok(Some(WatchItem::Change(event)))
    }

    fn take_progress(&mut self, frame: &Frame) -> Result<Option<WatchItem<C>>, WatchError> {
        let progress: Progress = read_data(frame)?;
        let id = self.advance(frame, progress.revision)?;
        if self.position.is_some_and(|position| id.revision < position.revision) {
            return Ok(None);
        }
        self.position = Some(id);
        Ok(Some(WatchItem::Progress(progress)))
    }

    /// The id of an event that comes after the state, within the history of the watch.
    fn advance(&self, frame: &Frame, revision: u64) -> Result<EventId, WatchError> {
        if self.expects_state() {
            return Err(protocol(StreamFault::State));
        }
        let id = read_id(frame, revision)?;
        match self.position {
            Some(position) if position.history_id != id.history_id => {
                let detail = format!("the stream goes on with event {id} after {position}");
                Err(WatchError::HistoryChanged(Box::new(Problem::new(ErrorCode::HistoryChanged, detail))))
            }
            Some(_) | None => Ok(id),
        }
    }

    fn expects_state(&self) -> bool {
        self.query.initial.is_some() && self.position.is_none()
    }

    /// The service ends the stream.
    fn take_problem(&mut self, frame: &Frame) -> Result<(), WatchError> {
        let problem: Problem = read_data(frame)?;
        if !problem.retryable {
            return Err(refused(problem.into()));
        }
        // What this watch gave out says more than what the service sent, and half a state is none.
        if self.position.is_none() && !self.expects_state() {
            self.position = problem.resume;
        }
        let place = if problem.code() == ErrorCode::ShuttingDown {
            NextPlace::OtherEndpointAtOnce
        } else {
            NextPlace::OtherEndpoint
        };
        let retry_after = problem.retry_after_ms.map(Duration::from_millis);
        self.failed(AttemptError::Problem(Box::new(problem)), retry_after, place);
        Ok(())
    }
}

/// How reading from a connection ends.
enum Broken {
    Attempt(AttemptError),
    Fault(StreamFault),
}

impl Connection {
    /// Waits for the next bytes.
    async fn read(&mut self, frames: &mut VecDeque<Frame>, silence: Duration) -> Result<(), Broken> {
        // What has come already is read first, even when the caller was slow to ask for it.
        let chunk = tokio::time::timeout_at(self.heard_at + silence, self.response.chunk()).await;
        let chunk = chunk
            .map_err(|_| Broken::Attempt(AttemptError::Silent(silence)))?
            .map_err(|error| Broken::Attempt(AttemptError::NoAnswer(error)))?
            .ok_or(Broken::Attempt(AttemptError::StreamEnded))?;
        let before = frames.len();
        self.parser.push(&chunk, frames).map_err(Broken::Fault)?;
        // Comments do not count: whatever sends them to keep a connection open says nothing about the service.
        if before < frames.len() || self.parser.is_within_frame() {
            self.heard_at = Instant::now();
        }
        Ok(())
    }
}

fn read_data<T: for<'de> Deserialize<'de>>(frame: &Frame) -> Result<T, WatchError> {
    serde_json::from_str(&frame.data)
        .map_err(|error| ClientError::Protocol { status: 200, detail: ProtocolError::Body(error) }.into())
}

/// The id of a frame, which must be that of its data.
fn read_id(frame: &Frame, revision: u64) -> Result<EventId, WatchError> {
    let id = frame.id.as_ref().and_then(|text| text.parse::<EventId>().ok());
    id.filter(|id| id.revision == revision).ok_or_else(|| protocol(StreamFault::Id))
}

fn protocol(fault: StreamFault) -> WatchError {
    ClientError::Protocol { status: 200, detail: ProtocolError::Stream(fault) }.into()
}

/// A refusal that no further attempt changes.
fn refused(error: ClientError) -> WatchError {
    let ClientError::Problem(problem) = error else { return WatchError::Failed(error) };
    let code = problem.code();
    if code == ErrorCode::RevisionCompacted {
        return WatchError::Compacted(problem);
    }
    if code == ErrorCode::HistoryChanged {
        return WatchError::HistoryChanged(problem);
    }
    let gone = [ErrorCode::NamespaceNotFound, ErrorCode::SessionNotFound, ErrorCode::SessionExpired];
    if gone.contains(&code) {
        return WatchError::Gone(problem);
    }
    WatchError::Failed(ClientError::Problem(problem))
}
