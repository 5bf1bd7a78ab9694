//! The envelope of everything on a peer connection.
//!
//! ```text
//!  0        4         5      6             14        18
//!  ├────────┼─────────┼──────┼─────────────┼─────────┼──────────┤
//!  │ u32    │ u8      │ u8   │ u64         │ u32     │ payload  │
//!  │ length │ version │ type │ request id  │ crc32c  │          │
//! ```
//!
//! `length` counts everything after itself. The CRC-32C covers bytes 0–13 and the payload. All numbers are
//! big endian. Length and version are looked at first, because another version may have another layout;
//! nothing else is believed before the CRC holds.

use crate::peer::limits::{FRAME_BYTES_MAX, HELLO_FRAME_BYTES_MAX};
use crate::peer::metrics::ChannelMetrics;
use bytes::{Buf, Bytes, BytesMut};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufWriter, ReadHalf, WriteHalf};

/// The only protocol version that there is. Handshake frames carry version 1 for ever, so that any two nodes
/// can refuse each other in words that both read.
pub(crate) const PROTOCOL_VERSION: u8 = 1;

/// Bytes before the payload.
pub(super) const HEADER_BYTES: usize = 18;

/// The bytes before the CRC field, which it covers.
const CHECKED_BYTES: usize = 14;

/// Bytes of the length field.
const LENGTH_BYTES: usize = 4;

/// Small frames are gathered into writes of this size.
const WRITE_BUFFER_BYTES: usize = 64 << 10;

/// Room made for a read when no frame says how much is to come.
const READ_BUFFER_BYTES: usize = 64 << 10;

/// What a frame is. The numbers are on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum FrameType {
    /// The dialer names both nodes.
    Hello = 1,
    /// The acceptor agrees.
    HelloAck = 2,
    /// The acceptor does not.
    HelloRefused = 3,
    /// A call: its kind, then its payload.
    Request = 4,
    /// The answer to the request with the same id.
    Response = 5,
    /// The header and the list of files of a transfer.
    TransferBegin = 6,
    /// The receiver is ready for the first file.
    TransferReady = 7,
    /// The next bytes of the current file.
    TransferChunk = 8,
    /// The current file is complete; its CRC.
    TransferFileEnd = 9,
    /// All files are complete.
    TransferFinish = 10,
    /// The receiver is alive and still at it.
    TransferWorking = 11,
    /// What the installation answered.
    TransferAnswer = 12,
    /// The receiver gave up, and why.
    TransferFailed = 13,
}

impl FrameType {
    const ALL: [Self; 13] = [
        Self::Hello,
        Self::HelloAck,
        Self::HelloRefused,
        Self::Request,
        Self::Response,
        Self::TransferBegin,
        Self::TransferReady,
        Self::TransferChunk,
        Self::TransferFileEnd,
        Self::TransferFinish,
        Self::TransferWorking,
        Self::TransferAnswer,
        Self::TransferFailed,
    ];

    /// The number on the wire.
    pub(super) const fn code(self) -> u8 {
        self as u8
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// A frame whose CRC held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: FrameType,
    pub(super) id: u64,
    pub(super) payload: Bytes,
}

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// The other side closed between two frames.
    #[error("the peer closed the connection")]
    Closed,
    /// The other side closed inside a frame.
    #[error("the connection ended inside a frame")]
    Truncated,
    /// A length beyond what this side takes.
    #[error("a frame of {bytes} bytes is longer than {bytes_max}")]
    TooLong { bytes: usize, bytes_max: usize },
    /// A length that has no room for a header.
    #[error("a frame of {bytes} bytes is shorter than its header")]
    TooShort { bytes: usize },
    /// Written by software that is newer than this.
    #[error("peer protocol version {version} is newer than {PROTOCOL_VERSION}, the newest this node speaks")]
    NewerVersion { version: u8 },
    /// Not a version at all.
    #[error("{version} is not a peer protocol version")]
    NoSuchVersion { version: u8 },
    /// Damaged on the way, or not from a Holdfast node.
    #[error("a frame's checksum is {found:08x} and should be {computed:08x}")]
    Checksum { found: u32, computed: u32 },
    /// A type of frame that this protocol version does not have.
    #[error("{code} is not a type of frame")]
    NoSuchType { code: u8 },
    /// An intact frame that has no place here.
    #[error("a frame of type {kind} has no place here")]
    Unexpected { kind: u8 },
    /// An intact frame whose payload does not read.
    #[error("{what} does not read")]
    Malformed { what: &'static str },
    /// The other side's socket takes no bytes.
    #[error("the peer took no bytes for {} s", .after.as_secs())]
    Stalled { after: Duration },
    /// The other side owes answers and sends nothing.
    #[error("the peer sent nothing for {} ms", .after.as_millis())]
    Silent { after: Duration },
    /// The socket failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
}

impl FrameError {
    /// Whether the bytes received cannot come from a healthy node: worth a warning. A connection that merely
    /// broke is not.
    pub(super) const fn is_garbage(&self) -> bool {
        match self {
            Self::TooLong { .. }
            | Self::TooShort { .. }
            | Self::NewerVersion { .. }
            | Self::NoSuchVersion { .. }
            | Self::Checksum { .. }
            | Self::NoSuchType { .. }
            | Self::Unexpected { .. }
            | Self::Malformed { .. } => true,
            Self::Closed | Self::Truncated | Self::Stalled { .. } | Self::Silent { .. } | Self::Io(_) => {
                false
            }
        }
    }
}

/// The header of a frame whose payload is `prefix` followed by `payload`.
///
/// # Errors
/// [`FrameError::TooLong`]: the sender refuses what the receiver would refuse.
pub(super) fn header(
    kind: FrameType,
    id: u64,
    prefix: &[u8],
    payload: &[u8],
) -> Result<[u8; HEADER_BYTES], FrameError> {
    let bytes = HEADER_BYTES - LENGTH_BYTES + prefix.len() + payload.len();
    let too_long = FrameError::TooLong { bytes, bytes_max: FRAME_BYTES_MAX };
    let Ok(length) = u32::try_from(bytes) else { return Err(too_long) };
    if bytes > FRAME_BYTES_MAX {
        return Err(too_long);
    }
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&length.to_be_bytes());
    header[4] = PROTOCOL_VERSION;
    header[5] = kind.code();
    header[6..14].copy_from_slice(&id.to_be_bytes());
    let mut crc = crc32c::crc32c(&header[..CHECKED_BYTES]);
    crc = crc32c::crc32c_append(crc, prefix);
    crc = crc32c::crc32c_append(crc, payload);
    header[14..].copy_from_slice(&crc.to_be_bytes());
    Ok(header)
}

/// Takes one frame off the front of `buffer`, or nothing while it is incomplete.
///
/// # Errors
/// Any [`FrameError`] that the bytes show; the connection is then useless, because no later frame has a known
/// start.
pub(super) fn decode(buffer: &mut BytesMut, bytes_max: usize) -> Result<Option<Frame>, FrameError> {
    let Some(total) = total_bytes(buffer, bytes_max)? else { return Ok(None) };
    if let Some(&version) = buffer.get(LENGTH_BYTES) {
        check_version(version)?;
    }
    if buffer.len() < total {
        return Ok(None);
    }
    let mut frame = buffer.split_to(total);
    let mut crc = crc32c::crc32c(&frame[..CHECKED_BYTES]);
    crc = crc32c::crc32c_append(crc, &frame[HEADER_BYTES..]);
    frame.advance(LENGTH_BYTES + 1);
    let code = frame.get_u8();
    let id = frame.get_u64();
    let found = frame.get_u32();
    if found != crc {
        return Err(FrameError::Checksum { found, computed: crc });
    }
    let Some(kind) = FrameType::from_code(code) else { return Err(FrameError::NoSuchType { code }) };
    Ok(Some(Frame { kind, id, payload: frame.freeze() }))
}

/// The size of the frame at the front with its length field, once that field is there.
fn total_bytes(buffer: &[u8], bytes_max: usize) -> Result<Option<usize>, FrameError> {
    let Some(length) = buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let bytes = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if bytes > bytes_max {
        return Err(FrameError::TooLong { bytes, bytes_max });
    }
    if bytes < HEADER_BYTES - LENGTH_BYTES {
        return Err(FrameError::TooShort { bytes });
    }
    Ok(Some(LENGTH_BYTES + bytes))
}

const fn check_version(version: u8) -> Result<(), FrameError> {
    match version {
        PROTOCOL_VERSION => Ok(()),
        0 => Err(FrameError::NoSuchVersion { version }),
        _ => Err(FrameError::NewerVersion { version }),
    }
}

/// Both directions of one connection.
#[derive(Debug)]
pub(super) struct Link<S> {
    pub(super) reader: FrameReader<ReadHalf<S>>,
    pub(super) writer: FrameWriter<WriteHalf<S>>,
}

impl<S: AsyncRead + AsyncWrite> Link<S> {
    /// A link that takes only handshake frames until [`Self::opened`].
    pub(super) fn new(stream: S, write_stall: Duration) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self { reader: FrameReader::new(read), writer: FrameWriter::new(write, write_stall) }
    }

    /// The handshake is over: frames of any size come, and count into `metrics`.
    pub(super) fn opened(&mut self, metrics: &Arc<ChannelMetrics>) {
        self.reader.bytes_max = FRAME_BYTES_MAX;
        self.reader.metrics = Some(Arc::clone(metrics));
        self.writer.metrics = Some(Arc::clone(metrics));
    }
}

/// Frames from a stream.
#[derive(Debug)]
pub(super) struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
    bytes_max: usize,
    metrics: Option<Arc<ChannelMetrics>>,
}

impl<R> FrameReader<R> {
    /// A reader that takes only small frames, until its link is opened.
    pub(super) fn new(stream: R) -> Self {
        Self { stream, buffer: BytesMut::new(), bytes_max: HELLO_FRAME_BYTES_MAX, metrics: None }
    }
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// The next frame. May be dropped while it waits; no byte is lost.
    ///
    /// # Errors
    /// Any [`FrameError`] of reading; the reader is then useless.
    pub(super) async fn next(&mut self) -> Result<Frame, FrameError> {
        loop {
            let total = total_bytes(&self.buffer, self.bytes_max)?;
            if let Some(frame) = decode(&mut self.buffer, self.bytes_max)? {
                if let Some(metrics) = &self.metrics {
                    metrics.received(HEADER_BYTES + frame.payload.len());
                }
                return Ok(frame);
            }
            let room = total.map_or(0, |total| total.saturating_sub(self.buffer.len()));
            self.buffer.reserve(room.max(READ_BUFFER_BYTES));
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(if self.buffer.is_empty() { FrameError::Closed } else { FrameError::Truncated });
            }
        }
    }

    /// Reads and forgets until the other side closes.
    pub(super) async fn drain(&mut self) {
        loop {
            self.buffer.clear();
            self.buffer.reserve(READ_BUFFER_BYTES);
            // The connection is given up already: how it ends does not matter.
            let Ok(1..) = self.stream.read_buf(&mut self.buffer).await else { return };
        }
    }
}

/// Frames to a stream.
#[derive(Debug)]
pub(super) struct FrameWriter<W> {
    stream: BufWriter<W>,
    stall: Duration,
    metrics: Option<Arc<ChannelMetrics>>,
}

impl<W: AsyncWrite> FrameWriter<W> {
    /// A writer that fails when the other side takes no byte for `stall`.
    pub(super) fn new(stream: W, stall: Duration) -> Self {
        Self { stream: BufWriter::with_capacity(WRITE_BUFFER_BYTES, stream), stall, metrics: None }
    }
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// Writes one frame whose payload is `prefix` then `payload`. Small frames stay in the buffer until
    /// [`Self::flush`]. Dropping the future leaves half a frame: the connection must then be closed.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] before anything is written; else the connection is broken.
    pub(super) async fn write(
        &mut self,
        kind: FrameType,
        id: u64,
        prefix: &[u8],
        payload: &[u8],
    ) -> Result<(), FrameError> {
        let header = header(kind, id, prefix, payload)?;
        self.write_all(&header).await?;
        self.write_all(prefix).await?;
        self.write_all(payload).await?;
        if let Some(metrics) = &self.metrics {
            metrics.sent(HEADER_BYTES + prefix.len() + payload.len());
        }
        Ok(())
    }

    /// Hands everything that is buffered to the kernel.
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) async fn flush(&mut self) -> Result<(), FrameError> {
        let after = self.stall;
        let flushed = tokio::time::timeout(after, self.stream.flush()).await;
        flushed.map_err(|_| FrameError::Stalled { after })??;
        Ok(())
    }

    /// Flushes and says that nothing follows.
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) async fn finish(&mut self) -> Result<(), FrameError> {
        self.flush().await?;
        self.stream.shutdown().await?;
        Ok(())
    }

    /// The stall is counted from the last progress, not for the whole: a large frame may be slow.
    async fn write_all(&mut self, mut bytes: &[u8]) -> Result<(), FrameError> {
        while !bytes.is_empty() {
            let after = self.stall;
            let written = tokio::time::timeout(after, self.stream.write(bytes)).await;
            let count = written.map_err(|_| FrameError::Stalled { after })??;
            if count == 0 {
                return Err(FrameError::Io(io::ErrorKind::WriteZero.into()));
            }
            bytes.advance(count);
        }
        Ok(())
    }
}
