//! When deadlines are due, renewed, stalled and settled.

use proptest::prelude::*;
use std::collections::BTreeMap;

use super::{Deadlines, Renewal};
use crate::domain::tests::property;
use crate::domain::{
    Acquire, Applied, Change, ClaimOwner, ClaimRef, Command, EndReason, Event, Expire, IfHeld, LEVEL,
    LockMode, LockRef, Machine, MemoryTables, Proposal, SessionRef, SessionSpec, Settings, View, WaitRef,
};
use crate::limits::{EXPIRE_OWNED_MAX, EXPIRE_SESSIONS_MAX, EXPIRE_WAITS_MAX};
use crate::{
    ClaimId, FencingToken, LeaderId, LockName, LogTime, NamespaceName, NodeId, Revision, SessionId, Term,
};

const TTL: u64 = 1_000;
const WAIT: u64 = 300;

fn leader() -> LeaderId {
    LeaderId { term: Term(1), node: NodeId::new(1).unwrap() }
}

fn id(session: &str) -> SessionId {
    SessionId::new(session).unwrap()
}

fn claim(claim: &str) -> ClaimRef {
    let lock = LockName::new("lock").unwrap();
    let lock = LockRef { namespace: NamespaceName::default_namespace(), lock };
    ClaimRef { lock, claim: ClaimId::new(claim).unwrap() }
}

fn event(revision: u64, change: Change) -> Event {
    Event { revision: Revision::new(revision), change }
}

fn created(session: &str, revision: u64) -> Event {
    event(revision, Change::SessionCreated { id: id(session), ttl_ms: TTL, made_by: None })
}

fn queued(name: &str, session: &str, revision: u64, keep_waiting: bool) -> Event {
    let (claim, session) = (claim(name), id(session));
    event(
        revision,
        Change::ClaimQueued { claim, session, mode: LockMode::Exclusive, wait_ms: WAIT, keep_waiting },
    )
}

fn granted(name: &str, session: &str, revision: u64) -> Event {
    let token = FencingToken::of_grant(Revision::new(revision));
    event(
        revision,
        Change::ClaimGranted { claim: claim(name), session: id(session), mode: LockMode::Exclusive, token },
    )
}

fn named(session: &str, revision: u64) -> SessionRef {
    SessionRef { id: id(session), create_revision: Revision::new(revision) }
}

fn after(events: &[Event], now_ms: u64) -> Deadlines {
    let mut deadlines = Deadlines::default();
    for event in events {
        deadlines.on_event(event, now_ms);
    }
    deadlines
}

fn due_sessions(deadlines: &mut Deadlines, now_ms: u64) -> Vec<SessionRef> {
    deadlines.due(leader(), now_ms).map(|expire| expire.sessions).unwrap_or_default()
}

#[test]
fn a_session_is_due_its_time_to_live_after_it_began() {
    let mut deadlines = after(&[created("a", 2)], 100);
    assert_eq!(deadlines.next_due(), Some(100 + TTL));
    assert_eq!(deadlines.remaining_ms(&id("a"), 600), Some(500));
    assert_eq!(deadlines.due(leader(), 99 + TTL), None);
    let expire = Expire { leader: leader(), sessions: vec![named("a", 2)], waits: vec![] };
    assert_eq!(deadlines.due(leader(), 100 + TTL), Some(expire));
}

#[test]
fn a_keepalive_renews_from_its_receipt_and_never_moves_a_deadline_back() {
    let mut deadlines = after(&[created("a", 2)], 0);
    assert_eq!(deadlines.renew(&id("a"), 700), Renewal::Renewed { ttl_ms: TTL });
    assert_eq!(deadlines.next_due(), Some(700 + TTL));
    assert_eq!(deadlines.renew(&id("a"), 300), Renewal::Renewed { ttl_ms: TTL });
    assert_eq!(deadlines.next_due(), Some(700 + TTL));
    assert_eq!(deadlines.renew(&id("b"), 300), Renewal::Unknown);
}

#[test]
fn a_keepalive_waits_for_the_outcome_of_an_expiry_that_names_its_session() {
    let mut deadlines = after(&[created("a", 2)], 0);
    let expire = deadlines.due(leader(), TTL).unwrap();
    assert!(deadlines.is_expiring(&id("a")));
    assert_eq!((deadlines.next_due(), deadlines.due(leader(), 10 * TTL)), (None, None));
    assert_eq!(deadlines.renew(&id("a"), TTL), Renewal::Expiring);
    deadlines.settled(&expire);
    assert!(!deadlines.is_expiring(&id("a")));
    assert_eq!(deadlines.renew(&id("a"), TTL), Renewal::Renewed { ttl_ms: TTL });
    assert_eq!(deadlines.next_due(), Some(2 * TTL));
}

#[test]
fn what_an_expiry_named_and_did_not_end_is_due_again() {
    let mut deadlines = after(&[created("a", 2), created("b", 3)], 0);
    let expire = deadlines.due(leader(), TTL).unwrap();
    let reason = EndReason::Expired;
    deadlines.on_event(&event(4, Change::SessionEnded { id: id("a"), reason }), TTL);
    deadlines.settled(&expire);
    assert_eq!(deadlines.sessions(), 1);
    assert_eq!(due_sessions(&mut deadlines, TTL), [named("b", 3)]);
}

#[test]
fn an_outcome_of_an_earlier_session_does_not_touch_a_later_one_of_its_id() {
    let mut deadlines = after(&[created("a", 2)], 0);
    let earlier = deadlines.due(leader(), TTL).unwrap();
    deadlines.on_event(&created("a", 9), TTL);
    let later = deadlines.due(leader(), 2 * TTL).unwrap();
    assert_eq!(later.sessions, [named("a", 9)]);
    deadlines.settled(&earlier);
    assert!(deadlines.is_expiring(&id("a")));
}

#[test]
fn a_stall_gives_everything_that_much_more_time() {
    let events = [created("a", 2), created("b", 3), queued("x", "a", 4, false)];
    let mut deadlines = after(&events, 0);
    let expire = deadlines.due(leader(), WAIT).unwrap();
    deadlines.stall(250);
    deadlines.settled(&expire);
    assert_eq!(deadlines.next_due(), Some(WAIT + 250));
    assert_eq!(deadlines.remaining_ms(&id("a"), 250), Some(TTL));
    assert!(deadlines.due(leader(), WAIT + 250).is_some());
    assert_eq!(due_sessions(&mut deadlines, TTL + 249), []);
    assert_eq!(due_sessions(&mut deadlines, TTL + 250).len(), 2);
}

#[test]
fn a_wait_is_due_when_no_request_has_waited_for_its_time() {
    let mut deadlines = after(&[created("a", 2), queued("x", "a", 3, false)], 0);
    assert_eq!(deadlines.next_due(), Some(WAIT));
    assert!(deadlines.wait_open(&claim("x")));
    assert!(deadlines.wait_open(&claim("x")));
    assert_eq!(deadlines.next_due(), Some(TTL));
    deadlines.wait_closed(&claim("x"), 100);
    assert_eq!(deadlines.next_due(), Some(TTL));
    deadlines.wait_closed(&claim("x"), 200);
    assert_eq!(deadlines.next_due(), Some(200 + WAIT));
    deadlines.wait_closed(&claim("x"), 400);
    assert_eq!(deadlines.next_due(), Some(200 + WAIT));
    let wait = WaitRef { claim: claim("x"), enqueued: Revision::new(3) };
    let expire = Expire { leader: leader(), sessions: vec![], waits: vec![wait] };
    assert_eq!(deadlines.due(leader(), 200 + WAIT), Some(expire.clone()));
    deadlines.settled(&expire);
    assert_eq!(deadlines.due(leader(), 200 + WAIT), Some(expire));
}

#[test]
fn a_claim_that_keeps_waiting_is_never_due() {
    let mut deadlines = after(&[created("a", 2), queued("x", "a", 3, true)], 0);
    assert!(deadlines.wait_open(&claim("x")));
    deadlines.wait_closed(&claim("x"), 0);
    assert_eq!(deadlines.due(leader(), TTL - 1), None);
}

#[test]
fn a_claim_that_was_granted_or_is_over_is_not_waited_for() {
    let reason = EndReason::LeftQueue;
    let over = Change::ClaimEnded { claim: claim("y"), session: Some(id("a")), reason, token: None };
    let events = [
        created("a", 2),
        queued("x", "a", 3, false),
        queued("y", "a", 4, false),
        granted("x", "a", 5),
        event(6, over),
    ];
    let mut deadlines = after(&events, 0);
    assert!(!deadlines.wait_open(&claim("x")));
    assert!(!deadlines.wait_open(&claim("y")));
    assert_eq!(deadlines.next_due(), Some(TTL));
}

#[test]
fn a_grant_renews_the_session_that_its_claim_made_and_no_other() {
    let made = Change::SessionCreated { id: id("c-3"), ttl_ms: TTL, made_by: Some(claim("x")) };
    let events = [created("a", 2), event(3, made), queued("x", "c-3", 3, false), queued("y", "a", 4, false)];
    let mut deadlines = after(&events, 0);
    deadlines.on_event(&granted("x", "c-3", 5), 400);
    deadlines.on_event(&granted("y", "a", 6), 400);
    assert_eq!(deadlines.remaining_ms(&id("c-3"), 400), Some(TTL));
    assert_eq!(deadlines.remaining_ms(&id("a"), 400), Some(TTL - 400));
}

#[test]
fn one_proposal_names_a_bounded_number_of_sessions_the_longest_due_first() {
    let mut deadlines = Deadlines::default();
    for number in 0..=EXPIRE_SESSIONS_MAX as u64 {
        deadlines.on_event(&created(&format!("s{number}"), number + 2), 1_000 - number);
    }
    let first = due_sessions(&mut deadlines, 10 * TTL);
    assert_eq!(first.len(), EXPIRE_SESSIONS_MAX);
    assert_eq!(first[0], named("s200", 202));
    assert_eq!(due_sessions(&mut deadlines, 10 * TTL), [named("s0", 2)]);
}

#[test]
fn one_proposal_names_sessions_of_a_bounded_number_of_claims_and_at_least_one() {
    let mut deadlines = after(&[created("a", 2), created("b", 3)], 0);
    for number in 0..=EXPIRE_OWNED_MAX {
        deadlines.on_event(&granted(&format!("x{number}"), "a", number + 4), 0);
    }
    deadlines.on_event(&granted("y", "b", 20_000), 0);
    assert_eq!(due_sessions(&mut deadlines, TTL), [named("a", 2)]);
    assert_eq!(due_sessions(&mut deadlines, TTL), [named("b", 3)]);
}

#[test]
fn one_proposal_names_a_bounded_number_of_waits() {
    let mut deadlines = after(&[created("a", 2)], 0);
    for number in 0..=EXPIRE_WAITS_MAX as u64 {
        deadlines.on_event(&queued(&format!("x{number}"), "a", number + 3, false), 0);
    }
    let waits = |expire: Option<Expire>| expire.map_or(0, |expire| expire.waits.len());
    assert_eq!(waits(deadlines.due(leader(), WAIT)), EXPIRE_WAITS_MAX);
    assert_eq!(waits(deadlines.due(leader(), WAIT)), 1);
}

/// What happens to a leader's deadlines.
#[derive(Debug, Clone)]
enum Step {
    Create(usize),
    End(usize),
    Acquire(usize, usize),
    AcquireOwn(usize),
    Release(usize),
    /// A keepalive whose acknowledgement comes this long after its receipt.
    Renew(usize, u64),
    Stall(u64),
    Open(usize),
    Close(usize),
    Propose,
    /// The proposal under way is applied, or it certainly never will be.
    Outcome(bool),
    Rebuild,
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let step = prop_oneof![
        3 => (0_usize..3).prop_map(Step::Create),
        1 => (0_usize..3).prop_map(Step::End),
        4 => (0_usize..3, 0_usize..40).prop_map(|(session, claim)| Step::Acquire(session, claim)),
        2 => (0_usize..40).prop_map(Step::AcquireOwn),
        2 => (0_usize..40).prop_map(Step::Release),
        6 => (0_usize..6, 0_u64..200).prop_map(|(session, late)| Step::Renew(session, late)),
        1 => (0_u64..500).prop_map(Step::Stall),
        1 => (0_usize..40).prop_map(Step::Open),
        1 => (0_usize..40).prop_map(Step::Close),
        4 => Just(Step::Propose),
        4 => any::<bool>().prop_map(Step::Outcome),
        1 => Just(Step::Rebuild),
    ];
    prop::collection::vec((0_u64..400, step), 1..150)
}

/// A leader with its state and what it promised its clients.
struct Leader {
    tables: MemoryTables,
    machine: Machine,
    deadlines: Deadlines,
    now_ms: u64,
    /// For each session, when it may end at the earliest.
    promised: BTreeMap<SessionId, u64>,
    under_way: Option<Expire>,
    sessions: usize,
}

impl Leader {
    fn new() -> Self {
        let tables = MemoryTables::default();
        let machine = Machine::load(&tables).unwrap();
        let deadlines = Deadlines::default();
        let mut leader = Self {
            tables,
            machine,
            deadlines,
            now_ms: 0,
            promised: BTreeMap::new(),
            under_way: None,
            sessions: 0,
        };
        let cluster_id = "cluster".to_owned();
        let settings = Settings::default();
        leader.apply(Command::Found { cluster_id, history_id: 1, settings }).outcome.unwrap();
        leader
    }

    fn apply(&mut self, command: Command) -> Applied {
        let time = LogTime::from_ms(self.now_ms);
        let proposal = Proposal { level: LEVEL, time, replay: None, command };
        let mut batch = self.machine.batch(&self.tables);
        let applied = batch.apply(leader(), &proposal).unwrap();
        let changes = batch.finish();
        self.tables.write(changes);
        for event in &applied.events {
            self.deadlines.on_event(event, self.now_ms);
            match &event.change {
                Change::SessionCreated { id, ttl_ms, .. } => {
                    self.promised.insert(id.clone(), self.now_ms + ttl_ms);
                }
                Change::SessionEnded { id, .. } => drop(self.promised.remove(id)),
                Change::NamespaceCreated { .. }
                | Change::NamespaceDeleted { .. }
                | Change::ClaimQueued { .. }
                | Change::SetQueued { .. }
                | Change::SetGranted { .. }
                | Change::Proclaimed { .. }
                | Change::ClaimGranted { .. }
                | Change::ClaimEnded { .. }
                | Change::ConfigPut { .. }
                | Change::ConfigDeleted { .. }
                | Change::SessionOwns { .. } => {}
            }
        }
        applied
    }

    fn acquire(&mut self, claim_number: usize, owner: ClaimOwner) {
        let if_held = IfHeld::Queue { wait_ms: WAIT, keep_waiting: claim_number.is_multiple_of(3) };
        let (claim, mode) = (claim(&format!("x{claim_number}")), LockMode::Exclusive);
        // Whether it is let in or refused, the deadlines follow.
        let _ = self.apply(Command::Acquire(Acquire { claim, owner, mode, if_held, label: String::new() }));
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Create(slot) => {
                self.sessions += 1;
                let id = id(&format!("s{slot}-{}", self.sessions));
                let (name, labels) = (String::new(), BTreeMap::new());
                let spec = SessionSpec { ttl_ms: TTL, name, labels, lock_delay_ms: 0 };
                self.apply(Command::CreateSession { id, spec }).outcome.unwrap();
            }
            Step::End(number) => {
                if let Some(id) = self.live(*number) {
                    self.apply(Command::EndSession { id }).outcome.unwrap();
                }
            }
            Step::Acquire(session, claim) => {
                if let Some(id) = self.live(*session) {
                    self.acquire(*claim, ClaimOwner::Session(id));
                }
            }
            Step::AcquireOwn(claim) => self.acquire(*claim, ClaimOwner::OwnSession { ttl_ms: TTL }),
            Step::Release(number) => {
                self.apply(Command::Release { claim: claim(&format!("x{number}")) }).outcome.unwrap();
            }
            Step::Renew(number, late_ms) => {
                if let Some(id) = self.live(*number) {
                    let received_ms = self.now_ms.saturating_sub(*late_ms);
                    self.renew(&id, received_ms);
                }
            }
            Step::Stall(ms) => {
                self.now_ms += ms;
                self.deadlines.stall(*ms);
                self.promised.values_mut().for_each(|earliest| *earliest += ms);
            }
            Step::Open(number) => {
                let _ = self.deadlines.wait_open(&claim(&format!("x{number}")));
            }
            Step::Close(number) => {
                self.deadlines.wait_closed(&claim(&format!("x{number}")), self.now_ms);
            }
            Step::Propose => self.propose(),
            Step::Outcome(applied) => self.outcome(*applied),
            Step::Rebuild => {
                self.deadlines = Deadlines::rebuild(&View::new(&self.tables), self.now_ms).unwrap();
                self.under_way = None;
                let now_ms = self.now_ms;
                self.promised.values_mut().for_each(|earliest| *earliest = (*earliest).max(now_ms + TTL));
            }
        }
    }

    fn live(&self, number: usize) -> Option<SessionId> {
        self.promised.keys().nth(number).cloned()
    }

    fn renew(&mut self, id: &SessionId, received_ms: u64) {
        match self.deadlines.renew(id, received_ms) {
            Renewal::Renewed { ttl_ms } => {
                let earliest = self.promised.get_mut(id).unwrap();
                *earliest = (*earliest).max(received_ms + ttl_ms);
            }
            Renewal::Expiring => {
                let names = |expire: &Expire| expire.sessions.iter().any(|named| named.id == *id);
                assert!(self.under_way.as_ref().is_some_and(names), "{id} waits for nothing");
            }
            Renewal::Unknown => panic!("{id} lives"),
        }
    }

    fn propose(&mut self) {
        if self.under_way.is_some() {
            return;
        }
        self.under_way = self.deadlines.due(leader(), self.now_ms);
        let named = self.under_way.iter().flat_map(|expire| &expire.sessions);
        for SessionRef { id, .. } in named {
            assert!(self.promised[id] <= self.now_ms, "{id} is named before {}", self.promised[id]);
        }
    }

    fn outcome(&mut self, applied: bool) {
        let Some(expire) = self.under_way.take() else { return };
        if applied {
            self.apply(Command::Expire(expire.clone())).outcome.unwrap();
            for SessionRef { id, .. } in &expire.sessions {
                assert!(!self.promised.contains_key(id), "{id} is named and lives");
            }
        }
        self.deadlines.settled(&expire);
    }

    fn check(&self) {
        let view = View::new(&self.tables);
        let live = view.live_sessions().unwrap();
        assert_eq!(self.deadlines.sessions(), live.len());
        for session in live {
            let watched = &self.deadlines.sessions[&session.id];
            assert_eq!(watched.create_revision, session.create_revision);
            assert_eq!(watched.owned, session.owned, "{session:?}");
            assert!(self.promised[&session.id] <= watched.due_ms);
            let due = (watched.due_ms, session.id);
            assert_eq!(self.deadlines.sessions_due.contains(&due), !watched.expiring);
        }
        let queued: Vec<ClaimRef> =
            view.queued_waits().unwrap().into_iter().map(|queued| queued.wait.claim).collect();
        assert!(self.deadlines.waits.keys().all(|claim| queued.contains(claim)));
        assert_eq!(self.deadlines.waits.len(), queued.len());
        let counted = self.deadlines.waits.values().filter(|wait| wait.is_counted()).count();
        assert_eq!(self.deadlines.waits_due.len(), counted);
    }
}

proptest! {
    #![proptest_config(property(400))]

    #[test]
    fn no_session_is_named_before_its_time_and_the_index_follows_the_state(steps in steps()) {
        let mut leader = Leader::new();
        for (passed_ms, step) in &steps {
            leader.now_ms += passed_ms;
            leader.step(step);
            leader.check();
        }
    }
}
