//! The command line: each command once on a terminal and once as data, how it fails, and what it says of itself.

mod config;
mod elections;
mod failures;
mod groups;
mod manual;
