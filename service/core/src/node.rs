//! Who a node is: its id for ever, and the addresses its cluster knows it by.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The identity of one disk: a random number below 2^63, drawn when the disk is first used.
///
/// It is never reused: a node that lost its disk is another node. Written as 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(u64);

/// Why a text or number is not a [`NodeId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNodeId {
    /// Not exactly 16 hexadecimal digits.
    #[error("a node id is 16 hexadecimal digits")]
    NotHex,
    /// Zero, or 2^63 and above.
    #[error("a node id is a number from 1 to 2^63 - 1")]
    OutOfRange,
}

impl NodeId {
    /// The largest id: ids keep the top bit free so that they fit a signed 64-bit column anywhere.
    pub const MAX: Self = Self(i64::MAX as u64);

    /// A node id from its number.
    ///
    /// # Errors
    /// [`InvalidNodeId::OutOfRange`] for 0 and for 2^63 and above.
    pub const fn new(id: u64) -> Result<Self, InvalidNodeId> {
        if id == 0 || id > Self::MAX.0 { Err(InvalidNodeId::OutOfRange) } else { Ok(Self(id)) }
    }

    /// The number itself, for encodings.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for NodeId {
    type Err = InvalidNodeId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        if !digits {
            return Err(InvalidNodeId::NotHex);
        }
        let id = u64::from_str_radix(text, 16).map_err(|_| InvalidNodeId::NotHex)?;
        Self::new(id)
    }
}

/// What the membership remembers of a node. Set when the node is added, never changed afterwards:
/// changing an address in place can split a cluster in two.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// A label for people, such as the pod's name. Not an identity.
    pub name: String,
    /// `host:port` of the REST API.
    pub api: String,
    /// `host:port` of the Raft peers' port.
    pub peer: String,
    /// `host:port` of gossip.
    pub gossip: String,
}

/// A Raft term.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Term(pub u64);

/// The identity of one leadership: a term may see several candidates win in turn, so the node is part of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeaderId {
    /// The term in which the leader was elected.
    pub term: Term,
    /// The leader.
    pub node: NodeId,
}

#[cfg(test)]
mod tests {
    use super::{InvalidNodeId, NodeId};

    #[test]
    fn a_node_id_reads_back_what_it_prints() {
        let id = NodeId::new(0x1234_5678_9abc_def0 & NodeId::MAX.as_u64()).unwrap();
        assert_eq!(id.to_string().parse::<NodeId>().unwrap(), id);
    }

    #[test]
    fn zero_and_the_top_bit_are_refused() {
        assert_eq!(NodeId::new(0), Err(InvalidNodeId::OutOfRange));
        assert_eq!("ffffffffffffffff".parse::<NodeId>(), Err(InvalidNodeId::OutOfRange));
        assert_eq!("+23456789abcdef0".parse::<NodeId>(), Err(InvalidNodeId::NotHex));
        assert_eq!("12".parse::<NodeId>(), Err(InvalidNodeId::NotHex));
    }
}
