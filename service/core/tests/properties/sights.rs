//! What readers see of the real machine equals what the model knows.

use std::collections::BTreeSet;
use std::fmt::Debug;

use holdfast_core::domain::{
    Change, ClaimRef, ClaimState, ClaimView, ConfigEntry, ConfigHistory, ConfigQuery, Counters,
    ElectionValueView, Event, EventPage, Fault, IfHeld, LiveSession, LockMode, LockRef, LockSetState,
    LockSummary, LockView, MemoryTables, Page, QueuedWait, SessionState, SessionView, Success, View, WaitRef,
    Waiter,
};
use holdfast_core::testing::{
    CLAIMS, KEYS, LOCKS, Model, ModelClaim, ModelClaimState, ModelSession, ModelSet, NAMESPACES, SESSIONS,
};
use holdfast_core::{ClaimId, ConfigKey, FencingToken, LockName, NamespaceName, NodeId, Revision, SessionId};

use crate::replica::Replica;

/// Prefixes of keys and lock names that lists are asked for.
const PREFIXES: [&str; 4] = ["", "a", "app", "app/"];

/// Small enough that lists need several pages.
const PAGE: usize = 2;

type Seen = Result<(), String>;

fn same<T: PartialEq + Debug>(what: impl Fn() -> String, real: Result<T, Fault>, model: &T) -> Seen {
    match real {
        Ok(real) if real == *model => Ok(()),
        Ok(real) => Err(format!("{}: {real:?}, the model has {model:?}", what())),
        Err(fault) => Err(format!("{}: {fault}", what())),
    }
}

/// All items of a list that is read page by page.
fn all<I, K>(mut page: impl FnMut(Option<&K>) -> Result<Page<I, K>, Fault>) -> Result<Vec<I>, Fault> {
    let (mut items, mut after) = (Vec::new(), None);
    loop {
        let Page { items: more, next } = page(after.as_ref())?;
        items.extend(more);
        match next {
            Some(key) => after = Some(key),
            None => return Ok(items),
        }
    }
}

fn names<T, E: Debug>(texts: &[&str], make: impl Fn(String) -> Result<T, E>) -> Vec<T> {
    texts.iter().map(|text| make((*text).to_owned()).expect("a valid name")).collect()
}

fn namespaces() -> Vec<NamespaceName> {
    names(&NAMESPACES, NamespaceName::new)
}

fn locks() -> Vec<LockRef> {
    let of = |namespace: NamespaceName| {
        let elections = names(&LOCKS, |text| LockName::election(&text));
        names(&LOCKS, LockName::new)
            .into_iter()
            .chain(elections)
            .map(move |lock| LockRef { namespace: namespace.clone(), lock })
    };
    namespaces().into_iter().flat_map(of).collect()
}

/// Everything that can be seen at the newest revision.
pub(crate) fn equal_now(replica: &Replica, model: &Model) -> Seen {
    let view = replica.view();
    equal_meta(replica, &view, model)?;
    equal_namespaces(&view, model)?;
    equal_sessions(&view, model)?;
    for lock in locks() {
        equal_lock(&view, model, &lock)?;
        for claim in names(&CLAIMS, ClaimId::new) {
            equal_claim(&view, model, &ClaimRef { lock: lock.clone(), claim })?;
        }
    }
    equal_waits(&view, model)?;
    equal_sets_and_values(&view, model)?;
    for namespace in namespaces() {
        equal_lock_lists(&view, model, &namespace)?;
        equal_config(&view, model, &namespace, None)?;
    }
    equal_due(&view, model)
}

/// The config at every revision that there was, the versions of every key, and what can be watched from every revision.
pub(crate) fn equal_history(replica: &Replica, model: &Model) -> Seen {
    let view = replica.view();
    for at in (0..=model.revision.as_u64()).map(Revision::new) {
        for namespace in namespaces() {
            equal_config(&view, model, &namespace, Some(at))?;
            equal_config_changes(&view, model, &namespace, at)?;
        }
        equal_logged_changes(&view, model, at)?;
    }
    for namespace in namespaces() {
        for key in names(&KEYS, ConfigKey::new) {
            equal_versions(&view, model, &namespace, &key)?;
        }
    }
    Ok(())
}

/// What a leader finds due: something exactly while a compaction without a limit of rows would drop something.
fn equal_due(view: &View<'_, MemoryTables>, model: &Model) -> Seen {
    for later_ms in [0, 1, 1_000] {
        let now = model.clock.after_ms(later_ms);
        let due = view.compaction_due(now).map_err(|fault| fault.to_string())?;
        let dropped = model.would_compact(now);
        if due.is_some() != dropped {
            return Err(format!("{due:?} is due at {now:?}, the model would drop something: {dropped}"));
        }
    }
    Ok(())
}

fn equal_versions(
    view: &View<'_, MemoryTables>,
    model: &Model,
    namespace: &NamespaceName,
    key: &ConfigKey,
) -> Seen {
    let (mut real, mut before) = (Vec::new(), None);
    loop {
        let page = view.config_history(namespace, key, before, PAGE).map_err(|fault| fault.to_string())?;
        let ConfigHistory { versions, next } = page;
        real.extend(versions);
        match next {
            Some(last) => before = Some(last),
            None => break,
        }
    }
    same(|| format!("versions of {namespace}/{key}"), Ok(real), &model.config_versions(namespace, key))
}

/// Everything after a revision that a watch reads back, page by page.
fn watched(
    mut page: impl FnMut(Revision) -> Result<EventPage, Fault>,
    after: Revision,
    end: Revision,
) -> Result<Vec<Event>, Fault> {
    let (mut events, mut seen) = (Vec::new(), after);
    while seen < end {
        let page = page(seen)?;
        assert!(seen < page.seen, "a page that goes nowhere");
        events.extend(page.events);
        seen = page.seen;
    }
    Ok(events)
}

fn equal_config_changes(
    view: &View<'_, MemoryTables>,
    model: &Model,
    namespace: &NamespaceName,
    after: Revision,
) -> Seen {
    if after < model.compacted {
        return Ok(());
    }
    let wanted = |key: &ConfigKey| key.as_str().starts_with("app");
    let of_watch =
        model.versions.iter().filter(|v| after < v.revision && v.namespace == *namespace && wanted(&v.key));
    let mut expected: Vec<Event> = of_watch
        .map(|v| {
            let namespace = namespace.clone();
            let change = match &v.item {
                Some(item) => Change::ConfigPut { namespace, item: item.to_item(&v.key) },
                None => Change::ConfigDeleted { namespace, key: v.key.clone(), expired: v.expired },
            };
            Event { revision: v.revision, change }
        })
        .collect();
    // Changes of one revision come in the order of keys, whatever the order of the operations that made them.
    expected.sort_by_key(|event| (event.revision, key_of(&event.change)));
    let real = watched(|seen| view.config_events(namespace, seen, wanted), after, model.revision);
    same(|| format!("changes of {namespace} after {after}"), real, &expected)
}

fn key_of(change: &Change) -> Option<ConfigKey> {
    match change {
        Change::ConfigPut { item, .. } => Some(item.key.clone()),
        Change::ConfigDeleted { key, .. } => Some(key.clone()),
        Change::NamespaceCreated { .. }
        | Change::NamespaceDeleted { .. }
        | Change::SessionCreated { .. }
        | Change::SessionEnded { .. }
        | Change::ClaimQueued { .. }
        | Change::ClaimGranted { .. }
        | Change::SetQueued { .. }
        | Change::SetGranted { .. }
        | Change::Proclaimed { .. }
        | Change::ClaimEnded { .. }
        | Change::SessionOwns { .. } => None,
    }
}

fn equal_logged_changes(view: &View<'_, MemoryTables>, model: &Model, after: Revision) -> Seen {
    if after < model.log_dropped {
        return Ok(());
    }
    let later = model.log.iter().filter(|(revision, _, _)| after < *revision);
    let expected: Vec<Event> =
        later.map(|(revision, _, change)| Event { revision: *revision, change: change.clone() }).collect();
    let real = watched(|seen| view.logged_events(seen, |_| true), after, model.revision);
    same(|| format!("changes of locks and sessions after {after}"), real, &expected)
}

fn equal_meta(replica: &Replica, view: &View<'_, MemoryTables>, model: &Model) -> Seen {
    let meta = view.meta().map_err(|fault| fault.to_string())?;
    if meta != *replica.machine.meta() {
        return Err(format!("the row has {meta:?}, the machine {:?}", replica.machine.meta()));
    }
    let identity = meta.cluster_id.clone().map(|id| (id, meta.history_id));
    let compacted = (meta.compacted_revision, meta.events_compacted_revision);
    let real = (meta.revision, meta.time, identity, meta.members, compacted);
    let compacted = (model.compacted, model.log_dropped);
    let expected = (model.revision, model.clock, model.identity.clone(), model.members.clone(), compacted);
    same(|| "meta".to_owned(), Ok(real), &expected)?;
    let (superseded, history_bytes) = model.superseded_totals();
    let counters = Counters {
        namespaces: model.namespaces.len() as u64,
        sessions: model.sessions.len() as u64,
        claims: (model.claims.len() + model.sets.len()) as u64,
        lock_delays: model.locks.iter().filter(|l| l.delay_until.is_some()).count() as u64,
        tombstones: model.tombstones(),
        idle_locks: model.locks.iter().filter(|l| l.idle.is_some()).count() as u64,
        replay_records: model.replays.len() as u64,
        replay_bytes: model.replay_bytes(),
        // A number that only the rows need.
        replay_next: meta.counters.replay_next,
        superseded,
        history_bytes,
        events: model.log.len() as u64,
    };
    same(|| "counters".to_owned(), Ok(meta.counters), &counters)?;
    if model.identity.is_some() {
        same(|| "settings".to_owned(), Ok(meta.settings), &model.settings)?;
    }
    let removed: Vec<NodeId> = model.removed.iter().copied().collect();
    same(|| "removed nodes".to_owned(), view.removed_nodes(), &removed)?;
    for node in (1..=5).map(|id| NodeId::new(id).expect("a valid id")) {
        same(|| format!("removed {node}"), view.is_removed(node), &removed.contains(&node))?;
    }
    Ok(())
}

fn equal_namespaces(view: &View<'_, MemoryTables>, model: &Model) -> Seen {
    let real = all(|after| view.namespaces(after, PAGE))
        .map(|list| list.into_iter().map(|n| (n.name, n.create_revision)).collect::<Vec<_>>());
    let expected: Vec<_> = model.namespaces.clone().into_iter().collect();
    same(|| "namespaces".to_owned(), real, &expected)?;
    let config = model.config_now();
    for namespace in namespaces() {
        let keys = config.keys().filter(|(n, _)| *n == namespace).count() as u64;
        let claims = model.claims.iter().map(|c| &c.claim).chain(model.sets.iter().map(|s| &s.claim));
        let claims = claims.filter(|claim| claim.lock.namespace == namespace).count() as u64;
        let delays = model.locks.iter().filter(|l| l.lock.namespace == namespace);
        let delays = delays.filter(|l| l.delay_until.is_some()).count() as u64;
        let created = model.namespaces.get(&namespace);
        let expected = created.map(|created| (*created, keys, claims, delays));
        let real = view.namespace(&namespace);
        let real = real.map(|n| n.map(|n| (n.create_revision, n.keys, n.claims, n.lock_delays)));
        same(|| format!("namespace {namespace}"), real, &expected)?;
    }
    Ok(())
}

fn session_sight(model: &Model, session: &ModelSession) -> SessionView {
    SessionView {
        id: session.id.clone(),
        create_revision: session.create_revision,
        spec: session.spec.clone(),
        made_by: session.made_by.clone(),
        owned: model.owned(&session.id),
        age_ms: model.clock.ms_since(session.at),
    }
}

fn equal_sessions(view: &View<'_, MemoryTables>, model: &Model) -> Seen {
    let mut live: Vec<_> = model.sessions.iter().map(|s| session_sight(model, s)).collect();
    live.sort_by(|a, b| a.id.cmp(&b.id));
    same(|| "sessions".to_owned(), all(|after| view.sessions(after, PAGE)), &live)?;
    let deadlines = live.iter().map(|s| LiveSession {
        id: s.id.clone(),
        create_revision: s.create_revision,
        ttl_ms: s.spec.ttl_ms,
        made_by: s.made_by.clone(),
        owned: s.owned,
    });
    same(|| "live sessions".to_owned(), view.live_sessions(), &deadlines.collect())?;

    let mut ids: BTreeSet<SessionId> = names(&SESSIONS, SessionId::new).into_iter().collect();
    ids.extend(model.sessions.iter().map(|s| s.id.clone()));
    ids.extend(model.session_tombstones.iter().map(|t| t.id.clone()));
    for id in ids {
        let expected = match (model.session(&id), model.session_tombstone(&id)) {
            (Some(session), _) => Some(SessionState::Live(session_sight(model, session))),
            (None, Some(ended)) => {
                Some(SessionState::Ended { reason: ended.reason, revision: ended.revision })
            }
            (None, None) => None,
        };
        same(|| format!("session {id}"), view.session(&id), &expected)?;
        let claims = model.session_claims(&id).into_iter().map(|c| ClaimView {
            claim: c.claim.clone(),
            mode: c.mode,
            label: c.label.clone(),
            token: c.token(),
            since_ms: since_ms(model, c),
        });
        same(|| format!("claims of {id}"), view.session_claims(&id), &claims.collect())?;
    }
    Ok(())
}

fn since_ms(model: &Model, claim: &ModelClaim) -> u64 {
    match claim.state {
        ModelClaimState::Held { since, .. } | ModelClaimState::Queued { since, .. } => {
            model.clock.ms_since(since)
        }
    }
}

fn equal_claim(view: &View<'_, MemoryTables>, model: &Model, claim: &ClaimRef) -> Seen {
    let ended = || {
        model.claim_tombstone(claim).map(|t| ClaimState::Ended {
            session: t.session.clone(),
            reason: t.reason,
            token: t.token,
            revision: t.revision,
        })
    };
    let expected = model.claim(claim).map_or_else(ended, |live| Some(claim_sight(model, live)));
    same(|| format!("{claim:?}"), view.claim(claim), &expected)
}

fn claim_sight(model: &Model, live: &ModelClaim) -> ClaimState {
    let (session, mode, label) = (live.session.clone(), live.mode, live.label.clone());
    match live.state {
        ModelClaimState::Held { token, .. } => {
            ClaimState::Held { session, mode, label, token, held_ms: since_ms(model, live) }
        }
        ModelClaimState::Queued { enqueued, .. } => {
            let (wait_ms, keep_waiting) = live.waits().expect("a queued claim asked to wait");
            ClaimState::Queued {
                session,
                mode,
                label,
                enqueued,
                position: model.position(&live.claim),
                holders: model.holders_shown(&live.claim.lock),
                waited_ms: since_ms(model, live),
                wait_ms,
                keep_waiting,
            }
        }
    }
}

fn equal_lock(view: &View<'_, MemoryTables>, model: &Model, lock: &LockRef) -> Seen {
    let expected = model.lock(lock).map(|sight| LockView {
        mode: mode_of_all(&sight.holders),
        holders: model.holders_shown(lock),
        queued: sight.queue.len() as u64,
        queue: sight.queue.iter().map(|waiter| waiter_sight(model, waiter)).collect(),
        last_token: sight.last_token,
        delay_remaining_ms: sight.delay_remaining_ms,
    });
    let expected = expected.unwrap_or_default();
    same(|| format!("{lock:?}"), view.lock(lock, 100), &expected)?;
    let first = LockView { queue: expected.queue.iter().take(1).cloned().collect(), ..expected };
    same(|| format!("{lock:?} with one waiter"), view.lock(lock, 1), &first)
}

/// How a lock is held, with the permits of all holders together.
fn mode_of_all(holders: &[ModelClaim]) -> Option<LockMode> {
    holders.iter().map(|holder| holder.mode).reduce(|all, one| match (all, one) {
        (LockMode::Permits { permits, of }, LockMode::Permits { permits: more, of: _ }) => {
            LockMode::Permits { permits: permits + more, of }
        }
        (all, _) => all,
    })
}

/// What is known of every lock set, and what every election's leader published.
fn equal_sets_and_values(view: &View<'_, MemoryTables>, model: &Model) -> Seen {
    for namespace in namespaces() {
        for claim in names(&CLAIMS, ClaimId::new) {
            let set_ref = ClaimRef::lock_set(namespace.clone(), claim.clone());
            let ended = || model.claim_tombstone(&set_ref).map(|t| LockSetState::Ended { reason: t.reason });
            let expected = model.set(&set_ref).map_or_else(ended, |set| {
                let (session, label) = (set.session.clone(), set.label.clone());
                let locks = set.locks.clone();
                #[expect(clippy::wildcard_enum_match_arm, reason = "a set stands in no other way")]
                Some(match model.set_state_now(set) {
                    Success::SetQueued { enqueued, positions, .. } => {
                        LockSetState::Queued { session, label, locks, enqueued, positions }
                    }
                    Success::SetHeld { tokens, .. } => LockSetState::Held { session, label, locks, tokens },
                    other => panic!("a set stands as {other:?}"),
                })
            });
            same(|| format!("{set_ref:?}"), view.lock_set(&namespace, &claim), &expected)?;
        }
    }
    for lock in locks() {
        let value = model.values.iter().find(|v| v.election == lock);
        let expected = value.map(|v| ElectionValueView {
            token: v.token,
            value: v.value.clone(),
            content_type: v.content_type.clone(),
            revision: v.revision,
        });
        same(|| format!("the value of {lock:?}"), view.election_value(&lock), &expected)?;
    }
    Ok(())
}

fn waiter_sight(model: &Model, waiter: &ModelClaim) -> Waiter {
    Waiter {
        claim: waiter.id().clone(),
        session: waiter.session.clone(),
        session_name: model.session(&waiter.session).map(|s| s.spec.name.clone()).unwrap_or_default(),
        mode: waiter.mode,
        label: waiter.label.clone(),
        enqueued: waiter.enqueued().expect("it waits"),
        waited_ms: since_ms(model, waiter),
    }
}

fn equal_waits(view: &View<'_, MemoryTables>, model: &Model) -> Seen {
    let mut waiting: Vec<_> = model.claims.iter().filter(|c| c.enqueued().is_some()).collect();
    waiting.sort_by_key(|c| (c.claim.lock.clone(), c.enqueued()));
    let mut waits = Vec::new();
    for c in waiting {
        let enqueued = c.enqueued().expect("it waits");
        let set_ref = ClaimRef::lock_set(c.claim.lock.namespace.clone(), c.claim.claim.clone());
        // A set comes with the first of its parts.
        let set = model.set(&set_ref).filter(|set| {
            c.in_set && set.locks.keys().next().is_some_and(|first| *first == c.claim.lock.lock)
        });
        if let Some(ModelSet { if_held: IfHeld::Queue { wait_ms, keep_waiting }, session, .. }) = set {
            let wait = WaitRef { claim: set_ref, enqueued };
            let (wait_ms, keep_waiting) = (*wait_ms, *keep_waiting);
            waits.push(QueuedWait { wait, session: session.clone(), wait_ms, keep_waiting });
        }
        let (wait_ms, keep_waiting) = c.waits().expect("a queued claim asked to wait");
        let wait = WaitRef { claim: c.claim.clone(), enqueued };
        waits.push(QueuedWait { wait, session: c.session.clone(), wait_ms, keep_waiting });
    }
    same(|| "queued waits".to_owned(), view.queued_waits(), &waits)
}

fn equal_lock_lists(view: &View<'_, MemoryTables>, model: &Model, namespace: &NamespaceName) -> Seen {
    for prefix in PREFIXES {
        let mut expected = Vec::new();
        let locks = model.known_locks().into_iter().filter(|l| l.lock.as_election().is_none());
        for lock in locks.filter(|l| l.namespace == *namespace) {
            let Some(sight) = model.lock(&lock) else { continue };
            let (holders, queued) = (sight.holders.len() as u64, sight.queue.len() as u64);
            let forgotten = sight.last_token == FencingToken::default();
            if !lock.lock.as_str().starts_with(prefix) || (holders == 0 && queued == 0 && forgotten) {
                continue;
            }
            expected.push(LockSummary {
                lock: lock.lock,
                holders,
                queued,
                last_token: sight.last_token,
                delay_remaining_ms: sight.delay_remaining_ms,
            });
        }
        let real = all(|after| view.locks(namespace, prefix, after, PAGE));
        same(|| format!("locks {prefix:?} of {namespace}"), real, &expected)?;
    }
    Ok(())
}

fn equal_config(
    view: &View<'_, MemoryTables>,
    model: &Model,
    namespace: &NamespaceName,
    at: Option<Revision>,
) -> Seen {
    let model_at = at.unwrap_or(model.revision);
    for key in names(&KEYS, ConfigKey::new) {
        let what = || format!("{namespace}/{key} at {at:?}");
        if let Some(at) = at {
            let expected = model.config_kept_at(namespace, &key, at);
            same(what, view.config_at(namespace, &key, at, model.compacted), &expected)?;
        } else {
            let expected = model.config_at(namespace, &key, model_at).map(|item| item.to_item(&key));
            same(what, view.config_get(namespace, &key), &expected)?;
        }
    }
    if model_at < model.compacted {
        return Ok(());
    }
    for prefix in PREFIXES {
        for with_values in [true, false] {
            let list = model.config_list_at(namespace, prefix, model_at).into_iter();
            let expected: Vec<_> = list
                .map(|(key, item)| ConfigEntry {
                    key,
                    value_bytes: item.value.len() as u64,
                    value: with_values.then_some(item.value),
                    content_type: item.content_type,
                    create_revision: item.create_revision,
                    mod_revision: item.mod_revision,
                    version: item.version,
                    session: item.session,
                    managed_by: item.managed_by,
                })
                .collect();
            let real = all(|after| {
                view.config_list(&ConfigQuery { namespace, prefix, after, limit: PAGE, at, with_values })
            });
            same(|| format!("config {prefix:?} of {namespace} at {at:?}"), real, &expected)?;
        }
    }
    Ok(())
}
