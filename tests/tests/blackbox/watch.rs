//! Streams of events: what they tell, where they begin and end, and that they never miss anything.

mod demonstration;
mod endings;
mod frames;
mod node;
mod slow_reader;
mod starting;
mod subjects;
