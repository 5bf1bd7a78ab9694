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

    /// This range without the keys below `key`, which lies in the range.
    pub(crate) fn starting_at(self, key: Vec<u8>) -> Self {
        Self { from: Bound::Included(key), to: self.to }
    }

    /// All keys at or above `key`.
    pub(crate) const fn at_or_after(key: Vec<u8>) -> Self {
        Self { from: Bound::Included(key), to: Bound::Unbounded }
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

/// The beginning of the keys of everything of one revision, in the tables that are ordered by revision.
pub(crate) fn revision_prefix(revision: Revision) -> Vec<u8> {
    revision.as_u64().to_be_bytes().to_vec()
}

/// A config key's place in the tables that are ordered by revision.
pub(crate) fn config_by_revision(revision: Revision, namespace: &NamespaceName, key: &ConfigKey) -> Vec<u8> {
    let mut bytes = revision_prefix(revision);
    bytes.extend_from_slice(&config(namespace, key));
    bytes
}

pub(crate) fn session_key(id: &SessionId, namespace: &NamespaceName, key: &ConfigKey) -> Vec<u8> {
    joined(&[id.as_str(), namespace.as_str(), key.as_str()])
}

pub(crate) fn event(revision: Revision, ordinal: u32) -> Vec<u8> {
    let mut bytes = revision_prefix(revision);
    bytes.extend_from_slice(&ordinal.to_be_bytes());
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

    pub(crate) fn ordinal(&mut self) -> Result<u32, Fault> {
        let (number, rest) = self.rest.split_first_chunk::<4>().ok_or_else(|| self.damaged())?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*number))
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
        let lock = LockName::try_from(text.to_owned()).map_err(|_| self.damaged())?;
        Ok(LockRef { namespace, lock })
    }

    pub(crate) fn last_lock(&mut self) -> Result<LockRef, Fault> {
        let namespace = self.namespace()?;
        let text = self.last()?;
        let lock = LockName::try_from(text.to_owned()).map_err(|_| self.damaged())?;
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{KeyRange, KeyReader};
    use crate::domain::tombstone::{Age, Aged};
    use crate::domain::{ClaimRef, LockRef, Table, key};
    use crate::{ClaimId, ConfigKey, FencingToken, LockName, LogTime, NamespaceName, Revision, SessionId};

    fn namespaces() -> impl Strategy<Value = NamespaceName> {
        "[a-b]{1,2}(-[a0])?".prop_map(|text| NamespaceName::new(text).unwrap())
    }

    fn lock_names() -> impl Strategy<Value = LockName> {
        "[a-b][a.:-]{0,2}(/[a-b][a.-]?){0,1}".prop_map(|text| LockName::new(text).unwrap())
    }

    fn sessions() -> impl Strategy<Value = SessionId> {
        "[a-b][a.:-]{0,2}".prop_map(|text| SessionId::new(text).unwrap())
    }

    fn config_keys() -> impl Strategy<Value = ConfigKey> {
        "[a ä]{1,2}(/[a!]{1,2}){0,1}".prop_map(|text| ConfigKey::new(text).unwrap())
    }

    fn lock_refs() -> impl Strategy<Value = LockRef> {
        (namespaces(), lock_names()).prop_map(|(namespace, lock)| LockRef { namespace, lock })
    }

    fn claim_refs() -> impl Strategy<Value = ClaimRef> {
        let ids = "[a-b][a.:-]{0,2}".prop_map(|text| ClaimId::new(text).unwrap());
        (lock_refs(), ids).prop_map(|(lock, claim)| ClaimRef { lock, claim })
    }

    fn numbers() -> impl Strategy<Value = u64> {
        prop_oneof![0_u64..3, 254_u64..258, any::<u64>()]
    }

    /// Ages with what they sort by.
    fn ages() -> impl Strategy<Value = Age> {
        let aged = prop_oneof![
            sessions().prop_map(Aged::SessionClaims),
            claim_refs().prop_map(Aged::Claim),
            sessions().prop_map(Aged::Session),
            lock_refs().prop_map(Aged::Lock),
        ];
        (numbers(), numbers(), aged).prop_map(|(time, revision, aged)| Age {
            time: LogTime::from_ms(time),
            revision: Revision::new(revision),
            aged,
        })
    }

    fn order_of(age: &Age) -> (bool, LogTime, Revision, u8) {
        let kind = match &age.aged {
            Aged::SessionClaims(_) => 1,
            Aged::Claim(_) => 2,
            Aged::Session(_) => 3,
            Aged::Lock(_) => 4,
        };
        (kind == 4, age.time, age.revision, kind)
    }

    proptest! {
        #![proptest_config(crate::domain::tests::property(512))]

        #[test]
        fn keys_of_claims_sort_as_claims_sort(a in claim_refs(), b in claim_refs()) {
            prop_assert_eq!(key::claim(&a).cmp(&key::claim(&b)), a.cmp(&b));
            prop_assert_eq!(key::lock(&a.lock).cmp(&key::lock(&b.lock)), a.lock.cmp(&b.lock));
        }

        #[test]
        fn keys_of_places_sort_by_lock_and_then_by_revision(
            a in (lock_refs(), numbers()),
            b in (lock_refs(), numbers()),
        ) {
            let holder = |(lock, number): &(LockRef, u64)| {
                key::holder(lock, FencingToken::of_grant(Revision::new(*number)))
            };
            let queue = |(lock, number): &(LockRef, u64)| key::queue(lock, Revision::new(*number));
            let delay = |(lock, number): &(LockRef, u64)| key::lock_delay(LogTime::from_ms(*number), lock);
            prop_assert_eq!(holder(&a).cmp(&holder(&b)), a.cmp(&b));
            prop_assert_eq!(queue(&a).cmp(&queue(&b)), a.cmp(&b));
            prop_assert_eq!(delay(&a).cmp(&delay(&b)), (a.1, &a.0).cmp(&(b.1, &b.0)));
        }

        #[test]
        fn keys_of_versions_sort_by_key_and_then_by_revision(
            a in (namespaces(), config_keys(), numbers()),
            b in (namespaces(), config_keys(), numbers()),
        ) {
            let version = |(namespace, key, number): &(NamespaceName, ConfigKey, u64)| {
                key::config_version(namespace, key, Revision::new(*number))
            };
            prop_assert_eq!(version(&a).cmp(&version(&b)), a.cmp(&b));
            let head = |(namespace, key, _): &(NamespaceName, ConfigKey, u64)| key::config(namespace, key);
            prop_assert_eq!(head(&a).cmp(&head(&b)), (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        }

        #[test]
        fn keys_of_what_sessions_own_sort_by_session(
            a in (sessions(), numbers(), claim_refs()),
            b in (sessions(), numbers(), claim_refs()),
        ) {
            let owned = |(id, _, claim): &(SessionId, u64, ClaimRef)| key::session_claim(id, claim);
            prop_assert_eq!(owned(&a).cmp(&owned(&b)), (&a.0, &a.2).cmp(&(&b.0, &b.2)));
            let ended = |(id, number, claim): &(SessionId, u64, ClaimRef)| {
                key::session_claim_tombstone(id, Revision::new(*number), claim)
            };
            prop_assert_eq!(ended(&a).cmp(&ended(&b)), a.cmp(&b));
        }

        #[test]
        fn keys_of_ages_sort_by_class_time_revision_and_kind(a in ages(), b in ages()) {
            let by_key = a.key().cmp(&b.key());
            prop_assert_eq!(by_key.then(order_of(&a).cmp(&order_of(&b))), by_key);
            if order_of(&a) != order_of(&b) {
                prop_assert_eq!(by_key, order_of(&a).cmp(&order_of(&b)));
            }
            prop_assert_eq!(Age::of_key(&a.key()).unwrap(), a);
        }

        #[test]
        fn keys_read_back_what_they_were_made_of(
            claim in claim_refs(),
            session in sessions(),
            (namespace, config) in (namespaces(), config_keys()),
            number in numbers(),
        ) {
            let revision = Revision::new(number);
            let reader = |key: &[u8]| KeyReader::new(Table::Claim, key).last_claim();
            prop_assert_eq!(&reader(&key::claim(&claim)).unwrap(), &claim);

            let bytes = key::queue(&claim.lock, revision);
            let mut reader = KeyReader::new(Table::Queue, &bytes);
            prop_assert_eq!(&reader.lock().unwrap(), &claim.lock);
            prop_assert_eq!(reader.revision().unwrap(), revision);
            prop_assert!(reader.end().is_ok());

            let bytes = key::lock_delay(LogTime::from_ms(number), &claim.lock);
            let mut reader = KeyReader::new(Table::LockDelay, &bytes);
            prop_assert_eq!(reader.time().unwrap(), LogTime::from_ms(number));
            prop_assert_eq!(&reader.last_lock().unwrap(), &claim.lock);

            let bytes = key::session_claim_tombstone(&session, revision, &claim);
            let mut reader = KeyReader::new(Table::SessionClaimTombstone, &bytes);
            prop_assert_eq!(reader.session().unwrap(), session);
            prop_assert_eq!(reader.revision().unwrap(), revision);
            prop_assert_eq!(&reader.last_claim().unwrap(), &claim);

            let bytes = key::config_version(&namespace, &config, revision);
            let mut reader = KeyReader::new(Table::ConfigVersion, &bytes);
            prop_assert_eq!(reader.config().unwrap(), (namespace.clone(), config.clone()));
            prop_assert_eq!(reader.revision().unwrap(), revision);
            let bytes = key::config(&namespace, &config);
            let head = KeyReader::new(Table::ConfigHead, &bytes).last_config().unwrap();
            prop_assert_eq!(head, (namespace, config));
        }

        #[test]
        fn a_locks_range_holds_its_own_rows_only(
            lock in lock_refs(),
            other in lock_refs(),
            number in numbers(),
        ) {
            let range = KeyRange::prefix(key::lock_prefix(&lock));
            let row = key::queue(&other, Revision::new(number));
            let inside = (range.from(), range.to());
            let within = std::ops::RangeBounds::<[u8]>::contains(&inside, row.as_slice());
            prop_assert_eq!(within, lock == other);
        }
    }

    #[test]
    fn a_key_that_does_not_decode_is_damage_and_names_its_row() {
        let fault = KeyReader::new(Table::Queue, b"a\0b").lock().unwrap_err();
        assert_eq!(fault.to_string(), "row a\\x00b of table Queue is damaged: its key does not decode");
        assert!(KeyReader::new(Table::Queue, b"A\0b\0").lock().is_err());
        assert!(KeyReader::new(Table::Session, b"\xff").last_session().is_err());
        assert!(KeyReader::new(Table::RemovedNode, &[0; 8]).node().is_err());
        assert!(KeyReader::new(Table::RemovedNode, &[0; 7]).number().is_err());
        assert!(Age::of_key(&[9; 30]).is_err());
    }
}
