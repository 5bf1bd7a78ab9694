//! The leader's deadlines: what they name is never named early, and they watch exactly what lives.
//!
//! The real machine makes the events, a random leader keeps time, renews, waits and proposes what is due; a plain list of
//! times says what may be named.

use std::collections::BTreeMap;

use holdfast_core::deadlines::{Deadlines, Renewal};
use holdfast_core::domain::{Change, ClaimRef, Command, Event, Expire, LEVEL, Proposal, View};
use holdfast_core::limits::{EXPIRE_SESSIONS_MAX, EXPIRE_WAITS_MAX};
use holdfast_core::testing::Random;
use holdfast_core::{LeaderId, Revision, SessionId};

use crate::cases::{History, for_each_history};
use crate::replica::Replica;

/// A session as a plain list of times knows it.
#[derive(Debug)]
struct KnownSession {
    created: Revision,
    ttl_ms: u64,
    made_by: Option<ClaimRef>,
    /// The last receipt that was acknowledged, or what else gave it its full time.
    renewed_ms: u64,
}

/// A queued claim as a plain list of times knows it.
#[derive(Debug)]
struct KnownWait {
    enqueued: Revision,
    wait_ms: u64,
    keep_waiting: bool,
    requests: u64,
    /// When it was queued, or when the last request left it.
    alone_ms: u64,
}

/// A leader: the deadlines under test, what they may name, and the proposals that have no outcome yet.
struct Leader {
    replica: Replica,
    deadlines: Deadlines,
    id: LeaderId,
    now_ms: u64,
    random: Random,
    sessions: BTreeMap<SessionId, KnownSession>,
    waits: BTreeMap<ClaimRef, KnownWait>,
    proposed: Vec<Expire>,
    /// How many sessions and waits were named, and how many keepalives met a session that was expiring.
    named: [u64; 3],
}

impl Leader {
    fn new(seed: u64, id: LeaderId) -> Self {
        Self {
            replica: Replica::new(),
            deadlines: Deadlines::default(),
            id,
            now_ms: 1_000_000,
            random: Random::new(!seed),
            sessions: BTreeMap::new(),
            waits: BTreeMap::new(),
            proposed: Vec::new(),
            named: [0; 3],
        }
    }

    fn apply(&mut self, leader: LeaderId, proposal: &Proposal) -> Result<(), String> {
        let applied = self.replica.apply(leader, proposal).map_err(|fault| fault.to_string())?;
        for event in &applied.events {
            self.deadlines.on_event(event, self.now_ms);
            self.follow(event);
        }
        Ok(())
    }

    fn follow(&mut self, event: &Event) {
        let now_ms = self.now_ms;
        match &event.change {
            Change::SessionCreated { id, ttl_ms, made_by } => {
                let known = KnownSession {
                    created: event.revision,
                    ttl_ms: *ttl_ms,
                    made_by: made_by.clone(),
                    renewed_ms: now_ms,
                };
                self.sessions.insert(id.clone(), known);
            }
            Change::SessionEnded { id, .. } => {
                self.sessions.remove(id);
            }
            Change::ClaimQueued { claim, wait_ms, keep_waiting, .. }
            | Change::SetQueued { claim, wait_ms, keep_waiting, .. } => {
                let (enqueued, wait_ms, keep_waiting) = (event.revision, *wait_ms, *keep_waiting);
                let known = KnownWait { enqueued, wait_ms, keep_waiting, requests: 0, alone_ms: now_ms };
                self.waits.insert(claim.clone(), known);
            }
            Change::ClaimGranted { claim, session, .. } => {
                self.waits.remove(claim);
                let expiring = self.deadlines.is_expiring(session);
                let known = self.sessions.get_mut(session);
                if let Some(known) = known.filter(|k| k.made_by.as_ref() == Some(claim) && !expiring) {
                    known.renewed_ms = known.renewed_ms.max(now_ms);
                }
            }
            Change::ClaimEnded { claim, .. } | Change::SetGranted { claim, .. } => {
                self.waits.remove(claim);
            }
            Change::NamespaceCreated { .. }
            | Change::NamespaceDeleted { .. }
            | Change::ConfigPut { .. }
            | Change::ConfigDeleted { .. }
            | Change::Proclaimed { .. }
            | Change::SessionOwns { .. } => {}
        }
    }

    /// Another leadership begins here: full times for everything, and nothing is known of who waits.
    fn lead(&mut self, id: LeaderId) -> Result<(), String> {
        self.id = id;
        self.proposed.clear();
        let view = View::new(&self.replica.tables);
        self.deadlines = Deadlines::rebuild(&view, self.now_ms).map_err(|fault| fault.to_string())?;
        for known in self.sessions.values_mut() {
            known.renewed_ms = self.now_ms;
        }
        for known in self.waits.values_mut() {
            known.alone_ms = self.now_ms;
            known.requests = 0;
        }
        Ok(())
    }

    /// What happens on a leader between two entries.
    fn live_on(&mut self) -> Result<(), String> {
        self.now_ms += self.random.below(400);
        if self.random.percent(3) {
            let stall_ms = 200 + self.random.below(2_000);
            self.now_ms += stall_ms;
            self.deadlines.stall(stall_ms);
            self.sessions.values_mut().for_each(|known| known.renewed_ms += stall_ms);
            self.waits.values_mut().for_each(|known| known.alone_ms += stall_ms);
        }
        for _ in 0..self.random.below(4) {
            self.renew()?;
        }
        if self.random.percent(30) {
            self.wait()?;
        }
        if self.random.percent(60) {
            self.propose()?;
        }
        if self.random.percent(50) && !self.proposed.is_empty() {
            self.settle()?;
        }
        Ok(())
    }

    fn any_session(&mut self) -> Option<SessionId> {
        let ids: Vec<_> = self.sessions.keys().cloned().collect();
        self.random.pick(&ids).cloned()
    }

    fn renew(&mut self) -> Result<(), String> {
        let stranger = SessionId::new("stranger").expect("a valid id");
        let id = self.any_session().unwrap_or(stranger);
        // A keepalive is renewed only after a round, so its receipt lies a little back, and they may overtake each other.
        let receipt_ms = self.now_ms - self.random.below(150);
        let expiring = self.is_proposed(&id);
        let renewal = self.deadlines.renew(&id, receipt_ms);
        let expected = match self.sessions.get_mut(&id) {
            None => Renewal::Unknown,
            Some(_) if expiring => Renewal::Expiring,
            Some(known) => {
                known.renewed_ms = known.renewed_ms.max(receipt_ms);
                Renewal::Renewed { ttl_ms: known.ttl_ms }
            }
        };
        self.named[2] += u64::from(expected == Renewal::Expiring);
        if renewal == expected { Ok(()) } else { Err(format!("{id}: {renewal:?}, not {expected:?}")) }
    }

    fn is_proposed(&self, id: &SessionId) -> bool {
        let created = self.sessions.get(id).map(|known| known.created);
        let mut named = self.proposed.iter().flat_map(|expire| &expire.sessions);
        named.any(|named| named.id == *id && Some(named.create_revision) == created)
    }

    fn is_wait_proposed(&self, claim: &ClaimRef) -> bool {
        let enqueued = self.waits.get(claim).map(|known| known.enqueued);
        let mut named = self.proposed.iter().flat_map(|expire| &expire.waits);
        named.any(|named| named.claim == *claim && Some(named.enqueued) == enqueued)
    }

    fn wait(&mut self) -> Result<(), String> {
        let claims: Vec<_> = self.waits.keys().cloned().collect();
        let Some(claim) = self.random.pick(&claims).cloned() else { return Ok(()) };
        let known = self.waits.get_mut(&claim).expect("it was just picked");
        if self.random.percent(50) {
            known.requests += 1;
            if !self.deadlines.wait_open(&claim) {
                return Err(format!("{claim:?} is queued and cannot be waited for"));
            }
        } else {
            if 0 < known.requests {
                known.requests -= 1;
                known.alone_ms = self.now_ms;
            }
            self.deadlines.wait_closed(&claim, self.now_ms);
        }
        Ok(())
    }

    /// Takes what is due and checks that each of it is, and that nothing else is.
    fn propose(&mut self) -> Result<(), String> {
        let now_ms = self.now_ms;
        let due_session = |id: &SessionId, known: &KnownSession| {
            known.renewed_ms + known.ttl_ms <= now_ms && !self.is_proposed(id)
        };
        let due_wait = |claim: &ClaimRef, known: &KnownWait| {
            let alone = known.requests == 0 && !known.keep_waiting;
            alone && known.alone_ms + known.wait_ms <= now_ms && !self.is_wait_proposed(claim)
        };
        let sessions = self.sessions.iter().filter(|(id, known)| due_session(id, known));
        let mut sessions: Vec<_> = sessions.map(|(id, known)| (id.clone(), known.created)).collect();
        let waits = self.waits.iter().filter(|(claim, known)| due_wait(claim, known));
        let mut waits: Vec<_> = waits.map(|(claim, known)| (claim.clone(), known.enqueued)).collect();
        assert!(sessions.len() < EXPIRE_SESSIONS_MAX && waits.len() < EXPIRE_WAITS_MAX, "a small world");

        let due = self.deadlines.due(self.id, now_ms);
        let named = due.clone().unwrap_or(Expire { leader: self.id, sessions: vec![], waits: vec![] });
        let mut named_sessions: Vec<_> =
            named.sessions.into_iter().map(|named| (named.id, named.create_revision)).collect();
        let mut named_waits: Vec<_> =
            named.waits.into_iter().map(|named| (named.claim, named.enqueued)).collect();
        sessions.sort();
        named_sessions.sort();
        waits.sort();
        named_waits.sort();
        if named_sessions != sessions || named_waits != waits || named.leader != self.id {
            let named = format!("{named_sessions:?} and {named_waits:?}");
            return Err(format!("at {now_ms} {named} are named, {sessions:?} and {waits:?} are due"));
        }
        self.named[0] += sessions.len() as u64;
        self.named[1] += waits.len() as u64;
        if due.is_some() == (sessions.is_empty() && waits.is_empty()) {
            return Err(format!("{due:?} names nothing"));
        }
        self.proposed.extend(due);
        Ok(())
    }

    /// The oldest proposal is applied, or certainly never will be.
    fn settle(&mut self) -> Result<(), String> {
        let expire = self.proposed.remove(0);
        if self.random.percent(70) {
            let time = self.replica.machine.meta().time;
            let command = Command::Expire(expire.clone());
            self.apply(self.id, &Proposal { level: LEVEL, time, replay: None, command })?;
            let ended = |id: &SessionId, created| self.sessions.get(id).is_none_or(|k| k.created != created);
            if let Some(kept) = expire.sessions.iter().find(|s| !ended(&s.id, s.create_revision)) {
                return Err(format!("{kept:?} lives after its Expire entry"));
            }
        }
        self.deadlines.settled(&expire);
        Ok(())
    }

    /// The deadlines watch exactly the live sessions, and say of each how long it has.
    fn check(&self) -> Result<(), String> {
        let view = self.replica.view();
        let live = view.live_sessions().map_err(|fault| fault.to_string())?;
        if self.deadlines.sessions() != live.len() {
            return Err(format!("{} sessions are watched, {live:?} live", self.deadlines.sessions()));
        }
        for session in &live {
            let known = self.sessions.get(&session.id).ok_or_else(|| format!("{session:?} had no event"))?;
            let left_ms = (known.renewed_ms + known.ttl_ms).saturating_sub(self.now_ms);
            let remaining_ms = self.deadlines.remaining_ms(&session.id, self.now_ms);
            if remaining_ms != Some(left_ms) || known.created != session.create_revision {
                return Err(format!("{known:?} has {remaining_ms:?} ms, not {left_ms}"));
            }
            if self.deadlines.is_expiring(&session.id) != self.is_proposed(&session.id) {
                return Err(format!("{} is expiring without a proposal or the other way", session.id));
            }
        }
        let sessions = self.sessions.iter().filter(|(id, _)| !self.is_proposed(id));
        let sessions = sessions.map(|(_, known)| known.renewed_ms + known.ttl_ms);
        let waits = self.waits.iter().filter(|(claim, known)| {
            known.requests == 0 && !known.keep_waiting && !self.is_wait_proposed(claim)
        });
        let waits = waits.map(|(_, known)| known.alone_ms + known.wait_ms);
        let next_ms = sessions.chain(waits).min();
        if self.deadlines.next_due() != next_ms {
            return Err(format!("next due is {:?}, not {next_ms:?}", self.deadlines.next_due()));
        }
        Ok(())
    }
}

fn nothing_expires_early(seed: u64, log: &History) -> Result<[u64; 3], String> {
    let Some((first, _)) = log.first() else { return Ok([0; 3]) };
    let mut leader = Leader::new(seed, *first);
    for (at, (id, proposal)) in log.iter().enumerate() {
        let step = |leader: &mut Leader| {
            if *id != leader.id {
                leader.lead(*id)?;
            }
            leader.live_on()?;
            leader.apply(*id, proposal)?;
            leader.check()
        };
        step(&mut leader).map_err(|why| format!("entry {at}: {why}"))?;
    }
    Ok(leader.named)
}

#[test]
fn deadlines_name_what_is_due_and_nothing_early() {
    for_each_history(|seed, log| nothing_expires_early(seed, log).map(|_| ()));
}

#[test]
fn the_deadlines_property_sees_sessions_and_waits_expire() {
    let mut total = [0; 3];
    for seed in 0..30 {
        let log = holdfast_core::testing::history(seed, crate::cases::HISTORY_LENGTH);
        let named = nothing_expires_early(seed, &log).unwrap();
        total.iter_mut().zip(named).for_each(|(total, named)| *total += named);
    }
    assert!(total.iter().all(|n| 50 < *n), "{total:?}");
}
