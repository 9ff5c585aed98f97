//! Connections for checks and migrations, and the lock that excludes parallel migrations.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection, migrate::MigrateError, postgres::PgConnectOptions};
use tokio::time::{sleep, timeout};

use super::{SchemaError, pool};

/// The key of the advisory lock that excludes parallel migrations of one database.
const LOCK_KEY: i64 = 5_928_131_404_562_710_884;

/// The number of attempts at a migration that waits too long for a lock.
const LOCK_ATTEMPTS: u32 = 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const PAUSE_BETWEEN_ATTEMPTS: Duration = Duration::from_secs(1);

/// Runs `work` under the lock, and repeats it if a migration waited too long for a table lock.
pub(super) async fn with_lock(
    options: &PgConnectOptions,
    work: impl AsyncFn(&mut PgConnection) -> Result<(), SchemaError>,
) -> Result<(), SchemaError> {
    retry_locks(async || {
        let guard = lock(options).await?;
        let mut connection = connect(options).await?;
        work(&mut connection).await?;
        close(connection).await?;
        // The work is done, so an error of the lock's connection does not matter.
        let _ = guard.close().await;
        Ok(())
    })
    .await
}

/// Opens a connection with a transaction that holds the lock until the connection is closed. A process
/// that waits for the lock holds no connection, because a pooler may have few.
async fn lock(options: &PgConnectOptions) -> Result<PgConnection, SchemaError> {
    loop {
        let mut guard = connect(options).await?;
        sqlx::raw_sql("BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0")
            .execute(&mut guard)
            .await?;
        let is_ours: bool = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1)")
            .bind(LOCK_KEY)
            .fetch_one(&mut guard)
            .await?;
        if is_ours {
            return Ok(guard);
        }
        close(guard).await?;
        tracing::info!("another process migrates; waiting");
        sleep(PAUSE_BETWEEN_ATTEMPTS).await;
    }
}

/// Retries `work` after a lock time-out. A migration gives up on a lock after two seconds, because
/// statements of the application queue behind its lock request.
async fn retry_locks(work: impl AsyncFn() -> Result<(), SchemaError>) -> Result<(), SchemaError> {
    for _ in 1..LOCK_ATTEMPTS {
        match work().await {
            Err(error) if is_lock_timeout(&error) => {
                tracing::warn!(%error, "a migration waited too long for a lock; trying again");
                sleep(PAUSE_BETWEEN_ATTEMPTS).await;
            }
            result => return result,
        }
    }
    work().await
}

fn is_lock_timeout(error: &SchemaError) -> bool {
    const LOCK_NOT_AVAILABLE: &str = "55P03";
    let SchemaError::Migrate(
        MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _),
    ) = error
    else {
        return false;
    };
    cause
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .is_some_and(|state| state == LOCK_NOT_AVAILABLE)
}

/// Opens a connection without the time-outs and the read-only default that the role may have. Behind
/// a pooler the session is shared, so there the role's settings stay.
pub(super) async fn connect(options: &PgConnectOptions) -> Result<PgConnection, SchemaError> {
    let connecting = async {
        // `is_pooled` recognises the service's own sessions by this name.
        let options = options.clone().application_name("heist");
        let mut connection = PgConnection::connect_with(&options).await?;
        if !pool::is_pooled(&mut connection).await? {
            sqlx::raw_sql(
                "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
                 SET default_transaction_read_only = off",
            )
            .execute(&mut connection)
            .await?;
        }
        Ok(connection)
    };
    match timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(connection) => connection,
        Err(_elapsed) => Err(SchemaError::timed_out()),
    }
}

pub(super) async fn close(connection: PgConnection) -> Result<(), SchemaError> {
    Ok(connection.close().await?)
}
