//! A proxy between the server and PostgreSQL. It stands for the network, and for a load balancer
//! that leads to the current primary.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    Open,
    /// Connections break, and new ones are closed at once.
    Cut,
    /// Connections stay, and nothing arrives.
    Silent,
}

/// Bytes. PostgreSQL sends as many.
const AT_ONCE: usize = 8192;

pub struct Proxy {
    pub address: SocketAddr,
    state: Arc<watch::Sender<State>>,
}

#[derive(Clone)]
struct State {
    line: Line,
    /// The socket of PostgreSQL.
    target: PathBuf,
}

impl Proxy {
    pub async fn start(target: PathBuf) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let line = Line::Open;
        let state = Arc::new(watch::Sender::new(State { line, target }));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((server, _)) = listener.accept().await {
                tokio::spawn(connect(server, shared.subscribe()));
            }
        });
        Ok(Self { address, state })
    }

    pub fn set(&self, line: Line) {
        self.state.send_modify(|state| state.line = line);
    }

    /// Breaks what leads elsewhere, as haproxy does with `on-marked-down shutdown-sessions`.
    pub fn lead_to(&self, target: PathBuf) {
        self.state.send_modify(|state| state.target = target);
    }
}

async fn connect(server: TcpStream, mut state: watch::Receiver<State>) {
    let now = state.borrow_and_update().clone();
    if now.line == Line::Cut {
        return;
    }
    // A PostgreSQL that is away: the connection is closed, as a proxy would.
    let Ok(postgres) = UnixStream::connect(&now.target).await else {
        return;
    };
    let mut broken = state.clone();
    let is_broken = broken.wait_for(|is| is.line == Line::Cut || is.target != now.target);
    tokio::select! {
        _ = is_broken => {}
        () = pass_on(server, postgres, state) => {}
    }
}

/// Passes everything on in both directions while the line is open. Returning closes both ends.
async fn pass_on(
    mut server: TcpStream,
    mut postgres: UnixStream,
    mut state: watch::Receiver<State>,
) {
    loop {
        // PgBouncer hangs up on a server whose messages arrive in pieces while it logs in.
        let mut from_server = Vec::with_capacity(AT_ONCE);
        let mut from_postgres = Vec::with_capacity(AT_ONCE);
        let read = tokio::select! {
            read = server.read_buf(&mut from_server) => read,
            read = postgres.read_buf(&mut from_postgres) => read,
        };
        if read.unwrap_or(0) == 0
            || state.wait_for(|is| is.line != Line::Silent).await.is_err()
            || postgres.write_all(&from_server).await.is_err()
            || server.write_all(&from_postgres).await.is_err()
        {
            return;
        }
    }
}
