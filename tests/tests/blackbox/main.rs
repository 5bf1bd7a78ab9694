//! Black-box tests: real processes of the `holdfast` binary, killed, paused and restarted, and what they answered checked.
//!
//! Every scenario fails itself when it was vacuous: too few kills, writes or grants prove nothing.

mod banner;
mod contract;
mod durability;
mod history;
mod refusals;
mod rest;
mod watch;
