//! The `heist` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    heist::cli::run()
}
