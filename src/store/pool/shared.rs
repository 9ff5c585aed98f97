//! What the handles of one pool share: idle connections, their generations, and whether the
//! database is known to be away.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use sqlx::{PgConnection, postgres::PgConnectOptions};
use tokio::time::Instant;

use super::connect::{Opened, Purpose};

/// A connection is closed when it is so old, so that a changed password or address counts at last.
const MAX_AGE: Duration = Duration::from_mins(30);
/// A connection that was idle for so long is closed.
const MAX_IDLE: Duration = Duration::from_mins(10);

pub(super) struct Shared {
    pub(super) options: PgConnectOptions,
    pub(super) purpose: Purpose,
    pub(super) max_connections: u32,
    state: Mutex<State>,
    /// In use and idle.
    open: Arc<AtomicUsize>,
    /// The last attempt to connect failed: only one probe tries until it succeeds.
    is_away: AtomicBool,
    is_closed: AtomicBool,
}

#[derive(Default)]
struct State {
    /// The one that was used last is at the end, and used first.
    idle: Vec<Connection>,
    /// Connections of earlier generations are not used again.
    generation: u64,
}

/// A connection of the pool. Dropped, it is closed without a word.
pub(super) struct Connection {
    pub(super) inner: PgConnection,
    /// How its transactions begin.
    pub(super) begin: &'static str,
    pub(super) generation: u64,
    pub(super) last_used: Instant,
    opened: Instant,
    _count: Count,
}

/// One of the open connections.
struct Count(Arc<AtomicUsize>);

impl Drop for Count {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    pub(super) fn new(options: PgConnectOptions, purpose: Purpose, max_connections: u32) -> Self {
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

    /// Takes note of a connection that was opened while `generation` was the current one.
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

    /// Keeps a connection that is ready for its next use; closes it where it has had its time.
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

    /// A connection of this generation was found dead, or its plans stale. The others of its age
    /// are likely to be, too: they are not used again.
    pub(super) fn distrust(&self, generation: u64) {
        let mut state = self.state();
        if state.generation == generation {
            state.generation += 1;
            state.idle.clear();
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.state().generation
    }

    /// Connections that are idle and that are in use.
    pub(super) fn count(&self) -> (usize, usize) {
        let idle = self.state().idle.len();
        (idle, self.open.load(Ordering::Relaxed).saturating_sub(idle))
    }

    pub(super) fn is_away(&self) -> bool {
        self.is_away.load(Ordering::Relaxed)
    }

    /// Takes note that the database cannot be reached. `true` where that was not known before.
    pub(super) fn note_away(&self) -> bool {
        !self.is_away.swap(true, Ordering::Relaxed)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// Hands out the idle connections to be closed. Those in use are closed after their use.
    pub(super) fn close(&self) -> Vec<Connection> {
        self.is_closed.store(true, Ordering::Relaxed);
        std::mem::take(&mut self.state().idle)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
