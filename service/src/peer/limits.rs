//! Every bound of the transport, with its reason.

use std::time::Duration;

/// What follows a frame's length field. A replicated entry is at most 2 MiB and a batch of entries about
/// twice that; the rest is room, and a length above it is garbage.
pub(super) const FRAME_BYTES_MAX: usize = 8 << 20;

/// The largest payload of a call: a frame without its header and its kind byte.
pub(crate) const CALL_BYTES_MAX: usize = FRAME_BYTES_MAX - 64;

/// The same before the handshake is over, when the other side may be anybody.
pub(super) const HELLO_FRAME_BYTES_MAX: usize = 4 << 10;

/// Longest cluster id. Ids are names or UUIDs.
pub(super) const CLUSTER_ID_BYTES_MAX: usize = 256;

/// Longest software version.
pub(super) const SOFTWARE_BYTES_MAX: usize = 128;

/// Calls of one channel to one peer that wait for an answer. 64 appends cover a round trip of 50 ms at over
/// 1,000 batches a second; more would only be memory held for a peer that does not keep up. The acceptor
/// starts no more than this at a time either.
pub(crate) const CALLS_IN_FLIGHT_MAX: usize = 64;

/// Payload bytes of those calls: a peer that stopped reading costs this much memory, and at least two of the
/// largest frames fit.
pub(crate) const IN_FLIGHT_BYTES_MAX: usize = 16 << 20;

/// A chunk of a file: large enough that headers and CRCs cost nothing, small enough to be buffered per
/// transfer.
pub(super) const CHUNK_BYTES: usize = 1 << 20;

/// Files of one transfer. A checkpoint of 1 TiB in files of 64 MiB has this many.
pub(super) const TRANSFER_FILES_MAX: usize = 16 << 10;

/// Bytes of one transfer: far above any sane state, and no sum of such sizes overflows.
pub(super) const TRANSFER_BYTES_MAX: u64 = 1 << 40;

/// Longest file name of a transfer, so that the list of [`TRANSFER_FILES_MAX`] files fits a frame.
pub(super) const FILE_NAME_BYTES_MAX: usize = 255;

/// Longest opaque header of a transfer.
pub(super) const TRANSFER_HEADER_BYTES_MAX: usize = 1 << 20;

/// Longest explanation that a receiver sends for a failed transfer.
pub(super) const FAILURE_TEXT_BYTES_MAX: usize = 1 << 10;

/// No byte of a transfer moved for this long: it is over. Not a limit of the whole, which may take hours.
pub(super) const TRANSFER_IDLE: Duration = Duration::from_secs(30);

/// While the receiver verifies and installs it says so this often, well inside [`TRANSFER_IDLE`].
pub(super) const TRANSFER_WORKING_EVERY: Duration = Duration::from_secs(5);

/// A receiver that gave up reads on for this long, because closing a socket with unread bytes would destroy
/// its last frame on the way to the sender.
pub(super) const FAILURE_LINGER: Duration = Duration::from_secs(2);

/// Time to resolve an address and connect. One lost SYN is sent again after 1 s and fits; a dead host costs
/// no more.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Time for the other side's half of the handshake. A waiting node fsyncs the cluster id before it answers.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Nothing was taken from us by the other side's socket for this long: the connection is broken. Also the
/// kernel's limit for unacknowledged data.
pub(super) const WRITE_STALL: Duration = Duration::from_secs(10);

/// The other side owes an answer on the control connection and sent nothing for this long: connect again.
/// After a healed partition TCP would wait for its own retransmission timer, which has grown to seconds,
/// while votes and heartbeats are needed at once.
pub(super) const CONTROL_SILENCE_MAX: Duration = Duration::from_secs(1);

/// The same for appends, which may wait for a slow disk.
pub(super) const APPEND_SILENCE_MAX: Duration = Duration::from_secs(5);

/// First pause after a failed dial; it doubles up to [`BACKOFF_MAX`] and each is shortened by up to half at
/// random, so that three nodes do not dial a fourth in step.
pub(super) const BACKOFF_MIN: Duration = Duration::from_millis(50);

/// Longest pause: a node that returns is used again within about a second.
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Open connections from one address. Nodes may share an address (one machine, NAT): 7 nodes with 3
/// connections each, twice while they reconnect, and some room.
pub(super) const CONNECTIONS_PER_REMOTE_MAX: usize = 64;

/// Open connections in all.
pub(super) const CONNECTIONS_MAX: usize = 512;

/// A node that connects again waits this long for the end of its earlier connection; then it is refused as
/// busy.
pub(super) const REPLACE_TIMEOUT: Duration = Duration::from_secs(1);

/// Pause after a failed `accept`: without file descriptors the loop would spin.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
