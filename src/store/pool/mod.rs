//! Connections to the application's database.
//!
//! The service does not use sqlx's pool. That pool has no time limit for statements, so it waits
//! without end for a connection whose peer has vanished, and it pings every connection that comes
//! back. This pool
//!
//! - gives every wait a time limit, and closes a connection that exceeds it;
//! - then also closes the other connections of its generation, which are likely to be dead, too;
//! - fails at once after a failed attempt to connect, unless a connection is left, and lets one
//!   probe at a time find out when the database is back;
//! - pings a connection before its use only if it was idle for more than 1 s.

mod connect;
mod executor;
mod lease;
mod shared;
mod transaction;
mod url;

use std::{io, sync::Arc, time::Duration};

use sqlx::Connection as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};

pub(super) use self::connect::is_pooled;
use self::{
    connect::{Purpose, is_too_many_connections},
    shared::Shared,
};
pub use self::{
    lease::Lease,
    transaction::{CommitError, Transaction, begin_on},
    url::{ConnectOptions, DatabaseUrl},
};
use super::{ObservedExt as _, StoreError};
use crate::telemetry::metrics;

/// The time for which a call waits while other calls use all connections.
const ACQUIRE_LIMIT: Duration = Duration::from_secs(2);
/// A connection that was idle for longer is pinged before it is used. A ping before each use would
/// double the cost of a short query.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);
/// The time limit of a ping.
const PING_LIMIT: Duration = Duration::from_millis(500);
/// The pause between two probes of a database that is away.
const PROBE_INTERVAL: Duration = Duration::from_millis(200);
/// The time limit for closing all connections when the pool is closed.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// The time limit of a statement of a server. The longest deadline of a call is 10 s.
const SERVING_STATEMENT_LIMIT: Duration = Duration::from_secs(11);
/// The time limit of a statement of a command line.
const COMMAND_STATEMENT_LIMIT: Duration = Duration::from_hours(24);

/// Connections to one database, opened when they are needed. Cheap to clone.
///
/// A reference to it is an [`sqlx::PgExecutor`], which runs single statements.
#[derive(Clone)]
pub struct PgPool {
    shared: Arc<Shared>,
    places: Arc<Semaphore>,
}

/// A pool for the calls of a server.
#[must_use]
pub fn connect_lazy(options: impl Into<ConnectOptions>, max_connections: u32) -> PgPool {
    PgPool::new(options.into(), Purpose::Serving, max_connections)
}

/// A pool for the calls of a server that connects only to a primary.
#[must_use]
pub fn connect_lazy_to_primary(options: impl Into<ConnectOptions>, max_connections: u32) -> PgPool {
    PgPool::new(options.into(), Purpose::ServingWrites, max_connections)
}

/// A pool for a command line, whose statements may take up to a day, so that slow ones are no news.
#[must_use]
pub fn connect_lazy_for_command(
    options: impl Into<ConnectOptions>,
    max_connections: u32,
) -> PgPool {
    PgPool::new(options.into(), Purpose::Command, max_connections)
}

impl PgPool {
    fn new(options: ConnectOptions, purpose: Purpose, max_connections: u32) -> Self {
        let places = usize::try_from(max_connections).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            shared: Arc::new(Shared::new(options, purpose, max_connections)),
            places: Arc::new(Semaphore::new(places)),
        }
    }

    /// A connection of the pool, or a new one.
    ///
    /// # Errors
    ///
    /// `PoolTimedOut` if other calls use all connections for 2 s. `Io` if the database is away; at
    /// once if the pool already knows that.
    pub async fn acquire(&self) -> sqlx::Result<Lease> {
        let place = match timeout(ACQUIRE_LIMIT, self.place()).await {
            Ok(place) => place?,
            Err(_elapsed) => return Err(sqlx::Error::PoolTimedOut),
        };
        while let Some(mut connection) = self.shared.take_idle() {
            if connection.last_used.elapsed() <= TRUSTED_IDLE {
                return Ok(self.lease(connection, place));
            }
            let answered = timeout(PING_LIMIT, connection.inner.ping()).await;
            if matches!(answered, Ok(Ok(()))) {
                return Ok(self.lease(connection, place));
            }
            self.shared.discard_generation(connection.generation);
        }
        if self.shared.is_away() {
            return Err(known_to_be_away());
        }
        let generation = self.shared.generation();
        match connect::open(&self.shared.options, self.shared.purpose).await {
            Ok(opened) => Ok(self.lease(self.shared.admit(opened, generation), place)),
            Err(error) => {
                if !is_too_many_connections(&error) && self.shared.note_away() {
                    tokio::spawn(probe(self.clone()));
                }
                Err(error)
            }
        }
    }

    /// Waits for a place among the connections. Fails at once if the database is known to be away
    /// and no connection is left.
    async fn place(&self) -> sqlx::Result<OwnedSemaphorePermit> {
        if self.shared.is_closed() {
            return Err(sqlx::Error::PoolClosed);
        }
        if self.is_away() {
            return Err(known_to_be_away());
        }
        let place = Arc::clone(&self.places).acquire_owned().await;
        place.map_err(|_closed| sqlx::Error::PoolClosed)
    }

    fn lease(&self, connection: shared::Connection, place: OwnedSemaphorePermit) -> Lease {
        Lease::new(connection, Arc::clone(&self.shared), place)
    }

    /// Whether the last attempt to connect failed and no connection is open.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.shared.is_away() && self.shared.count() == (0, 0)
    }

    /// Begins a transaction that writes.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if there is no connection, or only one to a standby.
    pub async fn begin(&self) -> Result<Transaction, StoreError> {
        let beginning = async {
            let lease = self.acquire().await?;
            Transaction::begin(lease).await
        };
        beginning.observed("begin").await
    }

    fn statement_limit(&self) -> Duration {
        match self.shared.purpose {
            Purpose::Command => COMMAND_STATEMENT_LIMIT,
            Purpose::Serving | Purpose::ServingWrites => SERVING_STATEMENT_LIMIT,
        }
    }

    /// Closes the idle connections at once, and the other connections when they come back. Waits up
    /// to 1 s for them.
    pub async fn close(&self) {
        let closing = async {
            for connection in self.shared.close() {
                // An error does not matter: PostgreSQL notices a closed socket, too.
                let _ = connection.inner.close().await;
            }
            let _all = self.places.acquire_many(self.shared.max_connections).await;
        };
        let _ = timeout(CLOSE_LIMIT, closing).await;
        self.places.close();
    }
}

/// Tries to connect until it succeeds. Adds the connection to the pool.
async fn probe(pool: PgPool) {
    while !pool.shared.is_closed() {
        let generation = pool.shared.generation();
        if let Ok(opened) = connect::open(&pool.shared.options, pool.shared.purpose).await {
            let connection = pool.shared.admit(opened, generation);
            pool.shared.keep(connection);
            return;
        }
        sleep(PROBE_INTERVAL).await;
    }
}

fn known_to_be_away() -> sqlx::Error {
    let why = "the last attempt to connect failed; a probe finds out when it works again";
    io::Error::new(io::ErrorKind::NotConnected, why).into()
}

/// Exports the numbers of idle and used connections as metrics of a pool with this name.
pub fn watch(pool: &PgPool, name: &'static str) {
    let shared = Arc::clone(&pool.shared);
    metrics::watch_pool(name, shared.max_connections, move || {
        let (idle, used) = shared.count();
        let count = |connections| u64::try_from(connections).unwrap_or(u64::MAX);
        (count(idle), count(used))
    });
}

/// Opens up to `connections` connections, so that the first calls find them open. Succeeds with
/// fewer if the server grants no more.
///
/// # Errors
///
/// [`StoreError::Unavailable`] if the server grants none.
pub async fn warm(pool: &PgPool, connections: u32) -> Result<(), StoreError> {
    // All leases are held until the last connection is open. Otherwise the pool would hand out a
    // returned connection again.
    let mut open = Vec::new();
    for _ in 0..connections {
        match pool.acquire().await {
            Ok(connection) => open.push(connection),
            Err(error) if open.is_empty() => return Err(error.into()),
            Err(error) => {
                let granted = open.len();
                tracing::warn!(%error, granted, "the server grants fewer connections than wanted");
                break;
            }
        }
    }
    open.into_iter().for_each(Lease::give_back);
    Ok(())
}

/// Begins a transaction that writes: [`PgPool::begin`].
///
/// # Errors
///
/// The errors of [`PgPool::begin`].
pub async fn begin(pool: &PgPool) -> Result<Transaction, StoreError> {
    pool.begin().await
}
