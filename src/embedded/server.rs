//! The server's processes: started, watched and ended together.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin};
use tokio::time::{sleep, timeout};

use super::account::Account;
use super::binaries::Binaries;
use super::claim::{Claim, log_tail};
use super::cluster::{Cluster, PidFile};
use super::error::{EmbeddedError, failed};
use super::socket::{PORT, SocketDir};

const START_LIMIT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// For a shutdown that writes everything to disk, so that the next start has nothing to recover.
const FAST_STOP_LIMIT: Duration = Duration::from_secs(20);
/// For one that does not, after which the next start recovers what was committed.
const IMMEDIATE_STOP_LIMIT: Duration = Duration::from_secs(10);

/// Starts the server, passes on the signals whose names it reads from its standard input, and
/// stops the server when that pipe closes: the operating system closes it however we die, also by
/// SIGKILL, when nothing of ours could run. It exits as the server does, and after it.
///
/// It ignores the signals that are meant for us and may reach it too (a closed terminal, a
/// service manager that signals whole groups), because it has to outlast us. PostgreSQL replaces
/// that by handlers of its own, but a signal that comes earlier is lost: hence the repetition. A
/// shell gives background jobs no input unless told: hence descriptor 3.
const SUPERVISOR: &str = r#"
trap '' HUP INT TERM
exec 3<&0 </dev/null
"$@" 3<&- &
server=$!
{
    while read -r signal; do kill -s "$signal" "$server"; done
    while kill -s INT "$server"; do sleep 1; done >/dev/null 2>&1
} <&3 &
watcher=$!
exec 3<&-
wait "$server"
status=$?
exec 2>/dev/null
kill -s KILL "$watcher"
wait "$watcher"
exit "$status"
"#;

/// A server that accepts connections, or did.
#[derive(Debug)]
pub(super) struct Server {
    supervisor: Child,
    /// The server lives as long as this is open.
    signals: ChildStdin,
    pub(super) cluster: Cluster,
}

impl Server {
    /// Returns when the server accepts connections.
    pub(super) async fn start(
        binaries: &Binaries,
        account: &Account,
        cluster: Cluster,
        claim: Claim,
        socket: &SocketDir,
        settings: &[(&'static str, String)],
    ) -> Result<Self, EmbeddedError> {
        PidFile::discard_if_stale(&cluster, account).await;
        let left_behind = PidFile::read(&cluster).await;

        let mut command = account.command("sh");
        command
            .args(["-c", SUPERVISOR, "heist-postgres"])
            .arg(&binaries.postgres)
            .arg("-D")
            .arg(&cluster.dir)
            .args(["-p", &PORT.to_string()]);
        for (name, value) in settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        // Last, so that no setting of the caller opens the server to others.
        command
            .args(["-c", "listen_addresses=", "-c"])
            .arg(format!("unix_socket_directories={}", socket.path.display()))
            .stdin(Stdio::piped())
            .stdout(claim.output()?)
            .stderr(claim.output()?)
            // Ctrl-C in a terminal goes to the terminal's process group: we stop first, and the
            // server when we no longer need it.
            .process_group(0);
        let mut supervisor = command
            .spawn()
            .map_err(failed("starting PostgreSQL's supervisor (sh)"))?;
        let signals = supervisor.stdin.take().expect("its input is a pipe");
        let mut server = Self {
            supervisor,
            signals,
            cluster,
        };
        match timeout(START_LIMIT, server.until_ready(left_behind.as_ref())).await {
            Ok(Ok(())) => Ok(server),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(EmbeddedError::NotReady {
                seconds: START_LIMIT.as_secs(),
                log: log_tail(&server.cluster).await,
            }),
        }
    }

    async fn until_ready(&mut self, left_behind: Option<&PidFile>) -> Result<(), EmbeddedError> {
        loop {
            let exited = self
                .supervisor
                .try_wait()
                .map_err(failed("watching PostgreSQL"))?;
            if let Some(status) = exited {
                return Err(self.ended(status).await);
            }
            // A file that an earlier server left says "ready" too, until ours replaces it. With
            // the claim in our hands, any other file is our server's.
            let said = PidFile::read(&self.cluster).await;
            if said.as_ref() != left_behind && said.is_some_and(|said| said.is_ready()) {
                return Ok(());
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits until the last process has ended.
    pub(super) async fn stop(mut self) -> Result<(), EmbeddedError> {
        let steps = [("INT", FAST_STOP_LIMIT), ("QUIT", IMMEDIATE_STOP_LIMIT)];
        for (signal, limit) in steps {
            // It fails when the supervisor has ended, which the next lines find out.
            let _ = self
                .signals
                .write_all(format!("{signal}\n").as_bytes())
                .await;
            let Ok(ended) = timeout(limit, self.supervisor.wait()).await else {
                tracing::warn!(
                    signal,
                    waited_s = limit.as_secs(),
                    "PostgreSQL is slow to stop"
                );
                continue;
            };
            let status = ended.map_err(failed("waiting for PostgreSQL to stop"))?;
            if signal == "INT" && !status.success() {
                return Err(self.ended(status).await);
            }
            return Ok(());
        }
        Err(EmbeddedError::NotStopped {
            seconds: (FAST_STOP_LIMIT + IMMEDIATE_STOP_LIMIT).as_secs(),
        })
    }

    async fn ended(&self, status: ExitStatus) -> EmbeddedError {
        let log = log_tail(&self.cluster).await;
        EmbeddedError::Ended { status, log }
    }
}
