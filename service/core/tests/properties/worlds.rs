//! Locks of every kind in worlds so small that everything can be tried: every state of three sessions and two locks within
//! eight steps, and random ones of up to six sessions. A world knows only who came when and wants what; it finds out by
//! trying whether a wait can end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use holdfast_core::domain::{
    Acquire, AcquireSet, ClaimOwner, ClaimRef, Command, IfHeld, LEVEL, LockMode, LockRef, MemoryTables,
    Outcome, Proposal, Rejection, SessionSpec, Settings, Success, View, invariants,
};
use holdfast_core::testing::Random;
use holdfast_core::{ClaimId, LeaderId, LockName, LogTime, NamespaceName, NodeId, SessionId, Term};

use crate::replica::Replica;

/// How a small world's claims take a lock.
const MODES: [LockMode; 4] = [
    LockMode::Exclusive,
    LockMode::Shared,
    LockMode::Permits { permits: 1, of: 2 },
    LockMode::Permits { permits: 2, of: 2 },
];

/// A claim of a lock, or of several.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Want {
    session: usize,
    parts: BTreeMap<usize, LockMode>,
    held: bool,
    id: u64,
}

/// What a world is whatever its sessions, locks and claims are called: for each claim its session, its locks, and whether it
/// holds them.
type Shape = Vec<(usize, Vec<(usize, LockMode)>, bool)>;

/// All claims in the order in which they came.
#[derive(Debug, Clone, Default)]
struct World(Vec<Want>);

/// Whether a claim may hold a lock beside another.
fn may_share(one: LockMode, other: LockMode) -> bool {
    match (one, other) {
        (LockMode::Shared, LockMode::Shared) => true,
        (LockMode::Permits { permits: one, of }, LockMode::Permits { permits: other, .. }) => {
            one + other <= of
        }
        (_, _) => false,
    }
}

impl World {
    fn fits(&self, at: usize) -> bool {
        self.0[at].parts.iter().all(|(lock, mode)| {
            let others = self.0.iter().enumerate().filter(|(other, _)| *other != at);
            let of_lock = others.filter_map(|(other, want)| Some((other, want, *want.parts.get(lock)?)));
            let (mut together, mut first) = (Vec::new(), true);
            for (other, want, held) in of_lock {
                if want.held {
                    together.push(held);
                } else if other < at {
                    first = false;
                }
            }
            let permits = |mode: &LockMode| match mode {
                LockMode::Permits { permits, .. } => *permits,
                LockMode::Exclusive | LockMode::Shared => 0,
            };
            let enough = match mode {
                LockMode::Permits { of, .. } => {
                    together.iter().chain([mode]).map(permits).sum::<u32>() <= *of
                }
                LockMode::Exclusive | LockMode::Shared => true,
            };
            first && enough && together.iter().all(|held| may_share(*held, *mode))
        })
    }

    fn settle(&mut self) {
        while let Some(next) = (0..self.0.len()).find(|at| !self.0[*at].held && self.fits(*at)) {
            self.0[next].held = true;
        }
    }

    fn without(&self, id: u64) -> Self {
        let mut rest = Self(self.0.iter().filter(|want| want.id != id).cloned().collect());
        rest.settle();
        rest
    }

    fn waits(&self, session: usize) -> bool {
        self.0.iter().any(|want| want.session == session && !want.held)
    }

    /// Whether a claim is granted in any course of events in which sessions that wait do nothing, and the others let go
    /// of one thing after another.
    fn can_end(&self, id: u64) -> bool {
        let (mut seen, mut next) = (BTreeSet::new(), vec![self.clone()]);
        while let Some(world) = next.pop() {
            let Some(wanted) = world.0.iter().find(|want| want.id == id) else { continue };
            if wanted.held {
                return true;
            }
            if !seen.insert(world.0.clone()) {
                continue;
            }
            let free = world.0.iter().filter(|want| !world.waits(want.session));
            next.extend(free.map(|want| world.without(want.id)));
        }
        false
    }

    /// Whether a lock has claims of the other kind.
    fn conflicts(&self, lock: usize, mode: LockMode) -> bool {
        self.0.iter().any(|want| want.parts.get(&lock).is_some_and(|used| used.kind() != mode.kind()))
    }

    /// Adds a claim. Says what the answer must be.
    fn add(&mut self, want: Want) -> Answer {
        if want.parts.iter().any(|(lock, mode)| self.conflicts(*lock, *mode)) {
            return Answer::OtherKind;
        }
        let before = self.clone();
        let id = want.id;
        self.0.push(want);
        self.settle();
        if self.0.iter().any(|want| want.id == id && want.held) {
            Answer::Held
        } else if self.can_end(id) {
            Answer::Queued
        } else {
            *self = before;
            Answer::Deadlock
        }
    }

    /// Who holds and who waits for a lock, by the ids of their claims.
    fn lock(&self, lock: usize) -> (BTreeSet<u64>, Vec<u64>) {
        let of_lock = || self.0.iter().filter(|want| want.parts.contains_key(&lock));
        let held = of_lock().filter(|want| want.held).map(|want| want.id).collect();
        (held, of_lock().filter(|want| !want.held).map(|want| want.id).collect())
    }

    /// The same for worlds that differ in nothing but the names of sessions, locks and claims.
    fn shape(&self, sessions: usize) -> Shape {
        let orders = permutations(sessions);
        let swaps = [[0, 1], [1, 0]];
        let named = orders.iter().flat_map(|order| {
            swaps.iter().map(|swap| {
                let one = |want: &Want| {
                    let parts = want.parts.iter().map(|(lock, mode)| (swap[*lock], *mode));
                    let mut parts: Vec<_> = parts.collect();
                    parts.sort_unstable();
                    (order[want.session], parts, want.held)
                };
                // In which order holders came does not matter any more.
                let mut held: Vec<_> = self.0.iter().filter(|want| want.held).map(one).collect();
                held.sort_unstable();
                held.extend(self.0.iter().filter(|want| !want.held).map(one));
                held
            })
        });
        named.min().unwrap_or_default()
    }
}

fn permutations(of: usize) -> Vec<Vec<usize>> {
    match of.checked_sub(1) {
        None => vec![Vec::new()],
        Some(last) => {
            let shorter = permutations(last);
            let longer = |order: &Vec<usize>| {
                let order = order.clone();
                (0..=last).map(move |at| {
                    let mut order = order.clone();
                    order.insert(at, last);
                    order
                })
            };
            shorter.iter().flat_map(longer).collect()
        }
    }
}

/// What a request must answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    Held,
    Queued,
    OtherKind,
    Deadlock,
}

fn answer(outcome: &Outcome) -> Answer {
    match outcome {
        Ok(Success::Held { granted: true, .. } | Success::SetHeld { granted: true, .. }) => Answer::Held,
        Ok(Success::Queued { queued: true, .. } | Success::SetQueued { queued: true, .. }) => Answer::Queued,
        Err(Rejection::LockModeConflict { .. }) => Answer::OtherKind,
        Err(Rejection::WouldDeadlock { .. }) => Answer::Deadlock,
        other => panic!("not an answer of a small world: {other:?}"),
    }
}

/// A real machine and what it must have done.
#[derive(Clone)]
struct Pair {
    tables: MemoryTables,
    world: World,
    steps: usize,
}

impl Pair {
    fn founded(sessions: usize) -> Self {
        // Nothing that is over is kept, so that equal worlds are equal states.
        let settings = Settings {
            tombstone_ms: 0,
            tombstone_ms_min: 0,
            tombstones_max: 1,
            session_tombstones_max: 0,
            events_max: 0,
            ..Settings::default()
        };
        let mut pair = Self { tables: MemoryTables::default(), world: World::default(), steps: 0 };
        let found = Command::Found { cluster_id: "worlds".to_owned(), history_id: 1, settings };
        pair.apply(found).expect("a store is founded once");
        for session in 0..sessions {
            let (name, labels) = (String::new(), BTreeMap::new());
            let spec = SessionSpec { ttl_ms: 5_000, name, labels, lock_delay_ms: 0 };
            let created = pair.apply(Command::CreateSession { id: session_id(session), spec });
            created.expect("there is room for the sessions");
        }
        pair
    }

    fn apply(&mut self, command: Command) -> Outcome {
        let mut replica = Replica::restored(std::mem::take(&mut self.tables));
        let leader = LeaderId { term: Term(1), node: NodeId::new(1).expect("1 is a node id") };
        let proposal = Proposal { level: LEVEL, time: LogTime::from_ms(1), replay: None, command };
        let applied = replica.apply(leader, &proposal).expect("sound tables");
        self.tables = replica.tables;
        applied.outcome
    }

    /// Asks for locks. Returns whether anything changed.
    fn ask(&mut self, session: usize, parts: &BTreeMap<usize, LockMode>, as_set: bool) -> Answer {
        let id = self.steps as u64;
        let want = Want { session, parts: parts.clone(), held: false, id };
        let expected = self.world.add(want);
        let if_held = IfHeld::Queue { wait_ms: 1_000, keep_waiting: true };
        let outcome = self.apply(request(session, parts, as_set, if_held, id));
        assert_eq!(answer(&outcome), expected, "{session} asks for {parts:?} in {:#?}", self.world);
        if let Err(Rejection::WouldDeadlock { stuck }) = &outcome {
            assert_eq!(stuck[0].session, session_id(session));
        }
        expected
    }

    fn release(&mut self, id: u64) {
        let want = self.world.0.iter().find(|want| want.id == id).expect("only what is there is released");
        let claim = match want.parts.keys().next() {
            Some(lock) => ClaimRef { lock: lock_ref(*lock), claim: claim_id(id) },
            None => panic!("a claim of nothing"),
        };
        self.world = self.world.without(id);
        // Releasing a part of a set ends the set.
        assert_eq!(self.apply(Command::Release { claim }), Ok(Success::Released));
    }

    fn check(&self, locks: usize) {
        let view = View::new(&self.tables);
        for lock in 0..locks {
            let real = view.lock(&lock_ref(lock), 100).expect("sound tables");
            let number = |text: &str| text.trim_start_matches('n').parse::<u64>().expect("a claim's number");
            let held = real.holders.iter().map(|holder| number(&holder.claim)).collect();
            let queue = real.queue.iter().map(|waiter| number(waiter.claim.as_str())).collect();
            assert_eq!((held, queue), self.world.lock(lock), "lock {lock} of {:#?}", self.world);
        }
        assert_eq!(invariants::check(&self.tables), []);
    }
}

fn session_id(session: usize) -> SessionId {
    SessionId::new(format!("s{session}")).expect("a valid id")
}

fn claim_id(id: u64) -> ClaimId {
    ClaimId::new(format!("n{id}")).expect("a valid id")
}

fn lock_ref(lock: usize) -> LockRef {
    LockRef { namespace: NamespaceName::default_namespace(), lock: lock_name(lock) }
}

fn lock_name(lock: usize) -> LockName {
    LockName::new(format!("l{lock}")).expect("a valid name")
}

fn request(
    session: usize,
    parts: &BTreeMap<usize, LockMode>,
    as_set: bool,
    if_held: IfHeld,
    id: u64,
) -> Command {
    let (claim, session, label) = (claim_id(id), session_id(session), String::new());
    match parts.iter().next() {
        Some((lock, mode)) if !as_set => Command::Acquire(Acquire {
            claim: ClaimRef { lock: lock_ref(*lock), claim },
            owner: ClaimOwner::Session(session),
            mode: *mode,
            if_held,
            label,
        }),
        Some(_) | None => Command::AcquireSet(AcquireSet {
            namespace: NamespaceName::default_namespace(),
            claim,
            session,
            locks: parts.iter().map(|(lock, mode)| (lock_name(*lock), *mode)).collect(),
            if_held,
            label,
        }),
    }
}

const SESSIONS: usize = 3;
const DEPTH: usize = 8;

/// Everything that a session can ask for in a small world: one lock, or both as a set, if it has none of them yet.
fn asks(world: &World) -> Vec<(usize, BTreeMap<usize, LockMode>)> {
    let mut asks = Vec::new();
    for session in 0..SESSIONS {
        let has = |lock: usize| {
            world.0.iter().any(|want| want.session == session && want.parts.contains_key(&lock))
        };
        for lock in (0..2).filter(|lock| !has(*lock)) {
            asks.extend(MODES.map(|mode| (session, BTreeMap::from([(lock, mode)]))));
        }
        if !has(0) && !has(1) {
            let pairs = MODES.iter().flat_map(|one| MODES.map(|other| [(0, *one), (1, other)]));
            asks.extend(pairs.map(|pair| (session, BTreeMap::from(pair))));
        }
    }
    asks
}

/// Every state that three sessions can bring two locks into within eight steps, in all modes, alone and in sets: who holds
/// and who waits is as the world has it, and exactly those waits are refused that could never end.
#[test]
fn every_small_world_goes_as_it_should() {
    let first = Pair::founded(SESSIONS);
    let mut seen = BTreeSet::from([first.world.shape(SESSIONS)]);
    let mut next = VecDeque::from([(0, first)]);
    let mut answers: BTreeMap<Answer, u64> = BTreeMap::new();
    while let Some((depth, pair)) = next.pop_front() {
        if depth == DEPTH {
            continue;
        }
        let mut visit = |pair: Pair| {
            if seen.insert(pair.world.shape(SESSIONS)) {
                pair.check(2);
                next.push_back((depth + 1, pair));
            }
        };
        for (session, parts) in asks(&pair.world) {
            let mut after = pair.clone();
            after.steps += 1;
            let answer = after.ask(session, &parts, 1 < parts.len());
            *answers.entry(answer).or_default() += 1;
            visit(after);
        }
        for id in pair.world.0.iter().map(|want| want.id) {
            let mut after = pair.clone();
            after.steps += 1;
            after.release(id);
            visit(after);
        }
    }
    assert!(6_000 < seen.len() && answers.len() == 4, "{} worlds, {answers:?}", seen.len());
}

/// Random worlds of up to six sessions and four locks, with several claims of one session at one lock: the same.
#[test]
fn random_worlds_go_as_they_should() {
    let mut answers: BTreeMap<Answer, u64> = BTreeMap::new();
    for seed in 0..crate::cases::cases() {
        let mut random = Random::new(seed);
        let (sessions, locks) = (2 + random.index(5), 1 + random.index(4));
        let mut pair = Pair::founded(sessions);
        for _ in 0..60 {
            pair.steps += 1;
            let ids: Vec<_> = pair.world.0.iter().map(|want| want.id).collect();
            if let Some(id) = random.pick(&ids).copied().filter(|_| random.percent(35)) {
                pair.release(id);
            } else {
                let as_set = random.percent(25);
                let many = if as_set { 1 + random.index(3) } else { 1 };
                // One kind for each lock most of the time, so that claims meet.
                let mut mode = |lock: usize| {
                    let permits = if random.percent(90) { lock % 3 == 2 } else { lock % 3 != 2 };
                    MODES[random.index(2) + if permits { 2 } else { 0 }]
                };
                let parts = (0..many).map(|at| ((at * 7 + pair.steps) % locks, at));
                let parts = parts.map(|(lock, _)| (lock, mode(lock))).collect();
                let session = random.index(sessions);
                *answers.entry(pair.ask(session, &parts, as_set)).or_default() += 1;
            }
            pair.check(locks);
        }
    }
    assert!(answers.len() == 4 && answers.values().all(|count| 100 < *count), "{answers:?}");
}
