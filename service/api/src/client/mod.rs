//! The typed client: fail-over, replay, sessions that keep themselves alive, lock guards, watches.
//!
//! ```text
//!   Client ── typed calls ──▶ transport ── one attempt at a time ──▶ endpoint
//!     ├── lock(..).acquire() ──▶ LockGuard   token · is_held · remaining · lost · release
//!     ├── session(..).start() ──▶ Session    one keepalive task; counts its lease on a clock that includes suspend
//!     └── watch_config(..) ──▶ Watch         a stream of events that goes on where it was, at any endpoint
//! ```
//!
//! The client repeats a request by itself only when the repetition cannot be a second effect, so a call ends with a
//! definite answer, with [`ClientError::OutcomeUnknown`], or with the certainty that nothing happened. Every write that
//! has no id of its own carries an `Idempotency-Key`, one for each call.
//!
//! A lock guard says what the holder may *believe*; only the fencing token, checked by whatever the lock protects, makes
//! a side effect safe.

mod attempt;
mod claims;
mod clock;
mod cluster;
mod config;
mod error;
mod guard;
mod lease;
mod locks;
mod session;
mod sse;
mod transport;
mod watch;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::{
    Method, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    client::{
        attempt::WireRequest,
        transport::{Limits, Reply, Transport},
    },
    header,
};

pub use clock::{BootClock, LeaseClock, LeaseTime, ManualClock, Sleep};
pub use config::{ConfigValue, ConfigWritten, IdempotencyKey, TxnOptions, WriteCondition, WriteOptions};
pub use error::{AttemptError, BuildError, ClientError, InvalidRequest, ProtocolError};
pub use guard::{LockGuard, LockRequest};
pub use lease::Lost;
pub use session::{Session, SessionBuilder};
pub use sse::StreamFault;
pub use watch::{Watch, WatchError, WatchItem, Watched};

pub(crate) use transport::Replay;

/// How long one attempt may take, unless the builder says otherwise.
const ATTEMPT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// How long a call may take, unless the builder says otherwise: several changes of leader.
const DEADLINE_DEFAULT: Duration = Duration::from_secs(30);
/// How long a stream of events may be silent, unless the builder says otherwise. The service tells its progress every
/// second.
const SILENCE_DEFAULT: Duration = Duration::from_secs(5);
/// How long a connection may take to open.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(2);
/// How long an unused connection is kept; shorter than what servers and proxies commonly allow.
const POOL_IDLE: Duration = Duration::from_secs(30);
/// How long sent bytes may stay unacknowledged before a connection, such as one that waits for a lock, counts as dead.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);

/// What a call answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// The answer itself.
    pub value: T,
    /// The store's revision that it reflects.
    pub revision: Option<u64>,
    /// The node that carried the request out.
    pub served_by: Option<String>,
    /// The cluster that answered.
    pub cluster_id: Option<String>,
    /// The HTTP status.
    pub status: u16,
}

impl<T> Answer<T> {
    fn map<U>(self, f: impl FnOnce(T) -> U) -> Answer<U> {
        let Self { value, revision, served_by, cluster_id, status } = self;
        Answer { value: f(value), revision, served_by, cluster_id, status }
    }
}

/// Calls a Holdfast cluster through any of its endpoints. Clones share connections.
#[derive(Debug, Clone)]
pub struct Client {
    transport: Arc<Transport>,
    clock: Arc<dyn LeaseClock>,
    limits: Limits,
}

/// Builds a [`Client`].
#[derive(Debug)]
#[must_use]
pub struct ClientBuilder {
    endpoints: Vec<String>,
    clock: Arc<dyn LeaseClock>,
    limits: Limits,
}

impl ClientBuilder {
    /// The longest that one attempt may take before the next one begins. A request that waits for a lock gets its waiting
    /// time on top.
    pub const fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.limits.attempt = timeout;
        self
    }

    /// The longest that a call with all its attempts may take. A request that waits for a lock gets its waiting time on
    /// top.
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.limits.overall = deadline;
        self
    }

    /// The longest that a stream of events may be silent before it counts as broken.
    pub const fn silence_limit(mut self, silence: Duration) -> Self {
        self.limits.silence = silence;
        self
    }

    /// The clock that leases are counted on.
    pub fn clock(mut self, clock: Arc<dyn LeaseClock>) -> Self {
        self.clock = clock;
        self
    }

    /// The client. Nothing is sent yet.
    ///
    /// # Errors
    /// [`BuildError`] when an endpoint is malformed or there is none.
    pub fn build(self) -> Result<Client, BuildError> {
        let endpoints =
            self.endpoints.iter().map(|text| parse_endpoint(text)).collect::<Result<Vec<_>, _>>()?;
        if endpoints.is_empty() {
            return Err(BuildError::NoEndpoint);
        }
        let http = reqwest::Client::builder()
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            // Only the transport repeats requests, because only it knows which of them replay.
            .retry(reqwest::retry::never())
            .connect_timeout(self.limits.attempt.min(CONNECT_TIMEOUT_MAX))
            .pool_idle_timeout(POOL_IDLE)
            .tcp_nodelay(true)
            .tcp_keepalive(TCP_USER_TIMEOUT / 2)
            .tcp_user_timeout(TCP_USER_TIMEOUT)
            .build()?;
        let transport = Arc::new(Transport::new(http, endpoints));
        Ok(Client { transport, clock: self.clock, limits: self.limits })
    }
}

fn parse_endpoint(text: &str) -> Result<Url, BuildError> {
    let invalid = || BuildError::Endpoint(text.to_owned());
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&with_scheme).map_err(|_| invalid())?;
    let bare = url.scheme() == "http"
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if bare { Ok(url) } else { Err(invalid()) }
}

impl Client {
    /// A builder of a client of these endpoints, each `http://host:port` or `host:port`; the first is tried first.
    pub fn builder(endpoints: impl IntoIterator<Item = impl Into<String>>) -> ClientBuilder {
        ClientBuilder {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            clock: Arc::new(BootClock),
            limits: Limits {
                attempt: ATTEMPT_TIMEOUT_DEFAULT,
                overall: DEADLINE_DEFAULT,
                silence: SILENCE_DEFAULT,
            },
        }
    }

    /// A client of these endpoints with the default time limits.
    ///
    /// # Errors
    /// As [`ClientBuilder::build`].
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Result<Self, BuildError> {
        Self::builder(endpoints).build()
    }

    /// The same client, over the same connections, with another deadline for its calls.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { limits: Limits { overall: deadline, ..self.limits }, ..self.clone() }
    }

    /// The same client, over the same connections, with another time limit for one attempt.
    #[must_use]
    pub fn with_attempt_timeout(&self, timeout: Duration) -> Self {
        Self { limits: Limits { attempt: timeout, ..self.limits }, ..self.clone() }
    }

    pub(crate) fn clock(&self) -> &Arc<dyn LeaseClock> {
        &self.clock
    }

    async fn send(&self, call: Call) -> Result<Reply, ClientError> {
        let wait = call.wait;
        let limits = Limits {
            attempt: self.limits.attempt.saturating_add(wait),
            overall: self.limits.overall.saturating_add(wait),
            ..self.limits
        };
        self.transport.call(self.clock.as_ref(), &call.wire, call.replay, limits).await
    }

    /// Sends a call that is answered with JSON.
    async fn json<T: DeserializeOwned>(&self, call: Call) -> Result<Answer<T>, ClientError> {
        read_json(&self.send(call).await?)
    }

    /// Sends a call whose success says all.
    async fn empty(&self, call: Call) -> Result<Answer<()>, ClientError> {
        let reply = self.send(call).await?;
        Ok(read_headers(&reply))
    }
}

/// One call as the typed methods describe it.
#[derive(Debug)]
struct Call {
    wire: WireRequest,
    replay: Replay,
    /// How long the service may hold the answer back on purpose.
    wait: Duration,
}

impl Call {
    fn new(method: Method, path_and_query: String, replay: Replay) -> Self {
        let wire = WireRequest { method, path_and_query, headers: HeaderMap::new(), body: None };
        Self { wire, replay, wait: Duration::ZERO }
    }

    fn get(path_and_query: String) -> Self {
        Self::new(Method::GET, path_and_query, Replay::Read)
    }

    /// A write that names what it makes or ends.
    fn by_id(method: Method, path_and_query: String) -> Self {
        Self::new(method, path_and_query, Replay::ById)
    }

    /// A write that gets a random idempotency key.
    fn keyed(method: Method, path_and_query: String) -> Self {
        Self::new(method, path_and_query, Replay::ByKey).with_key(&random_id())
    }

    fn with_key(mut self, key: &str) -> Self {
        let value = HeaderValue::from_str(key).expect("an idempotency key was checked or made of hex digits");
        self.wire.headers.insert(header_name(header::IDEMPOTENCY_KEY), value);
        self
    }

    fn with_header(mut self, name: &'static str, value: &str) -> Result<Self, ClientError> {
        let value = HeaderValue::from_str(value)
            .map_err(|_| ClientError::InvalidRequest(InvalidRequest::Header(name)))?;
        self.wire.headers.insert(header_name(name), value);
        Ok(self)
    }

    fn with_json(mut self, body: &impl Serialize) -> Self {
        let json = serde_json::to_vec(body).expect("a request body is plain data, which always is JSON");
        self.wire.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.wire.body = Some(Bytes::from(json));
        self
    }

    const fn with_wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }
}

fn header_name(name: &'static str) -> HeaderName {
    HeaderName::from_bytes(name.as_bytes()).expect("the header names of this crate are valid")
}

/// 128 random bits in hex: an id that nobody else chooses.
fn random_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

fn read_json<T: DeserializeOwned>(reply: &Reply) -> Result<Answer<T>, ClientError> {
    let value = serde_json::from_slice(&reply.wire.body).map_err(|error| ClientError::Protocol {
        status: reply.wire.status,
        detail: ProtocolError::Body(error),
    })?;
    Ok(read_headers(reply).map(|()| value))
}

fn read_headers(reply: &Reply) -> Answer<()> {
    let text = |name: &str| {
        reply.wire.headers.get(name).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned)
    };
    Answer {
        value: (),
        revision: text(header::REVISION).and_then(|revision| revision.parse().ok()),
        served_by: text(header::SERVED_BY),
        cluster_id: text(header::CLUSTER_ID),
        status: reply.wire.status,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
