//! The private folder of the server's unix socket.
//!
//! Who can enter it is a superuser of the database without a password, so only the server's user
//! (and root, who can enter anything) may.

use std::ffi::OsStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tokio::fs::{self, DirBuilder};

use super::account::Account;
use super::cluster::Cluster;
use super::error::{EmbeddedError, failed};

/// Part of the socket's file name only: the server listens on no network.
pub(super) const PORT: u16 = 5432;

/// Bytes of the longest socket path that every system takes: the limit is 103 on macOS, 107 on
/// Linux.
const LONGEST_SOCKET_PATH: usize = 100;

/// How many names in `/tmp` are tried before giving up.
const SPARE_NAMES: u32 = 8;

#[derive(Debug)]
pub(super) struct SocketDir {
    pub(super) path: PathBuf,
    /// Whether it is outside the data directory, where nobody would miss it.
    in_tmp: bool,
}

impl SocketDir {
    /// A folder beside the cluster, or where its path does not do for a socket, one in `/tmp`
    /// whose name follows from that path. Needs the claim.
    pub(super) async fn prepare(
        cluster: &Cluster,
        account: &Account,
    ) -> Result<Self, EmbeddedError> {
        let preferred = cluster.socket_dir.clone();
        let in_tmp = !is_usable(&preferred);
        let mut path = preferred.clone();
        for spare in 0..SPARE_NAMES {
            if in_tmp {
                path = name_in_tmp(&preferred, spare);
            }
            let private = is_private(&path, account)
                .await
                .map_err(failed(format!("creating socket folder {}", path.display())))?;
            if private {
                account.own(&path)?;
                remove_leftovers(&path).await;
                return Ok(Self { path, in_tmp });
            }
        }
        Err(EmbeddedError::SocketDirTaken { path })
    }

    /// Leaves nothing in `/tmp`. The server, which has ended, removed what was in the folder.
    pub(super) async fn discard(self) {
        if self.in_tmp
            && let Err(error) = fs::remove_dir(&self.path).await
        {
            tracing::debug!(%error, path = %self.path.display(), "leaving the socket folder");
        }
    }
}

/// Whether a path is short enough, and free of the characters that separate entries in server
/// settings and hosts in connection strings, or that URL parsers disagree about.
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

/// Creates the folder, or finds one that nobody else can have made or can enter. Looks at the
/// entry itself, not through a symbolic link that somebody may have put there.
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

/// Removes the socket of a server that was killed, and its lock, because of which PostgreSQL
/// refuses to start when some other process now has the process id in it.
async fn remove_leftovers(path: &Path) {
    for name in [socket_name(), format!("{}.lock", socket_name())] {
        // If this fails, PostgreSQL says what is wrong.
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
    fn a_path_that_is_long_or_needs_quoting_moves_the_socket_to_tmp() {
        assert!(is_usable(Path::new("/var/lib/heist/pg18.socket")));
        assert!(!is_usable(Path::new("/data,more/pg18.socket")));
        assert!(!is_usable(Path::new("/My Projects/pg18.socket")));
        let long = format!("/{}/pg18.socket", "x".repeat(80));
        assert!(!is_usable(Path::new(&long)));
        assert!(is_usable(&name_in_tmp(Path::new(&long), 0)));
    }
}
