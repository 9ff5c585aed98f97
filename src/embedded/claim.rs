//! One server per data directory.
//!
//! The claim is a lock on the server's log file. `initdb`, the supervisor, the server and each of
//! its processes inherit that open file as their output, and the operating system keeps the lock
//! until the last of them is gone. So who holds it knows that no process of an earlier server is
//! left, which a process id in a file cannot say: after a crash of the machine or in a new
//! container that number may belong to anything.

use std::fs::{File, TryLockError};
use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::fs::{self, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::time::{Instant, sleep};

use super::cluster::{Cluster, PidFile};
use super::error::{EmbeddedError, failed};

/// How long a server that is stopping is waited for: a `kill -9` and an immediate restart work.
const STOPPING_LIMIT: Duration = Duration::from_secs(10);
/// How soon after the death of its heist a server shows that it is stopping, at the latest.
const SHOWS_STOPPING_WITHIN: Duration = Duration::from_secs(2);
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// How much of the log's end an error carries.
const TAIL_LINES: usize = 12;
const TAIL_BYTES: u64 = 8 * 1024;

/// The exclusive use of a cluster, and the log file that stands for it.
#[derive(Debug)]
pub(super) struct Claim {
    log: File,
}

impl Claim {
    /// Waits for a server that is stopping; refuses when another one keeps running.
    pub(super) async fn take(cluster: &Cluster) -> Result<Self, EmbeddedError> {
        let doing = || format!("opening the log {}", cluster.log.display());
        let log = OpenOptions::new()
            .append(true)
            .create(true)
            // Statements that fail are logged with their values.
            .mode(0o600)
            .open(&cluster.log)
            .await
            .map_err(failed(doing()))?
            .into_std()
            .await;
        let begun = Instant::now();
        loop {
            match log.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(failed(doing())(error)),
            }
            let other = PidFile::read(cluster).await;
            // Without the file the other is at its very end, or still making its cluster.
            let patience = match &other {
                Some(running) if !running.is_stopping() => SHOWS_STOPPING_WITHIN,
                _ => STOPPING_LIMIT,
            };
            if begun.elapsed() > patience {
                return Err(EmbeddedError::InUse {
                    data_dir: cluster.home.clone(),
                    pid: other.map_or_else(|| "unknown".to_owned(), |other| other.pid().to_owned()),
                });
            }
            sleep(RETRY_INTERVAL).await;
        }
        // Emptied at each start, or it would grow for ever.
        log.set_len(0).map_err(failed(doing()))?;
        Ok(Self { log })
    }

    /// The log as a child's standard output or error, which makes the child a holder of the claim.
    pub(super) fn output(&self) -> Result<Stdio, EmbeddedError> {
        let log = self.log.try_clone().map_err(failed("sharing the log"))?;
        Ok(log.into())
    }
}

/// The last lines of the log, indented; a word of its own where there are none.
pub(super) async fn log_tail(cluster: &Cluster) -> String {
    let text = read_end(cluster)
        .await
        .unwrap_or_else(|error| format!("(reading {} failed: {error})", cluster.log.display()));
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    if lines.is_empty() {
        return format!("  ({} is empty)", cluster.log.display());
    }
    let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    format!("  {}", tail.join("\n  "))
}

async fn read_end(cluster: &Cluster) -> io::Result<String> {
    let mut log = fs::File::open(&cluster.log).await?;
    let length = log.metadata().await?.len();
    log.seek(io::SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))
        .await?;
    let mut end = Vec::new();
    log.take(TAIL_BYTES).read_to_end(&mut end).await?;
    Ok(String::from_utf8_lossy(&end).into_owned())
}
