//! The errors of migrations and of checks of the schema.

use std::io;

use sqlx::migrate::MigrateError;

use crate::store::StoreError;

/// Why the service cannot work with the database, or why a migration failed.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Every finding of the preflight that is an error, one on each line.
    #[error("{0}")]
    Unfit(String),
    #[error(
        "the database schema is old: migration {version} ({description}) is not applied; run `heist migrate up`"
    )]
    Old { version: i64, description: String },
    #[error("the database is a standby: another server may have become the primary")]
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
    /// The error of a database that has not answered in time.
    #[must_use]
    pub fn timed_out() -> Self {
        sqlx::Error::Io(io::ErrorKind::TimedOut.into()).into()
    }
}
