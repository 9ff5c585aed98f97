//! Connections to the application's database, and how a transaction begins.

use std::{fmt, time::Duration};

use sqlx::{
    Connection as _, Executor as _, PgPool, Postgres, Transaction,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{Statement as _, StoreError};
use crate::telemetry::metrics;

/// How long a call waits for a connection before it is told that the database is away.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection idle for longer is asked for a sign of life before it is used. A ping
/// before each use would double the cost of a short query.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

/// Begins every transaction that writes.
///
/// The isolation level is spelled out, because a later statement must see what was
/// committed while an earlier one waited for its locks, whatever the database's default is.
/// `READ WRITE` fails at once on a server that has become a standby. The time-outs are
/// local to the transaction: a pooler between us and the database may hand the session to
/// somebody else. They bound how long one stuck player or server holds up the rest.
///
/// The last one is [`PLAN_ONCE`] for whoever is behind such a pooler.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
     SET LOCAL lock_timeout = '2s'; \
     SET LOCAL statement_timeout = '5s'; \
     SET LOCAL idle_in_transaction_session_timeout = '10s'; \
     SET LOCAL plan_cache_mode = force_generic_plan";

/// Plans are made once for each connection. Left to itself PostgreSQL would plan the larger
/// statements anew for each call, because a plan for the arrays at hand looks cheaper than it
/// is: it finds rows by the same indexes, and planning takes longer than running it.
const PLAN_ONCE: &str = "SET plan_cache_mode = force_generic_plan";

/// A pool that connects when it is first used.
#[must_use]
pub fn connect_lazy(options: PgConnectOptions, max_connections: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .before_acquire(|connection, metadata| {
            Box::pin(async move {
                if metadata.idle_for > TRUSTED_IDLE {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .after_connect(|connection, _metadata| {
            Box::pin(async move {
                connection.execute(PLAN_ONCE).await?;
                Ok(())
            })
        })
        .connect_lazy_with(options.application_name("heist"))
}

/// Lets operators see how much of the pool is used.
pub fn watch(pool: &PgPool) {
    let max = pool.options().get_max_connections();
    let pool = pool.clone();
    metrics::watch_pool(max, move || {
        let idle = u64::try_from(pool.num_idle()).unwrap_or(u64::MAX);
        (idle, u64::from(pool.size()).saturating_sub(idle))
    });
}

/// Opens so many connections, so that the first calls find them open.
///
/// # Errors
///
/// [`StoreError::Unavailable`] where one could not be had.
pub async fn warm(pool: &PgPool, connections: u32) -> Result<(), StoreError> {
    // All are held until the last is open: one that was given back would be had again.
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(pool.acquire().await?);
    }
    Ok(())
}

/// Begins a transaction that writes. Call it in a task that nobody cancels: a connection
/// whose `BEGIN` was cut short goes back to the pool inside a transaction.
///
/// # Errors
///
/// [`StoreError::Unavailable`] where no connection could be had.
pub async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>, StoreError> {
    Ok(pool.begin_with(BEGIN).observed("begin").await?)
}

/// Where the database is, and how to log in there.
#[derive(Clone)]
pub struct DatabaseUrl(PgConnectOptions);

impl DatabaseUrl {
    /// Parses a `postgres://` URL.
    ///
    /// # Errors
    ///
    /// Says what is expected, and repeats nothing of the URL, which may hold a password.
    pub fn parse(url: &str) -> Result<Self, String> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(EXPECTED_URL.to_owned());
        }
        url.parse().map(Self).map_err(|_| EXPECTED_URL.to_owned())
    }

    #[must_use]
    pub fn connect_options(&self) -> &PgConnectOptions {
        &self.0
    }
}

const EXPECTED_URL: &str = "expected a URL such as postgres://user:password@host:5432/database";

/// Without the password.
impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseUrl")
            .field("host", &self.0.get_host())
            .field("port", &self.0.get_port())
            .field("database", &self.0.get_database())
            .finish_non_exhaustive()
    }
}
