//! The binary `holdfast`: everything is in the library.

use std::process::ExitCode;

/// A node allocates for every request, entry and row, on all of its threads: the system's allocator took a quarter of its
/// time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    holdfast::cli::run()
}
