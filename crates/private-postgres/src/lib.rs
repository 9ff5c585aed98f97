//! Runs an installed PostgreSQL server for the lifetime of this process.
//!
//! The server needs no preparation. It uses a data directory of its own and listens only on a unix
//! socket in a private directory, so no port can collide and no other user can connect. It works as
//! root and as an ordinary user.
//!
//! A start goes through the modules in this order:
//!
//! 1. `account`: the operating-system user of the server, because PostgreSQL refuses to run as root
//! 2. `binaries`: the location of `initdb` and `postgres`
//! 3. `cluster`: the paths of the data directory
//! 4. `lock`: one server per cluster; waits for a server that is stopping
//! 5. `initdb`: creates the cluster, completely or not at all
//! 6. `socket`: the private directory of the unix socket
//! 7. `server`: the server process, and the supervisor that stops it when this process ends
//!
//! The data directory for PostgreSQL 18 contains:
//!
//! ```text
//! pg18/          the cluster; each major version has its own, because formats are incompatible
//! pg18.new/      an unfinished cluster of an interrupted initdb, removed at the next start
//! pg18.log       the server's log since its last start; locked while a server runs
//! pg18.socket/   the unix socket
//! ```

mod account;
mod binaries;
mod cluster;
mod error;
mod initdb;
mod lock;
mod pid_file;
mod server;
mod socket;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use self::error::Error;
use self::{
    account::Account, binaries::Binaries, cluster::Cluster, lock::ClusterLock, server::Server,
    socket::SocketDir,
};

/// The superuser of every cluster. The socket's directory is private, so it needs no password.
const SUPERUSER: &str = "postgres";

/// How the server is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// The directory that contains the clusters. It is created if it is missing.
    pub data_dir: PathBuf,
    /// The directory of `initdb` and `postgres`; `None`: `PATH` and the usual places are searched.
    pub bin_dir: Option<PathBuf>,
    /// Server settings, passed as `-c name=value`. `fsync=off` also makes `initdb` faster.
    pub settings: Vec<(&'static str, String)>,
}

/// A running PostgreSQL server.
///
/// The server stops when this process ends, for any reason, and when this value is dropped. Only
/// [`PrivatePostgres::stop`] waits until it has stopped.
#[derive(Debug)]
pub struct PrivatePostgres {
    socket: SocketDir,
    server: Server,
}

impl PrivatePostgres {
    /// Starts the server and returns when it accepts connections.
    ///
    /// # Errors
    ///
    /// The reason, with advice for the reader. The most likely ones: PostgreSQL is not installed, or
    /// another process uses the data directory.
    pub async fn start(options: &Options) -> Result<Self, Error> {
        let account = Account::for_server().await?;
        let binaries = Binaries::find(options.bin_dir.as_deref(), &account).await?;
        let cluster = Cluster::locate(&options.data_dir, binaries.major, &account).await?;
        let lock = ClusterLock::take(&cluster).await?;
        initdb::ensure_initialized(&cluster, &binaries, &account, &lock, &options.settings).await?;
        let socket = SocketDir::prepare(&cluster, &account).await?;
        let server = Server::start(
            &binaries,
            &account,
            cluster,
            &lock,
            &socket,
            &options.settings,
        )
        .await?;
        tracing::info!(
            postgres.major = binaries.major,
            postgres.data_dir = %server.cluster.home.display(),
            "private PostgreSQL is ready"
        );
        Ok(Self { socket, server })
    }

    /// The URL of a database of this server, in a form that sqlx, libpq and Prisma accept.
    ///
    /// The database need not exist; `postgres` always does.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        // The socket's path needs no encoding: `socket` accepts only plain characters. sqlx and
        // libpq ignore the host before the slash in favour of `host=`, but Prisma requires one.
        // Port and TLS mode are explicit so that PGPORT and PGSSLMODE cannot change them.
        format!(
            "postgres://{SUPERUSER}@localhost:{}/{}?host={}&sslmode=disable",
            socket::PORT,
            percent_encoded(database),
            self.socket.path.display(),
        )
    }

    /// The absolute path of the directory that contains the clusters.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.server.cluster.home
    }

    /// Ends all sessions, writes everything to disk and waits until the last process has ended.
    ///
    /// # Errors
    ///
    /// The server had already ended, or does not end within 30 seconds.
    pub async fn stop(self) -> Result<(), Error> {
        self.server.stop().await?;
        self.socket.discard().await;
        Ok(())
    }
}

/// Percent-encodes all bytes except RFC 3986's unreserved ones.
fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
