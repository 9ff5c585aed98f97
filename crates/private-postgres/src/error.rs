//! Why the server could not be started or stopped.

use std::{io, path::PathBuf, process::ExitStatus};

/// Why the server could not be started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL is in none of the usual places.
    #[error(
        "PostgreSQL (initdb and postgres) is not in {searched}: install it \
         (`apt-get install postgresql`, `brew install postgresql@17`, or scripts/ensure-postgres), \
         name its directory in PG_BIN_DIR, or set DATABASE_URL"
    )]
    NotInstalled {
        /// The searched places, for people.
        searched: String,
    },
    /// The directory of the options does not contain the programs.
    #[error("{} (PG_BIN_DIR) does not contain both initdb and postgres", .bin_dir.display())]
    NotInBinDir {
        /// The directory.
        bin_dir: PathBuf,
    },
    /// The programs exist and do not run.
    #[error("{} does not run: {reason}", .program.display())]
    Unusable {
        /// The program.
        program: PathBuf,
        /// The error message of the program or of the operating system.
        reason: String,
    },
    /// The server's user may not enter the directory of the programs.
    #[error(
        "root has to run PostgreSQL as user {account}, who cannot reach {}, because {} is closed to \
         that user: move it, open that directory (chmod o+x), or do not run as root",
        .bin_dir.display(), .closed.display()
    )]
    BinariesOutOfReach {
        /// The directory of the programs.
        bin_dir: PathBuf,
        /// The outermost directory or file of the path that is closed.
        closed: PathBuf,
        /// The server's user.
        account: String,
    },
    /// Root needs another user to run PostgreSQL as, and found none.
    #[error(
        "PostgreSQL does not run as root, and there is neither a user postgres nor a user nobody \
         to run it as: add one of them, or run as an ordinary user"
    )]
    NoAccount,
    /// The server's user may not enter the data directory.
    #[error(
        "root has to run PostgreSQL as user {account}, who cannot reach data directory {}, because \
         {} is closed to that user: choose another data directory (such as /var/lib/heist), or open \
         that directory (chmod o+x)",
        .data_dir.display(), .closed.display()
    )]
    DataDirOutOfReach {
        /// The data directory.
        data_dir: PathBuf,
        /// The outermost directory of the path that is closed.
        closed: PathBuf,
        /// The server's user.
        account: String,
    },
    /// The cluster has another owner. PostgreSQL only starts as the owner.
    #[error(
        "{} belongs to user id {owner} and PostgreSQL would run as user id {uid}: run as the owner, \
         or choose another data directory",
        .cluster.display()
    )]
    ForeignCluster {
        /// The cluster's directory.
        cluster: PathBuf,
        /// Its owner's user id.
        owner: u32,
        /// The server's user id.
        uid: u32,
    },
    /// Another server runs on the data directory.
    #[error(
        "data directory {} is in use by another heist (PostgreSQL process {pid}): stop that one, \
         or give this one a data directory of its own",
        .data_dir.display()
    )]
    InUse {
        /// The data directory.
        data_dir: PathBuf,
        /// The other server's process id; `unknown` if it has not yet written it.
        pid: String,
    },
    /// `initdb` failed.
    #[error("initdb failed ({status}):\n{log}")]
    Initdb {
        /// Its exit status.
        status: ExitStatus,
        /// The last lines of its output.
        log: String,
    },
    /// Every name for the socket's directory is in use by another user.
    #[error(
        "{} exists and is not a private directory of the user who runs PostgreSQL: remove it, or \
         choose another data directory",
        .path.display()
    )]
    SocketDirTaken {
        /// The name tried last.
        path: PathBuf,
    },
    /// The server ended without a request to stop.
    #[error("PostgreSQL ended by itself ({status}):\n{log}")]
    Ended {
        /// Its exit status.
        status: ExitStatus,
        /// The last lines of its log.
        log: String,
    },
    /// The server does not accept connections.
    #[error("PostgreSQL was not ready after {seconds} s:\n{log}")]
    NotReady {
        /// The time limit.
        seconds: u64,
        /// The last lines of its log.
        log: String,
    },
    /// The server ended neither by a fast nor by an immediate shutdown.
    #[error("PostgreSQL did not stop within {seconds} s")]
    NotStopped {
        /// The time limit.
        seconds: u64,
    },
    /// An operation of the operating system failed.
    #[error("{doing}: {source}")]
    Io {
        /// The operation.
        doing: String,
        /// The cause.
        source: io::Error,
    },
}

/// For `map_err`: adds the name of the failed operation.
pub(crate) fn failed(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let doing = doing.into();
    |source| Error::Io { doing, source }
}
