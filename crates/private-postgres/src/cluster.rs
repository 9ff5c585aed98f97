//! The paths of one cluster.

use std::{
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tokio::{
    fs,
    io::{AsyncReadExt, AsyncSeekExt},
};

use crate::{
    account::Account,
    error::{Error, failed},
};

/// The limit of the log's end that an error message contains.
const TAIL_LINES: usize = 12;
const TAIL_BYTES: u64 = 8 * 1024;

/// The absolute paths of a cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// The caller's data directory, with symbolic links resolved.
    pub(crate) home: PathBuf,
    /// PostgreSQL's data directory, owned by the server's user.
    pub(crate) dir: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) socket_dir: PathBuf,
    /// The directory in which `initdb` works.
    pub(crate) staging: PathBuf,
}

impl Cluster {
    /// Creates the data directory. Checks that the server's user can enter it and owns the cluster.
    pub(crate) async fn locate(
        data_dir: &Path,
        major: u32,
        account: &Account,
    ) -> Result<Self, Error> {
        create_with_parents(data_dir).await.map_err(failed(format!(
            "creating data directory {}",
            data_dir.display()
        )))?;
        let home = fs::canonicalize(data_dir)
            .await
            .map_err(failed(format!("locating {}", data_dir.display())))?;
        if let Some((name, closed)) = account.barred_from(&home).await? {
            return Err(Error::DataDirOutOfReach {
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
            return Err(Error::ForeignCluster {
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

    /// The last lines of the log, indented.
    pub(crate) async fn log_tail(&self) -> String {
        let text = read_end(&self.log)
            .await
            .unwrap_or_else(|error| format!("(reading {} failed: {error})", self.log.display()));
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        if lines.is_empty() {
            return format!("  ({} is empty)", self.log.display());
        }
        let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
        format!("  {}", tail.join("\n  "))
    }
}

/// Like `create_dir_all`, but the server's user can enter the new directories under any umask. The
/// cluster itself is closed to all other users.
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
            // A concurrent start has created it.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn read_end(log: &Path) -> io::Result<String> {
    let mut log = fs::File::open(log).await?;
    let length = log.metadata().await?.len();
    log.seek(io::SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))
        .await?;
    let mut end = Vec::new();
    log.take(TAIL_BYTES).read_to_end(&mut end).await?;
    Ok(String::from_utf8_lossy(&end).into_owned())
}
