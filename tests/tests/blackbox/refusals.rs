//! What the process refuses: flags, configuration, data directories, addresses, and unsafe steps of a cluster.

mod directories;
mod flags;
mod membership;
mod refusal;
