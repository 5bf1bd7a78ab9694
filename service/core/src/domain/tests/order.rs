//! What the order of entries alone decides: not batch borders, not restarts, not what a machine had cached.

use proptest::prelude::*;

use super::{
    QUEUE, acquire, create, create_delayed, default_ns, end, expire, leader, lock_ref, put_guarded, put_if,
    queue, queue_own, release, rev, scope, token, try_lock, try_own, wait_ref,
};
use crate::LogTime;
use crate::domain::invariants::check;
use crate::domain::{
    Applied, ClaimOwner, Command, Compact, DeleteConfig, LEVEL, Level, Machine, MemoryTables, Precondition,
    Proposal, Settings, Tables, View, WaitRef,
};

/// A proposal and whether a batch ends with it, and whether the machine is loaded anew then.
#[derive(Debug, Clone)]
struct Step {
    proposal: Proposal,
    ends: bool,
    reloads: bool,
}

/// Settings so small that every bound is met.
fn tight() -> Settings {
    Settings {
        sessions_max: 6,
        queue_max: 3,
        tombstone_ms: 400,
        tombstone_ms_min: 100,
        tombstones_max: 6,
        session_tombstones_max: 2,
        replay_ms: 300,
        replay_records_max: 3,
        replay_bytes_max: 60,
        history_versions: 2,
        history_ms: 200,
        history_bytes_max: 40,
        events_max: 6,
        events_ms: 300,
    }
}

fn commands() -> impl Strategy<Value = Command> {
    let session = prop::sample::select(vec!["a", "b", "c", "c-9"]);
    let lock = prop::sample::select(vec!["l", "m"]);
    let claim = prop::sample::select(vec!["v", "w", "x", "y", "z"]);
    let key = prop::sample::select(vec!["k", "k/1"]);
    let number = 1_u64..60;
    let place = (lock.clone(), claim.clone());
    prop_oneof![
        3 => session.clone().prop_map(create),
        1 => session.clone().prop_map(|session| create_delayed(session, 50)),
        2 => session.clone().prop_map(end),
        4 => (place.clone(), session.clone()).prop_map(|((l, c), s)| try_lock(l, c, s)),
        6 => (place.clone(), session.clone()).prop_map(|((l, c), s)| queue(l, c, s)),
        2 => place.clone().prop_map(|(l, c)| try_own(l, c)),
        3 => place.clone().prop_map(|(l, c)| queue_own(l, c)),
        1 => (place.clone(), number.clone()).prop_map(|((l, c), n)| {
            acquire(l, c, ClaimOwner::OwnSession { ttl_ms: n }, QUEUE)
        }),
        4 => place.clone().prop_map(|(l, c)| release(l, c)),
        2 => (place.clone(), number.clone())
            .prop_map(|((l, c), n)| Command::CancelWait(wait_ref(l, c, n))),
        2 => (lock.clone(), number.clone()).prop_map(|(l, n)| Command::ForceRelease {
            lock: lock_ref(l),
            token: token(n),
            reason: String::new(),
        }),
        3 => (prop::collection::vec((session.clone(), number.clone()), 0..3), place, number.clone())
            .prop_map(|(sessions, (l, c), n)| expire(&sessions, &[wait_ref(l, c, n)])),
        2 => key.clone().prop_map(|key| put_if(key, "value", Precondition::None)),
        1 => (key.clone(), number.clone())
            .prop_map(|(key, n)| put_if(key, "value", Precondition::ModRevision(rev(n)))),
        1 => (key.clone(), lock, number).prop_map(|(key, l, n)| put_guarded(key, "value", l, n)),
        1 => key.prop_map(|key| Command::DeleteConfig(DeleteConfig {
            namespace: default_ns(),
            key: super::config_key(key),
            precondition: Precondition::None,
            guard: None,
        })),
        1 => (0_u64..4, 0_u64..60, 0_u64..3_000).prop_map(|(rows, history_bytes, before)| {
            let superseded_before = LogTime::from_ms(before);
            Command::Compact(Compact { superseded_before, history_bytes, rows })
        }),
        1 => Just(Command::Tick),
    ]
}

/// A command, or one that is made of what the state holds when its turn comes: random names and revisions seldom meet.
#[derive(Debug, Clone)]
enum Plan {
    Given(Command),
    /// The expiry of a live session and of a wait.
    ExpireLive(usize, usize),
    /// The forced release of a lock's holder.
    ForceHolder(&'static str),
    /// The end of a wait.
    CancelQueued(usize),
}

impl Plan {
    fn command(&self, tables: &MemoryTables) -> Command {
        let view = View::new(tables);
        let waits = view.queued_waits().unwrap();
        match self {
            Self::Given(command) => command.clone(),
            Self::ExpireLive(session, wait) => {
                let sessions = view.live_sessions().unwrap();
                let sessions: Vec<(&str, u64)> = sessions
                    .iter()
                    .skip(*session)
                    .map(|live| (live.id.as_str(), live.create_revision.as_u64()))
                    .take(2)
                    .collect();
                let waits: Vec<WaitRef> =
                    waits.into_iter().skip(*wait).map(|queued| queued.wait).take(1).collect();
                expire(&sessions, &waits)
            }
            Self::ForceHolder(lock) => {
                let token = view.lock(&lock_ref(lock), 0).unwrap().last_token;
                Command::ForceRelease { lock: lock_ref(lock), token, reason: String::new() }
            }
            Self::CancelQueued(wait) => match waits.into_iter().nth(*wait) {
                Some(queued) => Command::CancelWait(queued.wait),
                None => Command::Tick,
            },
        }
    }
}

fn plans() -> impl Strategy<Value = Plan> {
    prop_oneof![
        12 => commands().prop_map(Plan::Given),
        2 => (0_usize..4, 0_usize..4).prop_map(|(session, wait)| Plan::ExpireLive(session, wait)),
        1 => prop::sample::select(vec!["l", "m"]).prop_map(Plan::ForceHolder),
        1 => (0_usize..4).prop_map(Plan::CancelQueued),
    ]
}

/// A history whose commands were chosen while it was applied, entry by entry.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (plans(), 0_u64..30, prop::option::weighted(0.3, 0_u8..4), any::<bool>(), any::<bool>());
    prop::collection::vec(step, 1..120).prop_map(|steps| {
        let mut tables = MemoryTables::default();
        let mut machine = Machine::load(&tables).unwrap();
        let mut now_ms = 0;
        let found = Command::Found { cluster_id: "cluster".to_owned(), history_id: 7, settings: tight() };
        let first = (Plan::Given(found), 0, None, false, false);
        let mut chosen = Vec::new();
        for (plan, passed_ms, replay, ends, reloads) in std::iter::once(first).chain(steps) {
            now_ms += passed_ms;
            let (time, replay) = (LogTime::from_ms(now_ms), replay.map(scope));
            let proposal = Proposal { level: LEVEL, time, replay, command: plan.command(&tables) };
            let mut batch = machine.batch(&tables);
            // The reference applies it again; here only the state counts.
            let _ = batch.apply(leader(), &proposal).unwrap();
            let changes = batch.finish();
            tables.write(changes);
            chosen.push(Step { proposal, ends, reloads });
        }
        chosen
    })
}

fn apply_in_batches(steps: &[Step]) -> (MemoryTables, Vec<Applied>) {
    let mut tables = MemoryTables::default();
    let mut machine = Machine::load(&tables).unwrap();
    let mut applied = Vec::new();
    for part in steps.split_inclusive(|step| step.ends) {
        let mut batch = machine.batch(&tables);
        for step in part {
            applied.push(batch.apply(leader(), &step.proposal).unwrap());
        }
        let changes = batch.finish();
        tables.write(changes);
        assert_eq!(check(&tables), []);
        if part.last().is_some_and(|step| step.reloads) {
            machine = Machine::load(&tables).unwrap();
        }
    }
    (tables, applied)
}

proptest! {
    #![proptest_config(super::property(256))]

    #[test]
    fn neither_outcomes_nor_state_depend_on_batch_borders(steps in steps()) {
        let alone = steps.iter().cloned().map(|step| Step { ends: true, reloads: true, ..step });
        let at_once = steps.iter().cloned().map(|step| Step { ends: false, ..step });
        let reference = apply_in_batches(&alone.collect::<Vec<_>>());
        prop_assert_eq!(&apply_in_batches(&steps), &reference);
        prop_assert_eq!(&apply_in_batches(&at_once.collect::<Vec<_>>()), &reference);
    }

    #[test]
    fn tokens_and_revisions_only_grow(steps in steps()) {
        let (_, applied) = apply_in_batches(&steps);
        let mut revision = rev(0);
        let mut newest = 0;
        for applied in applied {
            prop_assert!(revision <= applied.revision);
            revision = applied.revision;
            for (_, token) in super::grants(&applied) {
                prop_assert!(newest < token && token <= revision.as_u64());
                newest = token;
            }
        }
    }
}

#[test]
fn a_clock_that_goes_back_in_the_log_stands_still() {
    let mut store = super::Store::founded();
    store.at(500).pass();
    store.at(100).pass();
    assert_eq!(store.machine.meta().time, LogTime::from_ms(500));
}

#[test]
fn an_entry_of_a_higher_level_stops_the_node_before_it_is_applied() {
    let mut store = super::Store::founded();
    let level = Level(LEVEL.0 + 1);
    let proposal = Proposal { level, ..store.proposal(Command::Tick, None) };
    let fault = store.machine.batch(&store.tables).apply(leader(), &proposal).unwrap_err();
    assert_eq!(fault, crate::domain::Fault::LevelTooHigh { needed: level.0, known: LEVEL.0 });
}

#[test]
fn a_batch_that_is_dropped_never_was() {
    let mut store = super::Store::founded();
    let proposal = store.proposal(create("a"), None);
    assert!(store.machine.batch(&store.tables).apply(leader(), &proposal).unwrap().outcome.is_ok());
    assert_eq!(store.apply(create("b")).revision, rev(2));
}

#[test]
fn a_batch_without_effects_writes_nothing() {
    let mut store = super::Store::founded();
    let proposal = store.proposal(release("lock", "x"), None);
    store.apply_proposal(&proposal).outcome.unwrap();
    let mut batch = store.machine.batch(&store.tables);
    assert!(batch.apply(leader(), &proposal).unwrap().outcome.is_ok());
    assert!(batch.finish().is_empty());
}

#[test]
fn a_config_write_reads_and_writes_few_rows() {
    let mut store = super::Store::founded();
    store.outcome(create("a")).unwrap();
    store.outcome(end("a")).unwrap();
    store.outcome(try_own("l", "x")).unwrap();
    store.outcome(release("l", "x")).unwrap();
    store.outcome(super::put("k", "one")).unwrap();
    let counted = Counted { tables: &store.tables, gets: 0.into(), scans: 0.into() };
    let proposal = store.proposal(super::put("k", "two"), None);
    let mut batch = store.machine.batch(&counted);
    assert!(batch.apply(leader(), &proposal).unwrap().outcome.is_ok());
    // Where the store stands, the key's head, the version, the change for those who watch, and what it superseded.
    assert_eq!(batch.finish().len(), 5);
    assert_eq!((counted.gets.get(), counted.scans.get()), (2, 0));
}

/// Counts what is read.
struct Counted<'a> {
    tables: &'a MemoryTables,
    gets: std::cell::Cell<u32>,
    scans: std::cell::Cell<u32>,
}

impl Tables for Counted<'_> {
    fn get(&self, table: crate::domain::Table, key: &[u8]) -> Result<Option<Vec<u8>>, crate::domain::Fault> {
        self.gets.set(self.gets.get() + 1);
        self.tables.get(table, key)
    }

    fn range(
        &self,
        table: crate::domain::Table,
        from: std::ops::Bound<&[u8]>,
        to: std::ops::Bound<&[u8]>,
        limit: usize,
    ) -> Result<Vec<crate::domain::Row>, crate::domain::Fault> {
        self.scans.set(self.scans.get() + 1);
        self.tables.range(table, from, to, limit)
    }

    fn range_back(
        &self,
        table: crate::domain::Table,
        from: std::ops::Bound<&[u8]>,
        to: std::ops::Bound<&[u8]>,
        limit: usize,
    ) -> Result<Vec<crate::domain::Row>, crate::domain::Fault> {
        self.scans.set(self.scans.get() + 1);
        self.tables.range_back(table, from, to, limit)
    }
}
