//! A proxy between the server and PostgreSQL that reads the server's messages and can silence single
//! connections, in one direction or both, at a chosen phase of a batch.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, Weak},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream, UnixStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
        unix,
    },
    sync::watch,
    task::JoinHandle,
};

/// A statement of a batch's transaction, or the one that sends signals to other replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Begin,
    Lock,
    Load,
    Save,
    Commit,
    Notify,
}

/// How a connection falls silent. Its socket to the server stays open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// PostgreSQL gets nothing more, and its session ends.
    Session,
    /// PostgreSQL gets nothing more, and its session stays.
    Requests,
    /// PostgreSQL gets everything, and the server gets no answer.
    Answers,
}

pub struct Tap {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    connections: Mutex<Vec<Weak<Connection>>>,
    /// Silences the first connection that reaches the phase.
    armed: Mutex<Option<(Phase, Silence)>>,
}

struct Connection {
    silence: watch::Sender<Option<Silence>>,
    /// It has sent a `LISTEN`.
    listens: Mutex<bool>,
}

impl Tap {
    /// Leads to the PostgreSQL of this socket.
    pub async fn start(target: PathBuf) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            connections: Mutex::default(),
            armed: Mutex::default(),
        });
        let accepted = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            while let Ok((server, _)) = listener.accept().await {
                let connection = Arc::new(Connection {
                    silence: watch::Sender::new(None),
                    listens: Mutex::new(false),
                });
                let mut connections = accepted.connections.lock().expect("no holder panics");
                connections.push(Arc::downgrade(&connection));
                let (shared, target) = (Arc::clone(&accepted), target.clone());
                tokio::spawn(async move {
                    if let Ok(postgres) = UnixStream::connect(target).await {
                        pass_on(server, postgres, &connection, &shared).await;
                    }
                });
            }
        });
        Ok(Self {
            address,
            shared,
            accepting,
        })
    }

    /// Silences the first connection that reaches this phase.
    pub fn arm(&self, phase: Phase, silence: Silence) {
        *self.shared.armed.lock().expect("no holder panics") = Some((phase, silence));
    }

    /// Whether the armed silence has begun.
    pub fn has_struck(&self) -> bool {
        self.shared
            .armed
            .lock()
            .expect("no holder panics")
            .is_none()
    }

    /// Silences all connections of this moment. Returns their number.
    pub fn silence_all(&self, silence: Silence) -> usize {
        self.silence_where(silence, |_| true)
    }

    /// Silences the connections that listen for signals. Returns their number.
    pub fn silence_listeners(&self, silence: Silence) -> usize {
        self.silence_where(silence, |connection| {
            *connection.listens.lock().expect("no holder panics")
        })
    }

    fn silence_where(&self, silence: Silence, chosen: impl Fn(&Connection) -> bool) -> usize {
        let connections = self.shared.connections.lock().expect("no holder panics");
        let chosen = (connections.iter())
            .filter_map(Weak::upgrade)
            .filter(|connection| chosen(connection));
        chosen
            .map(|connection| connection.silence.send_replace(Some(silence)))
            .count()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Returns when one side has closed the connection and it is not silent, or when the server has.
async fn pass_on(
    server: TcpStream,
    postgres: UnixStream,
    connection: &Connection,
    shared: &Shared,
) {
    let (from_server, to_server) = server.into_split();
    let (from_postgres, to_postgres) = postgres.into_split();
    tokio::select! {
        () = requests(from_server, to_postgres, connection, shared) => {}
        () = answers(from_postgres, to_server, connection) => {}
    }
}

async fn requests(
    mut server: OwnedReadHalf,
    postgres: unix::OwnedWriteHalf,
    connection: &Connection,
    shared: &Shared,
) {
    let mut silenced = connection.silence.subscribe();
    let mut postgres = Some(postgres);
    let mut messages = Messages::default();
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let read = tokio::select! {
            read = server.read(&mut bytes) => read.unwrap_or(0),
            _ = silenced.changed() => {
                if *silenced.borrow() == Some(Silence::Session) {
                    postgres = None;
                }
                continue;
            }
        };
        if read == 0 {
            return;
        }
        for message in messages.next(&bytes[..read]) {
            if let Some(phase) = message.phase {
                shared.strike(phase, connection);
            }
            if message.listens {
                *connection.listens.lock().expect("no holder panics") = true;
            }
            match *connection.silence.borrow() {
                Some(Silence::Session) => postgres = None,
                Some(Silence::Requests) => continue,
                Some(Silence::Answers) | None => {}
            }
            if let Some(postgres) = &mut postgres
                && postgres.write_all(&message.bytes).await.is_err()
            {
                return;
            }
        }
    }
}

impl Shared {
    fn strike(&self, phase: Phase, connection: &Connection) {
        let mut armed = self.armed.lock().expect("no holder panics");
        if let Some((_, silence)) = armed.take_if(|(armed, _)| *armed == phase) {
            connection.silence.send_replace(Some(silence));
        }
    }
}

async fn answers(
    mut postgres: unix::OwnedReadHalf,
    mut server: OwnedWriteHalf,
    connection: &Connection,
) {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let read = postgres.read(&mut bytes).await.unwrap_or(0);
        if connection.silence.borrow().is_some() {
            if read == 0 {
                return std::future::pending().await;
            }
        } else if read == 0 || server.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

/// Cuts the server's bytes into messages of PostgreSQL's protocol.
#[derive(Default)]
struct Messages {
    started: bool,
    rest: Vec<u8>,
    /// Prepared statements, by name.
    statements: HashMap<Vec<u8>, Statement>,
    has_locked: bool,
}

struct Message {
    bytes: Vec<u8>,
    phase: Option<Phase>,
    listens: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Statement {
    Begin,
    Lock,
    Save,
    Commit,
    Listen,
    Notify,
    Other,
}

impl Statement {
    fn of(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        if text.starts_with("BEGIN") {
            Self::Begin
        } else if text.starts_with("COMMIT") {
            Self::Commit
        } else if text.starts_with("LISTEN") {
            Self::Listen
        } else if text.contains("pg_notify(") {
            Self::Notify
        } else if text.contains("INSERT INTO \"Heist\" (") {
            Self::Save
        } else if text.contains("FOR NO KEY UPDATE") {
            Self::Lock
        } else {
            Self::Other
        }
    }
}

impl Messages {
    fn next(&mut self, bytes: &[u8]) -> Vec<Message> {
        self.rest.extend_from_slice(bytes);
        let mut messages = Vec::new();
        // The first message has no type.
        while let Some(length) = self.length(usize::from(self.started)) {
            let bytes: Vec<u8> = self.rest.drain(..length).collect();
            let statement = if self.started {
                self.executed(&bytes)
            } else {
                None
            };
            self.started = true;
            messages.push(Message {
                phase: statement.and_then(|statement| self.phase(statement)),
                listens: statement == Some(Statement::Listen),
                bytes,
            });
        }
        messages
    }

    /// Of the whole message, once all of it is there. The length field counts itself.
    fn length(&self, type_bytes: usize) -> Option<usize> {
        let field = self.rest.get(type_bytes..type_bytes + 4)?;
        let length = u32::from_be_bytes(field.try_into().ok()?);
        let length = type_bytes + usize::try_from(length).ok()?;
        (self.rest.len() >= length).then_some(length)
    }

    /// The statement that a message executes.
    fn executed(&mut self, message: &[u8]) -> Option<Statement> {
        let mut texts = message[5..].split(|byte| *byte == 0);
        match message[0] {
            b'Q' => Some(Statement::of(texts.next()?)),
            b'P' => {
                let (name, text) = (texts.next()?, texts.next()?);
                self.statements.insert(name.to_owned(), Statement::of(text));
                None
            }
            // The portal's name, then the statement's.
            b'B' => self.statements.get(texts.nth(1)?).copied(),
            _ => None,
        }
    }

    fn phase(&mut self, statement: Statement) -> Option<Phase> {
        match statement {
            Statement::Begin => {
                self.has_locked = false;
                Some(Phase::Begin)
            }
            Statement::Lock => {
                self.has_locked = true;
                Some(Phase::Lock)
            }
            Statement::Save => Some(Phase::Save),
            Statement::Commit => std::mem::take(&mut self.has_locked).then_some(Phase::Commit),
            Statement::Other => self.has_locked.then_some(Phase::Load),
            Statement::Notify => Some(Phase::Notify),
            Statement::Listen => None,
        }
    }
}
