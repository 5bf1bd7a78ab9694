//! What tests of the state machine share, here and in the crates around it: an independent model, and random histories.
//!
//! Behind the feature `testing`, which no shipped binary turns on. [`Model`] is a second, naive state machine written
//! from the rules rather than from the first one: plain lists, searched from end to end. [`history`] makes a reproducible
//! log from a seed, in a world so small that ids collide, sessions expire and limits are reached all the time.

mod generator;
mod model;
mod random;

pub use generator::{CLAIMS, KEYS, LOCKS, NAMESPACES, Profile, SESSIONS, history, history_of, members};
pub use model::{
    ConfigSnapshot, LockSight, Model, ModelClaim, ModelClaimState, ModelClaimTombstone, ModelItem, ModelLock,
    ModelReplay, ModelSession, ModelSessionTombstone, ModelSet, ModelValue, ModelVersion,
};
pub use random::Random;
