//! Configuration: `/v1/namespaces/{ns}/config`, `…/history`, `…/diff`, `…/rollback` and `…/txn`.
//!
//! ```text
//!   item       one version of one item, its entity tag       guard   the lock or election that a write depends on
//!   history    what an item was; differences; rollbacks      txn     several writes under conditions, all or none
//! ```

mod guard;
mod history;
mod item;
mod txn;
pub(crate) mod value;

pub use guard::{InvalidWriteGuard, WriteGuard};
pub use history::{
    ConfigDiff, ConfigHistory, ConfigVersion, ConfigWrite, DeletedVersion, RollbackRequest, WrittenVersion,
};
pub use item::{ConfigItem, ConfigList, ETag, InvalidETag};
pub use txn::{
    CompareOp, RevisionTarget, TxnAnswer, TxnCompare, TxnDeleted, TxnKey, TxnOp, TxnPut, TxnRead, TxnRequest,
    TxnResult,
};

pub(crate) use item::decimal;
