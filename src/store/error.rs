//! The errors of the database, sorted by whether a retry helps.

use std::borrow::Cow;

use sqlx::postgres::PgDatabaseError;

use super::effects::Interference;
use crate::{domain::ids::InvalidId, telemetry::metrics::METRICS};

/// An error of the database, or of the connection to it. A refusal is an answer and not an error.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, or the connection was lost. Nothing was changed, except
    /// perhaps by a commit ([`CommitError`](super::pool::CommitError)).
    #[error("the database is unavailable: {0}")]
    Unavailable(sqlx::Error),
    /// Other transactions were faster, or held their locks too long. Nothing was changed, and a
    /// retry may succeed.
    #[error("the transaction conflicted with others: {0}")]
    Contention(sqlx::Error),
    /// The plan of a statement was made for tables that have changed since. Nothing was changed,
    /// and a retry on a new connection will succeed.
    #[error("the plan of a statement is stale: {0}")]
    StalePlan(sqlx::Error),
    /// Any other error. Nothing was changed, and a retry will not help.
    #[error("the database refused a statement: {0}")]
    Database(sqlx::Error),
    /// A trigger, rule or policy of the application's database changed a write. The transaction is
    /// rolled back.
    #[error(transparent)]
    Interference(Interference),
}

/// Keys that two transactions may race for: unique keys, and the foreign key of a referred player.
/// A player who is created after a batch has locked its players is read without a lock, and may be
/// deleted before the batch writes. The transaction that loses a race is tried again, and then sees
/// what the other one wrote.
const RACED_KEYS: [&str; 4] = [
    "Heist_requestId_key",
    "HeistTokenAward_referredId_key",
    "HeistTokenAward_referredId_fkey",
    "HeistTokenAdjustment_requestId_key",
];

impl StoreError {
    /// The error of a database that did not answer within a time limit.
    #[must_use]
    pub fn timed_out() -> Self {
        sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()).into()
    }

    /// The name of the error's kind in logs and metrics.
    #[must_use]
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Contention(_) => "contention",
            Self::StalePlan(_) => "stale_plan",
            Self::Database(_) => "statement",
            Self::Interference(_) => "interference",
        }
    }

    /// Counts and returns an error of the driver that means that the database is away.
    pub(super) fn unavailable(error: sqlx::Error) -> Self {
        let sorted = Self::Unavailable(error);
        sorted.count();
        sorted
    }

    /// Whether the connection on which the error occurred must not be used again.
    pub(super) fn spoils_connection(&self) -> bool {
        match self {
            Self::Unavailable(error) => is_connection_lost(error),
            Self::StalePlan(_) => true,
            Self::Contention(_) | Self::Database(_) | Self::Interference(_) => false,
        }
    }

    fn sort(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed => Self::Unavailable(error),
            sqlx::Error::Database(refusal) => {
                if is_stale_plan(&error) {
                    return Self::StalePlan(error);
                }
                let state = refusal.code().unwrap_or(Cow::Borrowed(""));
                let raced = refusal
                    .constraint()
                    .is_some_and(|key| RACED_KEYS.contains(&key));
                if is_contention(&state) || raced {
                    Self::Contention(error)
                } else if is_unavailable(&state) {
                    Self::Unavailable(error)
                } else {
                    Self::Database(error)
                }
            }
            _ => Self::Database(error),
        }
    }

    fn count(&self) {
        let kind = match self {
            Self::Unavailable(sqlx::Error::PoolTimedOut) => "pool_timeout",
            Self::Unavailable(_) => "connection",
            Self::Contention(_)
            | Self::StalePlan(_)
            | Self::Database(_)
            | Self::Interference(_) => self.cause(),
        };
        METRICS.database_errors(1, kind);
    }
}

/// Sorts an error of the driver, and counts it.
impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let sorted = Self::sort(error);
        sorted.count();
        sorted
    }
}

/// Counts the error.
impl From<Interference> for StoreError {
    fn from(interference: Interference) -> Self {
        let error = Self::Interference(interference);
        error.count();
        error
    }
}

/// A row has an id that is zero or negative.
impl From<InvalidId> for StoreError {
    fn from(error: InvalidId) -> Self {
        sqlx::Error::Decode(Box::new(error)).into()
    }
}

/// Whether a connection cannot be used again after this error of a statement: it is closed or
/// silent, or its server no longer accepts writes.
pub(super) fn is_connection_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(refusal) => {
            let state = refusal.code().unwrap_or(Cow::Borrowed(""));
            // Connection exceptions; the end of the session by an administrator, a crash, a
            // shutdown, a dropped database or an idle time-out; a read-only server.
            state.starts_with("08")
                || matches!(
                    state.as_ref(),
                    "57P01" | "57P02" | "57P03" | "57P04" | "57P05" | "25P03" | "25006"
                )
        }
        _ => false,
    }
}

/// Whether a statement was refused because its tables changed since it was prepared: "cached plan
/// must not change result type". PostgreSQL has no SQLSTATE of its own for it, and translates the
/// message, so the name of the C function that refused identifies it.
pub(super) fn is_stale_plan(error: &sqlx::Error) -> bool {
    let refusal = error.as_database_error();
    let refusal = refusal.and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    refusal.is_some_and(|refusal| {
        refusal.code() == "0A000" && refusal.routine() == Some("RevalidateCachedQuery")
    })
}

/// SQLSTATE: serialization failure, deadlock, lock timeout.
fn is_contention(state: &str) -> bool {
    matches!(state, "40001" | "40P01" | "55P03")
}

/// SQLSTATE: connection exceptions, insufficient resources, operator intervention (shutdown,
/// statement timeout), and a server that is read-only because another one took over.
fn is_unavailable(state: &str) -> bool {
    matches!(state.get(..2), Some("08" | "53" | "57")) || matches!(state, "25006" | "25P03")
}
