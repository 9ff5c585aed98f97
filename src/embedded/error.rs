//! Why the embedded server could not be started or stopped.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use thiserror::Error;

/// Why the embedded server could not be started or stopped.
#[derive(Debug, Error)]
pub enum EmbeddedError {
    /// PostgreSQL is in none of the usual places.
    #[error(
        "PostgreSQL (initdb and postgres) is not in {searched}: install it \
         (`apt-get install postgresql`, `brew install postgresql@17`, or scripts/ensure-postgres), \
         name its folder in PG_BIN_DIR, or give a DATABASE_URL"
    )]
    NotInstalled {
        /// Where was looked, for people.
        searched: String,
    },
    /// The folder that was asked for lacks the programs.
    #[error("{} (PG_BIN_DIR) does not contain both initdb and postgres", .bin_dir.display())]
    NotInBinDir {
        /// The folder.
        bin_dir: PathBuf,
    },
    /// The programs are there and do not run.
    #[error("{} does not run: {reason}", .program.display())]
    Unusable {
        /// The program that was tried.
        program: PathBuf,
        /// What it or the operating system said.
        reason: String,
    },
    /// The programs are in a folder that the server's user may not enter.
    #[error(
        "PostgreSQL in {} cannot be run by user {account}, as which root has to run it, because \
         {} is closed to that user: move it, open that folder (chmod o+x), or do not run as root",
        .bin_dir.display(), .closed.display()
    )]
    BinariesOutOfReach {
        /// The folder of the programs.
        bin_dir: PathBuf,
        /// The outermost folder or file on the way that is closed.
        closed: PathBuf,
        /// The server's user.
        account: String,
    },
    /// Root found nobody to run PostgreSQL as.
    #[error(
        "PostgreSQL does not run as root, and there is neither a user postgres nor a user nobody \
         to run it as: add one of them, or run as an ordinary user"
    )]
    NoAccount,
    /// The data directory is in a folder that the server's user may not enter.
    #[error(
        "data directory {} cannot be reached by user {account}, as which root has to run \
         PostgreSQL, because {} is closed to that user: choose another data directory (such as \
         /var/lib/heist), or open that folder (chmod o+x)",
        .data_dir.display(), .closed.display()
    )]
    DataDirOutOfReach {
        /// The data directory.
        data_dir: PathBuf,
        /// The outermost folder on the way that is closed.
        closed: PathBuf,
        /// The server's user.
        account: String,
    },
    /// Somebody else made the cluster, and PostgreSQL insists on its owner.
    #[error(
        "{} belongs to user id {owner} and PostgreSQL would run as user id {uid}: run as the user \
         who ran it before, or choose another data directory",
        .cluster.display()
    )]
    ForeignCluster {
        /// The cluster's folder.
        cluster: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Whose it would have to be.
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
        /// The other server's process id, `unknown` where it has not yet said.
        pid: String,
    },
    /// `initdb` failed.
    #[error("initdb failed ({status}):\n{log}")]
    Initdb {
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its output.
        log: String,
    },
    /// Every name for the socket's folder is somebody else's.
    #[error(
        "{} exists and is not a private folder of the user who runs PostgreSQL: remove it, or \
         choose another data directory",
        .path.display()
    )]
    SocketDirTaken {
        /// The name tried last.
        path: PathBuf,
    },
    /// The server ended although nobody had asked it to.
    #[error("PostgreSQL ended by itself ({status}):\n{log}")]
    Ended {
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its log.
        log: String,
    },
    /// The server runs but accepts no connections.
    #[error("PostgreSQL was not ready after {seconds} s:\n{log}")]
    NotReady {
        /// How long was waited.
        seconds: u64,
        /// The last lines of its log.
        log: String,
    },
    /// The server did not end, not even without its last checkpoint.
    #[error("PostgreSQL did not stop within {seconds} s")]
    NotStopped {
        /// How long was waited.
        seconds: u64,
    },
    /// The operating system refused something.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// What the operating system said.
        source: io::Error,
    },
}

/// For `map_err`: says what was being done when the operating system refused it.
pub(super) fn failed(doing: impl Into<String>) -> impl FnOnce(io::Error) -> EmbeddedError {
    let doing = doing.into();
    |source| EmbeddedError::Io { doing, source }
}
