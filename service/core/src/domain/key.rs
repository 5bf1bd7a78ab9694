//! Keys of rows: text parts end with a NUL where another part follows, numbers are big-endian.
//!
//! Keys sort as the tuples of their parts sort, because no name holds a NUL (`crate::name`) and NUL sorts before every
//! byte that a name may hold. The encodings are a format: they never change under an existing table number.

use std::ops::Bound;

use crate::domain::{ClaimRef, Fault, LockRef, Table};
use crate::{
    ClaimId, ConfigKey, FencingToken, LockName, LogTime, NamespaceName, NodeId, Revision, SessionId,
};

/// The key of the only row of [`Table::Meta`].
pub(crate) const META: &[u8] = b"";

const NUL: u8 = 0;

/// A range of keys, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRange {
    from: Bound<Vec<u8>>,
    to: Bound<Vec<u8>>,
}

impl KeyRange {
    /// Everything.
    pub(crate) const fn all() -> Self {
        Self { from: Bound::Unbounded, to: Bound::Unbounded }
    }

    /// All keys that begin with `prefix`, which ends with a NUL, a class or a byte of UTF-8, never with 0xff.
    pub(crate) fn prefix(prefix: Vec<u8>) -> Self {
        let mut end = prefix.clone();
        let to = match end.last_mut() {
            Some(last) => {
                *last += 1;
                Bound::Excluded(end)
            }
            None => Bound::Unbounded,
        };
        Self { from: Bound::Included(prefix), to }
    }

    /// This range without the keys up to and including `key`, which lies in the range or before it.
    pub(crate) fn after(mut self, key: Vec<u8>) -> Self {
        let later = match &self.from {
            Bound::Included(from) | Bound::Excluded(from) => *from <= key,
            Bound::Unbounded => true,
        };
        if later {
            self.from = Bound::Excluded(key);
        }
        self
    }

    /// This range without the keys above `key`.
    pub(crate) fn up_to(mut self, key: Vec<u8>) -> Self {
        self.to = Bound::Included(key);
        self
    }

    pub(crate) fn from(&self) -> Bound<&[u8]> {
        self.from.as_ref().map(Vec::as_slice)
    }

    pub(crate) fn to(&self) -> Bound<&[u8]> {
        self.to.as_ref().map(Vec::as_slice)
    }
}

pub(crate) fn namespace(name: &NamespaceName) -> Vec<u8> {
    name.as_str().as_bytes().to_vec()
}

pub(crate) fn session(id: &SessionId) -> Vec<u8> {
    id.as_str().as_bytes().to_vec()
}

/// The beginning of the keys of everything below `session`, in the tables of sessions' claims and their tombstones.
pub(crate) fn session_prefix(id: &SessionId) -> Vec<u8> {
    joined(&[id.as_str(), ""])
}

pub(crate) fn session_claim(id: &SessionId, claim: &ClaimRef) -> Vec<u8> {
    let ClaimRef { lock: LockRef { namespace, lock }, claim } = claim;
    joined(&[id.as_str(), namespace.as_str(), lock.as_str(), claim.as_str()])
}

pub(crate) fn session_claim_tombstone(id: &SessionId, ended: Revision, claim_ref: &ClaimRef) -> Vec<u8> {
    let mut bytes = session_prefix(id);
    push_u64(&mut bytes, ended.as_u64());
    bytes.extend_from_slice(&claim(claim_ref));
    bytes
}

/// The beginning of the keys of the locks or config keys of a namespace that begin with a text.
pub(crate) fn text_prefix(namespace: &NamespaceName, text: &str) -> Vec<u8> {
    joined(&[namespace.as_str(), text])
}

pub(crate) fn lock(lock: &LockRef) -> Vec<u8> {
    joined(&[lock.namespace.as_str(), lock.lock.as_str()])
}

/// The beginning of the keys of everything below `lock`.
pub(crate) fn lock_prefix(lock: &LockRef) -> Vec<u8> {
    joined(&[lock.namespace.as_str(), lock.lock.as_str(), ""])
}

pub(crate) fn holder(lock: &LockRef, token: FencingToken) -> Vec<u8> {
    let mut bytes = lock_prefix(lock);
    push_u64(&mut bytes, token.as_u64());
    bytes
}

pub(crate) fn queue(lock: &LockRef, enqueued: Revision) -> Vec<u8> {
    let mut bytes = lock_prefix(lock);
    push_u64(&mut bytes, enqueued.as_u64());
    bytes
}

pub(crate) fn claim(claim: &ClaimRef) -> Vec<u8> {
    joined(&[claim.lock.namespace.as_str(), claim.lock.lock.as_str(), claim.claim.as_str()])
}

pub(crate) fn lock_delay(due: LogTime, lock_ref: &LockRef) -> Vec<u8> {
    let mut bytes = Vec::new();
    push_u64(&mut bytes, due.as_ms());
    bytes.extend_from_slice(&lock(lock_ref));
    bytes
}

pub(crate) fn config(namespace: &NamespaceName, key: &ConfigKey) -> Vec<u8> {
    joined(&[namespace.as_str(), key.as_str()])
}

/// The beginning of the keys of all versions of a config key.
pub(crate) fn config_versions_prefix(namespace: &NamespaceName, key: &ConfigKey) -> Vec<u8> {
    joined(&[namespace.as_str(), key.as_str(), ""])
}

pub(crate) fn config_version(namespace: &NamespaceName, key: &ConfigKey, revision: Revision) -> Vec<u8> {
    let mut bytes = config_versions_prefix(namespace, key);
    push_u64(&mut bytes, revision.as_u64());
    bytes
}

pub(crate) fn replay(scope: &[u8; 32]) -> Vec<u8> {
    scope.to_vec()
}

pub(crate) fn replay_age(sequence: u64) -> Vec<u8> {
    sequence.to_be_bytes().to_vec()
}

pub(crate) fn removed_node(id: NodeId) -> Vec<u8> {
    id.as_u64().to_be_bytes().to_vec()
}

fn joined(parts: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(parts.iter().map(|part| part.len() + 1).sum::<usize>() + 8);
    for (at, part) in parts.iter().enumerate() {
        if at != 0 {
            bytes.push(NUL);
        }
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}

fn push_u64(bytes: &mut Vec<u8>, number: u64) {
    bytes.extend_from_slice(&number.to_be_bytes());
}

/// Takes a key apart, from its beginning.
#[derive(Debug)]
pub(crate) struct KeyReader<'k> {
    table: Table,
    key: &'k [u8],
    rest: &'k [u8],
}

impl<'k> KeyReader<'k> {
    pub(crate) const fn new(table: Table, key: &'k [u8]) -> Self {
        Self { table, key, rest: key }
    }

    /// What is left, which must be the last part.
    fn last(&mut self) -> Result<&'k str, Fault> {
        let text = std::str::from_utf8(self.rest).map_err(|_| self.damaged())?;
        self.rest = &[];
        Ok(text)
    }

    /// A text that ends with a NUL.
    fn text(&mut self) -> Result<&'k str, Fault> {
        let end = self.rest.iter().position(|byte| *byte == NUL).ok_or_else(|| self.damaged())?;
        let (text, rest) = self.rest.split_at(end);
        self.rest = &rest[1..];
        std::str::from_utf8(text).map_err(|_| self.damaged())
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Fault> {
        let (byte, rest) = self.rest.split_first().ok_or_else(|| self.damaged())?;
        self.rest = rest;
        Ok(*byte)
    }

    pub(crate) fn number(&mut self) -> Result<u64, Fault> {
        let (number, rest) = self.rest.split_first_chunk::<8>().ok_or_else(|| self.damaged())?;
        self.rest = rest;
        Ok(u64::from_be_bytes(*number))
    }

    pub(crate) fn revision(&mut self) -> Result<Revision, Fault> {
        Ok(Revision::new(self.number()?))
    }

    pub(crate) fn time(&mut self) -> Result<LogTime, Fault> {
        Ok(LogTime::from_ms(self.number()?))
    }

    pub(crate) fn namespace(&mut self) -> Result<NamespaceName, Fault> {
        let text = self.text()?;
        NamespaceName::new(text).map_err(|_| self.damaged())
    }

    pub(crate) fn last_namespace(&mut self) -> Result<NamespaceName, Fault> {
        let text = self.last()?;
        NamespaceName::new(text).map_err(|_| self.damaged())
    }

    pub(crate) fn session(&mut self) -> Result<SessionId, Fault> {
        let text = self.text()?;
        SessionId::new(text).map_err(|_| self.damaged())
    }

    pub(crate) fn last_session(&mut self) -> Result<SessionId, Fault> {
        let text = self.last()?;
        SessionId::new(text).map_err(|_| self.damaged())
    }

    /// A lock that another part follows.
    pub(crate) fn lock(&mut self) -> Result<LockRef, Fault> {
        let namespace = self.namespace()?;
        let text = self.text()?;
        let lock = LockName::new(text).map_err(|_| self.damaged())?;
        Ok(LockRef { namespace, lock })
    }

    pub(crate) fn last_lock(&mut self) -> Result<LockRef, Fault> {
        let namespace = self.namespace()?;
        let text = self.last()?;
        let lock = LockName::new(text).map_err(|_| self.damaged())?;
        Ok(LockRef { namespace, lock })
    }

    pub(crate) fn last_claim(&mut self) -> Result<ClaimRef, Fault> {
        let lock = self.lock()?;
        let text = self.last()?;
        let claim = ClaimId::new(text).map_err(|_| self.damaged())?;
        Ok(ClaimRef { lock, claim })
    }

    /// A config key that another part follows.
    pub(crate) fn config(&mut self) -> Result<(NamespaceName, ConfigKey), Fault> {
        let namespace = self.namespace()?;
        let text = self.text()?;
        let key = ConfigKey::new(text).map_err(|_| self.damaged())?;
        Ok((namespace, key))
    }

    pub(crate) fn last_config(&mut self) -> Result<(NamespaceName, ConfigKey), Fault> {
        let namespace = self.namespace()?;
        let text = self.last()?;
        let key = ConfigKey::new(text).map_err(|_| self.damaged())?;
        Ok((namespace, key))
    }

    pub(crate) fn node(&mut self) -> Result<NodeId, Fault> {
        let number = self.number()?;
        NodeId::new(number).map_err(|_| self.damaged())
    }

    /// Checks that nothing is left.
    pub(crate) fn end(&self) -> Result<(), Fault> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.damaged()) }
    }

    pub(crate) fn damaged(&self) -> Fault {
        Fault::damaged(self.table, self.key, "its key does not decode")
    }
}
