//! `holdfast-bench`: measures Holdfast, and etcd beside it. See [`holdfast_tests::bench`].

use std::process::ExitCode;

use clap::Parser as _;
use holdfast_tests::bench::{self, Options};

fn main() -> ExitCode {
    bench::main(&Options::parse())
}
