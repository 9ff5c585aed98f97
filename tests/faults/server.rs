//! The service as a process of its own.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::{sleep, timeout},
};

const START_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(30);

pub struct Server {
    child: Child,
    pub address: SocketAddr,
    pid: u32,
}

impl Server {
    /// At the address that callers know. Returns when it accepts connections.
    pub async fn start(
        address: SocketAddr,
        database_url: &str,
        settings: &Path,
        variables: &[(&str, &str)],
        stderr: Stdio,
    ) -> anyhow::Result<Self> {
        let mut child = heist("serve", database_url)
            .env("HEIST_AUTH", "none")
            .env("HEIST_LISTEN", address.to_string())
            .env("HEIST_METRICS_LISTEN", "")
            .env("HEIST_SETTINGS_FILE", settings)
            .env("HEIST_RATE_LIMIT_PER_MINUTE", "0")
            .env("HEIST_READ_RATE_LIMIT_PER_MINUTE", "0")
            .env("RUST_LOG", "warn")
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .context("starting the server")?;
        let accepts = async {
            while TcpStream::connect(address).await.is_err() {
                if let Some(status) = child.try_wait()? {
                    anyhow::bail!("the server ended with {status}");
                }
                sleep(Duration::from_millis(10)).await;
            }
            Ok(())
        };
        timeout(START_LIMIT, accepts)
            .await
            .context("the server did not start in time")??;
        let pid = child.id().context("the server ended at once")?;
        Ok(Self {
            child,
            address,
            pid,
        })
    }

    pub async fn signal(&self, signal: &str) -> anyhow::Result<()> {
        send(signal, &[self.pid.to_string()]).await
    }

    pub async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        Ok(timeout(STOP_LIMIT, self.child.wait())
            .await
            .context("the server did not stop in time")??)
    }

    /// The most resident memory it ever had. 0 where the system does not tell.
    pub fn peak_memory_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid));
        let peak_kib = status.ok().and_then(|status| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("VmHWM:"))?;
            line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
        });
        peak_kib.unwrap_or(0) / 1024
    }
}

/// An address without a listener.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// A command of the program that `HEIST_PROGRAM` names, such as a release build, or else of this
/// build. The command inherits no environment.
pub fn heist(command: &str, database_url: &str) -> Command {
    let program = std::env::var_os("HEIST_PROGRAM");
    let mut heist = Command::new(program.unwrap_or_else(|| env!("CARGO_BIN_EXE_heist").into()));
    heist
        .arg(command)
        .env_clear()
        .env("DATABASE_URL", database_url)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    heist
}

pub async fn send(signal: &str, pids: &[String]) -> anyhow::Result<()> {
    let sent = Command::new("sh")
        .args(["-c", r#"kill -s "$@""#, "sh", signal])
        .args(pids)
        .status()
        .await?;
    ensure!(sent.success(), "no process {pids:?} to send SIG{signal}");
    Ok(())
}
