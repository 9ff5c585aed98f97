//! Our migrations, and what must be in the database before the service can work.

use std::{collections::HashSet, io, time::Duration};

use sqlx::{
    Connection as _, PgConnection,
    migrate::{Migrate as _, MigrateError, Migrator},
    postgres::PgConnectOptions,
};
use tokio::time::{sleep, timeout};

use super::{PgPool, StoreError};

/// Our own table of what was applied: the application may use sqlx, too.
const MIGRATIONS_TABLE: &str = "_heist_migrations";

/// Of the lock of whoever migrates this database. Arbitrary, and nobody else's.
const LOCK_KEY: i64 = 5_928_131_404_562_710_884;

/// How often a migration that waited too long for a lock is tried again.
const LOCK_ATTEMPTS: u32 = 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const PAUSE_BETWEEN_ATTEMPTS: Duration = Duration::from_secs(1);

/// The columns of the application's tables that the service reads or writes.
const APPLICATION_COLUMNS: [(&str, &[&str]); 3] = [
    (
        "User",
        &["id", "name", "email", "monthlyPoints", "referredByUserId"],
    ),
    ("PointEventTypeMaster", &["id", "name", "description"]),
    (
        "UserPointEvent",
        &[
            "userId",
            "points",
            "pointEventTypeId",
            "description",
            "createdAt",
        ],
    ),
];

#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    #[error("the application's table \"{table}\" is missing from the database")]
    TableMissing { table: &'static str },
    #[error("the application's table \"{table}\" has no column \"{column}\"")]
    ColumnMissing {
        table: &'static str,
        column: &'static str,
    },
    #[error(
        "the database schema is old: migration {version} ({description}) is not applied; run `heist migrate up`"
    )]
    Old { version: i64, description: String },
    #[error("the database takes no writes: another server may have taken over")]
    ReadOnly,
    #[error("no migration has the version {version}")]
    NoSuchVersion { version: i64 },
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for SchemaError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl SchemaError {
    /// The database has not answered in time.
    #[must_use]
    pub fn timed_out() -> Self {
        sqlx::Error::Io(io::ErrorKind::TimedOut.into()).into()
    }
}

/// One migration, and whether the database has it.
#[derive(Clone, Debug)]
pub struct Step {
    pub version: i64,
    pub description: String,
    pub applied: bool,
}

/// How far [`revert`] goes.
#[derive(Clone, Copy, Debug)]
pub enum RevertTo {
    /// Undo the newest migration.
    Previous,
    /// Undo everything newer than this version.
    Version(i64),
    /// Undo everything.
    Empty,
}

/// Checks that the application's tables are as expected and that every migration is
/// applied. Migrations newer than this program are fine: they only add.
///
/// # Errors
///
/// What is missing.
pub async fn check(options: &PgConnectOptions) -> Result<(), SchemaError> {
    let mut connection = connect(options).await?;
    check_application_tables(&mut connection).await?;
    let steps = steps_of(&mut connection).await?;
    close(connection).await?;
    all_applied(steps)
}

/// Whether the service can work on this database as it is now: it answers, takes writes, and has
/// every migration. Cheap enough to be asked every second.
///
/// # Errors
///
/// What is in the way.
pub async fn check_serviceable(pool: &PgPool) -> Result<(), SchemaError> {
    let mut connection = pool.acquire().await?;
    let read_only: bool =
        sqlx::query_scalar("SELECT current_setting('transaction_read_only')::boolean")
            .fetch_one(&mut *connection)
            .await?;
    if read_only {
        return Err(SchemaError::ReadOnly);
    }
    all_applied(steps_of(&mut connection).await?)
}

fn all_applied(steps: Vec<Step>) -> Result<(), SchemaError> {
    match steps.into_iter().find(|step| !step.applied) {
        None => Ok(()),
        Some(step) => Err(SchemaError::Old {
            version: step.version,
            description: step.description,
        }),
    }
}

/// Applies every migration that is missing. Any number of replicas may do so at once: they
/// queue for a lock, and all but the first find nothing left to do.
///
/// # Errors
///
/// What is missing of the application's tables, or what a migration ran into. A migration
/// is applied whole or not at all.
pub async fn migrate(options: &PgConnectOptions) -> Result<(), SchemaError> {
    with_lock(options, async |connection| {
        check_application_tables(connection).await?;
        Ok(migrator().run_direct(None, connection, false).await?)
    })
    .await
}

/// Undoes migrations, newest first. What the service stored in the tables they made is lost.
///
/// # Errors
///
/// An unknown version, or what a migration ran into.
pub async fn revert(options: &PgConnectOptions, to: RevertTo) -> Result<(), SchemaError> {
    let target = match to {
        RevertTo::Empty => 0,
        RevertTo::Version(version) if migrator().version_exists(version) => version,
        RevertTo::Version(version) => return Err(SchemaError::NoSuchVersion { version }),
        RevertTo::Previous => {
            let applied = (steps(options).await?.into_iter()).filter(|step| step.applied);
            applied.rev().nth(1).map_or(0, |step| step.version)
        }
    };
    with_lock(options, async |connection| {
        migrator().undo(&mut *connection, target).await?;
        if target == 0 {
            let drop_table = sqlx::AssertSqlSafe(format!("DROP TABLE \"{MIGRATIONS_TABLE}\""));
            sqlx::query(drop_table).execute(connection).await?;
        }
        Ok(())
    })
    .await
}

/// All migrations of this program, oldest first. Changes nothing.
///
/// # Errors
///
/// [`SchemaError::Store`] where the database cannot be read.
pub async fn steps(options: &PgConnectOptions) -> Result<Vec<Step>, SchemaError> {
    let mut connection = connect(options).await?;
    let steps = steps_of(&mut connection).await?;
    close(connection).await?;
    Ok(steps)
}

async fn steps_of(connection: &mut PgConnection) -> Result<Vec<Step>, SchemaError> {
    let table_exists: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(MIGRATIONS_TABLE)
        .fetch_one(&mut *connection)
        .await?;
    let applied: HashSet<i64> = if table_exists {
        let applied = connection.list_applied_migrations(MIGRATIONS_TABLE).await?;
        applied
            .into_iter()
            .map(|migration| migration.version)
            .collect()
    } else {
        HashSet::new()
    };
    let migrator = migrator();
    let steps = (migrator.iter())
        .filter(|migration| migration.migration_type.is_up_migration())
        .map(|migration| Step {
            version: migration.version,
            description: migration.description.to_string(),
            applied: applied.contains(&migration.version),
        });
    Ok(steps.collect())
}

async fn check_application_tables(connection: &mut PgConnection) -> Result<(), SchemaError> {
    for (table, columns) in APPLICATION_COLUMNS {
        let present: Vec<String> = sqlx::query_scalar(
            "SELECT attname::text FROM pg_attribute \
             WHERE attrelid = to_regclass(quote_ident($1)) AND attnum > 0 AND NOT attisdropped",
        )
        .bind(table)
        .fetch_all(&mut *connection)
        .await?;
        if present.is_empty() {
            return Err(SchemaError::TableMissing { table });
        }
        if let Some(column) = columns
            .iter()
            .find(|column| !present.iter().any(|it| it == *column))
        {
            return Err(SchemaError::ColumnMissing { table, column });
        }
    }
    Ok(())
}

fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!();
    migrator.dangerous_set_table_name(MIGRATIONS_TABLE);
    // An older program must be able to run beside a newer schema.
    migrator.set_ignore_missing(true);
    // Its lock belongs to a session, which a pooler may hand to somebody else with the lock.
    migrator.set_locking(false);
    migrator
}

/// Works while nobody else migrates, and again where a migration waited too long for a lock of a
/// table.
async fn with_lock(
    options: &PgConnectOptions,
    work: impl AsyncFn(&mut PgConnection) -> Result<(), SchemaError>,
) -> Result<(), SchemaError> {
    retry_locks(async || {
        let guard = lock(options).await?;
        let mut connection = connect(options).await?;
        work(&mut connection).await?;
        close(connection).await?;
        // The work is done, whatever has become of the lock.
        let _ = guard.close().await;
        Ok(())
    })
    .await
}

/// A connection with a transaction that holds the lock until the connection is closed. Whoever waits
/// holds no connection: those of a pooler may be few.
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
        tracing::info!("somebody else migrates; waiting");
        sleep(PAUSE_BETWEEN_ATTEMPTS).await;
    }
}

/// Every migration gives up on a lock after two seconds, so that it never holds up the
/// application behind it. Then it is its turn to wait.
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

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, SchemaError> {
    match timeout(CONNECT_TIMEOUT, PgConnection::connect_with(options)).await {
        Ok(connection) => Ok(connection?),
        Err(_elapsed) => Err(SchemaError::timed_out()),
    }
}

async fn close(connection: PgConnection) -> Result<(), SchemaError> {
    Ok(connection.close().await?)
}
