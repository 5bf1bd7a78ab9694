//! Raft messages over the peers' transport: what this node sends, and how it answers what others send.
//!
//! Appends have their own connection. Votes, pre-votes, heartbeats and the transfer of leadership share another, so that a
//! follower that is busy with a megabyte of entries still hears its leader. Snapshots have a third.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use holdfast_core::{Member, NodeId};
use openraft::AnyError;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use tokio_util::sync::CancellationToken;

use crate::peer::{CallChannel, CallError, Lost, NotSent, Peer, PeerPool, TransferError};
use crate::raft::codec::{self, Encoded, Malformed, Reader};
use crate::raft::snapshot::SnapshotFiles;
use crate::raft::types::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, TypeConfig, Vote, VoteRequest, VoteResponse,
};
use crate::storage::record::Kind;

/// Entries, or a heartbeat when there are none.
pub(crate) const KIND_APPEND: u8 = 1;
/// A request for a vote.
pub(crate) const KIND_VOTE: u8 = 2;
/// The question whether a vote would be given.
pub(crate) const KIND_PRE_VOTE: u8 = 3;
/// The request to lead.
pub(crate) const KIND_TRANSFER: u8 = 4;

/// How long a follower may take to make entries durable and answer. Longer than any sound fsync: the leader keeps its place
/// by heartbeats meanwhile, and giving up early would only send the same entries again.
const APPEND_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes connections to members.
pub(crate) struct Network {
    pool: PeerPool,
    node: NodeId,
}

impl Network {
    /// The network of one node.
    pub(crate) fn new(pool: PeerPool, node: NodeId) -> Self {
        Self { pool, node }
    }

    fn connection(&self, target: NodeId, member: &Member, appends: CallChannel) -> Connection {
        Connection { node: self.node, target, peer: self.pool.peer(target, &member.peer), appends }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: NodeId, member: &Member) -> Connection {
        self.connection(target, member, CallChannel::Append)
    }

    async fn new_heartbeat_client(&mut self, target: NodeId, member: &Member) -> Connection {
        self.connection(target, member, CallChannel::Control)
    }
}

/// One use of one peer.
pub(crate) struct Connection {
    node: NodeId,
    target: NodeId,
    peer: Peer,
    /// Which connection carries appends: heartbeats do not queue behind entries.
    appends: CallChannel,
}

impl Connection {
    async fn call<T: Encoded>(
        &self,
        channel: CallChannel,
        kind: u8,
        payload: Bytes,
        timeout: Duration,
        action: RPCTypes,
    ) -> Result<T, RPCError<TypeConfig>> {
        let failed = |error: CallError| self.failed(&error, action, timeout);
        let answer = self.peer.call(channel, kind, payload, timeout).await.map_err(failed)?;
        decode_answer(&answer).map_err(|error| RPCError::Network(NetworkError::new(&error)))
    }

    /// What a failed call means to the consensus: unreachable backs off, everything else is tried again at once.
    fn failed(&self, error: &CallError, action: RPCTypes, timeout: Duration) -> RPCError<TypeConfig> {
        match error {
            CallError::NotSent(NotSent::Unreachable(_) | NotSent::Closed) => {
                RPCError::Unreachable(Unreachable::new(error))
            }
            CallError::NotSent(NotSent::TimedOut) | CallError::Lost(Lost::TimedOut) => {
                RPCError::Timeout(Timeout { action, id: self.node, target: self.target, timeout })
            }
            CallError::NotSent(NotSent::Broken(_) | NotSent::WindowFull | NotSent::TooLarge { .. })
            | CallError::Lost(Lost::Broken(_) | Lost::Closed) => RPCError::Network(NetworkError::new(error)),
        }
    }
}

/// Joins the chunks of a request into one frame.
fn join(chunks: &[Bytes]) -> Bytes {
    if let [only] = chunks {
        return only.clone();
    }
    let mut frame = BytesMut::with_capacity(chunks.iter().map(Bytes::len).sum());
    chunks.iter().for_each(|chunk| frame.extend_from_slice(chunk));
    frame.freeze()
}

impl RaftNetworkV2<TypeConfig> for Connection {
    type SnapshotData = SnapshotFiles;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse, RPCError<TypeConfig>> {
        let timeout = match self.appends {
            CallChannel::Append => APPEND_TIMEOUT,
            CallChannel::Control => option.soft_ttl(),
        };
        let frame = join(&codec::encode_append(&request));
        self.call(self.appends, KIND_APPEND, frame, timeout, RPCTypes::AppendEntries).await
    }

    async fn vote(
        &mut self,
        request: VoteRequest,
        option: RPCOption,
    ) -> Result<VoteResponse, RPCError<TypeConfig>> {
        let payload = codec::encode(&[], &request);
        self.call(CallChannel::Control, KIND_VOTE, payload, option.soft_ttl(), RPCTypes::Vote).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest,
        option: RPCOption,
    ) -> Result<VoteResponse, RPCError<TypeConfig>> {
        let payload = codec::encode(&[], &request);
        self.call(CallChannel::Control, KIND_PRE_VOTE, payload, option.soft_ttl(), RPCTypes::Vote).await
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse, RPCError<TypeConfig>> {
        let payload = codec::encode(&[], &request);
        self.call(CallChannel::Control, KIND_TRANSFER, payload, option.soft_ttl(), RPCTypes::TransferLeader)
            .await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::alias::SnapshotOf<TypeConfig, SnapshotFiles>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse, StreamingError<TypeConfig>> {
        let (manifest, files) = snapshot
            .snapshot
            .to_send()
            .map_err(|error| StreamingError::Network(NetworkError::new(&error)))?;
        let header = codec::encode(&[], &SnapshotHeader { vote, manifest });
        let stop = CancellationToken::new();
        let sending = self.peer.send_files(header, files, &stop);
        let answer = tokio::select! {
            sent = sending => sent.map_err(|error| transfer_failed(&error))?,
            closed = cancel => {
                stop.cancel();
                return Err(StreamingError::Closed(closed));
            }
        };
        decode_answer(&answer).map_err(|error| StreamingError::Network(NetworkError::new(&error)))
    }
}

fn transfer_failed(error: &TransferError) -> StreamingError<TypeConfig> {
    match error {
        TransferError::Unreachable(_) => StreamingError::Unreachable(Unreachable::new(error)),
        TransferError::InProgress
        | TransferError::Cancelled
        | TransferError::ReadFile { .. }
        | TransferError::FileShrank { .. }
        | TransferError::InvalidFiles(_)
        | TransferError::Refused(_)
        | TransferError::Broken(_) => StreamingError::Network(NetworkError::new(error)),
    }
}

/// What goes ahead of the files of a snapshot.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotHeader {
    /// The leadership that sends it.
    pub(crate) vote: Vote,
    /// The sender's manifest: what it contains, and its files with their checksums.
    pub(crate) manifest: Bytes,
}

impl Encoded for SnapshotHeader {
    const KIND: Kind = Kind { what: "snapshot header", version: 1 };

    fn write(&self, out: &mut Vec<u8>) {
        self.vote.write(out);
        out.extend_from_slice(&self.manifest);
    }

    fn read(input: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self { vote: Vote::read(input)?, manifest: input.rest() })
    }
}

/// The first byte of an answer: the message follows.
const ANSWERED: u8 = 0;
/// The first byte of an answer: the reason follows, as text.
const FAILED: u8 = 1;

/// An answer that carries a message.
pub(crate) fn answer<T: Encoded>(message: &T) -> Bytes {
    let record = codec::encode(&[], message);
    let mut out = BytesMut::with_capacity(1 + record.len());
    out.extend_from_slice(&[ANSWERED]);
    out.extend_from_slice(&record);
    out.freeze()
}

/// An answer that says why there is none.
pub(crate) fn refuse(reason: &dyn std::fmt::Display) -> Bytes {
    let mut out = vec![FAILED];
    out.extend_from_slice(reason.to_string().as_bytes());
    Bytes::from(out)
}

fn decode_answer<T: Encoded>(answer: &Bytes) -> Result<T, AnyError> {
    match answer.first() {
        Some(&ANSWERED) => codec::decode(&[], &answer.slice(1..)).map_err(|error| AnyError::new(&error)),
        Some(&FAILED) => Err(AnyError::error(String::from_utf8_lossy(&answer[1..]).into_owned())),
        Some(_) | None => Err(AnyError::error("the peer's answer is of an unknown kind")),
    }
}

#[cfg(test)]
mod tests {
    use super::{SnapshotHeader, answer, decode_answer, refuse};
    use crate::raft::codec;
    use crate::raft::types::{Vote, VoteResponse};
    use bytes::Bytes;
    use holdfast_core::NodeId;

    fn vote() -> Vote {
        Vote::new_committed(3, NodeId::new(0x1122).unwrap())
    }

    #[test]
    fn golden_bytes_of_the_snapshot_header() {
        let header = SnapshotHeader { vote: vote(), manifest: Bytes::from_static(b"manifest") };
        let record = codec::encode(&[], &header);
        let payload = [&3_u64.to_le_bytes()[..], &0x1122_u64.to_le_bytes(), &[1], b"manifest"].concat();
        assert_eq!((record[0], &record[5..]), (1, payload.as_slice()));
        let read: SnapshotHeader = codec::decode(&[], &record).unwrap();
        assert_eq!((read.vote, read.manifest), (header.vote, header.manifest));
    }

    #[test]
    fn an_answer_is_a_message_or_a_reason() {
        let message = VoteResponse::new(vote(), None, true);
        let answered = answer(&message);
        assert_eq!(answered[0], 0);
        assert_eq!(decode_answer::<VoteResponse>(&answered).unwrap(), message);
        let refused = decode_answer::<VoteResponse>(&refuse(&"not today")).unwrap_err();
        assert!(refused.to_string().contains("not today"));
        assert!(decode_answer::<VoteResponse>(&Bytes::from_static(&[7])).is_err());
        assert!(decode_answer::<VoteResponse>(&Bytes::new()).is_err());
    }
}
