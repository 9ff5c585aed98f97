//! The service's migrations, and the checks that the database fits the service.

mod column;
mod error;
mod event_types;
mod fill;
mod finding;
mod interference;
mod preflight;
mod rights;
mod sequences;
mod session;

use std::{collections::HashSet, fmt::Write as _};

use sqlx::{
    PgConnection,
    migrate::{Migrate as _, Migrator},
    postgres::PgConnectOptions,
};
use tokio::time::Instant;

use self::session::{close, connect, with_lock};
pub use self::{error::SchemaError, finding::Finding};
use super::{PgPool, pool};

/// The table of applied migrations. It is not sqlx's default table, because the application may use
/// sqlx, too.
const MIGRATIONS_TABLE: &str = "_heist_migrations";

/// One migration, and whether the database has applied it.
#[derive(Clone, Debug)]
pub struct Step {
    pub version: i64,
    pub description: String,
    pub applied: bool,
}

/// The target of [`revert`].
#[derive(Clone, Copy, Debug)]
pub enum RevertTo {
    /// Revert the newest migration.
    Previous,
    /// Revert all migrations that are newer than this version.
    Version(i64),
    /// Revert all migrations.
    Empty,
}

/// Checks that the database fits the service and has every migration, and logs warnings. Migrations
/// that are newer than this program are allowed, because they only add.
///
/// # Errors
///
/// [`SchemaError::Unfit`] or [`SchemaError::Old`].
pub async fn check(options: &PgConnectOptions) -> Result<(), SchemaError> {
    let mut connection = connect(options).await?;
    let findings = findings_of(&mut connection).await?;
    for finding in findings.iter().filter(|finding| !finding.is_error) {
        tracing::warn!("{finding}");
    }
    errors(&findings)?;
    let steps = steps_of(&mut connection).await?;
    close(connection).await?;
    all_applied(steps)
}

/// Checks only that the database has every migration: for commands whose role has fewer rights than
/// the service's.
///
/// # Errors
///
/// [`SchemaError::Old`].
pub async fn check_migrations(options: &PgConnectOptions) -> Result<(), SchemaError> {
    let mut connection = connect(options).await?;
    let steps = steps_of(&mut connection).await?;
    close(connection).await?;
    all_applied(steps)
}

/// Like [`check`], but without the sequences and the warnings: whether the tables can be read.
///
/// # Errors
///
/// [`SchemaError::Unfit`] or [`SchemaError::Old`].
pub async fn check_tables(options: &PgConnectOptions) -> Result<(), SchemaError> {
    let mut connection = connect(options).await?;
    errors(&preflight::findings(&mut connection).await?)?;
    let steps = steps_of(&mut connection).await?;
    close(connection).await?;
    all_applied(steps)
}

/// Says that the sequence of the application's point events is behind its rows. `None` if it is not.
///
/// # Errors
///
/// [`SchemaError::Store`] if the table cannot be read.
pub(super) async fn point_event_sequence_behind(
    connection: &mut PgConnection,
) -> Result<Option<String>, SchemaError> {
    let behind = sequences::of_point_events(connection).await?;
    Ok(behind.map(|it| it.text()))
}

/// Everything that the preflight finds, errors and warnings. Changes nothing.
///
/// # Errors
///
/// [`SchemaError::Store`] if the catalogue cannot be read.
pub async fn findings(options: &PgConnectOptions) -> Result<Vec<Finding>, SchemaError> {
    let mut connection = connect(options).await?;
    let findings = findings_of(&mut connection).await?;
    close(connection).await?;
    Ok(findings)
}

/// Repeats the preflight for a running server.
///
/// # Errors
///
/// [`SchemaError::Unfit`] if the database no longer fits.
pub async fn check_fitness(pool: &PgPool) -> Result<(), SchemaError> {
    let mut connection = pool.acquire().await?;
    errors(&findings_of(&mut connection).await?)
}

async fn findings_of(connection: &mut PgConnection) -> Result<Vec<Finding>, SchemaError> {
    let mut findings = preflight::findings(connection).await?;
    let has_tables = findings.iter().all(|finding| !finding.is_error);
    if has_tables && all_applied(steps_of(connection).await?).is_ok() {
        let behind = sequences::behind(connection).await?;
        findings.extend(behind.iter().map(|behind| Finding {
            is_error: true,
            text: behind.text(),
        }));
    }
    Ok(findings)
}

fn errors(findings: &[Finding]) -> Result<(), SchemaError> {
    let errors: Vec<&str> = (findings.iter())
        .filter(|finding| finding.is_error)
        .map(|finding| finding.text.as_str())
        .collect();
    if errors.is_empty() {
        Ok(())
    } else {
        Err(SchemaError::Unfit(errors.join("\n")))
    }
}

/// Checks that the database answers, is a primary and has every migration. The check is cheap enough
/// for one call each second.
///
/// # Errors
///
/// The first check that failed.
pub async fn check_serviceable(pool: &PgPool) -> Result<(), SchemaError> {
    let mut connection = pool.acquire().await?;
    // Not `transaction_read_only`, because the service's transactions are READ WRITE whatever the
    // default is.
    let is_standby: bool = sqlx::query_scalar("SELECT pg_is_in_recovery()")
        .fetch_one(&mut *connection)
        .await?;
    if is_standby {
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

/// Applies the missing migrations, creates the trigger that fills columns if it is needed, and repairs
/// sequences. Replicas may migrate at the same time: they queue for a lock, and all but the first
/// find nothing left to do.
///
/// # Errors
///
/// [`SchemaError::Unfit`] if the application's tables do not fit, or the error of a migration. Each
/// migration is applied completely or not at all.
pub async fn migrate(options: &PgConnectOptions) -> Result<(), SchemaError> {
    with_lock(options, async |connection| {
        let mut findings = preflight::findings(connection).await?;
        // This run adds the trigger that cures these findings.
        findings.retain(|finding| !finding.text.ends_with(preflight::CURED_BY_MIGRATING));
        errors(&findings)?;
        let mut missing = steps_of(connection).await?;
        missing.retain(|step| !step.applied);
        if !missing.is_empty() {
            rights::check_migrating(connection).await?;
        }
        for step in missing {
            apply(connection, &step).await?;
        }
        fill::install(connection).await?;
        if sequences::behind(connection)
            .await?
            .iter()
            .any(sequences::Behind::is_ours)
        {
            sequences::repair(connection).await?;
            tracing::warn!("sequences were behind their rows, and are repaired");
        }
        Ok(())
    })
    .await
}

async fn apply(connection: &mut PgConnection, step: &Step) -> Result<(), SchemaError> {
    let Step {
        version,
        description,
        ..
    } = step;
    tracing::info!(version, description, "applying a migration");
    let begun = Instant::now();
    migrator()
        .run_direct(Some(*version), connection, false)
        .await?;
    let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(version, description, duration_ms, "migration applied");
    Ok(())
}

/// The SQL of all migrations in the order in which they run, or of all their downs.
#[must_use]
pub fn sql(downs: bool) -> String {
    let migrator = migrator();
    let mut migrations: Vec<_> = (migrator.iter())
        .filter(|migration| migration.migration_type.is_down_migration() == downs)
        .collect();
    if downs {
        migrations.reverse();
    }
    let mut sql = String::new();
    for migration in migrations {
        let (version, text) = (migration.version, migration.sql.as_str());
        let _ = writeln!(sql, "-- {version} {}\n\n{text}", migration.description);
    }
    sql
}

/// Reverts migrations, newest first. The rows that the service stored in their tables are lost.
///
/// # Errors
///
/// An unknown version, or the error of a migration.
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
        if target == 0 {
            fill::remove(connection).await?;
        }
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
/// [`SchemaError::Store`] if the database cannot be read.
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

fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!();
    migrator.dangerous_set_table_name(MIGRATIONS_TABLE);
    // An older program must be able to run beside a newer schema.
    migrator.set_ignore_missing(true);
    // The migrator's lock belongs to a session, which a pooler can give to another client.
    migrator.set_locking(false);
    migrator
}
