//! The private directory of the server's unix socket.
//!
//! A user who can enter it is a superuser of the database without a password. Only the server's user
//! and root can enter it.

use std::{
    ffi::OsStr,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use tokio::fs::{self, DirBuilder};

use crate::{
    account::Account,
    cluster::Cluster,
    error::{Error, failed},
};

/// Part of the socket's file name. The server listens on no network.
pub(crate) const PORT: u16 = 5432;

/// The maximum length of the socket's path, in bytes. The system limit is 103 on macOS and 107 on
/// Linux.
const LONGEST_SOCKET_PATH: usize = 100;

/// The number of names in `/tmp` that are tried.
const SPARE_NAMES: u32 = 8;

#[derive(Debug)]
pub(crate) struct SocketDir {
    pub(crate) path: PathBuf,
    /// Whether it is in `/tmp` instead of the data directory, and so has to be removed.
    in_tmp: bool,
}

impl SocketDir {
    /// A directory beside the cluster. If its path is not usable for a socket, a directory in `/tmp`
    /// whose name is derived from that path. The caller must hold the cluster's lock.
    pub(crate) async fn prepare(cluster: &Cluster, account: &Account) -> Result<Self, Error> {
        let preferred = cluster.socket_dir.clone();
        let in_tmp = !is_usable(&preferred);
        let mut path = preferred.clone();
        for spare in 0..SPARE_NAMES {
            if in_tmp {
                path = name_in_tmp(&preferred, spare);
            }
            let private = is_private(&path, account).await.map_err(failed(format!(
                "creating socket directory {}",
                path.display()
            )))?;
            if private {
                account.own(&path)?;
                remove_leftovers(&path).await;
                return Ok(Self { path, in_tmp });
            }
        }
        Err(Error::SocketDirTaken { path })
    }

    /// Removes a directory in `/tmp`. The stopped server has removed the files in it.
    pub(crate) async fn discard(self) {
        if self.in_tmp
            && let Err(error) = fs::remove_dir(&self.path).await
        {
            tracing::debug!(%error, path = %self.path.display(), "cannot remove the socket directory");
        }
    }
}

/// Whether a path is short enough and has only characters that need no quoting in server settings,
/// in lists of hosts and in URLs.
fn is_usable(path: &Path) -> bool {
    let path = path.as_os_str().as_bytes();
    path.len() + "/".len() + socket_name().len() <= LONGEST_SOCKET_PATH
        && path
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(byte))
}

fn name_in_tmp(preferred: &Path, spare: u32) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    preferred.hash(&mut hasher);
    PathBuf::from(format!(
        "/tmp/heist-postgres-{:016x}-{spare}",
        hasher.finish()
    ))
}

/// Creates the directory, or checks that the existing one is owned by a trusted user and closed to
/// all others. It does not follow symbolic links, which another user could have created.
async fn is_private(path: &Path, account: &Account) -> io::Result<bool> {
    match DirBuilder::new().mode(0o700).create(path).await {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = fs::symlink_metadata(path).await?;
            let closed_to_others = found.mode() & 0o777 == 0o700;
            Ok(found.is_dir() && closed_to_others && account.trusts_owner(found.uid()))
        }
        created => created.map(|()| true),
    }
}

/// Removes the socket of a server that was killed, and its lock file. PostgreSQL refuses to start if
/// another process now has the process id in that file.
async fn remove_leftovers(path: &Path) {
    for name in [socket_name(), format!("{}.lock", socket_name())] {
        // If this fails, PostgreSQL reports the reason at its start.
        let _ = fs::remove_file(path.join(OsStr::new(&name))).await;
    }
}

fn socket_name() -> String {
    format!(".s.PGSQL.{PORT}")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{is_usable, name_in_tmp};

    #[test]
    fn a_path_that_is_long_or_needs_quoting_is_not_usable() {
        assert!(is_usable(Path::new("/var/lib/heist/pg18.socket")));
        assert!(!is_usable(Path::new("/data,more/pg18.socket")));
        assert!(!is_usable(Path::new("/My Projects/pg18.socket")));
        let long = format!("/{}/pg18.socket", "x".repeat(80));
        assert!(!is_usable(Path::new(&long)));
        assert!(is_usable(&name_in_tmp(Path::new(&long), 0)));
    }
}
