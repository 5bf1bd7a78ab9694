//! `holdfast lock run` and `holdfast elect run`: a command runs while the lock is held, and never longer.
//!
//! [`program`] calls it as a user does. [`trials`] measures the promise that it is for: the command is dead before the
//! service grants the lock to the next one, whatever happens to the process, the cluster or the network.

mod command;
mod election;
mod exit_codes;
mod grants;
mod program;
mod proxy;
mod queue;
mod signals;
mod terminal;
mod trials;
mod watched;
