//! Numbers of the transport: plain counters that anyone may read at any time.

use crate::peer::handshake::{Channel, RefusalReason};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What one node's transport did since it started, for all peers together. Shared by the pool and the server.
#[derive(Debug, Default)]
pub(crate) struct PeerMetrics {
    append: Arc<ChannelMetrics>,
    control: Arc<ChannelMetrics>,
    snapshot: Arc<ChannelMetrics>,
    refused_here: RefusalCounts,
    refused_there: RefusalCounts,
    control_rtt_count: AtomicU64,
    control_rtt_micros_sum: AtomicU64,
    control_rtt_micros_last: AtomicU64,
}

/// What one channel did, in both roles, without handshakes.
#[derive(Debug, Default)]
pub(crate) struct ChannelMetrics {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    frames_in: AtomicU64,
    frames_out: AtomicU64,
    connects: AtomicU64,
    dial_failures: AtomicU64,
}

#[derive(Debug, Default)]
struct RefusalCounts([AtomicU64; RefusalReason::ALL.len()]);

impl PeerMetrics {
    /// The numbers of one channel.
    pub(crate) const fn channel(&self, channel: Channel) -> &Arc<ChannelMetrics> {
        match channel {
            Channel::Append => &self.append,
            Channel::Control => &self.control,
            Channel::Snapshot => &self.snapshot,
        }
    }

    /// Handshakes that this node refused.
    pub(crate) fn refused_here(&self, reason: RefusalReason) -> u64 {
        self.refused_here.read(reason)
    }

    /// Handshakes of this node that a peer refused.
    pub(crate) fn refused_there(&self, reason: RefusalReason) -> u64 {
        self.refused_there.read(reason)
    }

    /// Answered control calls: how many, and the sum of their round trips in microseconds.
    pub(crate) fn control_rtt_micros(&self) -> (u64, u64) {
        (read(&self.control_rtt_count), read(&self.control_rtt_micros_sum))
    }

    /// The round trip of the last answered control call, in microseconds; 0 before the first.
    pub(crate) fn control_rtt_micros_last(&self) -> u64 {
        read(&self.control_rtt_micros_last)
    }

    pub(super) fn count_refused_here(&self, reason: RefusalReason) {
        self.refused_here.count(reason);
    }

    pub(super) fn count_refused_there(&self, reason: RefusalReason) {
        self.refused_there.count(reason);
    }

    pub(super) fn control_answered(&self, rtt: Duration) {
        let micros = u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX);
        add(&self.control_rtt_count, 1);
        add(&self.control_rtt_micros_sum, micros);
        self.control_rtt_micros_last.store(micros, Ordering::Relaxed);
    }
}

impl ChannelMetrics {
    /// Bytes of received frames, headers included.
    pub(crate) fn bytes_in(&self) -> u64 {
        read(&self.bytes_in)
    }

    /// Bytes of sent frames, headers included.
    pub(crate) fn bytes_out(&self) -> u64 {
        read(&self.bytes_out)
    }

    /// Received frames.
    pub(crate) fn frames_in(&self) -> u64 {
        read(&self.frames_in)
    }

    /// Sent frames.
    pub(crate) fn frames_out(&self) -> u64 {
        read(&self.frames_out)
    }

    /// Connections that this node opened; all but the first to each peer are reconnects.
    pub(crate) fn connects(&self) -> u64 {
        read(&self.connects)
    }

    /// Dials that failed, refused handshakes included.
    pub(crate) fn dial_failures(&self) -> u64 {
        read(&self.dial_failures)
    }

    pub(super) fn received(&self, bytes: usize) {
        add(&self.frames_in, 1);
        add(&self.bytes_in, bytes as u64);
    }

    pub(super) fn sent(&self, bytes: usize) {
        add(&self.frames_out, 1);
        add(&self.bytes_out, bytes as u64);
    }

    pub(super) fn connected(&self) {
        add(&self.connects, 1);
    }

    pub(super) fn dial_failed(&self) {
        add(&self.dial_failures, 1);
    }
}

impl RefusalCounts {
    fn slot(&self, reason: RefusalReason) -> &AtomicU64 {
        &self.0[usize::from(reason.code()) - 1]
    }

    fn count(&self, reason: RefusalReason) {
        add(self.slot(reason), 1);
    }

    fn read(&self, reason: RefusalReason) -> u64 {
        read(self.slot(reason))
    }
}

// Each number stands alone, so no ordering between them is needed.
fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
