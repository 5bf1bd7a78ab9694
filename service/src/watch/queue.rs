//! What a stream has for its reader and the reader has not taken yet.

use std::collections::VecDeque;
use std::sync::Arc;

use holdfast_core::Revision;

use crate::watch::commit::{Commit, Happened};
use crate::watch::subject::Subject;

/// Revisions that wait for a reader.
const FRAMES_MAX: usize = 1_024;
/// Bytes of what they changed. One revision that is larger still fits into an empty queue.
const BYTES_MAX: usize = 1 << 20;

/// How much a queue holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueueLimits {
    pub(super) frames_max: usize,
    pub(super) bytes_max: usize,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { frames_max: FRAMES_MAX, bytes_max: BYTES_MAX }
    }
}

/// What one revision changed of a stream's subject. Never empty.
#[derive(Debug)]
pub(crate) struct Delivery {
    commit: Arc<Commit>,
    picked: Picked,
}

#[derive(Debug)]
enum Picked {
    All,
    /// The places of the changes.
    Some(Vec<usize>),
}

impl Delivery {
    /// What a subject has of a revision; none when it has nothing of it.
    pub(super) fn of(subject: &Subject, commit: &Arc<Commit>) -> Option<Self> {
        let places = commit.changes.iter().enumerate();
        let picked: Vec<usize> = places
            .filter_map(|(place, happened)| subject.picks(happened.change()).then_some(place))
            .collect();
        let picked = match picked.len() {
            0 => return None,
            all if all == commit.changes.len() => Picked::All,
            _ => Picked::Some(picked),
        };
        Some(Self { commit: Arc::clone(commit), picked })
    }

    /// The revision.
    pub(crate) fn revision(&self) -> Revision {
        self.commit.revision
    }

    /// The changes, in order.
    pub(crate) fn changes(&self) -> impl Iterator<Item = &Happened> {
        let (all, some) = match &self.picked {
            Picked::All => (self.commit.changes.as_slice(), [].as_slice()),
            Picked::Some(places) => ([].as_slice(), places.as_slice()),
        };
        all.iter().chain(some.iter().map(|place| &self.commit.changes[*place]))
    }

    fn bytes(&self) -> usize {
        self.changes().map(Happened::bytes).sum()
    }
}

/// Deliveries in order, bounded.
#[derive(Debug)]
pub(super) struct Queue {
    limits: QueueLimits,
    deliveries: VecDeque<Delivery>,
    bytes: usize,
}

impl Queue {
    pub(super) const fn new(limits: QueueLimits) -> Self {
        Self { limits, deliveries: VecDeque::new(), bytes: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
    }

    /// Adds a delivery, unless it does not fit.
    pub(super) fn push(&mut self, delivery: Delivery) -> Result<(), Full> {
        let bytes = self.bytes + delivery.bytes();
        let full = self.limits.frames_max <= self.deliveries.len() || self.limits.bytes_max < bytes;
        if full && !self.is_empty() {
            return Err(Full);
        }
        self.bytes = bytes;
        self.deliveries.push_back(delivery);
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Option<Delivery> {
        let delivery = self.deliveries.pop_front()?;
        self.bytes -= delivery.bytes();
        Some(delivery)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new(self.limits);
    }
}

/// The queue has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;
