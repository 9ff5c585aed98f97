//! The results of commands, on standard output.

use std::{
    fmt::Display,
    io::{self, Write as _},
};

use anyhow::Context as _;

use crate::store::schema::Finding;

/// Prints a line. A closed pipe is not an error: a reader such as `head` closes it after the lines
/// that it needs.
///
/// # Errors
///
/// The line cannot be written, for example to a file on a full disk.
pub(super) fn print_line(line: impl Display) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// Prints a line for each problem of the application's schema, with its severity.
///
/// # Errors
///
/// As [`print_line`].
pub(super) fn print_findings(findings: &[Finding]) -> anyhow::Result<()> {
    for finding in findings {
        let severity = if finding.is_error { "error" } else { "warning" };
        print_line(format_args!("{severity}: {finding}"))?;
    }
    Ok(())
}
