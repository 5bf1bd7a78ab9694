//! What is on the disk: the data directory, the Raft log, the state and its snapshots.
//!
//! Only this module names RocksDB, and it knows nothing of Raft or of the domain: rows are bytes, and the record kinds and
//! metadata are the callers'. What it promises:
//!
//! - A row reported as flushed survives a power cut; a failed flush is final ([`latch`]), never retried.
//! - Damage is refused with the file or index named; only a write that was cut off at the end is cut away ([`wal_check`]).
//! - The state on disk is a prefix of what was applied, and is replaced as a whole or not at all.
//!
//! ```text
//! data directory
//! ├── LOCK            held while a process uses the directory
//! ├── identity        node id, name, cluster id
//! ├── FIRST_START     only while a first start is under way
//! ├── CURRENT_STATE   the name of the live directory below state/
//! ├── log/            RocksDB: the Raft log, the vote
//! ├── state/<number>/ RocksDB: the applied state
//! └── snapshots/<number>/{manifest, db/}
//! ```

pub(crate) mod data_dir;
mod durable;
pub(crate) mod latch;
pub(crate) mod log_db;
pub(crate) mod log_sync;
pub(crate) mod record;
pub(crate) mod snapshot_store;
pub(crate) mod state_db;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod wal_check;
