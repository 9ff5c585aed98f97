//! One server per cluster.
//!
//! The lock is on the server's log file. `initdb`, the supervisor, the server and its child
//! processes inherit that open file as their output, and the operating system keeps the lock until
//! the last of them has ended. The holder therefore knows that no process of an earlier server
//! exists. A process id in a file cannot tell that: after a crash of the machine, or in a new
//! container, the number may belong to any process.

use std::{
    fs::{File, TryLockError},
    process::Stdio,
    time::Duration,
};

use tokio::{
    fs::OpenOptions,
    time::{Instant, sleep},
};

use crate::{
    cluster::Cluster,
    error::{Error, failed},
    pid_file::PidFile,
};

/// How long to wait for a server that is stopping, so that an immediate restart after `kill -9`
/// works.
const STOPPING_LIMIT: Duration = Duration::from_secs(10);
/// How long a server may take to report that it is stopping after its parent has died.
const SHOWS_STOPPING_WITHIN: Duration = Duration::from_secs(2);
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// The exclusive use of a cluster, as a lock on its log file.
#[derive(Debug)]
pub(crate) struct ClusterLock {
    log: File,
}

impl ClusterLock {
    /// Waits for a server that is stopping. Fails if another server keeps running.
    pub(crate) async fn take(cluster: &Cluster) -> Result<Self, Error> {
        let doing = || format!("opening the log {}", cluster.log.display());
        let log = OpenOptions::new()
            .append(true)
            .create(true)
            // Private, because the server logs failed statements with their values.
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
            // Without the file, the other server is about to end or still runs initdb.
            let limit = match &other {
                Some(running) if !running.is_stopping() => SHOWS_STOPPING_WITHIN,
                _ => STOPPING_LIMIT,
            };
            if begun.elapsed() > limit {
                return Err(Error::InUse {
                    data_dir: cluster.home.clone(),
                    pid: other.map_or_else(|| "unknown".to_owned(), |other| other.pid().to_owned()),
                });
            }
            sleep(RETRY_INTERVAL).await;
        }
        // Truncated at each start, which bounds its size.
        log.set_len(0).map_err(failed(doing()))?;
        Ok(Self { log })
    }

    /// The log as a child's standard output or error. The child then holds the lock, too.
    pub(crate) fn output(&self) -> Result<Stdio, Error> {
        let log = self.log.try_clone().map_err(failed("sharing the log"))?;
        Ok(log.into())
    }
}
