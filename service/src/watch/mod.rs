//! Watches that never miss: what changes, told to whoever watches, in the order of revisions, whole revisions, each once.
//!
//! ```text
//!   Notice ──push──▶ Feed: a ring of the newest revisions ──┐ cursor within the ring
//!                                                           ├──▶ Stream: a cursor and a bounded queue ──▶ frames
//!   state  ──page──▶ Past: what the tables still know ──────┘ cursor below it
//! ```
//!
//! A stream is nothing but a cursor: everything up to it has been looked at. It is pulled by whoever sends its frames, so a
//! reader that takes nothing costs nothing: no task runs for it and nothing is kept for it. Whatever happens to this node's
//! state (a restart, a snapshot from the leader, another leader), the cursor is answered from the state as it is then, or the
//! stream ends with an error; it never skips. The ring only spares the reads.
//!
//! Nothing here knows how frames are sent, and the consensus knows nothing of this.

mod commit;
mod counters;
mod feed;
mod past;
mod queue;
mod stream;
mod subject;

#[cfg(test)]
mod stream_test;
#[cfg(test)]
mod testing;

pub(crate) use commit::{Form, Happened};
pub(crate) use counters::{EndKind, FrameKind};
pub(crate) use feed::{Feed, Place};
pub(crate) use past::{Listing, Origin, Standing};
pub(crate) use queue::Delivery;
pub(crate) use stream::{Ending, First, Frame, Start, Stream};
pub(crate) use subject::{Prefixes, Subject};
