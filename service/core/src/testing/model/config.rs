//! Config: one whole snapshot for every revision at which anything changed.

use crate::domain::{
    Change, DeleteConfig, Event, Guard, LockRef, Outcome, Precondition, PutConfig, Rejection, Success,
};
use crate::{ConfigKey, NamespaceName, Revision};

use super::{ConfigSnapshot, Model, ModelItem};

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

    fn check_write(
        &self,
        namespace: &NamespaceName,
        key: &ConfigKey,
        precondition: Precondition,
        guard: Option<&Guard>,
    ) -> Result<Option<ModelItem>, Rejection> {
        self.check_namespace(namespace)?;
        if let Some(guard) = guard {
            let lock = LockRef { namespace: namespace.clone(), lock: guard.lock.clone() };
            let tokens: Vec<_> = self
                .claims
                .iter()
                .filter(|c| c.claim.lock == lock)
                .filter_map(super::ModelClaim::token)
                .collect();
            if !tokens.contains(&guard.token) {
                return Err(Rejection::StaleToken { held: tokens.first().copied() });
            }
        }
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

    pub(super) fn put_config(&mut self, put: &PutConfig, events: &mut Vec<Event>) -> Outcome {
        let current = self.check_write(&put.namespace, &put.key, put.precondition, put.guard.as_ref())?;
        let revision = self.take_revision();
        let item = ModelItem {
            value: put.value.clone(),
            content_type: put.content_type.clone(),
            create_revision: current.as_ref().map_or(revision, |item| item.create_revision),
            mod_revision: revision,
            version: current.as_ref().map_or(1, |item| item.version + 1),
        };
        let answer = Success::ConfigPut {
            create_revision: item.create_revision,
            mod_revision: revision,
            version: item.version,
        };
        let mut snapshot = self.config_now();
        snapshot.insert((put.namespace.clone(), put.key.clone()), item);
        self.config.push((revision, snapshot));
        let change = Change::ConfigPut { namespace: put.namespace.clone(), key: put.key.clone() };
        events.push(Event { revision, change });
        Ok(answer)
    }

    pub(super) fn delete_config(&mut self, delete: &DeleteConfig, events: &mut Vec<Event>) -> Outcome {
        let DeleteConfig { namespace, key, precondition, guard } = delete;
        if self.check_write(namespace, key, *precondition, guard.as_ref())?.is_none() {
            return Ok(Success::ConfigDeleted { revision: None });
        }
        let revision = self.take_revision();
        let mut snapshot = self.config_now();
        snapshot.remove(&(namespace.clone(), key.clone()));
        self.config.push((revision, snapshot));
        let change = Change::ConfigDeleted { namespace: namespace.clone(), key: key.clone() };
        events.push(Event { revision, change });
        Ok(Success::ConfigDeleted { revision: Some(revision) })
    }
}
