//! Bounds that no small world reaches: thousands of namespaces, claims of one session, or due delays.

use std::collections::BTreeMap;

use holdfast_core::domain::{
    Acquire, Change, ClaimOwner, ClaimRef, Command, EndReason, Expire, IfHeld, LEVEL, LockMode, LockRef,
    Outcome, Proposal, Rejection, ReplayKey, SessionRef, SessionSpec, Settings, Success, invariants,
};
use holdfast_core::limits::{
    DROPPED_PER_ENTRY_MAX, DUE_DELAYS_PER_ENTRY_MAX, EXPIRE_OWNED_MAX, EXPIRE_SESSIONS_MAX, NAMESPACES_MAX,
    SESSION_OWNED_MAX,
};
use holdfast_core::{
    ClaimId, FencingToken, LeaderId, LockName, LogTime, NamespaceName, NodeId, Revision, SessionId, Term,
};

use crate::comparison::equals_model;
use crate::replica::Replica;

fn leader() -> LeaderId {
    LeaderId { term: Term(1), node: NodeId::new(1).expect("1 is a node id") }
}

/// A founded store, the clock that its proposals carry, and the entries that wait to be applied as one batch.
struct Store {
    replica: Replica,
    time: LogTime,
}

impl Store {
    fn founded() -> Self {
        let mut store = Self { replica: Replica::new(), time: LogTime::ZERO };
        let settings = Settings::default();
        let found = Command::Found { cluster_id: "bounds".to_owned(), history_id: 1, settings };
        assert_eq!(store.apply(found), Ok(Success::Founded));
        store
    }

    fn proposal(&self, command: Command) -> Proposal {
        Proposal { level: LEVEL, time: self.time, replay: None, command }
    }

    fn apply(&mut self, command: Command) -> Outcome {
        let proposal = self.proposal(command);
        self.replica.apply(leader(), &proposal).expect("sound tables").outcome
    }

    /// Applies many commands in one batch; all must succeed.
    fn apply_all(&mut self, commands: impl Iterator<Item = Command>) {
        let proposals: Vec<_> = commands.map(|command| self.proposal(command)).collect();
        let leader = leader();
        let steps: Vec<_> = proposals.iter().map(|proposal| (&leader, proposal, None)).collect();
        for applied in self.replica.batch(&steps).expect("sound tables") {
            assert!(applied.outcome.is_ok(), "{:?}", applied.outcome);
        }
    }

    /// Lets a session expire, as its leader proposes it.
    fn expire(&mut self, sessions: Vec<SessionRef>) -> Outcome {
        self.apply(Command::Expire(Expire { leader: leader(), sessions, waits: Vec::new() }))
    }

    fn check(&self) {
        let broken = invariants::check(&self.replica.tables);
        assert!(broken.is_empty(), "{broken:?}");
    }
}

fn session(number: u64) -> SessionId {
    SessionId::new(format!("s{number:05}")).expect("a valid id")
}

fn create_session(number: u64, lock_delay_ms: u64) -> Command {
    let spec = SessionSpec { ttl_ms: 1_000, name: String::new(), labels: BTreeMap::new(), lock_delay_ms };
    Command::CreateSession { id: session(number), spec }
}

fn lock(number: u64) -> LockRef {
    let lock = LockName::new(format!("lock/{number:06}")).expect("a valid name");
    LockRef { namespace: NamespaceName::default_namespace(), lock }
}

/// Takes the lock of this number with a claim of this id.
fn take_as(id: &str, lock_number: u64, session_number: u64) -> Command {
    let claim = ClaimId::new(id).expect("a valid id");
    Command::Acquire(Acquire {
        claim: ClaimRef { lock: lock(lock_number), claim },
        owner: ClaimOwner::Session(session(session_number)),
        mode: LockMode::Exclusive,
        if_held: IfHeld::Refuse,
        label: String::new(),
    })
}

fn take(lock_number: u64, session_number: u64) -> Command {
    take_as("only", lock_number, session_number)
}

#[test]
fn a_store_has_its_fill_of_namespaces() {
    let mut store = Store::founded();
    let name = |number| NamespaceName::new(format!("n{number}")).unwrap();
    store.apply_all((1..NAMESPACES_MAX).map(|number| Command::CreateNamespace { name: name(number) }));
    let full = Err(Rejection::TooManyNamespaces { max: NAMESPACES_MAX });
    assert_eq!(store.apply(Command::CreateNamespace { name: name(0) }), full);
    assert_eq!(store.apply(Command::DeleteNamespace { name: name(1) }), Ok(Success::NamespaceDeleted));
    assert!(store.apply(Command::CreateNamespace { name: name(0) }).is_ok());
    store.check();
}

#[test]
fn a_session_owns_a_bounded_number_of_claims_and_all_of_them_end_with_it() {
    let mut store = Store::founded();
    store.apply_all(std::iter::once(create_session(1, 0)));
    store.apply_all((0..SESSION_OWNED_MAX).map(|number| take(number, 1)));
    let full = Err(Rejection::SessionOwnsTooMuch { max: SESSION_OWNED_MAX });
    assert_eq!(store.apply(take(SESSION_OWNED_MAX, 1)), full);

    let ending = store.proposal(Command::EndSession { id: session(1) });
    let applied = store.replica.apply(leader(), &ending).unwrap();
    let ended = applied.events.iter().filter(|e| matches!(e.change, Change::ClaimEnded { .. })).count();
    assert_eq!(ended as u64, SESSION_OWNED_MAX);
    store.check();
}

#[test]
fn an_expire_entry_ends_a_bounded_number_of_sessions() {
    let mut store = Store::founded();
    let count = EXPIRE_SESSIONS_MAX as u64 + 5;
    store.apply_all((0..count).map(|number| create_session(number, 0)));
    // The founding took revision 1, so session n was created at n + 2.
    let due = |number| SessionRef { id: session(number), create_revision: Revision::new(number + 2) };
    let all: Vec<_> = (0..count).map(due).collect();
    let most = EXPIRE_SESSIONS_MAX as u64;
    assert_eq!(store.expire(all.clone()), Ok(Success::Expired { sessions: most, waits: 0 }));
    assert_eq!(store.expire(all), Ok(Success::Expired { sessions: 5, waits: 0 }));
    store.check();
}

#[test]
fn an_expire_entry_ends_a_bounded_number_of_owned_claims() {
    let mut store = Store::founded();
    store.apply_all((0..3).map(|number| create_session(number, 0)));
    for owner in 0..3 {
        let first = owner * SESSION_OWNED_MAX;
        store.apply_all((first..first + SESSION_OWNED_MAX).map(|number| take(number, owner)));
    }
    const { assert!(2 * SESSION_OWNED_MAX <= EXPIRE_OWNED_MAX && EXPIRE_OWNED_MAX < 3 * SESSION_OWNED_MAX) };
    let due = |number| SessionRef { id: session(number), create_revision: Revision::new(number + 2) };
    let all: Vec<_> = (0..3).map(due).collect();
    assert_eq!(store.expire(all.clone()), Ok(Success::Expired { sessions: 2, waits: 0 }));
    assert_eq!(store.expire(all), Ok(Success::Expired { sessions: 1, waits: 0 }));
    store.check();
}

#[test]
fn due_delays_beyond_what_one_entry_ends_wait_for_the_next() {
    let mut store = Store::founded();
    let count = DUE_DELAYS_PER_ENTRY_MAX as u64 + 7;
    store.apply_all(std::iter::once(create_session(1, 500)));
    store.apply_all((0..count).map(|number| take(number, 1)));
    let due = SessionRef { id: session(1), create_revision: Revision::new(2) };
    assert_eq!(store.expire(vec![due]), Ok(Success::Expired { sessions: 1, waits: 0 }));

    store.apply_all(std::iter::once(create_session(2, 0)));
    let closed = Err(Rejection::LockHeld { holders: Vec::new(), queued: 0, delay_remaining_ms: 500 });
    let token = Some(FencingToken::of_grant(Revision::new(count + 2)));
    let lost = Err(Rejection::ClaimEnded { reason: EndReason::Expired, token });
    assert_eq!(store.apply(take(count - 1, 2)), lost);
    let again = |number| take_as("again", number, 2);
    assert_eq!(store.apply(again(0)), closed);

    store.time = store.time.after_ms(500);
    // This entry ends the first delays, in the order of locks; those beyond its bound are still closed.
    let still = Err(Rejection::LockHeld { holders: Vec::new(), queued: 0, delay_remaining_ms: 0 });
    assert_eq!(store.apply(again(count - 1)), still);
    assert!(store.apply(again(count - 1)).is_ok());
    assert!(store.apply(again(0)).is_ok());
    store.check();
}

/// Sessions that end with as many tombstones as one entry may drop, more and fewer, all at once too old.
#[test]
fn what_is_too_old_is_dropped_over_several_entries() {
    let settings = Settings { tombstone_ms: 60_000, replay_ms: 60_000, ..Settings::default() };
    let mut commands = vec![Command::Found { cluster_id: "bounds".to_owned(), history_id: 1, settings }];
    let most = DROPPED_PER_ENTRY_MAX;
    let mut locks = 0..;
    for (number, claims) in [most, 0, 1, most + 7, 2 * most, 30, 3].into_iter().enumerate() {
        let number = number as u64;
        commands.push(create_session(number, 0));
        commands.extend(locks.by_ref().take(claims).map(|lock| take(lock, number)));
        commands.push(Command::EndSession { id: session(number) });
    }
    commands.extend((100..100 + most as u64 + 5).map(|number| Command::EndSession { id: session(number) }));
    let keyed = commands.len();
    let mut log: Vec<_> = commands
        .into_iter()
        .enumerate()
        .map(|(at, command)| {
            let scope = [u8::try_from(at % 251).expect("below 251"); 32];
            let replay = Some(ReplayKey { scope, fingerprint: [u8::from(at % 2 == 0); 32] });
            let replay = replay.filter(|_| keyed < at + 100);
            (leader(), Proposal { level: LEVEL, time: LogTime::from_ms(5), replay, command })
        })
        .collect();
    let old = Proposal { level: LEVEL, time: LogTime::from_ms(60_005), replay: None, command: Command::Tick };
    log.extend((0..12).map(|_| (leader(), old.clone())));
    assert_eq!(equals_model(Replica::new(), 0, &log), Ok(()));

    let mut replica = Replica::new();
    for (leader, proposal) in &log {
        let _ = replica.apply(*leader, proposal).unwrap();
    }
    let counters = &replica.machine.meta().counters;
    assert_eq!((counters.tombstones, counters.idle_locks, counters.replay_records), (0, 0, 0));
}
