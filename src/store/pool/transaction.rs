//! A transaction that writes.

use std::{
    ops::{Deref, DerefMut},
    time::Duration,
};

use sqlx::{Connection as _, Executor as _, PgConnection, Postgres};
use tokio::{
    runtime::Handle,
    time::{Instant, error::Elapsed},
};

use super::{connect::BEGIN_AND_SET, lease::Lease};
use crate::store::{ObservedExt as _, StoreError, error::is_connection_lost};

/// The time limit of `BEGIN` and of `ROLLBACK`.
const SHORT_LIMIT: Duration = Duration::from_secs(1);
/// The time limit of a commit. After it the outcome of the commit is unknown.
const COMMIT_LIMIT: Duration = Duration::from_secs(4);

/// A commit that took longer may have waited for a synchronous standby, and an operator may have
/// cancelled that wait. PostgreSQL then says that it committed, though a failover may lose it.
const SLOW_COMMIT: Duration = Duration::from_secs(1);
/// Changes nothing, but waits for the same disk and standbys as everything committed before it.
const CONFIRM: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
     SELECT pg_logical_emit_message(true, 'heist', ''::text); \
     COMMIT";

/// The SQLSTATE with which a standby refuses `READ WRITE`: "feature not supported".
const READ_WRITE_ON_STANDBY: &str = "0A000";

/// Begins a transaction that writes, on a connection that is already in use. PostgreSQL limits the
/// time of its statements; this function adds no limit of the client.
///
/// # Errors
///
/// [`StoreError::Unavailable`] if the connection is lost or leads to a standby.
pub async fn begin_on(
    connection: &mut PgConnection,
) -> Result<sqlx::Transaction<'_, Postgres>, StoreError> {
    let begun = connection.begin_with(BEGIN_AND_SET).observed("begin").await;
    begun.map_err(|error| {
        if is_on_standby(&error) {
            StoreError::unavailable(error)
        } else {
            error.into()
        }
    })
}

fn is_on_standby(error: &sqlx::Error) -> bool {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    code.as_deref() == Some(READ_WRITE_ON_STANDBY)
}

/// A transaction that writes. Dropping it rolls it back in the background.
pub struct Transaction {
    /// `None`: the connection was given up.
    lease: Option<Lease>,
    is_open: bool,
}

/// Why a commit was not confirmed.
#[derive(Debug)]
pub enum CommitError {
    /// The transaction changed nothing.
    NotCommitted(StoreError),
    /// The connection was lost before the answer. PostgreSQL has committed the whole transaction or
    /// nothing of it, or will commit it within seconds.
    Unknown(StoreError),
}

impl Transaction {
    pub(super) async fn begin(lease: Lease) -> Result<Self, StoreError> {
        let begin = lease.begin();
        let mut transaction = Self {
            lease: Some(lease),
            is_open: true,
        };
        let begun = Lease::limited(SHORT_LIMIT, transaction.execute(begin)).await;
        if let Err(error) = begun {
            let is_on_standby = is_on_standby(&error);
            if is_on_standby || is_connection_lost(&error) {
                transaction.give_up();
            }
            return Err(if is_on_standby {
                StoreError::unavailable(error)
            } else {
                error.into()
            });
        }
        Ok(transaction)
    }

    /// Returns the result of work in this transaction that had a time limit. If the time is up or
    /// the connection is lost, gives up the connection and all connections of its generation.
    ///
    /// # Errors
    ///
    /// The error of the work; [`StoreError::Unavailable`] if the time is up.
    pub fn checked<T>(
        &mut self,
        result: Result<Result<T, StoreError>, Elapsed>,
    ) -> Result<T, StoreError> {
        let result = result.unwrap_or_else(|_elapsed| Err(StoreError::timed_out()));
        if result.as_ref().is_err_and(StoreError::spoils_connection) {
            self.give_up();
        }
        result
    }

    /// Writes a record to the write-ahead log that changes nothing. The commit of a transaction
    /// without a write would not wait for the disk and the synchronous standbys.
    ///
    /// # Errors
    ///
    /// A failure of the database.
    pub async fn write_to_log(&mut self) -> Result<(), StoreError> {
        self.execute("SELECT pg_logical_emit_message(true, 'heist', ''::text)")
            .observed("transaction.write_to_log")
            .await?;
        Ok(())
    }

    /// Commits, and waits up to 4 s for the answer. A commit that took longer than 1 s is confirmed
    /// by a second one, which has as much time.
    ///
    /// # Errors
    ///
    /// Whether the transaction was not committed, or its outcome is unknown.
    pub async fn commit(mut self) -> Result<(), CommitError> {
        self.is_open = false;
        let begun = Instant::now();
        let committed = Lease::limited(COMMIT_LIMIT, self.execute("COMMIT"))
            .observed("commit")
            .await;
        if committed.is_ok() && begun.elapsed() >= SLOW_COMMIT {
            let confirmed = Lease::limited(COMMIT_LIMIT, self.execute(CONFIRM))
                .observed("commit.confirm")
                .await;
            if let Err(error) = confirmed {
                self.give_up();
                return Err(CommitError::Unknown(error.into()));
            }
        }
        if let Some(lease) = self.lease.take() {
            lease.give_back_after(&committed);
        }
        match committed.map_err(StoreError::from) {
            Ok(_) => Ok(()),
            Err(error @ StoreError::Unavailable(_)) => Err(CommitError::Unknown(error)),
            Err(error) => Err(CommitError::NotCommitted(error)),
        }
    }

    /// Rolls back.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the connection is lost. Then PostgreSQL rolls back by itself.
    pub async fn rollback(mut self) -> Result<(), StoreError> {
        let Some(mut lease) = self.lease.take() else {
            return Ok(());
        };
        self.is_open = false;
        let result = Lease::limited(SHORT_LIMIT, lease.execute("ROLLBACK")).await;
        lease.give_back_after(&result);
        result?;
        Ok(())
    }

    fn give_up(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.discard_generation();
        }
    }
}

impl Deref for Transaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.lease.as_ref().expect("the connection is not lost")
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.lease.as_mut().expect("the connection is not lost")
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let (Some(mut lease), Ok(runtime)) = (self.lease.take(), Handle::try_current()) else {
            return;
        };
        if self.is_open {
            runtime.spawn(async move {
                let result = Lease::limited(SHORT_LIMIT, lease.execute("ROLLBACK")).await;
                lease.give_back_after(&result);
            });
        }
    }
}

/// For callers that treat a failed commit and an unknown one alike.
impl From<CommitError> for StoreError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::NotCommitted(error) | CommitError::Unknown(error) => error,
        }
    }
}
