//! The files of one cluster: where they are, how they come into being, what they say.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::fs::{self, DirBuilder, File};

use super::SUPERUSER;
use super::account::Account;
use super::binaries::Binaries;
use super::claim::{Claim, log_tail};
use super::error::{EmbeddedError, failed};

/// Text sorts by code point whatever machine made the cluster. Only recent versions of macOS
/// have the first of these; they differ in the upper and lower case of letters beyond ASCII.
const LOCALE: &str = if cfg!(target_os = "macos") {
    "C"
} else {
    "C.UTF-8"
};

/// Where a cluster is. All paths are absolute.
#[derive(Debug)]
pub(super) struct Cluster {
    /// The caller's data directory, with symbolic links resolved.
    pub(super) home: PathBuf,
    /// PostgreSQL's own data directory, of the server's user.
    pub(super) dir: PathBuf,
    pub(super) log: PathBuf,
    pub(super) socket_dir: PathBuf,
    /// A cluster in the making.
    staging: PathBuf,
}

impl Cluster {
    /// Creates the folder around the cluster, and checks that the server's user can enter it and
    /// owns what is there.
    pub(super) async fn locate(
        data_dir: &Path,
        major: u32,
        account: &Account,
    ) -> Result<Self, EmbeddedError> {
        create_with_parents(data_dir).await.map_err(failed(format!(
            "creating data directory {}",
            data_dir.display()
        )))?;
        let home = fs::canonicalize(data_dir)
            .await
            .map_err(failed(format!("locating {}", data_dir.display())))?;
        if let Some((name, closed)) = account.barred_from(&home).await? {
            return Err(EmbeddedError::DataDirOutOfReach {
                data_dir: home,
                closed,
                account: name.to_owned(),
            });
        }
        let child = |suffix: &str| home.join(format!("pg{major}{suffix}"));
        let dir = child("");
        if let Ok(found) = fs::metadata(&dir).await
            && found.uid() != account.uid
        {
            return Err(EmbeddedError::ForeignCluster {
                cluster: dir,
                owner: found.uid(),
                uid: account.uid,
            });
        }
        Ok(Self {
            log: child(".log"),
            socket_dir: child(".socket"),
            staging: child(".new"),
            dir,
            home,
        })
    }

    /// Makes the cluster unless it is there. It appears under its name only when it is complete,
    /// so a start that is interrupted here leaves nothing that the next one could mistake for it.
    pub(super) async fn ensure_initialized(
        &self,
        binaries: &Binaries,
        account: &Account,
        claim: &Claim,
        settings: &[(&'static str, String)],
    ) -> Result<(), EmbeddedError> {
        if fs::try_exists(self.dir.join("PG_VERSION"))
            .await
            .unwrap_or(false)
        {
            return Ok(());
        }
        self.warn_of_other_versions().await;
        let staging = self.staging.display();
        match fs::remove_dir_all(&self.staging).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed(format!("removing {staging}"))(error));
            }
            _ => {}
        }
        // Made here and given away, so that the folder around it can stay ours.
        DirBuilder::new()
            .mode(0o700)
            .create(&self.staging)
            .await
            .map_err(failed(format!("creating {staging}")))?;
        account.own(&self.staging)?;

        // Who switches durability off for the server does not want to wait for it here either.
        let durable = !settings
            .iter()
            .any(|(name, value)| *name == "fsync" && value == "off");
        self.run_initdb(binaries, account, claim, durable).await?;

        fs::rename(&self.staging, &self.dir)
            .await
            .map_err(failed(format!("renaming {staging}")))?;
        if durable {
            let synced = async { File::open(&self.home).await?.sync_all().await }.await;
            synced.map_err(failed(format!("writing {} to disk", self.home.display())))?;
        }
        Ok(())
    }

    /// An upgrade of PostgreSQL looks like a loss of data to whoever does not know this.
    async fn warn_of_other_versions(&self) {
        let Ok(mut children) = fs::read_dir(&self.home).await else {
            return;
        };
        while let Ok(Some(child)) = children.next_entry().await {
            if fs::try_exists(child.path().join("PG_VERSION"))
                .await
                .unwrap_or(false)
                && child.path() != self.staging
            {
                tracing::warn!(
                    postgres.data_dir = %self.dir.display(),
                    postgres.other_data_dir = %child.path().display(),
                    "starting empty: the data of another major version of PostgreSQL stays where it is"
                );
            }
        }
    }

    async fn run_initdb(
        &self,
        binaries: &Binaries,
        account: &Account,
        claim: &Claim,
        durable: bool,
    ) -> Result<(), EmbeddedError> {
        let status = account
            .command(&binaries.initdb)
            .arg("-D")
            .arg(&self.staging)
            .args(["-U", SUPERUSER, "-A", "trust", "-E", "UTF8"])
            .arg(format!("--locale={LOCALE}"))
            .arg("--no-instructions")
            .args((!durable).then_some("--no-sync"))
            .stdout(claim.output()?)
            .stderr(claim.output()?)
            .kill_on_drop(true)
            .status()
            .await
            .map_err(failed(format!("running {}", binaries.initdb.display())))?;
        if status.success() {
            return Ok(());
        }
        let log = log_tail(self).await;
        Err(EmbeddedError::Initdb { status, log })
    }
}

/// As `create_dir_all`, but what is new can be entered by the server's user under any umask. The
/// cluster itself is closed to all others.
async fn create_with_parents(path: &Path) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    let mut missing = Vec::new();
    for step in path.ancestors() {
        if fs::try_exists(step).await? {
            break;
        }
        missing.push(step);
    }
    for step in missing.into_iter().rev() {
        match fs::create_dir(step).await {
            Ok(()) => fs::set_permissions(step, PermissionsExt::from_mode(0o755)).await?,
            // Another start was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// `postmaster.pid`, in which the server says who it is (line 1) and how it is (line 8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PidFile {
    text: String,
}

impl PidFile {
    /// `None` while there is no server, or one that has not yet written it.
    pub(super) async fn read(cluster: &Cluster) -> Option<Self> {
        let text = fs::read_to_string(Self::path(cluster)).await.ok()?;
        Some(Self { text })
    }

    /// Removes what a server left that was killed or went down with the machine, if its process
    /// id is taken: by something else since, or by its own remains, which nobody has reaped in a
    /// container without an init. PostgreSQL sees by itself when the id is free, but refuses to
    /// start when any process of its user has it. Needs the claim.
    ///
    /// Only Linux can tell. Elsewhere the file stays, and PostgreSQL decides.
    pub(super) async fn discard_if_stale(cluster: &Cluster, account: &Account) {
        let Some(found) = Self::read(cluster).await else {
            return;
        };
        let process = Path::new("/proc").join(found.pid());
        if found.pid().is_empty() || !fs::try_exists(&process).await.unwrap_or(false) {
            return;
        }
        // A server's working directory is its cluster. Asked as the server's user, because root
        // in a container may not look at other users' processes; what that user may not look at
        // is no server of theirs, and the dead have no working directory.
        let output = account
            .command("readlink")
            .arg(process.join("cwd"))
            .output()
            .await;
        let Ok(output) = output else { return };
        let working_dir = String::from_utf8_lossy(&output.stdout);
        if Path::new(working_dir.trim_end()) != cluster.dir {
            tracing::debug!(process.pid = found.pid(), "removing a stale postmaster.pid");
            // If this fails, PostgreSQL says what is wrong.
            let _ = fs::remove_file(Self::path(cluster)).await;
        }
    }

    fn path(cluster: &Cluster) -> PathBuf {
        cluster.dir.join("postmaster.pid")
    }

    pub(super) fn pid(&self) -> &str {
        self.line(1)
    }

    /// Whether it accepts connections, be it as the copy of another server.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.line(8), "ready" | "standby")
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.line(8) == "stopping"
    }

    fn line(&self, number: usize) -> &str {
        self.text.lines().nth(number - 1).unwrap_or_default().trim()
    }
}
