//! A state in memory, and readers that check what they are told against everything that ever happened.

use std::sync::{Arc, Mutex, PoisonError};

use holdfast_core::domain::{
    Change, Command, Event, Fault, LEVEL, LockRef, Machine, MemoryTables, Proposal, View,
};
use holdfast_core::{LeaderId, LogTime, NodeId, Revision, Term};

use crate::watch::commit::commits;
use crate::watch::past::{self, ListPage, Listing, Origin, Page, Past, Standing, Unreadable};
use crate::watch::queue::Delivery;
use crate::watch::subject::Subject;

/// The state of one node.
#[derive(Clone)]
pub(super) struct Store {
    inner: Arc<Mutex<(Machine, MemoryTables)>>,
}

/// One revision as a reader sees it.
pub(super) type Told = (Revision, Vec<Change>);

impl Store {
    pub(super) fn new() -> Self {
        let tables = MemoryTables::default();
        let machine = Machine::load(&tables).unwrap();
        Self { inner: Arc::new(Mutex::new((machine, tables))) }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Machine, &mut MemoryTables) -> T) -> T {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (machine, tables) = &mut *inner;
        act(machine, tables)
    }

    pub(super) fn look<T>(&self, look: impl FnOnce(&View<'_, MemoryTables>) -> Result<T, Fault>) -> T {
        self.with(|_, tables| look(&View::new(tables)).unwrap())
    }

    /// Applies one entry: what happened.
    pub(super) fn apply(&self, leader: LeaderId, proposal: &Proposal) -> Vec<Event> {
        self.with(|machine, tables| {
            let mut batch = machine.batch(tables);
            let applied = batch.apply(leader, proposal).unwrap();
            let changes = batch.finish();
            tables.write(changes);
            applied.events
        })
    }

    /// Applies a command of a leader whose clock stands still.
    pub(super) fn run(&self, command: Command) -> Vec<Event> {
        let leader = LeaderId { term: Term(1), node: NodeId::new(1).unwrap() };
        self.apply(leader, &Proposal { level: LEVEL, time: LogTime::from_ms(1), replay: None, command })
    }

    pub(super) fn revision(&self) -> Revision {
        self.with(|machine, _| machine.meta().revision)
    }

    pub(super) fn standing(&self, subject: &Subject) -> Standing {
        self.look(|view| Standing::of(view, subject))
    }
}

impl Past for Store {
    fn page(&self, origin: &Origin, after: Revision) -> Result<Page, Unreadable> {
        self.look(|view| past::page(view, origin, after))
    }

    fn list(&self, origin: &Origin, listing: &Listing) -> Result<ListPage, Unreadable> {
        self.look(|view| past::list(view, origin, listing))
    }
}

/// A delivery as a reader sees it.
pub(super) fn told(delivery: &Delivery) -> Told {
    let changes = delivery.changes().map(|happened| happened.change().clone());
    (delivery.revision(), changes.collect())
}

/// All that a reader must be told of `all` after a revision, and whether the subject is over with that.
pub(super) fn expected(subject: &Subject, all: &[Event], after: Revision) -> (Vec<Told>, bool) {
    let mut told: Vec<Told> = Vec::new();
    for commit in commits(all.iter().filter(|event| after < event.revision).cloned().collect()) {
        let changes = commit.changes.iter().map(|happened| happened.change());
        let mine: Vec<Change> = changes.clone().filter(|change| is_about(subject, change)).cloned().collect();
        if !mine.is_empty() {
            told.push((commit.revision, mine));
        }
        if changes.clone().any(|change| is_end_of(subject, change)) {
            return (told, true);
        }
    }
    (told, false)
}

/// Written from the rules rather than from the filter.
#[expect(clippy::wildcard_enum_match_arm, reason = "no other change is of a claim")]
fn is_about(subject: &Subject, change: &Change) -> bool {
    let claim = match change {
        Change::ClaimQueued { claim, session, .. } | Change::ClaimGranted { claim, session, .. } => {
            Some((&claim.lock, Some(session)))
        }
        Change::ClaimEnded { claim, session, .. } => Some((&claim.lock, session.as_ref())),
        Change::Proclaimed { claim, .. } => Some((&claim.lock, None)),
        _ => None,
    };
    let claim = claim.filter(|(lock, _)| !lock.lock.is_lock_sets());
    match (subject, change) {
        (Subject::Config { namespace, prefixes }, Change::ConfigPut { namespace: of, item }) => {
            let mut prefixes = prefixes.as_slice().iter();
            of == namespace && prefixes.any(|prefix| item.key.as_str().starts_with(prefix.as_str()))
        }
        (Subject::Config { namespace, prefixes }, Change::ConfigDeleted { namespace: of, key, .. }) => {
            let mut prefixes = prefixes.as_slice().iter();
            of == namespace && prefixes.any(|prefix| key.as_str().starts_with(prefix.as_str()))
        }
        (Subject::Session(session), Change::SessionCreated { id, .. } | Change::SessionEnded { id, .. }) => {
            id == session
        }
        (Subject::Lock(lock), _) => claim.is_some_and(|(of, _)| of == lock),
        (Subject::Session(session), _) => claim.is_some_and(|(_, owner)| owner == Some(session)),
        (Subject::Config { .. }, _) => false,
    }
}

fn is_end_of(subject: &Subject, change: &Change) -> bool {
    match (subject, change) {
        (Subject::Config { namespace, .. } | Subject::Lock(LockRef { namespace, .. }), change) => {
            matches!(change, Change::NamespaceDeleted { name } if name == namespace)
        }
        (Subject::Session(session), change) => {
            matches!(change, Change::SessionEnded { id, .. } if id == session)
        }
    }
}
