//! Creates a cluster.

use std::io;

use tokio::fs::{self, DirBuilder, File};

use crate::{
    SUPERUSER,
    account::Account,
    binaries::Binaries,
    cluster::Cluster,
    error::{Error, failed},
    lock::ClusterLock,
};

/// Text sorts by code point on every machine. Only recent versions of macOS have `C.UTF-8`; `C`
/// differs in the upper and lower case of letters outside ASCII.
const LOCALE: &str = if cfg!(target_os = "macos") {
    "C"
} else {
    "C.UTF-8"
};

/// Creates the cluster unless it exists. It is renamed to its final path when it is complete, so the
/// next start cannot mistake the result of an interrupted start for a cluster.
pub(crate) async fn ensure_initialized(
    cluster: &Cluster,
    binaries: &Binaries,
    account: &Account,
    lock: &ClusterLock,
    settings: &[(&'static str, String)],
) -> Result<(), Error> {
    if fs::try_exists(cluster.dir.join("PG_VERSION"))
        .await
        .unwrap_or(false)
    {
        return Ok(());
    }
    warn_of_other_versions(cluster).await;
    let staging = cluster.staging.display();
    match fs::remove_dir_all(&cluster.staging).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed(format!("removing {staging}"))(error));
        }
        _ => {}
    }
    // This process creates the directory for the server's user, so that the data directory around
    // it can stay with this process's user.
    DirBuilder::new()
        .mode(0o700)
        .create(&cluster.staging)
        .await
        .map_err(failed(format!("creating {staging}")))?;
    account.own(&cluster.staging)?;

    // A caller that switches durability off for the server does not need it for initdb.
    let durable = !settings
        .iter()
        .any(|(name, value)| *name == "fsync" && value == "off");
    run(cluster, binaries, account, lock, durable).await?;

    fs::rename(&cluster.staging, &cluster.dir)
        .await
        .map_err(failed(format!("renaming {staging}")))?;
    if durable {
        let synced = async { File::open(&cluster.home).await?.sync_all().await }.await;
        synced.map_err(failed(format!(
            "writing {} to disk",
            cluster.home.display()
        )))?;
    }
    Ok(())
}

/// Logs a warning for each cluster of another version, because after an upgrade of PostgreSQL the
/// new, empty cluster looks like a loss of data.
async fn warn_of_other_versions(cluster: &Cluster) {
    let Ok(mut children) = fs::read_dir(&cluster.home).await else {
        return;
    };
    while let Ok(Some(child)) = children.next_entry().await {
        if fs::try_exists(child.path().join("PG_VERSION"))
            .await
            .unwrap_or(false)
            && child.path() != cluster.staging
        {
            tracing::warn!(
                postgres.data_dir = %cluster.dir.display(),
                postgres.other_data_dir = %child.path().display(),
                "creating an empty cluster; the data of another PostgreSQL version is kept"
            );
        }
    }
}

async fn run(
    cluster: &Cluster,
    binaries: &Binaries,
    account: &Account,
    lock: &ClusterLock,
    durable: bool,
) -> Result<(), Error> {
    let status = account
        .command(&binaries.initdb)
        .arg("-D")
        .arg(&cluster.staging)
        .args(["-U", SUPERUSER, "-A", "trust", "-E", "UTF8"])
        .arg(format!("--locale={LOCALE}"))
        .arg("--no-instructions")
        .args((!durable).then_some("--no-sync"))
        .stdout(lock.output()?)
        .stderr(lock.output()?)
        .kill_on_drop(true)
        .status()
        .await
        .map_err(failed(format!("running {}", binaries.initdb.display())))?;
    if status.success() {
        return Ok(());
    }
    let log = cluster.log_tail().await;
    Err(Error::Initdb { status, log })
}
