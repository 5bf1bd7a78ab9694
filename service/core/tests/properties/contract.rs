//! Promises of the lock service, checked on the events of the real machine alone: no model takes part.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_core::domain::{Change, ClaimRef, Event, LockMode, LockRef};
use holdfast_core::{ConfigKey, FencingToken, NamespaceName, Revision, SessionId};

use crate::cases::{History, for_each_history};
use crate::replica::Replica;

/// What a reader of the events alone knows.
#[derive(Debug, Default)]
struct Witness {
    last_revision: Revision,
    last_token: FencingToken,
    live: BTreeSet<SessionId>,
    ended: BTreeSet<(ClaimRef, Option<FencingToken>)>,
    queues: BTreeMap<LockRef, Vec<ClaimRef>>,
    holders: BTreeMap<LockRef, BTreeMap<ClaimRef, (FencingToken, LockMode)>>,
    owners: BTreeMap<ClaimRef, SessionId>,
    keys: BTreeMap<(NamespaceName, ConfigKey), SessionId>,
}

impl Witness {
    fn sees(&mut self, event: &Event) -> Result<(), String> {
        if event.revision < self.last_revision {
            return Err(format!("revision {} after {}", event.revision, self.last_revision));
        }
        self.last_revision = event.revision;
        match &event.change {
            Change::SessionCreated { id, .. } => {
                if !self.live.insert(id.clone()) {
                    return Err(format!("session {id} began while it was live"));
                }
            }
            Change::SessionEnded { id, .. } => {
                self.live.remove(id);
                if let Some((claim, _)) = self.owners.iter().find(|(_, session)| *session == id) {
                    return Err(format!("session {id} ended before its claim {claim:?}"));
                }
                if let Some((key, _)) = self.keys.iter().find(|(_, session)| *session == id) {
                    return Err(format!("session {id} ended before its key {key:?}"));
                }
            }
            Change::ClaimQueued { claim, session, .. } => {
                self.queues.entry(claim.lock.clone()).or_default().push(claim.clone());
                self.begins(claim, session)?;
            }
            Change::SetQueued { claim, session, .. } => self.begins(claim, session)?,
            Change::ClaimGranted { claim, session, mode, token } => {
                self.sees_grant(event.revision, claim, session, (*token, *mode))?;
            }
            Change::SetGranted { claim, session } => {
                // One that was granted at once was not told of before.
                self.owners.insert(claim.clone(), session.clone());
            }
            Change::Proclaimed { claim, token, .. } => {
                let holder = self.holders.get(&claim.lock).and_then(|holders| holders.get(claim));
                if holder.map(|(token, _)| token) != Some(token) {
                    return Err(format!("{claim:?} published a value with token {token}, held: {holder:?}"));
                }
            }
            Change::ClaimEnded { claim, token, .. } => self.sees_end(claim, *token)?,
            Change::ConfigPut { namespace, item } => {
                let place = (namespace.clone(), item.key.clone());
                self.keys.remove(&place);
                if let Some(session) = &item.session {
                    if !self.live.contains(session) {
                        return Err(format!("session {session}, which is not live, got the key {place:?}"));
                    }
                    self.keys.insert(place, session.clone());
                }
            }
            Change::ConfigDeleted { namespace, key, expired } => {
                let owner = self.keys.remove(&(namespace.clone(), key.clone()));
                if *expired && owner.is_none() {
                    return Err(format!("the key {key} of no session ended with its session"));
                }
            }
            Change::NamespaceCreated { .. }
            | Change::NamespaceDeleted { .. }
            | Change::SessionOwns { .. } => {}
        }
        Ok(())
    }

    fn begins(&mut self, claim: &ClaimRef, session: &SessionId) -> Result<(), String> {
        match self.owners.insert(claim.clone(), session.clone()) {
            None => Ok(()),
            Some(before) => Err(format!("{claim:?} began for {session} while {before} had it")),
        }
    }

    fn sees_grant(
        &mut self,
        revision: Revision,
        claim: &ClaimRef,
        session: &SessionId,
        (token, mode): (FencingToken, LockMode),
    ) -> Result<(), String> {
        if !self.live.contains(session) {
            return Err(format!("{claim:?} was granted to {session}, which is not live"));
        }
        if token <= self.last_token || token.revision() != revision {
            return Err(format!("token {token} at revision {revision} after token {}", self.last_token));
        }
        self.last_token = token;
        let holders = self.holders.entry(claim.lock.clone()).or_default();
        holders.insert(claim.clone(), (token, mode));
        if !may_hold_together(holders.values().map(|(_, mode)| *mode)) {
            return Err(format!("together hold {holders:?}"));
        }
        let queue = self.queues.entry(claim.lock.clone()).or_default();
        if queue.is_empty() {
            return self.begins(claim, session);
        }
        let first = queue.remove(0);
        if first == *claim && self.owners.get(claim) == Some(session) {
            Ok(())
        } else {
            Err(format!("{claim:?} was granted to {session} while {first:?} was first"))
        }
    }

    fn sees_end(&mut self, claim: &ClaimRef, token: Option<FencingToken>) -> Result<(), String> {
        self.owners.remove(claim);
        if let Some(queue) = self.queues.get_mut(&claim.lock) {
            queue.retain(|queued| queued != claim);
        }
        if let Some(token) = token {
            let held = self.holders.get_mut(&claim.lock).and_then(|holders| holders.remove(claim));
            if held.map(|(token, _)| token) != Some(token) {
                return Err(format!("{claim:?} ended with token {token} while {held:?} held"));
            }
            if !self.ended.insert((claim.clone(), Some(token))) {
                return Err(format!("{claim:?} ended with token {token} twice"));
            }
        } else if self.holders.get(&claim.lock).is_some_and(|holders| holders.contains_key(claim)) {
            return Err(format!("{claim:?} ended without its token while it held"));
        }
        Ok(())
    }
}

/// An exclusive holder is alone, shared ones are with each other, and permits add up to no more than there are.
fn may_hold_together(modes: impl Iterator<Item = LockMode>) -> bool {
    let modes: Vec<_> = modes.collect();
    let mut permits: BTreeMap<u32, u32> = BTreeMap::new();
    for mode in &modes {
        if let LockMode::Permits { permits: taken, of } = mode {
            *permits.entry(*of).or_default() += taken;
        }
    }
    let shared = modes.iter().filter(|mode| **mode == LockMode::Shared).count();
    modes.len() == 1
        || shared == modes.len()
        || permits.len() == 1
            && permits.iter().all(|(of, taken)| taken <= of)
            && modes.iter().all(|mode| matches!(mode, LockMode::Permits { .. }))
}

/// The promises hold over the events of a history: tokens strictly increase and each is the revision of one grant, one
/// holder a lock, first in first out, nothing is granted to a session that is over, and a session ends with its claims.
pub(crate) fn promises_hold(mut replica: Replica, log: &History) -> Result<(), String> {
    let mut witness = Witness::default();
    for (at, (leader, proposal)) in log.iter().enumerate() {
        let applied = replica.apply(*leader, proposal).map_err(|fault| format!("entry {at}: {fault}"))?;
        for event in &applied.events {
            witness.sees(event).map_err(|why| format!("entry {at}: {why}"))?;
        }
        if applied.revision < witness.last_revision {
            return Err(format!("entry {at}: an event is newer than the store"));
        }
    }
    Ok(())
}

#[test]
fn the_events_keep_the_lock_contract() {
    for_each_history(|_, log| promises_hold(Replica::new(), log));
}
