//! Config: keys, their newest version, and the versions before it that are still kept.
//!
//! Every write goes through `write_value` and `remove_value`, which keep the rows of a key together: its head, its versions,
//! the change for those who watch, what was superseded (`compaction`), and which session owns it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::domain::compaction::Superseded;
use crate::domain::entry::Entry;
use crate::domain::lock::Place;
use crate::domain::{
    Change, ConfigAt, ConfigItem, DeleteConfig, Fault, Guard, LockRef, Outcome, Precondition, PutConfig,
    Rejection, RollbackConfig, Success, Table, Tables, View, key,
};
use crate::limits::SESSION_OWNED_MAX;
use crate::{ConfigKey, LogTime, NamespaceName, Revision, SessionId};

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
    /// The session whose end deletes it. Invariant: that session lives and has the key in its index.
    pub(crate) session: Option<SessionId>,
    /// Who manages it; empty for nobody.
    pub(crate) managed_by: String,
    /// The oldest version that its number keeps: what is older goes by its age. Invariant: nothing from here on is prunable.
    pub(crate) window: Revision,
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
        /// The session that owned the key since this write.
        session: Option<SessionId>,
        /// Who managed the key since this write; empty for nobody.
        managed_by: String,
        /// When it was written.
        time: LogTime,
        /// The bytes.
        value: Bytes,
    },
    /// A delete.
    Deleted {
        /// When it was deleted.
        time: LogTime,
        /// Whether the end of its session deleted it.
        expired: bool,
    },
}

/// What a write puts into a key.
#[derive(Debug, Clone)]
pub(crate) struct NewValue<'w> {
    pub(crate) value: &'w Bytes,
    pub(crate) content_type: &'w str,
    pub(crate) session: Option<&'w SessionId>,
    pub(crate) managed_by: &'w str,
}

/// What a write did.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    pub(crate) create_revision: Revision,
    pub(crate) mod_revision: Revision,
    pub(crate) version: u64,
}

impl From<Written> for Success {
    fn from(written: Written) -> Self {
        let Written { create_revision, mod_revision, version } = written;
        Self::ConfigPut { create_revision, mod_revision, version }
    }
}

impl<T: Tables> Entry<'_, '_, T> {
    pub(crate) fn config_head(
        &self,
        namespace: &NamespaceName,
        key: &ConfigKey,
    ) -> Result<Option<ConfigHead>, Fault> {
        self.rows.read(Table::ConfigHead, &key::config(namespace, key))
    }

    /// The head of a key for a write, when its namespace exists and the guard and then the precondition hold.
    fn head_for_write(
        &self,
        namespace: &NamespaceName,
        key: &ConfigKey,
        guard: Option<&Guard>,
        precondition: Precondition,
    ) -> Result<Result<Option<ConfigHead>, Rejection>, Fault> {
        if self.namespace(namespace)?.is_none() {
            return Ok(Err(Rejection::NamespaceNotFound));
        }
        if let Some(refusal) = self.refuse_guard(namespace, guard)? {
            return Ok(Err(refusal));
        }
        let head = self.config_head(namespace, key)?;
        if !precondition.holds(head.as_ref()) {
            let current = head.map(|head| head.mod_revision);
            return Ok(Err(Rejection::RevisionMismatch { current }));
        }
        Ok(Ok(head))
    }

    /// Writes a value when the guard and the precondition hold, and then the session that is to own it lives.
    pub(crate) fn put_config(&mut self, put: &PutConfig) -> Result<Outcome, Fault> {
        let PutConfig { namespace, key, value, content_type, session, managed_by, precondition, guard } = put;
        let head = match self.head_for_write(namespace, key, guard.as_ref(), *precondition)? {
            Ok(head) => head,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if let Some(session) = session {
            let keeps = head.as_ref().is_some_and(|head| head.session.as_ref() == Some(session));
            if let Some(refusal) = self.refuse_key_owner(session, u64::from(!keeps))? {
                return Ok(Err(refusal));
            }
        }
        let revision = self.take_revision();
        let session = session.as_ref();
        let new = NewValue { value, content_type, session, managed_by };
        let written = self.write_value(namespace, key, head, &new, revision)?;
        Ok(Ok(written.into()))
    }

    /// Deletes a value when the guard and then the precondition hold. An absent key takes no revision.
    pub(crate) fn delete_config(&mut self, delete: &DeleteConfig) -> Result<Outcome, Fault> {
        let DeleteConfig { namespace, key, precondition, guard } = delete;
        let head = match self.head_for_write(namespace, key, guard.as_ref(), *precondition)? {
            Ok(head) => head,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let Some(head) = head else {
            return Ok(Ok(Success::ConfigDeleted { revision: None }));
        };
        let revision = self.take_revision();
        self.change_owner(namespace, key, head.session.as_ref(), None)?;
        self.remove_value(namespace, key, &head, revision, false)?;
        Ok(Ok(Success::ConfigDeleted { revision: Some(revision) }))
    }

    /// Writes again what a key had at a revision. A key that does not exist is created.
    pub(crate) fn rollback_config(&mut self, rollback: &RollbackConfig) -> Result<Outcome, Fault> {
        let RollbackConfig { namespace, key, to, managed_by, precondition, guard } = rollback;
        let head = match self.head_for_write(namespace, key, guard.as_ref(), *precondition)? {
            Ok(head) => head,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if self.meta.revision < *to {
            return Ok(Err(Rejection::FutureRevision { revision: self.meta.revision }));
        }
        let compacted = self.meta.compacted_revision;
        let item = match View::new(&*self.rows).config_at(namespace, key, *to, compacted)? {
            ConfigAt::Item(item) => item,
            ConfigAt::Absent => return Ok(Err(Rejection::KeyNotFound)),
            ConfigAt::Compacted => return Ok(Err(Rejection::RevisionCompacted { oldest: compacted })),
        };
        let revision = self.take_revision();
        let ConfigItem { value, content_type, .. } = &item;
        let new = NewValue { value, content_type, session: None, managed_by };
        let written = self.write_value(namespace, key, head, &new, revision)?;
        Ok(Ok(written.into()))
    }

    /// Why a session may not own so many config keys more, if so.
    pub(crate) fn refuse_key_owner(&self, id: &SessionId, more: u64) -> Result<Option<Rejection>, Fault> {
        let Some(session) = self.session(id)? else {
            return self.refuse_dead_session(id).map(Some);
        };
        let max = SESSION_OWNED_MAX;
        let full = 0 < more && max < session.owned + more;
        Ok(full.then_some(Rejection::SessionOwnsTooMuch { max }))
    }

    /// Makes a version of a key. Whoever calls has refused what is to be refused.
    pub(crate) fn write_value(
        &mut self,
        namespace: &NamespaceName,
        key: &ConfigKey,
        head: Option<ConfigHead>,
        new: &NewValue<'_>,
        revision: Revision,
    ) -> Result<Written, Fault> {
        let NewValue { value, content_type, session, managed_by } = *new;
        let owner = head.as_ref().and_then(|head| head.session.as_ref());
        self.change_owner(namespace, key, owner, session)?;
        let (create_revision, version, window) = match &head {
            Some(head) => (head.create_revision, head.version + 1, head.window),
            None => {
                self.update_namespace(namespace, |namespace| namespace.keys += 1)?;
                (revision, 1, revision)
            }
        };
        let item = ConfigItem {
            key: key.clone(),
            value: value.clone(),
            content_type: content_type.to_owned(),
            create_revision,
            mod_revision: revision,
            version,
            session: session.cloned(),
            managed_by: managed_by.to_owned(),
        };
        self.put_version(namespace, &item);
        if let Some(head) = &head {
            let superseded = Superseded::by_put(key, head, self.meta.time);
            self.supersede(namespace, key, revision, &superseded);
        }
        let window = self.slide_window(namespace, key, window, version)?;
        let head = ConfigHead {
            create_revision,
            mod_revision: revision,
            version,
            content_type: item.content_type.clone(),
            value_bytes: value.len() as u64,
            session: item.session.clone(),
            managed_by: item.managed_by.clone(),
            window,
        };
        self.rows.put(Table::ConfigHead, key::config(namespace, key), &head);
        self.rows.put(Table::ConfigChange, key::config_by_revision(revision, namespace, key), &());
        self.tell(revision, Change::ConfigPut { namespace: namespace.clone(), item });
        Ok(Written { create_revision, mod_revision: revision, version })
    }

    fn put_version(&mut self, namespace: &NamespaceName, item: &ConfigItem) {
        let version = ConfigVersion::Put {
            create_revision: item.create_revision,
            version: item.version,
            content_type: item.content_type.clone(),
            session: item.session.clone(),
            managed_by: item.managed_by.clone(),
            time: self.meta.time,
            value: item.value.clone(),
        };
        let row = key::config_version(namespace, &item.key, item.mod_revision);
        self.rows.put(Table::ConfigVersion, row, &version);
    }

    /// Deletes a key that exists and that no session owns any more.
    pub(crate) fn remove_value(
        &mut self,
        namespace: &NamespaceName,
        key: &ConfigKey,
        head: &ConfigHead,
        revision: Revision,
        expired: bool,
    ) -> Result<(), Fault> {
        self.rows.delete(Table::ConfigHead, key::config(namespace, key));
        let deleted = ConfigVersion::Deleted { time: self.meta.time, expired };
        self.rows.put(Table::ConfigVersion, key::config_version(namespace, key, revision), &deleted);
        let superseded = Superseded::by_delete(key, head, self.meta.time);
        self.supersede(namespace, key, revision, &superseded);
        self.rows.put(Table::ConfigChange, key::config_by_revision(revision, namespace, key), &());
        self.update_namespace(namespace, |namespace| namespace.keys -= 1)?;
        self.tell(
            revision,
            Change::ConfigDeleted { namespace: namespace.clone(), key: key.clone(), expired },
        );
        Ok(())
    }

    /// Moves a key from the session that owns it to another one.
    pub(crate) fn change_owner(
        &mut self,
        namespace: &NamespaceName,
        key: &ConfigKey,
        from: Option<&SessionId>,
        to: Option<&SessionId>,
    ) -> Result<(), Fault> {
        if from == to {
            return Ok(());
        }
        if let Some(id) = from {
            self.rows.delete(Table::SessionKey, key::session_key(id, namespace, key));
            self.count_owned(id, |owned| owned - 1)?;
        }
        if let Some(id) = to {
            self.rows.put(Table::SessionKey, key::session_key(id, namespace, key), &());
            self.count_owned(id, |owned| owned + 1)?;
        }
        Ok(())
    }

    /// A guard holds only while exactly its claim is held: the last token of a free lock never matches.
    pub(crate) fn refuse_guard(
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
