//! Kills, restarts, catching up and handing over: nothing acknowledged is lost.
//!
//! [`load`] keeps a cluster busy and remembers what was acknowledged; [`evidence`] looks for all of it on every node.

mod catching_up;
mod evidence;
mod handing_over;
mod kills;
mod load;
mod readiness;
