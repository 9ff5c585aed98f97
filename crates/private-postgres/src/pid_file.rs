//! `postmaster.pid`, in which the server writes its process id (line 1) and its state (line 8).

use std::path::{Path, PathBuf};

use tokio::fs;

use crate::{account::Account, cluster::Cluster};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PidFile {
    text: String,
}

impl PidFile {
    /// `None` if no server runs, or if it has not yet written the file.
    pub(crate) async fn read(cluster: &Cluster) -> Option<Self> {
        let text = fs::read_to_string(Self::path(cluster)).await.ok()?;
        Some(Self { text })
    }

    /// Removes the file of a server that was killed, if another process now has its process id.
    /// In a container without an init, the unreaped server itself may still have it. PostgreSQL
    /// removes the file by itself if the process id is free, but refuses to start if any process of
    /// its user has it. The caller must hold the cluster's lock.
    ///
    /// This works on Linux. On other systems the file stays, and PostgreSQL decides.
    pub(crate) async fn discard_if_stale(cluster: &Cluster, account: &Account) {
        let Some(found) = Self::read(cluster).await else {
            return;
        };
        let process = Path::new("/proc").join(found.pid());
        if found.pid().is_empty() || !fs::try_exists(&process).await.unwrap_or(false) {
            return;
        }
        // A server's working directory is its cluster. The server's user reads it, because root in
        // a container may not inspect other users' processes. A process that this user may not
        // inspect is not a server of this user, and a dead process has no working directory.
        let output = account
            .command("readlink")
            .arg(process.join("cwd"))
            .output()
            .await;
        let Ok(output) = output else { return };
        let working_dir = String::from_utf8_lossy(&output.stdout);
        if Path::new(working_dir.trim_end()) != cluster.dir {
            tracing::debug!(process.pid = found.pid(), "removing a stale postmaster.pid");
            // If this fails, PostgreSQL reports the reason at its start.
            let _ = fs::remove_file(Self::path(cluster)).await;
        }
    }

    fn path(cluster: &Cluster) -> PathBuf {
        cluster.dir.join("postmaster.pid")
    }

    pub(crate) fn pid(&self) -> &str {
        self.line(1)
    }

    /// Whether the server accepts connections, as a primary or as a standby.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.line(8), "ready" | "standby")
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.line(8) == "stopping"
    }

    fn line(&self, number: usize) -> &str {
        self.text.lines().nth(number - 1).unwrap_or_default().trim()
    }
}
