//! Connections to the application's database, and how a transaction begins.

use std::{fmt, io, time::Duration};

use sqlx::{
    Connection as _, Executor as _, PgConnection, PgExecutor, PgPool, Postgres, Transaction,
    postgres::{PgConnectOptions, PgPoolOptions},
    query_scalar,
};

use super::{ObservedExt as _, StoreError, url};
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
/// The last one is that of [`set_up_session`] for whoever is behind such a pooler.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
     SET LOCAL lock_timeout = '2s'; \
     SET LOCAL statement_timeout = '5s'; \
     SET LOCAL idle_in_transaction_session_timeout = '10s'; \
     SET LOCAL plan_cache_mode = force_generic_plan";

/// SQLSTATE of what a standby says to `READ WRITE`: "feature not supported".
const READ_WRITE_ON_STANDBY: &str = "0A000";

/// A pool that connects when it is first used.
#[must_use]
pub fn connect_lazy(options: PgConnectOptions, max_connections: u32) -> PgPool {
    pool(max_connections)
        .after_connect(|connection, _| Box::pin(set_up_session(connection)))
        .connect_lazy_with(options.application_name("heist"))
}

/// The same, of connections to a server that can be written to. During a failover an address
/// may lead to the next primary before it has been promoted: a connection made then would
/// be read-only for as long as the pool keeps it, and look healthy.
#[must_use]
pub fn connect_lazy_to_primary(options: PgConnectOptions, max_connections: u32) -> PgPool {
    pool(max_connections)
        .after_connect(|connection, _| {
            Box::pin(async move {
                let is_standby: bool = query_scalar("SELECT pg_is_in_recovery()")
                    .fetch_one(&mut *connection)
                    .await?;
                if is_standby {
                    let why = "the server is a standby that has not been promoted";
                    return Err(io::Error::other(why).into());
                }
                set_up_session(connection).await
            })
        })
        .connect_lazy_with(options.application_name("heist"))
}

fn pool(max_connections: u32) -> PgPoolOptions {
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
}

/// Plans are made once for each connection. Left to itself PostgreSQL would plan the larger
/// statements anew for each call, because a plan for the arrays at hand looks cheaper than it
/// is: it finds rows by the same indexes, and planning takes longer than running it.
///
/// In the session of a pooler the setting would stay behind for somebody else.
async fn set_up_session(connection: &mut PgConnection) -> sqlx::Result<()> {
    if !is_pooled(&mut *connection).await? {
        connection
            .execute("SET plan_cache_mode = force_generic_plan")
            .await?;
    }
    Ok(())
}

/// Whether a pooler is between us and the database: it logs in with parameters of its own, and
/// sets later what we logged in with.
pub(super) async fn is_pooled(connection: impl PgExecutor<'_>) -> sqlx::Result<bool> {
    // sqlx sends all three.
    query_scalar(
        "SELECT bool_or(source <> 'client') FROM pg_settings
        WHERE name IN ('application_name', 'DateStyle', 'TimeZone')",
    )
    .fetch_one(connection)
    .await
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

/// Opens up to so many connections, so that the first calls find them open. Fewer are enough if the
/// server grants no more.
///
/// # Errors
///
/// [`StoreError::Unavailable`] if the server grants none.
pub async fn warm(pool: &PgPool, connections: u32) -> Result<(), StoreError> {
    // All are held until the last one is open. The pool would hand out a returned one again.
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
    Ok(())
}

/// Begins a transaction that writes. Call it in a task that nobody cancels: a connection
/// whose `BEGIN` was cut short goes back to the pool inside a transaction.
///
/// # Errors
///
/// [`StoreError::Unavailable`] where no connection could be had, or only one to a standby.
pub async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>, StoreError> {
    let begun = pool.begin_with(BEGIN).observed("begin").await;
    begun.map_err(sort_begin_error)
}

/// Begins a transaction that writes on a connection. As for [`begin`], a connection whose `BEGIN` was
/// cut short must not return to the pool.
///
/// # Errors
///
/// [`StoreError::Unavailable`] where the connection is lost or leads to a standby.
pub async fn begin_on(
    connection: &mut PgConnection,
) -> Result<Transaction<'_, Postgres>, StoreError> {
    let begun = connection.begin_with(BEGIN).observed("begin").await;
    begun.map_err(sort_begin_error)
}

fn sort_begin_error(error: sqlx::Error) -> StoreError {
    match error.as_database_error() {
        Some(refusal) if refusal.code().as_deref() == Some(READ_WRITE_ON_STANDBY) => {
            StoreError::Unavailable(error)
        }
        _ => error.into(),
    }
}

/// The address of a database, and the credentials for it.
#[derive(Clone)]
pub struct DatabaseUrl(url::Parsed);

impl DatabaseUrl {
    /// Parses a `postgres://` URL, including the parameters that Prisma writes.
    ///
    /// # Errors
    ///
    /// Names an unknown parameter, or says what is expected. Repeats no other part of the URL, because
    /// it may hold a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        url::parse(text).map(Self)
    }

    #[must_use]
    pub fn connect_options(&self) -> &PgConnectOptions {
        &self.0.options
    }

    /// Logs the parameters that are ignored.
    pub fn warn_of_ignored_parameters(&self) {
        for line in &self.0.ignored {
            tracing::warn!("{line}");
        }
    }
}

/// Without the password.
impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseUrl")
            .field("host", &self.0.options.get_host())
            .field("port", &self.0.options.get_port())
            .field("database", &self.0.options.get_database())
            .finish_non_exhaustive()
    }
}
