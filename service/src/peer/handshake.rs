//! Who talks to whom: the first frame in each direction.
//!
//! ```text
//!   dialer                                             acceptor
//!     │ Hello {magic, versions, cluster, from, to, …}     │
//!     ├──────────────────────────────────────────────────►│ versions? then PeerService::admit
//!     │           HelloAck {version} | HelloRefused {why} │
//!     │◄──────────────────────────────────────────────────┤
//! ```
//!
//! Fields of a Hello, in order: magic (4), oldest version (1), newest version (1), from (8), to (8), channel
//! (1), cluster id (2 + n), software (2 + n). Bytes after them are ignored, so that a later version may say
//! more and still be refused in words.

use crate::peer::frame::{Frame, FrameError, FrameType, Link, PROTOCOL_VERSION};
use crate::peer::limits::{CLUSTER_ID_BYTES_MAX, HANDSHAKE_TIMEOUT, SOFTWARE_BYTES_MAX};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use holdfast_core::NodeId;
use std::ops::RangeInclusive;
use tokio::io::{AsyncRead, AsyncWrite};

/// The first bytes of a Hello: "Holdfast peer".
const MAGIC: [u8; 4] = *b"HFPR";

/// The versions that this software speaks.
pub(super) const VERSIONS: RangeInclusive<u8> = PROTOCOL_VERSION..=PROTOCOL_VERSION;

/// What a connection is for. Each has its own, so that none waits behind another. The numbers are on the
/// wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum Channel {
    /// Log entries, in order.
    Append = 1,
    /// Votes, heartbeats, leader transfer: small and urgent.
    Control = 2,
    /// One transfer of files.
    Snapshot = 3,
}

impl Channel {
    /// All channels.
    pub(crate) const ALL: [Self; 3] = [Self::Append, Self::Control, Self::Snapshot];

    /// The channel's name in logs and metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Control => "control",
            Self::Snapshot => "snapshot",
        }
    }

    const fn code(self) -> u8 {
        self as u8
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|channel| channel.code() == code)
    }
}

/// The channels that carry calls; the snapshot channel carries files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum CallChannel {
    /// See [`Channel::Append`].
    Append,
    /// See [`Channel::Control`].
    Control,
}

impl From<CallChannel> for Channel {
    fn from(channel: CallChannel) -> Self {
        match channel {
            CallChannel::Append => Self::Append,
            CallChannel::Control => Self::Control,
        }
    }
}

/// What the dialer says of itself and of the node that it means to reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    /// The dialer.
    pub(crate) from: NodeId,
    /// The node that the dialer means: an address may have gone to another.
    pub(crate) to: NodeId,
    /// What the connection is for.
    pub(crate) channel: Channel,
    /// The dialer's cluster; empty while it has none.
    pub(crate) cluster_id: String,
    /// The dialer's software version, for logs only.
    pub(crate) software: String,
}

impl Hello {
    /// The payload of the Hello frame, offering `versions`.
    pub(super) fn encode(&self, versions: &RangeInclusive<u8>) -> Bytes {
        let mut out = BytesMut::with_capacity(64 + self.cluster_id.len() + self.software.len());
        out.put_slice(&MAGIC);
        out.put_u8(*versions.start());
        out.put_u8(*versions.end());
        out.put_u64(self.from.as_u64());
        out.put_u64(self.to.as_u64());
        out.put_u8(self.channel.code());
        put_text(&mut out, &self.cluster_id, CLUSTER_ID_BYTES_MAX);
        put_text(&mut out, &self.software, SOFTWARE_BYTES_MAX);
        out.freeze()
    }

    /// The versions that the dialer offers, and the rest once the versions fit.
    fn decode(mut payload: Bytes) -> Result<Result<Self, Refusal>, FrameError> {
        const BROKEN: FrameError = FrameError::Malformed { what: "the hello" };
        if payload.try_get_u32().ok() != Some(u32::from_be_bytes(MAGIC)) {
            return Err(FrameError::Malformed { what: "the magic of the hello" });
        }
        let oldest = payload.try_get_u8().map_err(|_| BROKEN)?;
        let newest = payload.try_get_u8().map_err(|_| BROKEN)?;
        if newest < *VERSIONS.start() || *VERSIONS.end() < oldest {
            let refusal = Refusal::UnsupportedVersion { min: *VERSIONS.start(), max: *VERSIONS.end() };
            return Ok(Err(refusal));
        }
        let from = node_id(&mut payload).ok_or(BROKEN)?;
        let to = node_id(&mut payload).ok_or(BROKEN)?;
        let channel = payload.try_get_u8().ok().and_then(Channel::from_code).ok_or(BROKEN)?;
        let cluster_id = text(&mut payload, CLUSTER_ID_BYTES_MAX).ok_or(BROKEN)?;
        let software = text(&mut payload, SOFTWARE_BYTES_MAX).ok_or(BROKEN)?;
        Ok(Ok(Self { from, to, channel, cluster_id, software }))
    }
}

/// Why an acceptor wants no connection. The dialer gets it as a typed error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Another node lives at this address.
    #[error("the address belongs to node {actual}")]
    WrongNode { actual: NodeId },
    /// The node belongs to another cluster.
    #[error("the node belongs to cluster {actual:?}")]
    WrongCluster { actual: String },
    /// No version is spoken by both.
    #[error("the node speaks peer protocol versions {min} to {max}")]
    UnsupportedVersion { min: u8, max: u8 },
    /// The dialer was removed from the cluster, for ever.
    #[error("this node was removed from the cluster")]
    Removed,
    /// The node is stopping, or may not take part.
    #[error("the node takes no peers at this time")]
    NotAccepting,
    /// The node has too many connections, or an earlier one of the same kind has not ended.
    #[error("the node is busy")]
    Busy,
}

/// A [`Refusal`] without its values, as a label. The numbers are on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum RefusalReason {
    /// See [`Refusal::WrongNode`].
    WrongNode = 1,
    /// See [`Refusal::WrongCluster`].
    WrongCluster = 2,
    /// See [`Refusal::UnsupportedVersion`].
    UnsupportedVersion = 3,
    /// See [`Refusal::Removed`].
    Removed = 4,
    /// See [`Refusal::NotAccepting`].
    NotAccepting = 5,
    /// See [`Refusal::Busy`].
    Busy = 6,
}

impl RefusalReason {
    /// All reasons.
    pub(crate) const ALL: [Self; 6] = [
        Self::WrongNode,
        Self::WrongCluster,
        Self::UnsupportedVersion,
        Self::Removed,
        Self::NotAccepting,
        Self::Busy,
    ];

    /// The label in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::WrongNode => "wrong-node",
            Self::WrongCluster => "wrong-cluster",
            Self::UnsupportedVersion => "unsupported-version",
            Self::Removed => "removed",
            Self::NotAccepting => "not-accepting",
            Self::Busy => "busy",
        }
    }

    /// The number on the wire, from 1 without gaps.
    pub(super) const fn code(self) -> u8 {
        self as u8
    }
}

impl Refusal {
    /// Its label.
    pub(crate) const fn reason(&self) -> RefusalReason {
        match self {
            Self::WrongNode { .. } => RefusalReason::WrongNode,
            Self::WrongCluster { .. } => RefusalReason::WrongCluster,
            Self::UnsupportedVersion { .. } => RefusalReason::UnsupportedVersion,
            Self::Removed => RefusalReason::Removed,
            Self::NotAccepting => RefusalReason::NotAccepting,
            Self::Busy => RefusalReason::Busy,
        }
    }

    /// The payload of the refusal frame.
    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(self.reason().code());
        match self {
            Self::WrongNode { actual } => out.put_u64(actual.as_u64()),
            Self::WrongCluster { actual } => put_text(&mut out, actual, CLUSTER_ID_BYTES_MAX),
            Self::UnsupportedVersion { min, max } => out.put_slice(&[*min, *max]),
            Self::Removed | Self::NotAccepting | Self::Busy => {}
        }
        out.freeze()
    }

    /// Reads a refusal frame's payload.
    ///
    /// # Errors
    /// [`FrameError::Malformed`] for a reason that this version does not have, or one that is not whole.
    pub(super) fn decode(mut payload: Bytes) -> Result<Self, FrameError> {
        const BROKEN: FrameError = FrameError::Malformed { what: "the refusal" };
        let code = payload.try_get_u8().map_err(|_| BROKEN)?;
        let reason = RefusalReason::ALL.into_iter().find(|reason| reason.code() == code).ok_or(BROKEN)?;
        let refusal = match reason {
            RefusalReason::WrongNode => Self::WrongNode { actual: node_id(&mut payload).ok_or(BROKEN)? },
            RefusalReason::WrongCluster => {
                Self::WrongCluster { actual: text(&mut payload, CLUSTER_ID_BYTES_MAX).ok_or(BROKEN)? }
            }
            RefusalReason::UnsupportedVersion => {
                let min = payload.try_get_u8().map_err(|_| BROKEN)?;
                let max = payload.try_get_u8().map_err(|_| BROKEN)?;
                Self::UnsupportedVersion { min, max }
            }
            RefusalReason::Removed => Self::Removed,
            RefusalReason::NotAccepting => Self::NotAccepting,
            RefusalReason::Busy => Self::Busy,
        };
        if payload.is_empty() { Ok(refusal) } else { Err(BROKEN) }
    }
}

/// How the dialer's half of the handshake failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum GreetError {
    #[error("the peer refused the connection: {0}")]
    Refused(Refusal),
    #[error("the handshake failed: {0}")]
    Broken(FrameError),
    #[error("the peer did not answer the handshake")]
    TimedOut,
}

/// The dialer's half: says hello and waits for the answer.
///
/// # Errors
/// See [`GreetError`].
pub(super) async fn greet<S>(link: &mut Link<S>, hello: &Hello) -> Result<(), GreetError>
where
    S: AsyncRead + AsyncWrite,
{
    let exchange = async {
        link.writer.write(FrameType::Hello, 0, &[], &hello.encode(&VERSIONS)).await?;
        link.writer.flush().await?;
        link.reader.next().await
    };
    let answered = tokio::time::timeout(HANDSHAKE_TIMEOUT, exchange).await;
    let frame = answered.map_err(|_| GreetError::TimedOut)?.map_err(GreetError::Broken)?;
    accepted(frame)
}

fn accepted(frame: Frame) -> Result<(), GreetError> {
    match frame.kind {
        FrameType::HelloAck if frame.payload[..] == [PROTOCOL_VERSION] => Ok(()),
        FrameType::HelloAck => Err(GreetError::Broken(FrameError::Malformed { what: "the agreed version" })),
        FrameType::HelloRefused => {
            Err(Refusal::decode(frame.payload).map_or_else(GreetError::Broken, GreetError::Refused))
        }
        FrameType::Hello
        | FrameType::Request
        | FrameType::Response
        | FrameType::TransferBegin
        | FrameType::TransferReady
        | FrameType::TransferChunk
        | FrameType::TransferFileEnd
        | FrameType::TransferFinish
        | FrameType::TransferWorking
        | FrameType::TransferAnswer
        | FrameType::TransferFailed => {
            Err(GreetError::Broken(FrameError::Unexpected { kind: frame.kind.code() }))
        }
    }
}

/// The acceptor's first half: what the dialer says, or the refusal that its versions deserve.
///
/// # Errors
/// Not a Hello of any version, or none within [`HANDSHAKE_TIMEOUT`].
pub(super) async fn read_hello<S>(link: &mut Link<S>) -> Result<Result<Hello, Refusal>, FrameError>
where
    S: AsyncRead + AsyncWrite,
{
    let after = HANDSHAKE_TIMEOUT;
    let frame = tokio::time::timeout(after, link.reader.next()).await;
    let frame = frame.map_err(|_| FrameError::Silent { after })??;
    if frame.kind != FrameType::Hello {
        return Err(FrameError::Unexpected { kind: frame.kind.code() });
    }
    Hello::decode(frame.payload)
}

/// The acceptor's second half.
///
/// # Errors
/// The connection broke.
pub(super) async fn answer_hello<S>(link: &mut Link<S>, refusal: Option<&Refusal>) -> Result<(), FrameError>
where
    S: AsyncRead + AsyncWrite,
{
    match refusal {
        None => link.writer.write(FrameType::HelloAck, 0, &[], &[PROTOCOL_VERSION]).await?,
        Some(refusal) => link.writer.write(FrameType::HelloRefused, 0, &[], &refusal.encode()).await?,
    }
    link.writer.flush().await
}

/// A text with its length before it, cut at a character when it is longer than `bytes_max`.
pub(super) fn put_text(out: &mut BytesMut, text: &str, bytes_max: usize) {
    let mut end = text.len().min(bytes_max).min(usize::from(u16::MAX));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = &text[..end];
    out.put_u16(u16::try_from(end).unwrap_or(u16::MAX));
    out.put_slice(text.as_bytes());
}

/// A text with its length before it; nothing when it is not whole, too long, or not UTF-8.
pub(super) fn text(payload: &mut Bytes, bytes_max: usize) -> Option<String> {
    let length = usize::from(payload.try_get_u16().ok()?);
    if payload.len() < length || bytes_max < length {
        return None;
    }
    String::from_utf8(payload.split_to(length).to_vec()).ok()
}

fn node_id(payload: &mut Bytes) -> Option<NodeId> {
    NodeId::new(payload.try_get_u64().ok()?).ok()
}
