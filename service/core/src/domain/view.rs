//! Reads of the state at one moment, for answers. A view changes nothing and decides nothing.
//!
//! Whoever reads takes one handle of the tables for a whole answer, so that all of its parts are of one revision.

mod config;
mod history;
mod lock;
mod watch;

use crate::domain::batch::RemovedNode;
use crate::domain::claim::{Claim, Standing, Takes};
use crate::domain::key::{KeyRange, KeyReader};
use crate::domain::lock::Place;
use crate::domain::namespace::Namespace;
use crate::domain::session::Session;
use crate::domain::tombstone::SessionTombstone;
use crate::domain::{
    ClaimRef, EndReason, Fault, LockMode, Meta, SessionSpec, Table, Tables, WaitRef, key, record,
};
use crate::limits::PAGE_ROWS_MAX;
use crate::{FencingToken, LockName, LogTime, NamespaceName, NodeId, Revision, SessionId};

pub use config::{ConfigAt, ConfigEntry, ConfigItem, ConfigQuery};
pub use history::{ConfigHistory, ConfigVersionView};
pub use lock::{ClaimState, ElectionValueView, LockSetState, LockSummary, LockView, Waiter};
pub use watch::EventPage;

/// Reads over tables at one moment.
#[derive(Debug)]
pub struct View<'a, T: Tables>(&'a T);

// By hand: a derive would ask the tables to be `Copy`.
impl<T: Tables> Clone for View<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Tables> Copy for View<'_, T> {}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<I, K> {
    /// The items. There may be fewer than asked for, and even none, while `next` is set.
    pub items: Vec<I>,
    /// Where to go on: what to give as `after` for the next part. None at the end of the list.
    pub next: Option<K>,
}

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceView {
    /// Its name.
    pub name: NamespaceName,
    /// When it was created; what is older is invisible.
    pub create_revision: Revision,
    /// Config keys that exist.
    pub keys: u64,
    /// Held and queued claims.
    pub claims: u64,
    /// Running lock delays.
    pub lock_delays: u64,
}

/// What is known of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionState {
    /// It lives.
    Live(SessionView),
    /// It is over.
    Ended {
        /// Why.
        reason: EndReason,
        /// The revision that ended it.
        revision: Revision,
    },
}

/// A live session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionView {
    /// Its id.
    pub id: SessionId,
    /// When it was created.
    pub create_revision: Revision,
    /// What was asked for.
    pub spec: SessionSpec,
    /// The claim that made it, if one did.
    pub made_by: Option<ClaimRef>,
    /// Claims that it owns.
    pub owned: u64,
    /// How long it has lived, in replicated milliseconds.
    pub age_ms: u64,
}

/// A live claim, as its session's list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimView {
    /// The claim.
    pub claim: ClaimRef,
    /// How it takes the lock.
    pub mode: LockMode,
    /// Its label, for people.
    pub label: String,
    /// The grant's token; none while it waits.
    pub token: Option<FencingToken>,
    /// How long it holds or waits, in replicated milliseconds.
    pub since_ms: u64,
}

/// A live session, as the leader's deadlines need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSession {
    /// Its id.
    pub id: SessionId,
    /// When it was created.
    pub create_revision: Revision,
    /// Its time to live in milliseconds.
    pub ttl_ms: u64,
    /// The claim that made it, if one did.
    pub made_by: Option<ClaimRef>,
    /// Claims that it owns.
    pub owned: u64,
}

/// A queued claim, as the leader's deadlines need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedWait {
    /// The wait.
    pub wait: WaitRef,
    /// The session that waits.
    pub session: SessionId,
    /// How long a request waits for it, in milliseconds.
    pub wait_ms: u64,
    /// Whether it waits on without a request.
    pub keep_waiting: bool,
}

/// A wait, as its claim tells it.
fn queued_wait(claim_ref: ClaimRef, claim: Claim, enqueued: Revision) -> Result<QueuedWait, Fault> {
    let Standing::Queued { wait_ms, keep_waiting, .. } = claim.standing else {
        return Err(Fault::damaged(Table::Claim, &key::claim(&claim_ref), "it holds while it is queued"));
    };
    let wait = WaitRef { claim: claim_ref, enqueued };
    Ok(QueuedWait { wait, session: claim.session, wait_ms, keep_waiting })
}

impl<'a, T: Tables> View<'a, T> {
    /// A view of these tables.
    pub const fn new(tables: &'a T) -> Self {
        Self(tables)
    }

    /// Where the store stands.
    ///
    /// # Errors
    /// [`Fault`] when the tables cannot be read; so for every read.
    pub fn meta(&self) -> Result<Meta, Fault> {
        Ok(record::read(self.0, Table::Meta, key::META)?.unwrap_or_default())
    }

    /// Whether a node was a member and was removed.
    ///
    /// # Errors
    /// As [`View::meta`].
    pub fn is_removed(&self, id: NodeId) -> Result<bool, Fault> {
        let row: Option<RemovedNode> = record::read(self.0, Table::RemovedNode, &key::removed_node(id))?;
        Ok(row.is_some())
    }

    /// All nodes that were members and were removed, in order.
    ///
    /// # Errors
    /// As [`View::meta`].
    pub fn removed_nodes(&self) -> Result<Vec<NodeId>, Fault> {
        self.collect_all(Table::RemovedNode, |key, value| {
            record::open::<RemovedNode>(Table::RemovedNode, key, value)?;
            KeyReader::new(Table::RemovedNode, key).node()
        })
    }

    /// A namespace, if it exists.
    ///
    /// # Errors
    /// As [`View::meta`].
    pub fn namespace(&self, name: &NamespaceName) -> Result<Option<NamespaceView>, Fault> {
        let namespace: Option<Namespace> = record::read(self.0, Table::Namespace, &key::namespace(name))?;
        Ok(namespace.map(|namespace| NamespaceView::new(name.clone(), &namespace)))
    }

    /// Namespaces by name.
    ///
    /// # Errors
    /// As [`View::meta`].
    pub fn namespaces(
        &self,
        after: Option<&NamespaceName>,
        limit: usize,
    ) -> Result<Page<NamespaceView, NamespaceName>, Fault> {
        let range = after.map_or(KeyRange::all(), |name| KeyRange::all().after(key::namespace(name)));
        let page = self.page(Table::Namespace, &range, limit, |key, value| {
            let name = KeyReader::new(Table::Namespace, key).last_namespace()?;
            Ok(NamespaceView::new(name, &record::open(Table::Namespace, key, value)?))
        })?;
        Ok(page.continued(|last| last.name.clone()))
    }

    /// What is known of a session.
    ///
    /// # Errors
    /// As [`View::meta`].
    pub fn session(&self, id: &SessionId) -> Result<Option<SessionState>, Fault> {
        let key = key::session(id);
        if let Some(session) = record::read::<Session>(self.0, Table::Session, &key)? {
            return Ok(Some(SessionState::Live(SessionView::new(id.clone(), session, &self.meta()?))));
        }
        let tombstone: Option<SessionTombstone> = record::read(self.0, Table::SessionTombstone, &key)?;
        Ok(tombstone
            .map(|tombstone| SessionState::Ended { reason: tombstone.reason, revision: tombstone.revision }))
    }

    /// Live sessions by id.
    ///
    /// # Errors
    /// As [`View::meta`].
    pub fn sessions(
        &self,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Page<SessionView, SessionId>, Fault> {
        let meta = self.meta()?;
        let range = after.map_or(KeyRange::all(), |id| KeyRange::all().after(key::session(id)));
        let page = self.page(Table::Session, &range, limit, |key, value| {
            let id = KeyReader::new(Table::Session, key).last_session()?;
            Ok(SessionView::new(id, record::open(Table::Session, key, value)?, &meta))
        })?;
        Ok(page.continued(|last| last.id.clone()))
    }

    /// The claims of a live session, by lock and id: at most `SESSION_OWNED_MAX`. Of a lock set these are its parts.
    ///
    /// # Errors
    /// As [`View::meta`].
    pub fn session_claims(&self, id: &SessionId) -> Result<Vec<ClaimView>, Fault> {
        let now = self.meta()?.time;
        let range = KeyRange::prefix(key::session_prefix(id));
        let claims = self.collect(Table::SessionClaim, range, |key, value| {
            record::open::<()>(Table::SessionClaim, key, value)?;
            let mut reader = KeyReader::new(Table::SessionClaim, key);
            reader.session()?;
            let claim = reader.last_claim()?;
            let Claim { takes, label, standing, .. } = self.claim_row(&claim)?;
            let mode = takes.mode();
            let (token, since) = match standing {
                Standing::Held { token, since } => (Some(token), since),
                Standing::Queued { since, .. } => (None, since),
            };
            Ok(ClaimView { claim, mode, label, token, since_ms: now.ms_since(since) })
        });
        let is_of_lock = |view: &ClaimView| !view.claim.lock.lock.is_lock_sets();
        Ok(claims?.into_iter().filter(is_of_lock).collect())
    }

    /// When the next lock delay ends, by the replicated clock; none while none runs.
    ///
    /// # Errors
    /// As [`View::meta`].
    pub fn next_lock_delay(&self) -> Result<Option<LogTime>, Fault> {
        let rows = record::rows(self.0, Table::LockDelay, &KeyRange::all(), 1)?;
        rows.first().map(|(key, _)| KeyReader::new(Table::LockDelay, key).time()).transpose()
    }

    /// Every live session, to rebuild the leader's deadlines.
    ///
    /// # Errors
    /// As [`View::meta`].
    pub fn live_sessions(&self) -> Result<Vec<LiveSession>, Fault> {
        self.collect_all(Table::Session, |key, value| {
            let id = KeyReader::new(Table::Session, key).last_session()?;
            let Session { spec, create_revision, made_by, owned, .. } =
                record::open(Table::Session, key, value)?;
            Ok(LiveSession { id, create_revision, ttl_ms: spec.ttl_ms, made_by, owned })
        })
    }

    /// Every queued claim, to rebuild the leader's deadlines.
    ///
    /// # Errors
    /// As [`View::meta`].
    pub fn queued_waits(&self) -> Result<Vec<QueuedWait>, Fault> {
        let of_rows = self.collect_all(Table::Queue, |key, value| {
            let mut reader = KeyReader::new(Table::Queue, key);
            let (lock, enqueued) = (reader.lock()?, reader.revision()?);
            reader.end()?;
            let Place { claim } = record::open(Table::Queue, key, value)?;
            let claim_ref = ClaimRef { lock, claim };
            let claim = self.claim_row(&claim_ref)?;
            let set = if claim.takes.is_part() { self.set_by_first_part(&claim_ref)? } else { None };
            let set = set.map(|(set_ref, set)| queued_wait(set_ref, set, enqueued)).transpose()?;
            Ok((set, queued_wait(claim_ref, claim, enqueued)?))
        })?;
        Ok(of_rows.into_iter().flat_map(|(set, claim)| set.into_iter().chain([claim])).collect())
    }

    /// The set that a claim is the first part of.
    fn set_by_first_part(&self, part: &ClaimRef) -> Result<Option<(ClaimRef, Claim)>, Fault> {
        let set_ref = part.of_lock(&LockName::lock_sets());
        let set = self.claim_row(&set_ref)?;
        let first = match &set.takes {
            Takes::Set(locks) => locks.keys().next() == Some(&part.lock.lock),
            Takes::Lock(_) | Takes::Part(_) => false,
        };
        Ok(first.then_some((set_ref, set)))
    }

    fn claim_row(&self, claim: &ClaimRef) -> Result<Claim, Fault> {
        let key = key::claim(claim);
        let missing = || Fault::damaged(Table::Claim, &key, "it is missing while an index has it");
        record::read(self.0, Table::Claim, &key)?.ok_or_else(missing)
    }

    /// The first rows of a range, at least one when there is one: a limit of 0 would never come to an end.
    fn page<I>(
        &self,
        table: Table,
        range: &KeyRange,
        limit: usize,
        mut item: impl FnMut(&[u8], &[u8]) -> Result<I, Fault>,
    ) -> Result<RawPage<I>, Fault> {
        let limit = limit.clamp(1, PAGE_ROWS_MAX);
        let mut rows = record::rows(self.0, table, range, limit + 1)?;
        let more = limit < rows.len();
        rows.truncate(limit);
        let items = rows.iter().map(|(key, value)| item(key, value)).collect::<Result<_, _>>()?;
        Ok(RawPage { items, more })
    }

    fn collect_all<I>(
        &self,
        table: Table,
        item: impl FnMut(&[u8], &[u8]) -> Result<I, Fault>,
    ) -> Result<Vec<I>, Fault> {
        self.collect(table, KeyRange::all(), item)
    }

    /// All rows of a range, read in parts.
    fn collect<I>(
        &self,
        table: Table,
        mut range: KeyRange,
        mut item: impl FnMut(&[u8], &[u8]) -> Result<I, Fault>,
    ) -> Result<Vec<I>, Fault> {
        let mut items = Vec::new();
        loop {
            let rows = record::rows(self.0, table, &range, PAGE_ROWS_MAX)?;
            for (key, value) in &rows {
                items.push(item(key, value)?);
            }
            match rows.into_iter().next_back() {
                Some((key, _)) => range = range.after(key),
                None => return Ok(items),
            }
        }
    }
}

/// A page whose continuation is not yet named.
struct RawPage<I> {
    items: Vec<I>,
    more: bool,
}

impl<I> RawPage<I> {
    fn continued<K>(self, key: impl FnOnce(&I) -> K) -> Page<I, K> {
        let next = if self.more { self.items.last().map(key) } else { None };
        Page { items: self.items, next }
    }
}

impl NamespaceView {
    fn new(name: NamespaceName, namespace: &Namespace) -> Self {
        let Namespace { create_revision, keys, claims, lock_delays } = *namespace;
        Self { name, create_revision, keys, claims, lock_delays }
    }
}

impl SessionView {
    fn new(id: SessionId, session: Session, meta: &Meta) -> Self {
        let Session { spec, create_revision, time, made_by, owned, tombstones: _ } = session;
        Self { id, create_revision, spec, made_by, owned, age_ms: meta.time.ms_since(time) }
    }
}
