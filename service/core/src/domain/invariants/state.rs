//! The whole state, decoded.

use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};

use super::{Findings, Invariant};
use crate::domain::batch::RemovedNode;
use crate::domain::claim::Claim;
use crate::domain::compaction::Superseded;
use crate::domain::config::{ConfigHead, ConfigVersion};
use crate::domain::election::ElectionValue;
use crate::domain::event_log::LoggedEvent;
use crate::domain::key::{KeyRange, KeyReader};
use crate::domain::lock::{Lock, Place};
use crate::domain::namespace::Namespace;
use crate::domain::replay::{Replay, ReplayAge};
use crate::domain::session::Session;
use crate::domain::tombstone::{Age, ClaimTombstone, SessionTombstone};
use crate::domain::{ClaimRef, Fault, LockRef, Meta, Table, Tables, record};
use crate::limits::PAGE_ROWS_MAX;
use crate::{ClaimId, ConfigKey, FencingToken, LogTime, NamespaceName, NodeId, Revision, SessionId};

/// A config key in its namespace.
pub(super) type ConfigRef = (NamespaceName, ConfigKey);

/// Every row of every table.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) meta: Meta,
    pub(super) namespaces: BTreeMap<NamespaceName, Namespace>,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    pub(super) session_claims: BTreeSet<(SessionId, ClaimRef)>,
    pub(super) session_tombstones: BTreeMap<SessionId, SessionTombstone>,
    pub(super) locks: BTreeMap<LockRef, Lock>,
    pub(super) holders: BTreeMap<(LockRef, FencingToken), ClaimId>,
    pub(super) queues: BTreeMap<(LockRef, Revision), ClaimId>,
    pub(super) claims: BTreeMap<ClaimRef, Claim>,
    pub(super) claim_tombstones: BTreeMap<ClaimRef, ClaimTombstone>,
    pub(super) session_claim_tombstones: BTreeSet<(SessionId, Revision, ClaimRef)>,
    pub(super) ages: Vec<Age>,
    pub(super) lock_delays: BTreeSet<(LogTime, LockRef)>,
    pub(super) heads: BTreeMap<ConfigRef, ConfigHead>,
    pub(super) versions: BTreeMap<ConfigRef, BTreeMap<Revision, ConfigVersion>>,
    pub(super) replays: BTreeMap<[u8; 32], Replay>,
    pub(super) replay_ages: BTreeMap<u64, ReplayAge>,
    pub(super) removed_nodes: BTreeMap<NodeId, RemovedNode>,
    pub(super) changes: BTreeSet<(Revision, ConfigRef)>,
    pub(super) superseded: BTreeMap<(Revision, ConfigRef), Superseded>,
    pub(super) prunable: BTreeSet<(Revision, ConfigRef)>,
    pub(super) session_keys: BTreeSet<(SessionId, ConfigRef)>,
    pub(super) events: BTreeMap<(Revision, u32), LoggedEvent>,
    pub(super) election_values: BTreeMap<LockRef, ElectionValue>,
}

impl State {
    /// Reads everything; rows that cannot be read are findings and left out.
    pub(super) fn read(tables: &impl Tables, findings: &mut Findings) -> Self {
        let mut state = Self::default();
        for table in Table::ALL {
            if let Err(fault) = each_row(tables, table, |key, value| {
                if let Err(fault) = state.add(table, key, value) {
                    findings.expect(false, Invariant::RowsReadable, || fault.to_string());
                }
            }) {
                findings.expect(false, Invariant::RowsReadable, || fault.to_string());
            }
        }
        state
    }

    fn add(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        let mut k = KeyReader::new(table, key);
        let row = Opened { table, key, value };
        match table {
            Table::Meta => self.meta = row.open()?,
            Table::Namespace => drop(self.namespaces.insert(k.last_namespace()?, row.open()?)),
            Table::Session => drop(self.sessions.insert(k.last_session()?, row.open()?)),
            Table::SessionClaim => {
                row.open::<()>()?;
                self.session_claims.insert((k.session()?, k.last_claim()?));
            }
            Table::SessionTombstone => {
                self.session_tombstones.insert(k.last_session()?, row.open()?);
            }
            Table::Lock => drop(self.locks.insert(k.last_lock()?, row.open()?)),
            Table::Holder => {
                let place = (k.lock()?, FencingToken::of_grant(k.revision()?));
                k.end()?;
                self.holders.insert(place, row.open::<Place>()?.claim);
            }
            Table::Queue => {
                let place = (k.lock()?, k.revision()?);
                k.end()?;
                self.queues.insert(place, row.open::<Place>()?.claim);
            }
            Table::Claim => drop(self.claims.insert(k.last_claim()?, row.open()?)),
            Table::ClaimTombstone => drop(self.claim_tombstones.insert(k.last_claim()?, row.open()?)),
            Table::SessionClaimTombstone => {
                row.open::<()>()?;
                self.session_claim_tombstones.insert((k.session()?, k.revision()?, k.last_claim()?));
            }
            Table::Age => {
                row.open::<()>()?;
                self.ages.push(Age::of_key(key)?);
            }
            Table::LockDelay => {
                row.open::<()>()?;
                self.lock_delays.insert((k.time()?, k.last_lock()?));
            }
            Table::ConfigHead => drop(self.heads.insert(k.last_config()?, row.open()?)),
            Table::ConfigVersion => {
                let (config, revision) = (k.config()?, k.revision()?);
                k.end()?;
                self.versions.entry(config).or_default().insert(revision, row.open()?);
            }
            Table::Replay => {
                let scope = <[u8; 32]>::try_from(key).map_err(|_| k.damaged())?;
                self.replays.insert(scope, row.open()?);
            }
            Table::ReplayAge => {
                let sequence = k.number()?;
                k.end()?;
                self.replay_ages.insert(sequence, row.open()?);
            }
            Table::RemovedNode => {
                let id = k.node()?;
                k.end()?;
                self.removed_nodes.insert(id, row.open()?);
            }
            Table::ConfigChange => {
                row.open::<()>()?;
                self.changes.insert((k.revision()?, k.last_config()?));
            }
            Table::Superseded => {
                let place = (k.revision()?, k.last_config()?);
                self.superseded.insert(place, row.open()?);
            }
            Table::Prunable => {
                row.open::<()>()?;
                self.prunable.insert((k.revision()?, k.last_config()?));
            }
            Table::SessionKey => {
                row.open::<()>()?;
                self.session_keys.insert((k.session()?, k.last_config()?));
            }
            Table::Event => {
                let place = (k.revision()?, k.ordinal()?);
                k.end()?;
                self.events.insert(place, row.open()?);
            }
            Table::ElectionValue => drop(self.election_values.insert(k.last_lock()?, row.open()?)),
        }
        Ok(())
    }

    /// How many rows of a place table a lock has.
    pub(super) fn rows_of<N: Ord>(places: &BTreeMap<(LockRef, N), ClaimId>, lock: &LockRef) -> u64 {
        places.keys().filter(|(of, _)| of == lock).count() as u64
    }
}

/// A row with its place.
struct Opened<'r> {
    table: Table,
    key: &'r [u8],
    value: &'r [u8],
}

impl Opened<'_> {
    fn open<R: DeserializeOwned>(&self) -> Result<R, Fault> {
        record::open(self.table, self.key, self.value)
    }
}

fn each_row(tables: &impl Tables, table: Table, mut visit: impl FnMut(&[u8], &[u8])) -> Result<(), Fault> {
    let mut range = KeyRange::all();
    loop {
        let rows = record::rows(tables, table, &range, PAGE_ROWS_MAX)?;
        for (key, value) in &rows {
            visit(key, value);
        }
        match rows.into_iter().next_back() {
            Some((key, _)) => range = range.after(key),
            None => return Ok(()),
        }
    }
}
