//! A transaction that writes.

use std::{
    ops::{Deref, DerefMut},
    time::Duration,
};

use sqlx::{Connection as _, Executor as _, PgConnection, Postgres};
use tokio::{runtime::Handle, time::error::Elapsed};

use super::{connect::BEGIN_AND_SET, lease::Lease};
use crate::store::{ObservedExt as _, StoreError, error::is_connection_lost};

/// How long PostgreSQL may take to begin or to roll back.
const SHORT_LIMIT: Duration = Duration::from_secs(1);
/// How long a commit may take. Then nobody knows what became of it.
const COMMIT_LIMIT: Duration = Duration::from_secs(4);

/// SQLSTATE of what a standby says to `READ WRITE`: "feature not supported".
const READ_WRITE_ON_STANDBY: &str = "0A000";

/// Begins a transaction that writes on a connection that is in use already. Its statements have no
/// time limit of their own here.
///
/// # Errors
///
/// [`StoreError::Unavailable`] where the connection is lost or leads to a standby.
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
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.as_deref() == Some(READ_WRITE_ON_STANDBY)
}

/// A transaction that writes. Dropped, it is rolled back in the background.
pub struct Transaction {
    /// `None` where its connection was given up.
    lease: Option<Lease>,
    is_open: bool,
}

/// Why a commit was not confirmed.
#[derive(Debug)]
pub enum CommitError {
    /// Nothing happened.
    NotCommitted(StoreError),
    /// The connection was lost before the answer: either all of it happened or nothing did, or it
    /// will within seconds.
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

    /// The result of work in this transaction that had a time limit. Where the time is up or the
    /// connection is lost, gives the connection up, and those of its age with it.
    ///
    /// # Errors
    ///
    /// That of the work; [`StoreError::Unavailable`] where the time is up.
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

    /// Commits, and waits up to 4 s for the answer.
    ///
    /// # Errors
    ///
    /// What is known of the commit.
    pub async fn commit(mut self) -> Result<(), CommitError> {
        self.is_open = false;
        let committed = Lease::limited(COMMIT_LIMIT, self.execute("COMMIT"))
            .observed("commit")
            .await;
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
    /// [`StoreError::Unavailable`] where the connection is lost: PostgreSQL rolls back then.
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
            lease.distrust();
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

/// For those who only need to know that it is not certain that something happened.
impl From<CommitError> for StoreError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::NotCommitted(error) | CommitError::Unknown(error) => error,
        }
    }
}
