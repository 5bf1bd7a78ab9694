//! Black-box tests: real processes of the `holdfast` binary, killed, paused and restarted, and what they answered checked.
//!
//! Every scenario fails itself when it was vacuous: too few kills, writes or grants prove nothing.

mod banner;
mod cli;
mod contract;
mod durability;
mod history;
mod lock_run;
mod recipes;
mod refusals;
mod rest;
mod watch;
