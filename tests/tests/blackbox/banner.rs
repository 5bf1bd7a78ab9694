//! What a newcomer meets first: `holdfast dev` with the lines that it prints, and the commands that form a cluster.

mod commands;
mod dev;
