//! A PostgreSQL that can be killed, stopped and copied.

use std::{
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use private_postgres::{Options, PrivatePostgres};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::{fs, process::Command, time::sleep};

use super::server::send;

/// Makes a standby. Unlike the server it is looked for in `PATH` alone.
const COPY: &str = "pg_basebackup";
/// How long processes of a killed server may need until they are gone.
const START_LIMIT: Duration = Duration::from_secs(20);

pub struct Node {
    server: Option<PrivatePostgres>,
    options: Options,
}

impl Node {
    /// Durable, as PostgreSQL is by default.
    pub async fn start(data_dir: PathBuf) -> anyhow::Result<Self> {
        let options = Options {
            data_dir,
            bin_dir: std::env::var_os("PG_BIN_DIR").map(PathBuf::from),
            settings: Vec::new(),
        };
        let server = Some(PrivatePostgres::start(&options).await?);
        Ok(Self { server, options })
    }

    /// A standby of this server, streaming, for which every commit waits from now on.
    pub async fn with_standby(&self, data_dir: PathBuf) -> anyhow::Result<Self> {
        let primary = self.cluster().await?;
        let name = primary.file_name().context("a cluster has a name")?;
        let owner = fs::metadata(&primary).await?;
        fs::create_dir_all(&data_dir).await?;
        std::os::unix::fs::chown(&data_dir, Some(owner.uid()), Some(owner.gid()))?;
        let postgres: PgConnectOptions = self.url("postgres").parse()?;
        let socket = postgres.get_socket().context("a socket")?;
        let copied = Command::new(COPY)
            .args(["-c", "fast", "-X", "stream", "-R", "-U", "postgres", "-h"])
            .arg(socket)
            .args(["-p", &postgres.get_port().to_string(), "-D"])
            .arg(data_dir.join(name))
            .uid(owner.uid())
            .gid(owner.gid())
            .current_dir("/")
            .status()
            .await
            .context("pg_basebackup")?;
        ensure!(copied.success(), "pg_basebackup ended with {copied}");
        let standby = Self::start(data_dir).await?;
        self.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            .await?;
        self.execute("SELECT pg_reload_conf()").await?;
        let begun = Instant::now();
        while !self.is_synchronous().await? {
            ensure!(begun.elapsed() < START_LIMIT, "the standby does not stream");
            sleep(Duration::from_millis(20)).await;
        }
        Ok(standby)
    }

    /// SIGKILL to the server: its children end when they notice.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        send("KILL", &[self.pid().await?]).await?;
        self.server = None;
        Ok(())
    }

    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        self.server = loop {
            match PrivatePostgres::start(&self.options).await {
                Ok(server) => break Some(server),
                // Children of the old one may still use the shared memory.
                Err(_) if begun.elapsed() < START_LIMIT => sleep(Duration::from_millis(50)).await,
                Err(error) => return Err(error.into()),
            }
        };
        Ok(())
    }

    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.stop().await?;
        self.start_again().await
    }

    pub async fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(server) = self.server.take() {
            server.stop().await?;
        }
        Ok(())
    }

    /// To the server and to all its children.
    pub async fn signal_all(&self, signal: &str) -> anyhow::Result<()> {
        let postmaster = self.pid().await?;
        let children = Command::new("ps")
            .args(["-o", "pid=", "--ppid", &postmaster])
            .output()
            .await?;
        let children = String::from_utf8(children.stdout)?;
        let mut pids = vec![postmaster];
        pids.extend(children.split_whitespace().map(str::to_owned));
        send(signal, &pids).await
    }

    pub async fn promote(&self) -> anyhow::Result<()> {
        self.execute("SELECT pg_promote()").await
    }

    pub async fn execute(&self, statement: &str) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(&self.url("postgres")).await?;
        sqlx::query(AssertSqlSafe(statement.to_owned()))
            .execute(&mut connection)
            .await?;
        Ok(connection.close().await?)
    }

    pub fn url(&self, database: &str) -> String {
        self.server.as_ref().expect("it runs").url(database)
    }

    pub fn socket(&self) -> anyhow::Result<PathBuf> {
        let options: PgConnectOptions = self.url("postgres").parse()?;
        let directory = options.get_socket().context("a socket")?;
        Ok(directory.join(format!(".s.PGSQL.{}", options.get_port())))
    }

    async fn is_synchronous(&self) -> anyhow::Result<bool> {
        let mut connection = PgConnection::connect(&self.url("postgres")).await?;
        let query = "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')";
        let found = sqlx::query_scalar(query).fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok(found)
    }

    async fn pid(&self) -> anyhow::Result<String> {
        let file = fs::read_to_string(self.cluster().await?.join("postmaster.pid")).await?;
        Ok(file.lines().next().context("a process id")?.to_owned())
    }

    /// PostgreSQL's own data directory, which is named after its version.
    async fn cluster(&self) -> anyhow::Result<PathBuf> {
        let mut children = fs::read_dir(&self.options.data_dir).await?;
        while let Some(child) = children.next_entry().await? {
            if child.path().join("PG_VERSION").exists() {
                return Ok(fs::canonicalize(child.path()).await?);
            }
        }
        anyhow::bail!("no cluster in {}", self.options.data_dir.display())
    }
}

/// Whether there can be a standby.
pub fn can_copy() -> bool {
    std::process::Command::new(COPY)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
}
