//! Properties of the state machine over random histories: it does what the naive model does, whatever the borders of its
//! batches, and keeps the promises of the lock service that can be read from its events alone.
//!
//! `HOLDFAST_PROPERTY_CASES` sets how many histories each property tries (default 120).

mod borders;
mod bounds;
mod cases;
mod comparison;
mod contract;
mod coverage;
mod deadlines;
mod encoding;
mod replica;
#[cfg(feature = "seeded-bugs")]
mod seeded;
mod sights;
mod worlds;
