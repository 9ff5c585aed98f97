//! The `heist` command.

use std::process::ExitCode;

/// Returns freed memory to the system within seconds. The C library's allocator kept most of what a
/// flood of calls had used.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    heist::cli::run()
}
