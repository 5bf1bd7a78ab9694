//! Our own form of every openraft type that goes to a disk or a wire.
//!
//! Each is a record of [`Kind`]: version, checksum, payload. Payloads are written by hand, integers little-endian and of
//! fixed width, so that the bytes of version 1 are what this file says and nothing else. A golden file holds an example
//! of each; a change of any of them needs the next version number.
//!
//! Proposals are never re-encoded: [`encode_append`] hands out the request as chunks, of which the proposals are slices of
//! the log's own bytes, and decoding slices them out of the received frame.

use crate::raft::types::{
    AppendEntriesRequest, AppendEntriesResponse, Entry, LeaderId, LogId, Membership, Payload, ProposalBytes,
    SnapshotMeta, SnapshotResponse, StoredMembership, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, Vote, VoteRequest, VoteResponse,
};
use crate::storage::record::{HEADER_LEN, Kind, RecordError};
use bytes::{Buf, BufMut, Bytes};
use holdfast_core::{Member, NodeId};
use openraft::raft::{StreamAppendError, TransferLeaderError};
use std::collections::{BTreeMap, BTreeSet};

/// A row of the log.
pub(crate) const ENTRY: Kind = Kind { what: "log entry", version: 1 };

/// A type with a form of its own on disk or wire.
pub(crate) trait Encoded: Sized {
    /// Its name in messages, and its version.
    const KIND: Kind;

    /// Appends the payload.
    fn write(&self, out: &mut Vec<u8>);

    /// Reads the payload, which [`decode`] checks to be used up.
    fn read(input: &mut Reader) -> Result<Self, Malformed>;
}

/// A row for the disk: the checksum covers `key` too. On a wire the key is empty.
pub(crate) fn encode<T: Encoded>(key: &[u8], value: &T) -> Bytes {
    T::KIND.seal(key, |out| value.write(out)).into()
}

/// The inverse of [`encode`].
///
/// # Errors
/// [`RecordError`] when the record is damaged or newer than this build.
pub(crate) fn decode<T: Encoded>(key: &[u8], record: &Bytes) -> Result<T, RecordError> {
    let mut input = Reader(T::KIND.open(key, record)?);
    match T::read(&mut input) {
        Ok(value) if input.0.is_empty() => Ok(value),
        Ok(_) | Err(Malformed) => Err(T::KIND.damaged(None)),
    }
}

/// The payload is not what its version prescribes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// What is left of a payload.
#[derive(Debug)]
pub(crate) struct Reader(Bytes);

impl Reader {
    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.0)
    }
}

impl Reader {
    fn u8(&mut self) -> Result<u8, Malformed> {
        self.0.try_get_u8().map_err(|_| Malformed)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.0.try_get_u32_le().map_err(|_| Malformed)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.0.try_get_u64_le().map_err(|_| Malformed)
    }

    fn bool(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }

    fn bytes(&mut self, len: u32) -> Result<Bytes, Malformed> {
        let len = usize::try_from(len).map_err(|_| Malformed)?;
        if self.0.len() < len { Err(Malformed) } else { Ok(self.0.split_to(len)) }
    }

    fn text(&mut self) -> Result<String, Malformed> {
        let len = self.u32()?;
        String::from_utf8(self.bytes(len)?.into()).map_err(|_| Malformed)
    }

    /// A node id of a leadership. Zero stands for "nobody yet": openraft's first entry and first vote have it.
    fn leader_node(&mut self) -> Result<NodeId, Malformed> {
        match self.u64()? {
            0 => Ok(NodeId::default()),
            id => NodeId::new(id).map_err(|_| Malformed),
        }
    }

    fn leader_id(&mut self) -> Result<LeaderId, Malformed> {
        Ok(LeaderId { term: self.u64()?, node_id: self.leader_node()? })
    }

    fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        if self.bool()? { read(self).map(Some) } else { Ok(None) }
    }
}

/// Lengths and counts are far below 2^32: an entry is at most 2 MiB and a request holds a bounded number of them.
fn put_len(out: &mut Vec<u8>, len: usize) {
    out.put_u32_le(u32::try_from(len).expect("a record is far smaller than 4 GiB"));
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_len(out, text.len());
    out.put_slice(text.as_bytes());
}

fn put_leader_id(out: &mut Vec<u8>, leader: &LeaderId) {
    out.put_u64_le(leader.term);
    out.put_u64_le(leader.node_id.as_u64());
}

fn put_option<T: Encoded>(out: &mut Vec<u8>, value: Option<&T>) {
    out.put_u8(u8::from(value.is_some()));
    if let Some(value) = value {
        value.write(out);
    }
}

impl Encoded for LogId {
    const KIND: Kind = Kind { what: "log id", version: 1 };

    fn write(&self, out: &mut Vec<u8>) {
        put_leader_id(out, &self.leader_id);
        out.put_u64_le(self.index);
    }

    fn read(input: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self::new(input.leader_id()?, input.u64()?))
    }
}

impl Encoded for Vote {
    const KIND: Kind = Kind { what: "vote", version: 1 };

    fn write(&self, out: &mut Vec<u8>) {
        put_leader_id(out, &self.leader_id);
        out.put_u8(u8::from(self.committed));
    }

    fn read(input: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self { leader_id: input.leader_id()?, committed: input.bool()? })
    }
}

impl Encoded for Membership {
    const KIND: Kind = Kind { what: "membership", version: 1 };

    fn write(&self, out: &mut Vec<u8>) {
        put_len(out, self.get_joint_config().len());
        for voters in self.get_joint_config() {
            put_len(out, voters.len());
            for id in voters {
                out.put_u64_le(id.as_u64());
            }
        }
        put_len(out, self.nodes().count());
        for (id, Member { name, api, peer, gossip }) in self.nodes() {
            out.put_u64_le(id.as_u64());
            for text in [name, api, peer, gossip] {
                put_text(out, text);
            }
        }
    }

    fn read(input: &mut Reader) -> Result<Self, Malformed> {
        let mut configs = Vec::new();
        for _ in 0..input.u32()? {
            let mut voters = BTreeSet::new();
            for _ in 0..input.u32()? {
                voters.insert(NodeId::new(input.u64()?).map_err(|_| Malformed)?);
            }
            configs.push(voters);
        }
        let mut nodes = BTreeMap::new();
        for _ in 0..input.u32()? {
            let id = NodeId::new(input.u64()?).map_err(|_| Malformed)?;
            let member = Member {
                name: input.text()?,
                api: input.text()?,
                peer: input.text()?,
                gossip: input.text()?,
            };
            nodes.insert(id, member);
        }
        Self::new(configs, nodes).map_err(|_| Malformed)
    }
}

impl Encoded for StoredMembership {
    const KIND: Kind = Kind { what: "stored membership", version: 1 };

    fn write(&self, out: &mut Vec<u8>) {
        put_option(out, self.log_id().as_ref());
        self.membership().write(out);
    }

    fn read(input: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self::new(input.option(LogId::read)?, Membership::read(input)?))
    }
}

impl Encoded for SnapshotMeta {
    const KIND: Kind = Kind { what: "snapshot metadata", version: 1 };

    fn write(&self, out: &mut Vec<u8>) {
        put_option(out, self.last_log_id.as_ref());
        self.last_membership.write(out);
    }

    fn read(input: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self { last_log_id: input.option(LogId::read)?, last_membership: StoredMembership::read(input)? })
    }
}

// === entries ===

const BLANK: u8 = 0;
const NORMAL: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// Appends what precedes the body and returns the body: the proposal's own bytes, or an encoded membership.
fn write_entry_head(entry: &Entry, out: &mut Vec<u8>) -> Bytes {
    entry.log_id.write(out);
    match &entry.payload {
        Payload::Blank => {
            out.put_u8(BLANK);
            Bytes::new()
        }
        Payload::Normal(ProposalBytes(proposal)) => {
            out.put_u8(NORMAL);
            proposal.clone()
        }
        Payload::Membership(membership) => {
            out.put_u8(MEMBERSHIP);
            let mut body = Vec::new();
            membership.write(&mut body);
            body.into()
        }
    }
}

fn entry_of(log_id: LogId, tag: u8, body: Bytes) -> Result<Entry, Malformed> {
    let payload = match tag {
        BLANK if body.is_empty() => Payload::Blank,
        NORMAL => Payload::Normal(ProposalBytes(body)),
        MEMBERSHIP => {
            let mut input = Reader(body);
            let membership = Membership::read(&mut input)?;
            if !input.0.is_empty() {
                return Err(Malformed);
            }
            Payload::Membership(membership)
        }
        _ => return Err(Malformed),
    };
    Ok(Entry { log_id, payload })
}

/// The row of an entry in the log; `key` is the row's key.
pub(crate) fn encode_entry(key: &[u8], entry: &Entry) -> Bytes {
    let write = |out: &mut Vec<u8>| {
        let body = write_entry_head(entry, out);
        out.put_slice(&body);
    };
    ENTRY.seal(key, write).into()
}

/// The inverse of [`encode_entry`]. The proposal shares the row's memory.
///
/// # Errors
/// [`RecordError`] with the `index`; also when the row holds an entry of another index.
pub(crate) fn decode_entry(key: &[u8], index: u64, row: &Bytes) -> Result<Entry, RecordError> {
    let damaged = ENTRY.damaged(Some(index));
    let payload = match ENTRY.open(key, row) {
        Ok(payload) => payload,
        Err(RecordError::Damaged { .. }) => return Err(damaged),
        Err(newer @ RecordError::Newer { .. }) => return Err(newer),
    };
    let mut input = Reader(payload);
    let read = |input: &mut Reader| {
        let log_id = LogId::read(input)?;
        let tag = input.u8()?;
        entry_of(log_id, tag, std::mem::take(&mut input.0))
    };
    match read(&mut input) {
        Ok(entry) if entry.log_id.index == index => Ok(entry),
        Ok(_) | Err(Malformed) => Err(damaged),
    }
}

// === messages between nodes ===

const APPEND_REQUEST: Kind = Kind { what: "append request", version: 1 };

/// An append request as chunks to send one after the other: a head, then the body of each entry.
///
/// A follower on another disk must not depend on this node's row format, so a request carries entries in a form of its
/// own: all heads first, then all bodies.
pub(crate) fn encode_append(request: &AppendEntriesRequest) -> Vec<Bytes> {
    let mut head = vec![0; HEADER_LEN];
    let mut bodies = Vec::with_capacity(request.entries.len());
    request.vote.write(&mut head);
    put_option(&mut head, request.prev_log_id.as_ref());
    put_option(&mut head, request.leader_commit.as_ref());
    put_len(&mut head, request.entries.len());
    for entry in &request.entries {
        let body = write_entry_head(entry, &mut head);
        put_len(&mut head, body.len());
        bodies.push(body);
    }
    APPEND_REQUEST.seal_in_place(&[], &mut head, &bodies);
    let mut chunks = Vec::with_capacity(1 + bodies.len());
    chunks.push(Bytes::from(head));
    chunks.extend(bodies.into_iter().filter(|body| !body.is_empty()));
    chunks
}

/// The inverse of [`encode_append`], from the joined chunks. Proposals share the frame's memory.
///
/// # Errors
/// [`RecordError`] when the frame is damaged or newer than this build.
pub(crate) fn decode_append(frame: &Bytes) -> Result<AppendEntriesRequest, RecordError> {
    let mut input = Reader(APPEND_REQUEST.open(&[], frame)?);
    match read_append(&mut input) {
        Ok(request) if input.0.is_empty() => Ok(request),
        Ok(_) | Err(Malformed) => Err(APPEND_REQUEST.damaged(None)),
    }
}

fn read_append(input: &mut Reader) -> Result<AppendEntriesRequest, Malformed> {
    let vote = Vote::read(input)?;
    let prev_log_id = input.option(LogId::read)?;
    let leader_commit = input.option(LogId::read)?;
    let mut heads = Vec::new();
    for _ in 0..input.u32()? {
        heads.push((LogId::read(input)?, input.u8()?, input.u32()?));
    }
    let mut entries = Vec::with_capacity(heads.len());
    for (log_id, tag, len) in heads {
        entries.push(entry_of(log_id, tag, input.bytes(len)?)?);
    }
    Ok(AppendEntriesRequest { vote, prev_log_id, entries, leader_commit })
}

impl Encoded for AppendEntriesResponse {
    const KIND: Kind = Kind { what: "append response", version: 1 };

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Success => out.put_u8(0),
            Self::PartialSuccess(matched) => {
                out.put_u8(1);
                put_option(out, matched.as_ref());
            }
            Self::Conflict => out.put_u8(2),
            Self::HigherVote(vote) => {
                out.put_u8(3);
                vote.write(out);
            }
        }
    }

    fn read(input: &mut Reader) -> Result<Self, Malformed> {
        match input.u8()? {
            0 => Ok(Self::Success),
            1 => Ok(Self::PartialSuccess(input.option(LogId::read)?)),
            2 => Ok(Self::Conflict),
            3 => Ok(Self::HigherVote(Vote::read(input)?)),
            _ => Err(Malformed),
        }
    }
}

impl Encoded for StreamAppendResult {
    const KIND: Kind = Kind { what: "stream append result", version: 1 };

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Ok(matched) => {
                out.put_u8(0);
                put_option(out, matched.as_ref());
            }
            Err(StreamAppendError::Conflict(log_id)) => {
                out.put_u8(1);
                log_id.write(out);
            }
            Err(StreamAppendError::HigherVote(vote)) => {
                out.put_u8(2);
                vote.write(out);
            }
        }
    }

    fn read(input: &mut Reader) -> Result<Self, Malformed> {
        match input.u8()? {
            0 => Ok(Ok(input.option(LogId::read)?)),
            1 => Ok(Err(StreamAppendError::Conflict(LogId::read(input)?))),
            2 => Ok(Err(StreamAppendError::HigherVote(Vote::read(input)?))),
            _ => Err(Malformed),
        }
    }
}

impl Encoded for VoteRequest {
    const KIND: Kind = Kind { what: "vote request", version: 1 };

    fn write(&self, out: &mut Vec<u8>) {
        let Self { vote, last_log_id, leadership_transfer } = self;
        vote.write(out);
        put_option(out, last_log_id.as_ref());
        out.put_u8(u8::from(*leadership_transfer));
    }

    fn read(input: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self {
            vote: Vote::read(input)?,
            last_log_id: input.option(LogId::read)?,
            leadership_transfer: input.bool()?,
        })
    }
}

impl Encoded for VoteResponse {
    const KIND: Kind = Kind { what: "vote response", version: 1 };

    fn write(&self, out: &mut Vec<u8>) {
        let Self { vote, vote_granted, last_log_id } = self;
        vote.write(out);
        out.put_u8(u8::from(*vote_granted));
        put_option(out, last_log_id.as_ref());
    }

    fn read(input: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self {
            vote: Vote::read(input)?,
            vote_granted: input.bool()?,
            last_log_id: input.option(LogId::read)?,
        })
    }
}

impl Encoded for TransferLeaderRequest {
    const KIND: Kind = Kind { what: "leader transfer request", version: 1 };

    fn write(&self, out: &mut Vec<u8>) {
        self.from_leader().write(out);
        out.put_u64_le(self.to_node_id().as_u64());
        put_option(out, self.last_log_id());
    }

    fn read(input: &mut Reader) -> Result<Self, Malformed> {
        let from = Vote::read(input)?;
        let to = NodeId::new(input.u64()?).map_err(|_| Malformed)?;
        Ok(Self::new(from, to, input.option(LogId::read)?))
    }
}

impl Encoded for TransferLeaderResponse {
    const KIND: Kind = Kind { what: "leader transfer response", version: 1 };

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Ok(()) => out.put_u8(0),
            Err(TransferLeaderError::VoteChanged { expected, actual }) => {
                out.put_u8(1);
                expected.write(out);
                actual.write(out);
            }
            Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
                out.put_u8(2);
                put_option(out, expected.as_ref());
                put_option(out, actual.as_ref());
            }
        }
    }

    fn read(input: &mut Reader) -> Result<Self, Malformed> {
        match input.u8()? {
            0 => Ok(Ok(())),
            1 => Ok(Err(TransferLeaderError::VoteChanged {
                expected: Vote::read(input)?,
                actual: Vote::read(input)?,
            })),
            2 => Ok(Err(TransferLeaderError::LogNotFlushed {
                expected: input.option(LogId::read)?,
                actual: input.option(LogId::read)?,
            })),
            _ => Err(Malformed),
        }
    }
}

impl Encoded for SnapshotResponse {
    const KIND: Kind = Kind { what: "snapshot response", version: 1 };

    fn write(&self, out: &mut Vec<u8>) {
        self.vote.write(out);
    }

    fn read(input: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self::new(Vote::read(input)?))
    }
}

#[cfg(test)]
mod codec_test;
