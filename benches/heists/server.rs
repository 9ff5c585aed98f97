//! The release server as a separate process, and `heist check`.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStderr, Command},
    sync::oneshot,
    time::timeout,
};

use crate::{
    cpu::{Memory, Watched},
    postgres::{Database, Postgres},
};

const PATIENCE: Duration = Duration::from_secs(30);
/// A check reads all tables, of which the largest has a million players.
const CHECK_PATIENCE: Duration = Duration::from_mins(5);
const LINES_KEPT: usize = 20;

/// The rules of a scenario, in addition to no cooldown and no rate limits.
pub type Rules = &'static [(&'static str, &'static str)];

/// No player is robbed often enough to be protected, but every heist checks the protection.
pub const UNIFORM: Rules = &[
    ("HEIST_PROTECTION_AFTER", "50"),
    ("HEIST_PROTECTION_WINDOW", "48h"),
];
/// Nothing protects the hot victim.
pub const UNPROTECTED: Rules = &[("HEIST_PROTECTION_WINDOW", "0s")];

/// A `heist serve` that accepts calls.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    pub pid: u32,
    /// From the start of the process to the log line `serving`.
    pub start: Duration,
    /// Just after the start.
    pub idle: Option<Memory>,
    log: Log,
    postmaster: Option<u32>,
}

/// The last lines of its log.
type Log = Arc<Mutex<VecDeque<String>>>;

impl Server {
    pub async fn start(
        postgres: &Postgres,
        database: &Database,
        rules: Rules,
        variables: &[(String, String)],
    ) -> anyhow::Result<Self> {
        let begun = Instant::now();
        let mut child = heist("serve", database)
            .env("HEIST_AUTH", "none")
            .env("HEIST_LISTEN", "127.0.0.1:0")
            .env("HEIST_METRICS_LISTEN", "127.0.0.1:0")
            .env("HEIST_COOLDOWN", "0s")
            .env("HEIST_RATE_LIMIT_PER_MINUTE", "0")
            .env("HEIST_READ_RATE_LIMIT_PER_MINUTE", "0")
            .envs(rules.iter().copied())
            .env("RUST_LOG", "warn,heist::cli=info")
            .envs(variables.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the server")?;
        let pid = child.id().context("the server ended at once")?;
        let log = Log::default();
        let (told, address) = oneshot::channel();
        let stderr = child.stderr.take().expect("it is piped");
        tokio::spawn(follow(stderr, told, Arc::clone(&log)));
        let address = timeout(PATIENCE, address)
            .await
            .context("the server did not start in time")?
            .with_context(|| format!("the server ended:\n{}", joined(&log)))?;
        let start = begun.elapsed();
        Ok(Self {
            child,
            address,
            pid,
            start,
            idle: Memory::of(pid),
            log,
            postmaster: postgres.postmaster,
        })
    }

    pub fn watched(&self) -> Watched {
        Watched {
            server: Some(self.pid),
            postmaster: self.postmaster,
            load: None,
        }
    }

    pub fn memory(&self) -> Option<Memory> {
        Memory::of(self.pid)
    }

    /// Sends SIGTERM, as Kubernetes does.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let sent = Command::new("sh")
            .args(["-c", r#"kill -s TERM "$1""#, "sh", &self.pid.to_string()])
            .status()
            .await?;
        ensure!(
            sent.success(),
            "the server had ended:\n{}",
            joined(&self.log)
        );
        let status = timeout(PATIENCE, self.child.wait())
            .await
            .context("the server did not stop in time")??;
        ensure!(
            status.success(),
            "the server failed: {status}\n{}",
            joined(&self.log)
        );
        Ok(())
    }
}

/// Fails unless the books of the database are in order.
pub async fn check_books(database: &Database) -> anyhow::Result<()> {
    let checking = heist("check", database)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(CHECK_PATIENCE, checking)
        .await
        .context("heist check did not end in time")??;
    ensure!(
        output.status.success(),
        "THE BOOKS ARE WRONG. heist check says:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    Ok(())
}

/// The command of this build, with an empty environment.
fn heist(command: &str, database: &Database) -> Command {
    let mut heist = Command::new(env!("CARGO_BIN_EXE_heist"));
    heist
        .arg(command)
        .env_clear()
        .env("DATABASE_URL", &database.url)
        .env("HEIST_LOG_FORMAT", "json");
    heist
}

/// Reads the log, so that its pipe never fills up, and reports the server's address.
async fn follow(stderr: ChildStderr, told: oneshot::Sender<SocketAddr>, log: Log) {
    let mut told = Some(told);
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(address) = serving(&line)
            && let Some(told) = told.take()
        {
            let _ = told.send(address);
        }
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.len() == LINES_KEPT {
            log.pop_front();
        }
        log.push_back(line);
    }
}

/// The address in the log line `serving`.
fn serving(line: &str) -> Option<SocketAddr> {
    if !line.contains(r#""message":"serving""#) {
        return None;
    }
    let (_, address) = line.split_once(r#""address":""#)?;
    address.split('"').next()?.parse().ok()
}

fn joined(log: &Log) -> String {
    let log = log.lock().unwrap_or_else(PoisonError::into_inner);
    log.iter().cloned().collect::<Vec<_>>().join("\n")
}
