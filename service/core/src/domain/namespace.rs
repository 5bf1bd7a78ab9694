//! Namespaces: names under which locks and keys live, and how much lives there.

use serde::{Deserialize, Serialize};

use crate::domain::entry::Entry;
use crate::domain::{Change, Fault, Outcome, Rejection, Success, Table, Tables, key};
use crate::limits::NAMESPACES_MAX;
use crate::{NamespaceName, Revision};

/// A namespace. Invariant: the counters equal what the tables hold below its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Namespace {
    /// When it was created; whatever is older is invisible.
    pub(crate) create_revision: Revision,
    /// Config keys that exist.
    pub(crate) keys: u64,
    /// Held and queued claims.
    pub(crate) claims: u64,
    /// Running lock delays.
    pub(crate) lock_delays: u64,
}

impl Namespace {
    const fn is_empty(&self) -> bool {
        self.keys == 0 && self.claims == 0 && self.lock_delays == 0
    }
}

impl<T: Tables> Entry<'_, '_, T> {
    pub(crate) fn namespace(&self, name: &NamespaceName) -> Result<Option<Namespace>, Fault> {
        self.rows.read(Table::Namespace, &key::namespace(name))
    }

    /// Changes a namespace that exists because something lives in it.
    pub(crate) fn update_namespace(
        &mut self,
        name: &NamespaceName,
        change: impl FnOnce(&mut Namespace),
    ) -> Result<(), Fault> {
        let key = key::namespace(name);
        let missing = || Fault::damaged(Table::Namespace, &key, "it is missing while something lives in it");
        let mut namespace = self.rows.read(Table::Namespace, &key)?.ok_or_else(missing)?;
        change(&mut namespace);
        self.rows.put(Table::Namespace, key, &namespace);
        Ok(())
    }

    pub(crate) fn add_namespace(&mut self, name: &NamespaceName) -> Revision {
        let create_revision = self.take_revision();
        let namespace = Namespace { create_revision, keys: 0, claims: 0, lock_delays: 0 };
        self.rows.put(Table::Namespace, key::namespace(name), &namespace);
        self.meta.counters.namespaces += 1;
        self.tell(create_revision, Change::NamespaceCreated { name: name.clone() });
        create_revision
    }

    pub(crate) fn create_namespace(&mut self, name: &NamespaceName) -> Result<Outcome, Fault> {
        if let Some(Namespace { create_revision, .. }) = self.namespace(name)? {
            return Ok(Ok(Success::Namespace { create_revision, created: false }));
        }
        if NAMESPACES_MAX <= self.meta.counters.namespaces {
            return Ok(Err(Rejection::TooManyNamespaces { max: NAMESPACES_MAX }));
        }
        let create_revision = self.add_namespace(name);
        Ok(Ok(Success::Namespace { create_revision, created: true }))
    }

    /// The default namespace always exists, so it counts as never empty.
    pub(crate) fn delete_namespace(&mut self, name: &NamespaceName) -> Result<Outcome, Fault> {
        let Some(namespace) = self.namespace(name)? else {
            return Ok(Err(Rejection::NamespaceNotFound));
        };
        if !namespace.is_empty() || *name == NamespaceName::default_namespace() {
            return Ok(Err(Rejection::NamespaceNotEmpty));
        }
        let revision = self.take_revision();
        self.rows.delete(Table::Namespace, key::namespace(name));
        self.meta.counters.namespaces -= 1;
        self.tell(revision, Change::NamespaceDeleted { name: name.clone() });
        Ok(Ok(Success::NamespaceDeleted))
    }
}
