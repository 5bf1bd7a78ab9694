//! Scenarios of the whole state machine: each rule of the semantics once, as a sentence.

mod claims;
mod config;
mod expiry;
mod golden;
mod invariants;
mod locks;
mod namespaces;
mod order;
mod past;
mod replays;
#[cfg(feature = "seeded-bugs")]
mod seeded_bugs;
mod sessions;
mod tombstones;
mod txn;
mod views;

use bytes::Bytes;
use proptest::test_runner::{Config as ProptestConfig, RngSeed};
use std::collections::BTreeMap;

use crate::domain::invariants::check;
use crate::domain::{
    Acquire, Applied, Change, ClaimOwner, ClaimRef, Command, Expire, Guard, IfHeld, LEVEL, LockMode, LockRef,
    Machine, MemoryTables, Outcome, Precondition, Proposal, PutConfig, ReplayKey, SessionRef, SessionSpec,
    Settings, View, WaitRef,
};
use crate::{
    ClaimId, ConfigKey, FencingToken, LeaderId, LockName, LogTime, NamespaceName, NodeId, Revision,
    SessionId, Term,
};

/// Properties run the same cases everywhere, so that a failure is everybody's.
pub(crate) fn property(cases: u32) -> ProptestConfig {
    let rng_seed = RngSeed::Fixed(0x686f_6c64_6661_7374);
    ProptestConfig { cases, rng_seed, failure_persistence: None, ..ProptestConfig::default() }
}

/// A store in memory, at a time of the test's choosing, whose invariants are checked after every entry.
struct Store {
    tables: MemoryTables,
    machine: Machine,
    now_ms: u64,
}

impl Store {
    /// A store without identity.
    fn unfounded() -> Self {
        let tables = MemoryTables::default();
        let machine = Machine::load(&tables).unwrap();
        Self { tables, machine, now_ms: 0 }
    }

    /// A store with its default settings, at revision 1.
    fn founded() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        let mut store = Self::unfounded();
        let found = Command::Found { cluster_id: "cluster".to_owned(), history_id: 7, settings };
        assert_eq!(store.apply(found).revision, rev(1));
        store
    }

    fn at(&mut self, now_ms: u64) -> &mut Self {
        self.now_ms = now_ms;
        self
    }

    fn proposal(&self, command: Command, replay: Option<ReplayKey>) -> Proposal {
        Proposal { level: LEVEL, time: LogTime::from_ms(self.now_ms), replay, command }
    }

    fn apply(&mut self, command: Command) -> Applied {
        let proposal = self.proposal(command, None);
        self.apply_proposal(&proposal)
    }

    fn apply_keyed(&mut self, replay: ReplayKey, command: Command) -> Applied {
        let proposal = self.proposal(command, Some(replay));
        self.apply_proposal(&proposal)
    }

    fn apply_proposal(&mut self, proposal: &Proposal) -> Applied {
        let mut batch = self.machine.batch(&self.tables);
        let applied = batch.apply(leader(), proposal).unwrap();
        let changes = batch.finish();
        self.tables.write(changes);
        assert_eq!(check(&self.tables), [], "after {proposal:?}");
        assert_eq!(applied.revision, self.machine.meta().revision);
        assert!(applied.events.is_sorted_by_key(|event| event.revision));
        applied
    }

    fn outcome(&mut self, command: Command) -> Outcome {
        self.apply(command).outcome
    }

    /// Applies what must be refused: it takes no revision, tells nothing and leaves nothing.
    fn refusal(&mut self, command: Command) -> crate::domain::Rejection {
        let before = self.tables.clone();
        let applied = self.apply(command);
        assert_eq!(applied.events, []);
        let mut after = self.tables.clone();
        // The clock moves, whatever becomes of the command.
        let meta = (crate::domain::Table::Meta, Vec::new());
        after.write([(meta, meta_row(&before))].into());
        assert_eq!(after, before);
        applied.outcome.unwrap_err()
    }

    fn view(&self) -> View<'_, MemoryTables> {
        View::new(&self.tables)
    }

    fn session(&mut self, id: &str) {
        self.outcome(create(id)).unwrap();
    }

    fn tick(&mut self) -> Applied {
        self.apply(Command::Tick)
    }

    /// Lets what is due and what is old happen, whatever it is.
    fn pass(&mut self) {
        self.tick().outcome.unwrap();
    }
}

fn meta_row(tables: &MemoryTables) -> Option<Vec<u8>> {
    crate::domain::Tables::get(tables, crate::domain::Table::Meta, b"").unwrap()
}

fn leader() -> LeaderId {
    LeaderId { term: Term(3), node: NodeId::new(11).unwrap() }
}

fn rev(number: u64) -> Revision {
    Revision::new(number)
}

fn token(number: u64) -> FencingToken {
    FencingToken::of_grant(rev(number))
}

fn default_ns() -> NamespaceName {
    NamespaceName::default_namespace()
}

fn ns(name: &str) -> NamespaceName {
    NamespaceName::new(name).unwrap()
}

fn id(session: &str) -> SessionId {
    SessionId::new(session).unwrap()
}

fn config_key(key: &str) -> ConfigKey {
    ConfigKey::new(key).unwrap()
}

fn lock_ref(lock: &str) -> LockRef {
    LockRef { namespace: default_ns(), lock: LockName::new(lock).unwrap() }
}

fn claim_ref(lock: &str, claim: &str) -> ClaimRef {
    ClaimRef { lock: lock_ref(lock), claim: ClaimId::new(claim).unwrap() }
}

fn spec() -> SessionSpec {
    SessionSpec { ttl_ms: 15_000, name: String::new(), labels: BTreeMap::new(), lock_delay_ms: 0 }
}

fn create(session: &str) -> Command {
    Command::CreateSession { id: id(session), spec: spec() }
}

fn create_delayed(session: &str, lock_delay_ms: u64) -> Command {
    Command::CreateSession { id: id(session), spec: SessionSpec { lock_delay_ms, ..spec() } }
}

fn end(session: &str) -> Command {
    Command::EndSession { id: id(session) }
}

fn acquire(lock: &str, claim: &str, owner: ClaimOwner, if_held: IfHeld) -> Command {
    Command::Acquire(Acquire {
        claim: claim_ref(lock, claim),
        owner,
        mode: LockMode::Exclusive,
        if_held,
        label: format!("label of {claim}"),
    })
}

/// Tries a lock with an explicit session.
fn try_lock(lock: &str, claim: &str, session: &str) -> Command {
    acquire(lock, claim, ClaimOwner::Session(id(session)), IfHeld::Refuse)
}

const QUEUE: IfHeld = IfHeld::Queue { wait_ms: 1_000, keep_waiting: false };

/// Queues for a lock with an explicit session.
fn queue(lock: &str, claim: &str, session: &str) -> Command {
    acquire(lock, claim, ClaimOwner::Session(id(session)), QUEUE)
}

/// Tries a lock with a session of the claim's own.
fn try_own(lock: &str, claim: &str) -> Command {
    acquire(lock, claim, ClaimOwner::OwnSession { ttl_ms: 5_000 }, IfHeld::Refuse)
}

fn queue_own(lock: &str, claim: &str) -> Command {
    acquire(lock, claim, ClaimOwner::OwnSession { ttl_ms: 5_000 }, QUEUE)
}

fn release(lock: &str, claim: &str) -> Command {
    Command::Release { claim: claim_ref(lock, claim) }
}

fn wait_ref(lock: &str, claim: &str, enqueued: u64) -> WaitRef {
    WaitRef { claim: claim_ref(lock, claim), enqueued: rev(enqueued) }
}

fn session_ref(session: &str, create_revision: u64) -> SessionRef {
    SessionRef { id: id(session), create_revision: rev(create_revision) }
}

fn expire(sessions: &[(&str, u64)], waits: &[WaitRef]) -> Command {
    let sessions = sessions.iter().map(|(id, created)| session_ref(id, *created)).collect();
    Command::Expire(Expire { leader: leader(), sessions, waits: waits.to_vec() })
}

fn put(key: &str, value: &str) -> Command {
    put_if(key, value, Precondition::None)
}

fn put_if(key: &str, value: &str, precondition: Precondition) -> Command {
    Command::PutConfig(PutConfig {
        session: None,
        managed_by: String::new(),
        namespace: default_ns(),
        key: config_key(key),
        value: Bytes::copy_from_slice(value.as_bytes()),
        content_type: "text/plain".to_owned(),
        precondition,
        guard: None,
    })
}

fn put_guarded(key: &str, value: &str, lock: &str, number: u64) -> Command {
    let Command::PutConfig(put) = put(key, value) else { unreachable!("put makes a put") };
    let guard = Guard { lock: LockName::new(lock).unwrap(), token: token(number) };
    Command::PutConfig(PutConfig { guard: Some(guard), ..put })
}

fn scope(number: u8) -> ReplayKey {
    ReplayKey { scope: [number; 32], fingerprint: [1; 32] }
}

/// The grants of an entry: which claim got which token.
fn grants(applied: &Applied) -> Vec<(String, u64)> {
    let granted = applied.events.iter().filter_map(|event| match &event.change {
        Change::ClaimGranted { claim, session: _, mode: _, token } => {
            assert_eq!(token.revision(), event.revision);
            Some((claim.claim.to_string(), token.as_u64()))
        }
        Change::NamespaceCreated { .. }
        | Change::NamespaceDeleted { .. }
        | Change::SessionCreated { .. }
        | Change::SessionEnded { .. }
        | Change::ClaimQueued { .. }
        | Change::SetQueued { .. }
        | Change::SetGranted { .. }
        | Change::Proclaimed { .. }
        | Change::ClaimEnded { .. }
        | Change::ConfigPut { .. }
        | Change::ConfigDeleted { .. }
        | Change::SessionOwns { .. } => None,
    });
    granted.collect()
}
