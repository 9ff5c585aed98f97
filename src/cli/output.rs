//! The results of commands, on standard output.

use std::{
    fmt::Display,
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use anyhow::Context as _;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::store::schema::Finding;

/// The time between two updates of the progress.
const TICK: Duration = Duration::from_secs(1);

/// What a command was asked to look for and has found to be wrong. The exit code tells it from a
/// command that could not do its work.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Found(pub(super) String);

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

/// Waits for `work`. On a terminal, standard error shows from the first second on how long it
/// takes.
pub(super) fn with_progress<T>(
    doing: &str,
    work: impl Future<Output = T>,
) -> impl Future<Output = T> {
    // Such futures are large.
    let mut work = Box::pin(work);
    async move {
        if !io::stderr().is_terminal() {
            return work.await;
        }
        let begun = Instant::now();
        let mut ticks = interval_at(begun + TICK, TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut shown = false;
        loop {
            tokio::select! {
                result = &mut work => {
                    if shown {
                        show(format_args!("\r\x1b[K"));
                    }
                    return result;
                }
                _ = ticks.tick() => {
                    shown = true;
                    show(format_args!("\r\x1b[K{doing}: {} s", begun.elapsed().as_secs()));
                }
            }
        }
    }
}

/// Writes to standard error. A terminal that is gone is no error.
fn show(text: std::fmt::Arguments<'_>) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_fmt(text).and_then(|()| stderr.flush());
}
