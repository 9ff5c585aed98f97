//! PgBouncer in transaction mode, in front of a PostgreSQL.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::{
        fs::{MetadataExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tokio::{net::UnixStream, time::sleep};

/// The port in the socket's name. The folder belongs to this PgBouncer alone.
const PORT: u16 = 5432;
const START_LIMIT: Duration = Duration::from_secs(20);

/// Ends the program with this process, even after SIGKILL: this process alone holds the pipe.
const UNTIL_WE_END: &str = r#"
trap '' HUP INT TERM
"$@" &
cat
kill -s KILL $!
wait"#;

/// Dropping it kills it.
pub struct PgBouncer {
    folder: PathBuf,
    /// Its standard input is the pipe.
    shell: Child,
}

impl PgBouncer {
    /// In front of the PostgreSQL that `address` leads to, in the words of libpq. Runs as the owner
    /// of PostgreSQL's socket, because it refuses to be root, too. Returns when it accepts
    /// connections.
    pub async fn start(
        program: &Path,
        folder: PathBuf,
        socket: &Path,
        address: &str,
    ) -> io::Result<Self> {
        let owner = fs::metadata(socket)?;
        let owner = (owner.uid(), owner.gid());
        fs::create_dir_all(&folder)?;
        chown(&folder, Some(owner.0), Some(owner.1))?;
        fs::write(configuration_in(&folder), configuration(&folder, address))?;
        let shell = spawn(program, &folder, owner)?;
        let pgbouncer = Self { folder, shell };
        pgbouncer.accepts().await?;
        Ok(pgbouncer)
    }

    /// Of a database behind it.
    pub fn url(&self, database: &str) -> String {
        let folder = self.folder.display();
        format!("postgres://postgres@localhost:{PORT}/{database}?host={folder}&sslmode=disable")
    }

    async fn accepts(&self) -> io::Result<()> {
        let begun = Instant::now();
        let socket = self.folder.join(format!(".s.PGSQL.{PORT}"));
        while let Err(error) = UnixStream::connect(&socket).await {
            if begun.elapsed() > START_LIMIT {
                let log = self.folder.join("log");
                let why = format!("{error}; its log is {}", log.display());
                return Err(io::Error::new(ErrorKind::TimedOut, why));
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        // A failure cannot be reported from here.
        let _ = self.shell.wait();
    }
}

fn configuration_in(folder: &Path) -> PathBuf {
    folder.join("pgbouncer.ini")
}

/// The first four are those of docs/reliability.md.
fn configuration(folder: &Path, address: &str) -> String {
    let folder = folder.display();
    format!(
        "[databases]
* = {address} user=postgres

[pgbouncer]
pool_mode = transaction
max_prepared_statements = 200
query_wait_timeout = 5
server_login_retry = 1
listen_port = {PORT}
unix_socket_dir = {folder}
logfile = {folder}/log
auth_type = any
max_client_conn = 500
"
    )
}

fn spawn(program: &Path, folder: &Path, (user, group): (u32, u32)) -> io::Result<Child> {
    Command::new("sh")
        .args(["-c", UNTIL_WE_END, "sh"])
        .arg(program)
        .arg("--quiet")
        .arg(configuration_in(folder))
        .uid(user)
        .gid(group)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}
