//! The `heist` command as a process of its own, with an environment of its own.

use std::{
    ffi::OsStr,
    net::SocketAddr,
    ops::Deref,
    process::{ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    task::JoinHandle,
    time::timeout,
};

use super::{PATIENCE, until};

/// A command line and an environment.
pub struct Heist {
    command: Command,
}

/// A command that runs.
pub struct Running {
    child: Child,
    /// End when all that the command and its children said has been collected.
    collectors: [JoinHandle<()>; 2],
    stdout: Lines,
    stderr: Lines,
}

/// A `heist serve` that accepts calls.
pub struct Serving {
    process: Running,
    pub address: SocketAddr,
    /// Where `/metrics` is, if anywhere.
    pub metrics_address: Option<SocketAddr>,
}

/// How long the last lines of a command that has ended may take to arrive; a child of its own may
/// keep its output open.
const LAST_LINES: Duration = Duration::from_secs(2);

type Lines = Arc<Mutex<Vec<String>>>;

/// What a command that ended left behind.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Heist {
    /// The program that `HEIST_PROGRAM` names, such as a release build, or else this build. It
    /// inherits only the variables that say where programs are.
    pub fn new(arguments: &[&str]) -> Self {
        let program = std::env::var_os("HEIST_PROGRAM");
        let program = program.unwrap_or_else(|| env!("CARGO_BIN_EXE_heist").into());
        Self::of_program(program, arguments)
    }

    /// Of another version than this one.
    pub fn of_program(program: impl AsRef<OsStr>, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().kill_on_drop(true);
        // Most have no use for it, and they cannot all have the same port.
        command.env("HEIST_METRICS_LISTEN", "");
        for name in ["PATH", "PG_BIN_DIR", "LD_LIBRARY_PATH"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        Self { command }
    }

    /// On any free port, and with any number of calls a minute.
    pub fn serve() -> Self {
        Self::new(&["serve"])
            .env("HEIST_LISTEN", "127.0.0.1:0")
            .env("HEIST_RATE_LIMIT_PER_MINUTE", "0")
            .env("HEIST_READ_RATE_LIMIT_PER_MINUTE", "0")
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Waits for it to end by itself.
    pub async fn ended(mut self) -> Ended {
        let output = timeout(PATIENCE, self.command.stdin(Stdio::null()).output())
            .await
            .expect("it ends by itself")
            .expect("it can be started");
        output.into()
    }

    /// Waits until it accepts calls.
    pub async fn serving(self) -> Serving {
        self.spawn().serving().await
    }

    /// Does not wait.
    pub fn spawn(mut self) -> Running {
        let mut child = (self.command.stdin(Stdio::null()))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it can be started");
        let (stdout, out) = collect(child.stdout.take().expect("it is piped"));
        let (stderr, err) = collect(child.stderr.take().expect("it is piped"));
        Running {
            child,
            collectors: [out, err],
            stdout,
            stderr,
        }
    }
}

impl Running {
    /// Waits until it accepts calls.
    pub async fn serving(mut self) -> Serving {
        let (address, metrics_address) = until("it serves", async || {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                panic!("it ended with {status}: {}", joined(&self.stderr));
            }
            let lines = self.stderr.lock().unwrap();
            let serving = lines.iter().find(|line| {
                line.contains(r#""message":"serving""#) || line.contains(": serving ")
            })?;
            let address = |name: &str| {
                let (_, address) = (serving.split_once(&format!(r#""{name}":""#)))
                    .or_else(|| serving.split_once(&format!(" {name}=")))?;
                let address = &address[..address.find(['"', ' '])?];
                Some(address.parse().expect("an address"))
            };
            Some((address("address")?, address("metrics_address")))
        })
        .await;
        Serving {
            process: self,
            address,
            metrics_address,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("it still runs")
    }

    /// The memory of the process in KiB; `None` on a system without `/proc`.
    pub async fn memory_kib(&self) -> Option<u64> {
        let status = tokio::fs::read_to_string(format!("/proc/{}/status", self.pid())).await;
        let status = status.ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    pub async fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("sh")
            .args(["-c", r#"kill -s "$1" "$2""#, "sh", signal, &pid])
            .status()
            .await
            .expect("there is a shell");
        assert!(sent.success());
    }

    pub async fn ended(mut self) -> Ended {
        let status: ExitStatus = timeout(PATIENCE, self.child.wait())
            .await
            .expect("it ends")
            .expect("it is our child");
        for collector in &mut self.collectors {
            let _ = timeout(LAST_LINES, collector).await;
        }
        Ended {
            code: status.code(),
            stdout: joined(&self.stdout),
            stderr: joined(&self.stderr),
        }
    }

    pub async fn stopped_by(self, signal: &str) -> Ended {
        self.signal(signal).await;
        self.ended().await
    }

    /// The events of this name in the log, of which every line must be JSON.
    pub fn events(&self, name: &str) -> Vec<Value> {
        let lines = self.stderr.lock().unwrap();
        (lines.iter())
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")))
            .filter(|event: &Value| event["event"] == name)
            .collect()
    }

    /// The first event of this name, once it is in the log.
    pub async fn event(&self, name: &str) -> Value {
        until(name, async || self.events(name).into_iter().next()).await
    }

    pub async fn says(&self, what: &str) {
        until(what, async || self.has_said(what).then_some(())).await;
    }

    /// Its log so far.
    pub fn said(&self) -> String {
        joined(&self.stderr)
    }

    pub fn has_said(&self, what: &str) -> bool {
        joined(&self.stdout).contains(what) || joined(&self.stderr).contains(what)
    }
}

impl Serving {
    pub async fn stopped_by(self, signal: &str) -> Ended {
        self.process.stopped_by(signal).await
    }

    pub async fn ended(self) -> Ended {
        self.process.ended().await
    }
}

impl Deref for Serving {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.process
    }
}

/// A test that fails shows what the server had to say.
impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("heist said:\n{}", joined(&self.stderr));
        }
    }
}

impl Ended {
    /// The one line in which it says why it ended; everything else in its log is JSON.
    #[track_caller]
    pub fn complaint(&self) -> &str {
        let lines: Vec<&str> = (self.stderr.lines())
            .filter(|line| !line.starts_with('{'))
            .collect();
        assert_eq!(lines.len(), 1, "{self:?}");
        lines[0]
            .strip_prefix("heist: ")
            .expect("it starts with the program's name")
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("text"),
            stderr: String::from_utf8(output.stderr).expect("text"),
        }
    }
}

fn collect(output: impl AsyncRead + Send + Unpin + 'static) -> (Lines, JoinHandle<()>) {
    let lines = Lines::default();
    let collected = Arc::clone(&lines);
    let collector = tokio::spawn(async move {
        let mut output = BufReader::new(output).lines();
        while let Ok(Some(line)) = output.next_line().await {
            collected.lock().unwrap().push(line);
        }
    });
    (lines, collector)
}

fn joined(lines: &Lines) -> String {
    lines.lock().unwrap().join("\n")
}
