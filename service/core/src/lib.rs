//! The pure core of Holdfast: what the cluster agrees on, and nothing of how it gets there.
//!
//! No clock, no randomness, no IO and no async in here; time, ids and seeds are parameters, and every collection is
//! ordered. Five invariants hold for the whole of Holdfast, the first two of them in this crate:
//!
//! 1. `core` is deterministic: two replicas that apply the same entries are equal byte for byte.
//! 2. `apply` is the only code that changes replicated state. It cannot fail and cannot await; a refusal is an outcome.
//! 3. A client is answered only after the entry that carries its answer is durable on a majority and applied.
//! 4. A fencing token is the revision of one grant; tokens strictly increase and are never shared.
//! 5. The operator decides only from what it observed; `plan` is a function; executing a stale plan is harmless.

pub mod deadlines;
pub mod domain;
pub mod limits;
pub mod membership;
#[cfg(feature = "testing")]
pub mod testing;

mod clock;
mod name;
mod node;
mod revision;

pub use clock::LogTime;
pub use name::{ClaimId, ConfigKey, InvalidName, LockName, NamespaceName, RESERVED_ID_PREFIX, SessionId};
pub use node::{InvalidNodeId, LeaderId, Member, NodeId, Term};
pub use revision::{FencingToken, Revision};
