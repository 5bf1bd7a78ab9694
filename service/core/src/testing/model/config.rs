//! Config: one whole snapshot for every revision at which anything changed.

use crate::domain::{
    Change, ConfigAt, DeleteConfig, Event, Guard, LockRef, Outcome, Precondition, PutConfig, Rejection,
    RollbackConfig, Success,
};
use crate::{ConfigKey, NamespaceName, Revision, SessionId, limits};

use super::{ConfigSnapshot, Model, ModelItem, ModelVersion};

impl Model {
    /// The config of the whole store as it is now.
    #[must_use]
    pub fn config_now(&self) -> ConfigSnapshot {
        self.config.last().map(|(_, snapshot)| snapshot.clone()).unwrap_or_default()
    }

    /// A value at a revision; none when it did not exist then, or before its namespace was created.
    #[must_use]
    pub fn config_at(&self, namespace: &NamespaceName, key: &ConfigKey, at: Revision) -> Option<ModelItem> {
        let created = self.namespaces.get(namespace)?;
        if at < *created {
            return None;
        }
        let (_, snapshot) = self.config.iter().rev().find(|(revision, _)| *revision <= at)?;
        snapshot.get(&(namespace.clone(), key.clone())).cloned()
    }

    /// All values of a namespace at a revision whose keys have a prefix.
    #[must_use]
    pub fn config_list_at(
        &self,
        namespace: &NamespaceName,
        prefix: &str,
        at: Revision,
    ) -> Vec<(ConfigKey, ModelItem)> {
        let created = self.namespaces.get(namespace).filter(|created| **created <= at);
        let snapshot = self.config.iter().rev().find(|(revision, _)| *revision <= at);
        let (Some(_), Some((_, snapshot))) = (created, snapshot) else { return Vec::new() };
        let of_namespace =
            snapshot.iter().filter(|((n, key), _)| n == namespace && key.as_str().starts_with(prefix));
        of_namespace.map(|((_, key), item)| (key.clone(), item.clone())).collect()
    }

    pub(super) fn check_guard(
        &self,
        namespace: &NamespaceName,
        guard: Option<&Guard>,
    ) -> Result<(), Rejection> {
        let Some(guard) = guard else { return Ok(()) };
        let lock = LockRef { namespace: namespace.clone(), lock: guard.lock.clone() };
        let holders = self.claims.iter().filter(|c| c.claim.lock == lock);
        let tokens: Vec<_> = holders.filter_map(super::ModelClaim::token).collect();
        if tokens.contains(&guard.token) {
            Ok(())
        } else {
            Err(Rejection::StaleToken { held: tokens.first().copied() })
        }
    }

    fn check_write(
        &self,
        namespace: &NamespaceName,
        key: &ConfigKey,
        precondition: Precondition,
        guard: Option<&Guard>,
    ) -> Result<Option<ModelItem>, Rejection> {
        self.check_namespace(namespace)?;
        self.check_guard(namespace, guard)?;
        let current = self.config_now().remove(&(namespace.clone(), key.clone()));
        let mod_revision = current.as_ref().map(|item| item.mod_revision);
        let holds = match precondition {
            Precondition::None => true,
            Precondition::ModRevision(wanted) => mod_revision == Some(wanted),
            Precondition::Exists => mod_revision.is_some(),
            Precondition::Absent => mod_revision.is_none(),
        };
        if holds { Ok(current) } else { Err(Rejection::RevisionMismatch { current: mod_revision }) }
    }

    /// The keys that a session owns, in order.
    #[must_use]
    pub fn keys_of(&self, id: &SessionId) -> Vec<(NamespaceName, ConfigKey)> {
        let owned = self.config_now().into_iter().filter(|(_, item)| item.session.as_ref() == Some(id));
        owned.map(|(place, _)| place).collect()
    }

    /// Claims and keys that a session owns.
    #[must_use]
    pub fn owned(&self, id: &SessionId) -> u64 {
        let sets = self.sets.iter().filter(|s| s.session == *id).count();
        (self.session_claims(id).len() + sets + self.keys_of(id).len()) as u64
    }

    /// Whether a session may own so many keys more.
    pub(super) fn check_key_owner(&self, id: &SessionId, more: u64) -> Result<(), Rejection> {
        if self.session(id).is_none() {
            return Err(match self.session_tombstone(id) {
                Some(ended) => Rejection::SessionExpired { reason: ended.reason },
                None => Rejection::SessionNotFound,
            });
        }
        let max = limits::SESSION_OWNED_MAX;
        if 0 < more && max < self.owned(id) + more {
            return Err(Rejection::SessionOwnsTooMuch { max });
        }
        Ok(())
    }

    fn tell_owned(&self, id: &SessionId, owned: u64, events: &mut Vec<Event>) {
        let change = Change::SessionOwns { id: id.clone(), owned };
        events.push(Event { revision: self.revision, change });
    }

    /// Writes a key, and tells the sessions that lose and get it.
    pub(super) fn write_key(
        &mut self,
        namespace: &NamespaceName,
        key: &ConfigKey,
        new: ModelItem,
        events: &mut Vec<Event>,
    ) {
        let revision = new.mod_revision;
        let place = (namespace.clone(), key.clone());
        let mut snapshot = self.config_now();
        let before = snapshot.get(&place).and_then(|item| item.session.clone());
        if before != new.session {
            if let Some(id) = &before {
                self.tell_owned(id, self.owned(id) - 1, events);
            }
            if let Some(id) = &new.session {
                self.tell_owned(id, self.owned(id) + 1, events);
            }
        }
        let change = Change::ConfigPut { namespace: namespace.clone(), item: new.to_item(key) };
        events.push(Event { revision, change });
        snapshot.insert(place, new.clone());
        self.set_config(revision, snapshot);
        let (namespace, key, at) = (namespace.clone(), key.clone(), self.clock);
        self.keep_version(ModelVersion { namespace, key, revision, at, item: Some(new), expired: false });
    }

    /// Deletes a key that exists. A session that goes with it is not told what it owns.
    pub(super) fn remove_key(
        &mut self,
        namespace: &NamespaceName,
        key: &ConfigKey,
        revision: Revision,
        expired: bool,
        events: &mut Vec<Event>,
    ) {
        let mut snapshot = self.config_now();
        let removed = snapshot.get(&(namespace.clone(), key.clone())).cloned();
        if let Some(id) = removed.and_then(|item| item.session).filter(|_| !expired) {
            self.tell_owned(&id, self.owned(&id) - 1, events);
        }
        snapshot.remove(&(namespace.clone(), key.clone()));
        self.set_config(revision, snapshot);
        let (namespace, key, at) = (namespace.clone(), key.clone(), self.clock);
        let change = Change::ConfigDeleted { namespace: namespace.clone(), key: key.clone(), expired };
        events.push(Event { revision, change });
        self.keep_version(ModelVersion { namespace, key, revision, at, item: None, expired });
    }

    /// The config from a revision on; one revision may change several keys.
    fn set_config(&mut self, revision: Revision, snapshot: ConfigSnapshot) {
        self.config.retain(|(at, _)| *at != revision);
        self.config.push((revision, snapshot));
    }

    pub(super) fn put_config(&mut self, put: &PutConfig, events: &mut Vec<Event>) -> Outcome {
        let current = self.check_write(&put.namespace, &put.key, put.precondition, put.guard.as_ref())?;
        if let Some(id) = &put.session {
            let keeps = current.as_ref().is_some_and(|item| item.session.as_ref() == Some(id));
            self.check_key_owner(id, u64::from(!keeps))?;
        }
        let revision = self.take_revision();
        let item = next_item(
            current.as_ref(),
            revision,
            (&put.value, &put.content_type),
            (put.session.clone(), &put.managed_by),
        );
        let answer = put_answer(&item);
        self.write_key(&put.namespace, &put.key, item, events);
        Ok(answer)
    }

    pub(super) fn rollback_config(&mut self, rollback: &RollbackConfig, events: &mut Vec<Event>) -> Outcome {
        let RollbackConfig { namespace, key, to, managed_by, precondition, guard } = rollback;
        let current = self.check_write(namespace, key, *precondition, guard.as_ref())?;
        if self.revision < *to {
            return Err(Rejection::FutureRevision { revision: self.revision });
        }
        let old = match self.config_kept_at(namespace, key, *to) {
            ConfigAt::Item(item) => item,
            ConfigAt::Absent => return Err(Rejection::KeyNotFound),
            ConfigAt::Compacted => return Err(Rejection::RevisionCompacted { oldest: self.compacted }),
        };
        let revision = self.take_revision();
        let item = next_item(current.as_ref(), revision, (&old.value, &old.content_type), (None, managed_by));
        let answer = put_answer(&item);
        self.write_key(namespace, key, item, events);
        Ok(answer)
    }

    pub(super) fn delete_config(&mut self, delete: &DeleteConfig, events: &mut Vec<Event>) -> Outcome {
        let DeleteConfig { namespace, key, precondition, guard } = delete;
        if self.check_write(namespace, key, *precondition, guard.as_ref())?.is_none() {
            return Ok(Success::ConfigDeleted { revision: None });
        }
        let revision = self.take_revision();
        self.remove_key(namespace, key, revision, false, events);
        Ok(Success::ConfigDeleted { revision: Some(revision) })
    }
}

/// The version of a key after this one.
pub(super) fn next_item(
    current: Option<&ModelItem>,
    revision: Revision,
    (value, content_type): (&bytes::Bytes, &str),
    (session, managed_by): (Option<SessionId>, &str),
) -> ModelItem {
    ModelItem {
        value: value.clone(),
        content_type: content_type.to_owned(),
        create_revision: current.map_or(revision, |item| item.create_revision),
        mod_revision: revision,
        version: current.map_or(1, |item| item.version + 1),
        session,
        managed_by: managed_by.to_owned(),
    }
}

fn put_answer(item: &ModelItem) -> Success {
    let ModelItem { create_revision, mod_revision, version, .. } = item;
    Success::ConfigPut { create_revision: *create_revision, mod_revision: *mod_revision, version: *version }
}
