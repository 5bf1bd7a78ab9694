//! Config: keys, their newest version, and every version before it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::domain::entry::Entry;
use crate::domain::lock::Place;
use crate::domain::{
    Change, DeleteConfig, Fault, Guard, LockRef, Outcome, Precondition, PutConfig, Rejection, Success, Table,
    Tables, key,
};
use crate::{ConfigKey, NamespaceName, Revision};

/// The newest version of a key that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConfigHead {
    /// When the key was created, this time.
    pub(crate) create_revision: Revision,
    /// Its newest write. Invariant: the newest row among the key's versions, and it is a put.
    pub(crate) mod_revision: Revision,
    /// Writes since it was created.
    pub(crate) version: u64,
    /// The media type.
    pub(crate) content_type: String,
    /// The length of the value.
    pub(crate) value_bytes: u64,
}

/// One version of a key, at its revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ConfigVersion {
    /// A write.
    Put {
        /// When the key was created, before this write or by it.
        create_revision: Revision,
        /// Writes since then, this one included.
        version: u64,
        /// The media type.
        content_type: String,
        /// The bytes.
        value: Bytes,
    },
    /// A delete.
    Deleted,
}

impl<T: Tables> Entry<'_, '_, T> {
    fn config_head(&self, namespace: &NamespaceName, key: &ConfigKey) -> Result<Option<ConfigHead>, Fault> {
        self.rows.read(Table::ConfigHead, &key::config(namespace, key))
    }

    /// Writes a value when the guard and then the precondition hold.
    pub(crate) fn put_config(&mut self, put: &PutConfig) -> Result<Outcome, Fault> {
        let PutConfig { namespace, key, value, content_type, precondition, guard } = put;
        if self.namespace(namespace)?.is_none() {
            return Ok(Err(Rejection::NamespaceNotFound));
        }
        if let Some(refusal) = self.refuse_guard(namespace, guard.as_ref())? {
            return Ok(Err(refusal));
        }
        let head = self.config_head(namespace, key)?;
        if !precondition.holds(head.as_ref()) {
            let current = head.map(|head| head.mod_revision);
            return Ok(Err(Rejection::RevisionMismatch { current }));
        }
        let mod_revision = self.take_revision();
        let (create_revision, version) = match head {
            Some(head) => (head.create_revision, head.version + 1),
            None => {
                self.update_namespace(namespace, |namespace| namespace.keys += 1)?;
                (mod_revision, 1)
            }
        };
        let head = ConfigHead {
            create_revision,
            mod_revision,
            version,
            content_type: content_type.clone(),
            value_bytes: value.len() as u64,
        };
        self.rows.put(Table::ConfigHead, key::config(namespace, key), &head);
        self.rows.put(
            Table::ConfigVersion,
            key::config_version(namespace, key, mod_revision),
            &ConfigVersion::Put {
                create_revision,
                version,
                content_type: content_type.clone(),
                value: value.clone(),
            },
        );
        self.tell(mod_revision, Change::ConfigPut { namespace: namespace.clone(), key: key.clone() });
        Ok(Ok(Success::ConfigPut { create_revision, mod_revision, version }))
    }

    /// Deletes a value when the guard and then the precondition hold. An absent key takes no revision.
    pub(crate) fn delete_config(&mut self, delete: &DeleteConfig) -> Result<Outcome, Fault> {
        let DeleteConfig { namespace, key, precondition, guard } = delete;
        if self.namespace(namespace)?.is_none() {
            return Ok(Err(Rejection::NamespaceNotFound));
        }
        if let Some(refusal) = self.refuse_guard(namespace, guard.as_ref())? {
            return Ok(Err(refusal));
        }
        let head = self.config_head(namespace, key)?;
        if !precondition.holds(head.as_ref()) {
            let current = head.map(|head| head.mod_revision);
            return Ok(Err(Rejection::RevisionMismatch { current }));
        }
        if head.is_none() {
            return Ok(Ok(Success::ConfigDeleted { revision: None }));
        }
        let revision = self.take_revision();
        self.rows.delete(Table::ConfigHead, key::config(namespace, key));
        self.rows.put(
            Table::ConfigVersion,
            key::config_version(namespace, key, revision),
            &ConfigVersion::Deleted,
        );
        self.update_namespace(namespace, |namespace| namespace.keys -= 1)?;
        self.tell(revision, Change::ConfigDeleted { namespace: namespace.clone(), key: key.clone() });
        Ok(Ok(Success::ConfigDeleted { revision: Some(revision) }))
    }

    /// A guard holds only while exactly its claim is held: the last token of a free lock never matches.
    fn refuse_guard(
        &self,
        namespace: &NamespaceName,
        guard: Option<&Guard>,
    ) -> Result<Option<Rejection>, Fault> {
        let Some(Guard { lock, token }) = guard else {
            return Ok(None);
        };
        let lock = LockRef { namespace: namespace.clone(), lock: lock.clone() };
        if self.rows.read::<Place>(Table::Holder, &key::holder(&lock, *token))?.is_some() {
            return Ok(None);
        }
        let held = self.tokens_of(&lock)?.first().copied();
        Ok(Some(Rejection::StaleToken { held }))
    }
}

impl Precondition {
    fn holds(self, head: Option<&ConfigHead>) -> bool {
        match self {
            Self::None => true,
            Self::ModRevision(revision) => head.is_some_and(|head| head.mod_revision == revision),
            Self::Exists => head.is_some(),
            Self::Absent => head.is_none(),
        }
    }
}
