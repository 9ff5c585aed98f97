//! What can go wrong in the database, sorted by what can be done about it.

use std::borrow::Cow;

use super::effects::Interference;
use crate::{domain::ids::InvalidId, telemetry::metrics::METRICS};

/// A fault of the database or on the way to it. Refusals are not among them: those are
/// answers, not faults.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no database to talk to, or it went away before the commit: nothing happened.
    #[error("the database is unavailable: {0}")]
    Unavailable(sqlx::Error),
    /// Others were faster or held their locks too long: nothing happened, and trying again
    /// may work.
    #[error("the transaction conflicted with others: {0}")]
    Contention(sqlx::Error),
    /// Anything else: nothing happened, and trying again will not help.
    #[error("the database refused a statement: {0}")]
    Database(sqlx::Error),
    /// Something in the application's database changed a write. The transaction is rolled back.
    #[error(transparent)]
    Interference(#[from] Interference),
}

/// Keys that two transactions may race for: unique ones, and that of a referred player, who is
/// read without a lock and may be deleted meanwhile. Whoever loses tries again and then sees
/// what the winner wrote.
const RACED_KEYS: [&str; 4] = [
    "Heist_requestId_key",
    "HeistTokenAward_referredId_key",
    "HeistTokenAward_referredId_fkey",
    "HeistTokenAdjustment_requestId_key",
];

impl StoreError {
    /// The database did not answer within a time limit.
    #[must_use]
    pub fn timed_out() -> Self {
        sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()).into()
    }

    /// In one word, for logs and metrics.
    #[must_use]
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Contention(_) => "contention",
            Self::Database(_) => "statement",
            Self::Interference(_) => "interference",
        }
    }

    fn sort(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed => Self::Unavailable(error),
            sqlx::Error::Database(refusal) => {
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
            Self::Contention(_) | Self::Database(_) | Self::Interference(_) => self.cause(),
        };
        METRICS.database_errors(1, kind);
    }
}

/// Every error of the database comes through here, and is counted.
impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let sorted = Self::sort(error);
        sorted.count();
        sorted
    }
}

/// A row of the application or of ours has an id that cannot be one.
impl From<InvalidId> for StoreError {
    fn from(error: InvalidId) -> Self {
        sqlx::Error::Decode(Box::new(error)).into()
    }
}

/// SQLSTATE: serialization failure, deadlock, lock timeout.
fn is_contention(state: &str) -> bool {
    matches!(state, "40001" | "40P01" | "55P03")
}

/// SQLSTATE: connection exceptions, insufficient resources, operator intervention (shutdown,
/// statement timeout), and a server that is read-only because another one took over.
fn is_unavailable(state: &str) -> bool {
    matches!(state.get(..2), Some("08" | "53" | "57")) || state == "25006"
}
