//! Properties of the state machine over random histories: it does what the naive model does, whatever the borders of its
//! batches, and keeps the promises of the lock service that can be read from its events alone.

mod cases;
mod coverage;
