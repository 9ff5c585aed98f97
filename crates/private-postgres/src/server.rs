//! The server process and its supervisor.

use std::{
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt,
    process::{Child, ChildStdin},
    time::{sleep, timeout},
};

use crate::{
    account::Account,
    binaries::Binaries,
    cluster::Cluster,
    error::{Error, failed},
    lock::ClusterLock,
    pid_file::PidFile,
    socket::{PORT, SocketDir},
};

const START_LIMIT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// The time limit of a fast shutdown, which writes everything to disk. The next start has nothing
/// to recover.
const FAST_STOP_LIMIT: Duration = Duration::from_secs(20);
/// The time limit of an immediate shutdown. The next start recovers committed transactions from the
/// write-ahead log.
const IMMEDIATE_STOP_LIMIT: Duration = Duration::from_secs(10);

/// Starts the server, reads names of signals from its standard input and sends these signals to the
/// server, and stops the server when that pipe closes. The operating system closes the pipe when
/// this process ends, including by SIGKILL. The supervisor exits after the server, with the
/// server's status.
///
/// The supervisor must outlive this process, so it ignores signals that may reach the whole process
/// group (a closed terminal, a service manager). PostgreSQL installs its own handlers for them, but
/// a signal that arrives earlier is lost. So the supervisor repeats SIGINT every second after the
/// pipe has closed. A shell connects background jobs to an empty input by default, so the
/// supervisor reads the pipe as descriptor 3.
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

/// A server that has accepted connections.
#[derive(Debug)]
pub(crate) struct Server {
    supervisor: Child,
    /// The supervisor stops the server when this pipe closes.
    signals: ChildStdin,
    pub(crate) cluster: Cluster,
}

impl Server {
    /// Starts the server and returns when it accepts connections.
    pub(crate) async fn start(
        binaries: &Binaries,
        account: &Account,
        cluster: Cluster,
        lock: &ClusterLock,
        socket: &SocketDir,
        settings: &[(&'static str, String)],
    ) -> Result<Self, Error> {
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
        // Last, so that they override the caller's settings.
        command
            .args(["-c", "listen_addresses=", "-c"])
            .arg(format!("unix_socket_directories={}", socket.path.display()))
            .stdin(Stdio::piped())
            .stdout(lock.output()?)
            .stderr(lock.output()?)
            // A terminal sends Ctrl-C to its process group. The server must keep running until this
            // process has stopped using it.
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
            Err(_) => Err(Error::NotReady {
                seconds: START_LIMIT.as_secs(),
                log: server.cluster.log_tail().await,
            }),
        }
    }

    async fn until_ready(&mut self, left_behind: Option<&PidFile>) -> Result<(), Error> {
        loop {
            let exited = self
                .supervisor
                .try_wait()
                .map_err(failed("watching PostgreSQL"))?;
            if let Some(status) = exited {
                return Err(self.ended(status).await);
            }
            // The file of an earlier server says "ready", too, until this server replaces it. This
            // process holds the lock, so any other file belongs to this server.
            let found = PidFile::read(&self.cluster).await;
            if found.as_ref() != left_behind && found.is_some_and(|found| found.is_ready()) {
                return Ok(());
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits until the last process has ended.
    pub(crate) async fn stop(mut self) -> Result<(), Error> {
        let steps = [("INT", FAST_STOP_LIMIT), ("QUIT", IMMEDIATE_STOP_LIMIT)];
        for (signal, limit) in steps {
            // The write fails if the supervisor has ended, which the next lines detect.
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
        Err(Error::NotStopped {
            seconds: (FAST_STOP_LIMIT + IMMEDIATE_STOP_LIMIT).as_secs(),
        })
    }

    async fn ended(&self, status: ExitStatus) -> Error {
        let log = self.cluster.log_tail().await;
        Error::Ended { status, log }
    }
}
