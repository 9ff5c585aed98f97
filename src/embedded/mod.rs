//! The PostgreSQL that heist brings up itself when nobody gives it one.
//!
//! A newcomer's first command should show a working system, and a test should need no
//! preparation. So this module finds an installed PostgreSQL, makes a cluster in a folder of
//! its own and runs it for as long as this process lives, as root or not, without a port that
//! anything else could take or reach.
//!
//! A start goes through the files in this order:
//!
//! 1. `account`: as which user the server runs, since PostgreSQL refuses to be root;
//! 2. `binaries`: where `initdb` and `postgres` are;
//! 3. `claim`: one server per data directory, and waiting for one that is about to end;
//! 4. `cluster`: `initdb`, all or nothing;
//! 5. `socket`: the private folder of the unix socket;
//! 6. `server`: the running process, and the supervisor that ends it when we end.
//!
//! A data directory looks like this, for PostgreSQL 18:
//!
//! ```text
//! pg18/          the cluster; each major version has its own, because none reads another's
//! pg18.new/      a cluster that initdb has not finished, removed at the next start
//! pg18.log       what the server says, since its last start; locked while a server runs
//! pg18.socket/   the unix socket
//! ```

mod account;
mod binaries;
mod claim;
mod cluster;
pub mod demo;
mod error;
mod server;
mod socket;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use self::account::Account;
use self::binaries::Binaries;
use self::claim::Claim;
use self::cluster::Cluster;
pub use self::error::EmbeddedError;
use self::server::Server;
use self::socket::SocketDir;

/// The application's tables as Prisma creates them, for a database that has none yet.
pub const APPLICATION_SCHEMA: &str = include_str!("application.sql");

/// Fifty players with points, point events and referrals, for [`APPLICATION_SCHEMA`].
pub const DEMO_PLAYERS: &str = include_str!("demo_players.sql");

/// The superuser of every cluster made here. Who can reach the socket needs no password.
const SUPERUSER: &str = "postgres";

/// How an embedded server is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder that keeps the clusters; created where missing.
    pub data_dir: PathBuf,
    /// Folder of `initdb` and `postgres`; `None`: search `PATH` and the usual places.
    pub bin_dir: Option<PathBuf>,
    /// Extra server settings, passed as `-c name=value`; `fsync=off` also makes `initdb` faster.
    pub settings: Vec<(&'static str, String)>,
}

/// A running PostgreSQL server.
///
/// It ends with this process, however that ends, and when this value is dropped; only
/// [`Embedded::stop`] waits for it.
#[derive(Debug)]
pub struct Embedded {
    socket: SocketDir,
    server: Server,
}

impl Embedded {
    /// Starts the server and returns once it accepts connections.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from starting, told so that the reader knows what to do about it. The
    /// most likely: PostgreSQL is not installed, or another process uses the data directory.
    pub async fn start(options: &Options) -> Result<Self, EmbeddedError> {
        let account = Account::for_server().await?;
        let binaries = Binaries::find(options.bin_dir.as_deref(), &account).await?;
        let cluster = Cluster::locate(&options.data_dir, binaries.major, &account).await?;
        let claim = Claim::take(&cluster).await?;
        cluster
            .ensure_initialized(&binaries, &account, &claim, &options.settings)
            .await?;
        let socket = SocketDir::prepare(&cluster, &account).await?;
        let server = Server::start(
            &binaries,
            &account,
            cluster,
            claim,
            &socket,
            &options.settings,
        )
        .await?;
        tracing::info!(
            postgres.major = binaries.major,
            postgres.data_dir = %server.cluster.home.display(),
            "embedded PostgreSQL is ready"
        );
        Ok(Self { socket, server })
    }

    /// The URL of a database of this server, as sqlx and libpq (psql, for one) both read it.
    ///
    /// The database need not exist; `postgres` always does.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        // The socket's path needs no encoding: `socket` lets only plain characters through. The
        // host before the slash is ignored in favour of `host=`, but Prisma insists on one.
        // Port and TLS mode are spelled out so that PGPORT and PGSSLMODE cannot change them.
        format!(
            "postgres://{SUPERUSER}@localhost:{}/{}?host={}&sslmode=disable",
            socket::PORT,
            percent_encoded(database),
            self.socket.path.display(),
        )
    }

    /// The absolute path of the folder that keeps the clusters.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.server.cluster.home
    }

    /// Ends all sessions, writes everything to disk and waits until no process is left.
    ///
    /// # Errors
    ///
    /// When the server had already ended by itself, or does not end in half a minute.
    pub async fn stop(self) -> Result<(), EmbeddedError> {
        self.server.stop().await?;
        self.socket.discard().await;
        Ok(())
    }
}

/// Encodes all bytes but RFC 3986's unreserved ones, which every URL parser leaves alone.
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
