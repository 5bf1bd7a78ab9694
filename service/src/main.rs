//! The binary `holdfast`: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    holdfast::cli::run()
}
