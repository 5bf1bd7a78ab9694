//! Random histories: logs that a cluster could have written, in a world so small that everything collides.
//!
//! The generator runs the model beside itself, so that it knows which tokens, revisions and claims exist and can name
//! the right ones as often as stale and invented ones. What it makes depends on the seed alone.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{
    Acquire, AcquireSet, ClaimOwner, ClaimRef, Command, Compact, Compare, Comparison, DeleteConfig, Expire,
    Guard, IfHeld, KeyTest, LEVEL, LockMode, LockRef, Precondition, Proclaim, Proposal, PutConfig, ReplayKey,
    RollbackConfig, SessionRef, SessionSpec, Settings, Txn, TxnOp, WaitRef,
};
use crate::{
    ClaimId, ConfigKey, FencingToken, LeaderId, LockName, LogTime, NamespaceName, NodeId, Revision,
    SessionId, Term, limits,
};

use super::{Model, Random};

/// The namespaces of a random history; all but the first come and go.
pub const NAMESPACES: [&str; 3] = ["default", "blue", "red"];
/// The locks. One name is the start of another, and one has a segment that sorts before the separator of keys would.
pub const LOCKS: [&str; 3] = ["a", "a/b", "a-b"];
/// The explicit sessions.
pub const SESSIONS: [&str; 5] = ["s1", "s2", "s3", "s4", "s5"];
/// The claims of every lock. One id is the start of another.
pub const CLAIMS: [&str; 6] = ["x", "x1", "x-2", "y", "y.1", "z"];
/// The config keys.
pub const KEYS: [&str; 4] = ["app", "app/db", "app-2", "ä"];

/// Longer than an idempotency record keeps.
const LARGE_TEXT_BYTES: usize = limits::REPLAY_ANSWER_BYTES_MAX + 1_000;

/// How one history differs from another beside its seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The limits and retentions of the store.
    pub settings: Settings,
    /// In how many of 100 entries time jumps far ahead.
    pub jump_percent: u64,
    /// In how many of 100 entries there is an idempotency key.
    pub keyed_percent: u64,
}

impl Profile {
    /// A profile drawn from a seed: limits so tight that they are reached, or so wide that nothing is refused for them.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        let mut random = Random::new(seed.rotate_left(32));
        let tight = random.percent(60);
        let settings = Settings {
            sessions_max: if tight { 4 } else { 12 },
            queue_max: if tight { 3 } else { 6 },
            tombstone_ms: 1_000 + random.below(4_000),
            tombstone_ms_min: random.below(400),
            tombstones_max: if tight { 5 } else { 40 },
            session_tombstones_max: if tight { 3 } else { 10 },
            replay_ms: 500 + random.below(3_000),
            replay_records_max: if tight { 4 } else { 20 },
            replay_bytes_max: if random.percent(30) { 120 } else { 200_000 },
            history_versions: if tight { 1 + random.below(2) } else { 4 },
            history_ms: random.below(2_500),
            history_bytes_max: if random.percent(30) { 60 } else { 4_000 },
            events_max: if tight { 12 } else { 90 },
            events_ms: 800 + random.below(4_000),
        };
        Self { settings, jump_percent: 3 + random.below(15), keyed_percent: 10 + random.below(30) }
    }
}

/// A history of `len` entries, each with the leadership that its log entry is committed under.
#[must_use]
pub fn history(seed: u64, len: usize) -> Vec<(LeaderId, Proposal)> {
    history_of(&Profile::of_seed(seed), seed, len)
}

/// A history of `len` entries under a chosen profile.
#[must_use]
pub fn history_of(profile: &Profile, seed: u64, len: usize) -> Vec<(LeaderId, Proposal)> {
    let mut generator = Generator::new(profile.clone(), seed);
    (0..len).map(|at| generator.entry(at)).collect()
}

/// The membership that is noted after the entry at this place of a history; none for most places.
#[must_use]
pub fn members(seed: u64, at: usize) -> Option<BTreeSet<NodeId>> {
    let mut random = Random::new(seed.rotate_left(17) ^ at as u64);
    random.next_u64();
    random.percent(6).then(|| (1..=5).filter(|_| random.percent(60)).map(node).collect())
}

fn node(number: u64) -> NodeId {
    NodeId::new(number).expect("the generator numbers its nodes from 1")
}

struct Generator {
    random: Random,
    profile: Profile,
    model: Model,
    leader: LeaderId,
    former: Vec<LeaderId>,
    keyed: Vec<Proposal>,
    fingerprints: u8,
}

impl Generator {
    fn new(profile: Profile, seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            profile,
            model: Model::default(),
            leader: LeaderId { term: Term(1), node: node(1) },
            former: Vec::new(),
            keyed: Vec::new(),
            fingerprints: 0,
        }
    }

    fn entry(&mut self, at: usize) -> (LeaderId, Proposal) {
        if self.random.percent(3) {
            self.change_leader();
        }
        // Some histories begin with entries that come too early.
        let found = self.model.identity.is_none() && (at == 2 || self.random.percent(80));
        let command = if found || self.random.percent(1) { self.found() } else { self.command() };
        let time = self.time();
        let mut proposal = Proposal { level: LEVEL, time, replay: None, command };
        let large = LARGE_TEXT_BYTES <= proposal.encode().len();
        if large || self.random.percent(self.profile.keyed_percent) {
            proposal = self.keyed(proposal, large);
        }
        let _answer = self.model.apply(self.leader, &proposal);
        (self.leader, proposal)
    }

    fn change_leader(&mut self) {
        self.former.push(self.leader);
        let LeaderId { term: Term(term), node: _ } = self.leader;
        let next = node(1 + self.random.below(3));
        let same_term = self.leader.node < next && self.random.percent(30);
        self.leader = LeaderId { term: Term(if same_term { term } else { term + 1 }), node: next };
    }

    fn time(&mut self) -> LogTime {
        let now = self.model.clock.as_ms();
        if self.random.percent(10)
            && let Some(due) = self.moment_that_matters()
        {
            return due;
        }
        let ms = if self.random.percent(self.profile.jump_percent) {
            now + 300 + self.random.below(4_000)
        } else if self.random.percent(6) {
            now.saturating_sub(self.random.below(500))
        } else if self.random.percent(40) {
            now
        } else {
            now + self.random.below(60)
        };
        LogTime::from_ms(ms)
    }

    /// The very millisecond, or the one before, at which a delay ends or something becomes old: off-by-one errors live
    /// nowhere else, and a random time hardly ever meets it.
    fn moment_that_matters(&mut self) -> Option<LogTime> {
        let Settings { tombstone_ms, tombstone_ms_min, replay_ms, history_ms, events_ms, .. } =
            self.profile.settings;
        let model = &self.model;
        let delays = model.locks.iter().filter_map(|l| l.delay_until);
        let replays = model.replays.iter().map(|r| r.at.after_ms(replay_ms));
        let ends = model.session_tombstones.iter().map(|t| t.at);
        let ends = ends.chain(model.claim_tombstones.iter().map(|t| t.at));
        let ends = ends.chain(model.locks.iter().filter_map(|l| l.idle.map(|(at, _)| at)));
        let ages = ends.flat_map(|at| [at.after_ms(tombstone_ms), at.after_ms(tombstone_ms_min)]);
        let versions = model.versions.iter().map(|version| version.at.after_ms(history_ms + 1));
        let changes = model.log.iter().map(|(_, at, _)| at.after_ms(events_ms));
        let past = versions.chain(changes);
        let to_come: Vec<_> =
            delays.chain(replays).chain(ages).chain(past).filter(|at| model.clock < *at).collect();
        let at = self.random.pick(&to_come)?.as_ms();
        Some(LogTime::from_ms(at - u64::from(self.random.percent(30))))
    }

    /// Gives a request an idempotency key, or sends an earlier one again in its place.
    fn keyed(&mut self, proposal: Proposal, large: bool) -> Proposal {
        if !large
            && self.random.percent(40)
            && let Some(earlier) = self.random.pick(&self.keyed)
        {
            return Proposal { time: proposal.time, ..earlier.clone() };
        }
        self.fingerprints = self.fingerprints.wrapping_add(1);
        let scope = u8::try_from(self.random.below(30)).expect("a number below 30");
        let key = ReplayKey { scope: [scope; 32], fingerprint: [self.fingerprints; 32] };
        let keyed = Proposal { replay: Some(key), ..proposal };
        if 6 <= self.keyed.len() {
            self.keyed.remove(0);
        }
        self.keyed.push(keyed.clone());
        keyed
    }

    fn found(&mut self) -> Command {
        Command::Found {
            cluster_id: format!("cluster-{}", self.random.below(2)),
            history_id: self.random.below(1_000),
            settings: self.profile.settings.clone(),
        }
    }

    fn command(&mut self) -> Command {
        match self.random.below(100) {
            0..32 => Command::Acquire(self.acquire()),
            32..37 => Command::AcquireSet(self.acquire_set()),
            37 => self.proclaim(),
            38..43 => Command::Release { claim: self.some_claim() },
            43..46 => Command::CancelWait(self.wait()),
            46..49 => self.force_release(),
            49..58 => self.create_session(),
            58..60 => Command::EndSession { id: self.some_session() },
            60..66 => Command::Expire(self.expire()),
            66..76 => self.put_config(),
            76..80 => self.delete_config(),
            80..82 => self.rollback_config(),
            82..86 => self.txn(),
            86..89 => self.compact(),
            89..93 => Command::CreateNamespace { name: self.any_namespace() },
            93..97 => Command::DeleteNamespace { name: self.any_namespace() },
            _ => Command::Tick,
        }
    }

    fn name<T>(&mut self, names: &[&str], make: impl Fn(String) -> Result<T, crate::InvalidName>) -> T {
        let name = names[self.random.index(names.len())];
        make(name.to_owned()).expect("the generator's names are valid")
    }

    fn any_namespace(&mut self) -> NamespaceName {
        self.name(&NAMESPACES, NamespaceName::new)
    }

    /// Mostly one that exists, and mostly the same one, so that claims meet.
    fn namespace(&mut self) -> NamespaceName {
        if self.random.percent(80) { NamespaceName::default_namespace() } else { self.any_namespace() }
    }

    fn any_lock(&mut self) -> LockRef {
        let names = if self.random.percent(50) { &LOCKS[..1] } else { &LOCKS[..] };
        let election = self.random.percent(8);
        let make = |text: String| if election { LockName::election(&text) } else { LockName::new(text) };
        LockRef { namespace: self.namespace(), lock: self.name(names, make) }
    }

    fn any_claim(&mut self) -> ClaimRef {
        ClaimRef { lock: self.any_lock(), claim: self.name(&CLAIMS, ClaimId::new) }
    }

    fn some_claim(&mut self) -> ClaimRef {
        if self.random.percent(12) {
            let live = self.random.percent(85).then(|| self.random.pick(&self.model.sets).cloned()).flatten();
            return live.map_or_else(|| self.any_set(), |s| s.claim);
        }
        let live = self.random.percent(85).then(|| self.random.pick(&self.model.claims).cloned()).flatten();
        live.map_or_else(|| self.any_claim(), |c| c.claim)
    }

    fn any_set(&mut self) -> ClaimRef {
        ClaimRef::lock_set(self.namespace(), self.name(&CLAIMS, ClaimId::new))
    }

    /// Mostly one that the lock can take now, so that claims meet.
    fn mode(&mut self, lock: &LockRef) -> LockMode {
        let used = self.model.claims.iter().find(|c| c.claim.lock == *lock).map(|c| c.mode);
        let of_kind = used.filter(|_| self.random.percent(90));
        let permits = match of_kind {
            Some(LockMode::Permits { of, .. }) => Some(of),
            Some(LockMode::Exclusive | LockMode::Shared) => None,
            None => self.random.percent(30).then(|| 2 + self.random.u32_below(2)),
        };
        match permits {
            Some(of) => {
                let permits = if self.random.percent(2) { of + 1 } else { 1 + self.random.u32_below(of) };
                LockMode::Permits { permits, of }
            }
            None if self.random.percent(40) => LockMode::Shared,
            None => LockMode::Exclusive,
        }
    }

    fn acquire_set(&mut self) -> AcquireSet {
        if self.random.percent(35)
            && let Some(live) = self.random.pick(&self.model.sets).cloned()
        {
            let mut locks = live.locks;
            if self.random.percent(20) {
                locks.pop_first();
            }
            let ClaimRef { lock: LockRef { namespace, .. }, claim } = live.claim;
            let (session, if_held) = (live.session, live.if_held);
            return AcquireSet { namespace, claim, session, locks, if_held, label: String::new() };
        }
        let ClaimRef { lock: LockRef { namespace, .. }, claim } = self.any_set();
        let mut locks = BTreeMap::new();
        for _ in 0..self.random.below(4) {
            let lock = LockRef { namespace: namespace.clone(), lock: self.name(&LOCKS, LockName::new) };
            let mode = self.mode(&lock);
            locks.insert(lock.lock, mode);
        }
        let (session, if_held) = (self.explicit_session(), self.if_held());
        let label = format!("label {}", self.random.below(3));
        AcquireSet { namespace, claim, session, locks, if_held, label }
    }

    fn proclaim(&mut self) -> Command {
        let leading: Vec<_> = self
            .model
            .claims
            .iter()
            .filter(|c| c.claim.lock.lock.as_election().is_some())
            .filter_map(|c| Some((c.claim.lock.clone(), c.token()?)))
            .collect();
        let leader = self.random.percent(80).then(|| self.random.pick(&leading).cloned()).flatten();
        let (election, token) = leader.unwrap_or_else(|| self.lock_and_token());
        // Only elections have values; the service names no other lock here.
        let election = match election.lock.as_election() {
            Some(_) => election,
            None => LockRef { lock: self.name(&LOCKS, |text| LockName::election(&text)), ..election },
        };
        let (value, content_type) = self.value();
        Command::Proclaim(Proclaim { election, token, value, content_type })
    }

    fn if_held(&mut self) -> IfHeld {
        if self.random.percent(20) {
            IfHeld::Refuse
        } else {
            IfHeld::Queue { wait_ms: self.random.below(1_000), keep_waiting: self.random.percent(30) }
        }
    }

    /// An id is used once, so with few ids most of them are used up: look a little for one that is not.
    fn mostly_fresh_claim(&mut self) -> ClaimRef {
        let tries = if self.random.percent(70) { 6 } else { 1 };
        let mut claim = self.any_claim();
        for _ in 1..tries {
            if self.model.claim(&claim).is_none() && self.model.claim_tombstone(&claim).is_none() {
                break;
            }
            claim = self.any_claim();
        }
        claim
    }

    fn any_session(&mut self) -> SessionId {
        self.name(&SESSIONS, SessionId::new)
    }

    fn mostly_fresh_session(&mut self) -> SessionId {
        let fresh = self.random.percent(70);
        let mut id = self.any_session();
        for _ in 0..4 {
            let used = self.model.session(&id).is_some() || self.model.session_tombstone(&id).is_some();
            if !used || !fresh {
                break;
            }
            id = self.any_session();
        }
        id
    }

    fn some_session(&mut self) -> SessionId {
        let live = self.random.percent(65).then(|| self.random.pick(&self.model.sessions).cloned()).flatten();
        live.map_or_else(|| self.any_session(), |s| s.id)
    }

    /// A revision around those that exist.
    fn any_revision(&mut self) -> Revision {
        Revision::new(self.random.below(self.model.revision.as_u64() + 3))
    }

    fn create_session(&mut self) -> Command {
        let replayed =
            self.random.percent(25).then(|| self.random.pick(&self.model.sessions).cloned()).flatten();
        if let Some(live) = replayed.filter(|s| !s.id.is_reserved()) {
            return Command::CreateSession { id: live.id, spec: live.spec };
        }
        let large = self.random.percent(6);
        let spec = SessionSpec {
            ttl_ms: limits::TTL_MS_MIN * (1 + self.random.below(3)),
            name: if large {
                "n".repeat(LARGE_TEXT_BYTES)
            } else {
                format!("worker {}", self.random.below(2))
            },
            labels: (0..self.random.below(2)).map(|n| (format!("label{n}"), "v".to_owned())).collect(),
            lock_delay_ms: if self.random.percent(50) { 0 } else { 1 + self.random.below(900) },
        };
        Command::CreateSession { id: self.mostly_fresh_session(), spec }
    }

    fn acquire(&mut self) -> Acquire {
        if self.random.percent(12)
            && let Some(live) = self.random.pick(&self.model.claims).cloned()
        {
            return self.acquire_again(&live);
        }
        let owner = if self.random.percent(25) {
            ClaimOwner::OwnSession { ttl_ms: limits::TTL_MS_MIN * (1 + self.random.below(2)) }
        } else {
            ClaimOwner::Session(self.explicit_session())
        };
        let if_held = self.if_held();
        let label = format!("label {}", self.random.below(3));
        let claim = self.mostly_fresh_claim();
        let mode = self.mode(&claim.lock);
        Acquire { claim, owner, mode, if_held, label }
    }

    /// The same request for a live claim, or one that differs in its owner.
    fn acquire_again(&mut self, live: &super::ModelClaim) -> Acquire {
        let made = self.model.session(&live.session).filter(|s| s.made_by.is_some());
        let mut owner = match made {
            Some(own) => ClaimOwner::OwnSession { ttl_ms: own.spec.ttl_ms },
            None => ClaimOwner::Session(live.session.clone()),
        };
        if self.random.percent(30) {
            owner = ClaimOwner::OwnSession { ttl_ms: limits::TTL_MS_MIN * (1 + self.random.below(4)) };
        } else if self.random.percent(15) {
            owner = ClaimOwner::Session(self.any_session());
        }
        let if_held = live.if_held;
        Acquire { claim: live.claim.clone(), owner, mode: live.mode, if_held, label: String::new() }
    }

    fn explicit_session(&mut self) -> SessionId {
        let any = self.random.percent(4);
        let sessions = self.model.sessions.iter();
        let live: Vec<_> = sessions.filter(|s| any || s.made_by.is_none()).cloned().collect();
        let chosen = self.random.percent(92).then(|| self.random.pick(&live).cloned()).flatten();
        chosen.map_or_else(|| self.any_session(), |s| s.id)
    }

    fn wait(&mut self) -> WaitRef {
        let sets = self.model.sets.iter().filter_map(|s| Some((s.claim.clone(), s.enqueued?)));
        let claims = self.model.claims.iter().filter_map(|c| Some((c.claim.clone(), c.enqueued()?)));
        let waiting: Vec<_> = claims.chain(sets).collect();
        if self.random.percent(60)
            && let Some((claim, enqueued)) = self.random.pick(&waiting).cloned()
        {
            return WaitRef { claim, enqueued };
        }
        WaitRef { claim: self.some_claim(), enqueued: self.any_revision() }
    }

    fn held(&mut self) -> Option<(LockRef, FencingToken)> {
        let held: Vec<_> =
            self.model.claims.iter().filter_map(|c| Some((c.claim.lock.clone(), c.token()?))).collect();
        self.random.pick(&held).cloned()
    }

    /// A lock and a token: the right one, the last one of a lock that may be free, or any.
    fn lock_and_token(&mut self) -> (LockRef, FencingToken) {
        if self.random.percent(60)
            && let Some(held) = self.held()
        {
            return held;
        }
        if self.random.percent(50)
            && let Some(remembered) = self.random.pick(&self.model.locks)
        {
            return (remembered.lock.clone(), remembered.last_token);
        }
        (self.any_lock(), FencingToken::of_grant(self.any_revision()))
    }

    fn force_release(&mut self) -> Command {
        let (lock, token) = self.lock_and_token();
        Command::ForceRelease { lock, token, reason: "stuck".to_owned() }
    }

    fn expire(&mut self) -> Expire {
        let former = self.random.percent(25).then(|| self.random.pick(&self.former).copied()).flatten();
        let mut sessions = Vec::new();
        for _ in 0..self.random.below(4) {
            let id = self.some_session();
            let created = self.model.session(&id).map(|s| s.create_revision);
            let created = created.filter(|_| self.random.percent(80));
            let create_revision = created.unwrap_or_else(|| self.any_revision());
            sessions.push(SessionRef { id, create_revision });
        }
        let waits = (0..self.random.below(4)).map(|_| self.wait()).collect();
        Expire { leader: former.unwrap_or(self.leader), sessions, waits }
    }

    fn guard(&mut self) -> Option<(NamespaceName, Guard)> {
        if !self.random.percent(30) {
            return None;
        }
        let (LockRef { namespace, lock }, token) = self.lock_and_token();
        Some((namespace, Guard { lock, token }))
    }

    fn precondition(&mut self, namespace: &NamespaceName, key: &ConfigKey) -> Precondition {
        let current = self.model.config_at(namespace, key, self.model.revision);
        match self.random.below(10) {
            0..5 => Precondition::None,
            5..7 => Precondition::ModRevision(match current.filter(|_| self.random.percent(75)) {
                Some(item) => item.mod_revision,
                None => self.any_revision(),
            }),
            7 | 8 => Precondition::Exists,
            _ => Precondition::Absent,
        }
    }

    fn write(&mut self) -> (NamespaceName, ConfigKey, Precondition, Option<Guard>) {
        let key = self.name(&KEYS, ConfigKey::new);
        let (namespace, guard) = match self.guard() {
            Some((namespace, guard)) => (namespace, Some(guard)),
            None if self.random.percent(50) => (self.any_namespace(), None),
            None => (self.namespace(), None),
        };
        let precondition = self.precondition(&namespace, &key);
        (namespace, key, precondition, guard)
    }

    fn put_config(&mut self) -> Command {
        let (namespace, key, precondition, guard) = self.write();
        let (value, content_type) = self.value();
        let (session, managed_by) = (self.key_owner(), self.manager());
        Command::PutConfig(PutConfig {
            namespace,
            key,
            value,
            content_type,
            session,
            managed_by,
            precondition,
            guard,
        })
    }

    fn value(&mut self) -> (Bytes, String) {
        let length = self.random.index(12);
        let value = (0..length).map(|_| self.random.next_u64().to_le_bytes()[0]).collect();
        let content_type = if self.random.percent(50) { "text/plain" } else { "application/octet-stream" };
        (value, content_type.to_owned())
    }

    fn key_owner(&mut self) -> Option<SessionId> {
        self.random.percent(30).then(|| self.some_session())
    }

    fn manager(&mut self) -> String {
        if self.random.percent(20) { "operator/a".to_owned() } else { String::new() }
    }

    fn rollback_config(&mut self) -> Command {
        let (namespace, key, precondition, guard) = self.write();
        let of_key: Vec<_> = self
            .model
            .versions
            .iter()
            .filter(|v| v.namespace == namespace && v.key == key)
            .cloned()
            .collect();
        let to = match self.random.pick(&of_key).map(|version| version.revision) {
            Some(revision) if self.random.percent(60) => revision,
            Some(_) | None => self.any_revision(),
        };
        let managed_by = self.manager();
        Command::RollbackConfig(RollbackConfig { namespace, key, to, managed_by, precondition, guard })
    }

    fn comparison(&mut self) -> Comparison {
        let all = [Comparison::Equal, Comparison::NotEqual, Comparison::Less, Comparison::Greater];
        all[self.random.index(all.len())]
    }

    fn compare(&mut self, namespace: &NamespaceName) -> Compare {
        if self.random.percent(20) {
            let (LockRef { lock, .. }, token) = self.lock_and_token();
            let claim = self.random.percent(30).then(|| self.name(&CLAIMS, ClaimId::new));
            return Compare::Lock { lock, claim, token };
        }
        let key = self.name(&KEYS, ConfigKey::new);
        let item = self.model.config_at(namespace, &key, self.model.revision);
        let how = self.comparison();
        let near = self.random.percent(60);
        let test = match (self.random.below(5), item.filter(|_| near)) {
            (0, item) => KeyTest::ModRevision(how, item.map_or(0, |item| item.mod_revision.as_u64())),
            (1, item) => KeyTest::CreateRevision(how, item.map_or(0, |item| item.create_revision.as_u64())),
            (2, item) => {
                KeyTest::Version(how, item.map_or_else(|| self.random.below(3), |item| item.version))
            }
            (3, item) => KeyTest::Value(how, item.map_or_else(|| self.value().0, |item| item.value)),
            (_, _) => KeyTest::Exists(self.random.percent(50)),
        };
        Compare::Key { key, test }
    }

    fn ops(&mut self) -> Vec<TxnOp> {
        let mut ops: Vec<TxnOp> = Vec::new();
        for _ in 0..self.random.below(4) {
            let key = self.name(&KEYS, ConfigKey::new);
            if ops.iter().any(|op| *op.key() == key) {
                continue;
            }
            ops.push(match self.random.below(4) {
                0 | 1 => {
                    let (value, content_type) = self.value();
                    let (session, managed_by) = (self.key_owner(), self.manager());
                    TxnOp::Put { key, value, content_type, session, managed_by }
                }
                2 => TxnOp::Delete { key },
                _ => TxnOp::Get { key },
            });
        }
        ops
    }

    fn txn(&mut self) -> Command {
        let (namespace, guard) = match self.guard() {
            Some((namespace, guard)) => (namespace, Some(guard)),
            None => (self.namespace(), None),
        };
        let compare = (0..self.random.below(3)).map(|_| self.compare(&namespace)).collect();
        let (success, failure) = (self.ops(), self.ops());
        Command::Txn(Txn { namespace, guard, compare, success, failure })
    }

    /// Mostly what a leader would propose, and in slices so small that they do not do all at once.
    fn compact(&mut self) -> Command {
        let Settings { history_ms, history_bytes_max, .. } = self.profile.settings;
        let now = self.model.clock.as_ms();
        let history_ms = if self.random.percent(80) { history_ms } else { self.random.below(1_000) };
        let history_bytes = if self.random.percent(80) { history_bytes_max } else { self.random.below(200) };
        Command::Compact(Compact {
            superseded_before: LogTime::from_ms(now.saturating_sub(history_ms)),
            history_bytes,
            rows: self.random.below(8),
        })
    }

    fn delete_config(&mut self) -> Command {
        // Namespaces come and go only when their keys do.
        let default = NamespaceName::default_namespace();
        let there: Vec<_> = self.model.config_now().into_keys().filter(|(n, _)| *n != default).collect();
        if self.random.percent(50)
            && let Some((namespace, key)) = self.random.pick(&there).cloned()
        {
            let precondition = self.precondition(&namespace, &key);
            return Command::DeleteConfig(DeleteConfig { namespace, key, precondition, guard: None });
        }
        let (namespace, key, precondition, guard) = self.write();
        Command::DeleteConfig(DeleteConfig { namespace, key, precondition, guard })
    }
}
