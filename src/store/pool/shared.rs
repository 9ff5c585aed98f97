//! The state that the clones of one pool share: idle connections, their generations, and whether
//! the database is known to be away.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use sqlx::PgConnection;
use tokio::time::Instant;

use super::{
    connect::{Opened, Purpose},
    url::ConnectOptions,
};

/// The age at which a connection is closed, so that a changed address takes effect.
const MAX_AGE: Duration = Duration::from_mins(30);
/// The idle time after which a connection is closed.
const MAX_IDLE: Duration = Duration::from_mins(10);

pub(super) struct Shared {
    pub(super) options: ConnectOptions,
    pub(super) purpose: Purpose,
    pub(super) max_connections: u32,
    state: Mutex<State>,
    /// The number of open connections, in use or idle.
    open: Arc<AtomicUsize>,
    /// The last attempt to connect failed. Only one probe tries to connect until it succeeds.
    is_away: AtomicBool,
    is_closed: AtomicBool,
}

#[derive(Default)]
struct State {
    /// The connection that was used last is at the end, and is taken first.
    idle: Vec<Connection>,
    /// Connections of earlier generations are not used again.
    generation: u64,
}

/// A connection of the pool. Dropping it closes the socket without a message to PostgreSQL.
pub(super) struct Connection {
    pub(super) inner: PgConnection,
    /// The statement with which its transactions begin.
    pub(super) begin: &'static str,
    pub(super) generation: u64,
    pub(super) last_used: Instant,
    opened: Instant,
    _count: Count,
}

/// Counts one open connection until it is dropped.
struct Count(Arc<AtomicUsize>);

impl Drop for Count {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    pub(super) fn new(options: ConnectOptions, purpose: Purpose, max_connections: u32) -> Self {
        Self {
            options,
            purpose,
            max_connections,
            state: Mutex::default(),
            open: Arc::default(),
            is_away: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
        }
    }

    /// The idle connection that was used last.
    pub(super) fn take_idle(&self) -> Option<Connection> {
        self.state().idle.pop()
    }

    /// Registers a connection. `generation` was the current one when it was being opened.
    pub(super) fn admit(&self, opened: Opened, generation: u64) -> Connection {
        self.is_away.store(false, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        Connection {
            inner: opened.connection,
            begin: opened.begin,
            generation,
            last_used: now,
            opened: now,
            _count: Count(Arc::clone(&self.open)),
        }
    }

    /// Keeps a connection that is ready for its next use. Closes it if it is too old or of an
    /// earlier generation, or if the pool is closed.
    pub(super) fn keep(&self, mut connection: Connection) {
        let now = Instant::now();
        let mut state = self.state();
        let is_current = connection.generation == state.generation;
        if !is_current || self.is_closed() || now - connection.opened > MAX_AGE {
            return;
        }
        connection.last_used = now;
        state.idle.push(connection);
        let unused = (state.idle.iter()).take_while(|idle| now - idle.last_used > MAX_IDLE);
        let unused = unused.count();
        state.idle.drain(..unused);
    }

    /// Ends this generation, because one of its connections is dead or its plans are stale. The
    /// other connections are likely to be, too, so they are not used again.
    pub(super) fn discard_generation(&self, generation: u64) {
        let mut state = self.state();
        if state.generation == generation {
            state.generation += 1;
            state.idle.clear();
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.state().generation
    }

    /// The numbers of idle and of used connections.
    pub(super) fn count(&self) -> (usize, usize) {
        let idle = self.state().idle.len();
        (idle, self.open.load(Ordering::Relaxed).saturating_sub(idle))
    }

    pub(super) fn is_away(&self) -> bool {
        self.is_away.load(Ordering::Relaxed)
    }

    /// Records that the database cannot be reached. Returns `true` if that was not known before.
    pub(super) fn note_away(&self) -> bool {
        !self.is_away.swap(true, Ordering::Relaxed)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// Closes the pool. Returns the idle connections, which the caller closes. The other
    /// connections are closed when they come back.
    pub(super) fn close(&self) -> Vec<Connection> {
        self.is_closed.store(true, Ordering::Relaxed);
        std::mem::take(&mut self.state().idle)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code under the lock can panic in the middle of a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
