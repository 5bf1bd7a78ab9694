//! What a newcomer meets first: `holdfast dev` with the lines that it prints, the commands that form a cluster, and the README.

mod commands;
mod dev;
mod readme;
