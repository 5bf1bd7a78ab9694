//! The pure core of Holdfast.

mod node;

pub use node::{InvalidNodeId, LeaderId, Member, NodeId, Term};
