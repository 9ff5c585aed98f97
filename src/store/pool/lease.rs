//! A connection in use.

use std::{
    future::Future,
    io,
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use sqlx::{Connection as _, PgConnection};
use tokio::{runtime::Handle, sync::OwnedSemaphorePermit, time::timeout};

use super::shared::{Connection, Shared};
use crate::store::error::{is_connection_lost, is_stale_plan};

/// The time within which a connection must become ready if its lease was dropped during a
/// statement.
const SETTLE_LIMIT: Duration = Duration::from_secs(1);

/// A connection in use. When the lease is dropped, the connection returns to the pool as soon as it
/// has answered its last statement. It is closed if it does not answer within 1 s.
pub struct Lease {
    /// `None`: the connection was given back.
    connection: Option<Connection>,
    shared: Arc<Shared>,
    /// Its place among the pool's connections.
    place: Option<OwnedSemaphorePermit>,
}

impl Lease {
    pub(super) fn new(
        connection: Connection,
        shared: Arc<Shared>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            connection: Some(connection),
            shared,
            place: Some(place),
        }
    }

    /// The statement with which its transactions begin.
    pub(super) fn begin(&self) -> &'static str {
        self.connection.as_ref().expect("not given back").begin
    }

    /// Returns the connection to the pool at once. It must have answered its last statement.
    pub(super) fn give_back(mut self) {
        if let Some(connection) = self.connection.take() {
            self.shared.keep(connection);
        }
    }

    /// Closes the connection and all connections of its generation, because it is dead or its plans
    /// are stale.
    pub fn discard_generation(mut self) {
        if let Some(connection) = self.connection.take() {
            self.shared.discard_generation(connection.generation);
        }
    }

    /// Waits for an answer up to `limit`. After it, returns an `Io` error: the connection counts as
    /// dead.
    pub(super) async fn limited<T>(
        limit: Duration,
        work: impl Future<Output = sqlx::Result<T>>,
    ) -> sqlx::Result<T> {
        match timeout(limit, work).await {
            Ok(result) => result,
            Err(_elapsed) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    }

    /// Returns the connection to the pool, or closes it if `result` says that it cannot be used
    /// again.
    pub(super) fn give_back_after<T>(self, result: &sqlx::Result<T>) {
        match result {
            Err(error) if is_connection_lost(error) || is_stale_plan(error) => {
                self.discard_generation();
            }
            _ => self.give_back(),
        }
    }
}

impl Deref for Lease {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection.as_ref().expect("not given back").inner
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection.as_mut().expect("not given back").inner
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (Some(mut connection), Some(place)) = (self.connection.take(), self.place.take())
        else {
            return;
        };
        let shared = Arc::clone(&self.shared);
        // There is no runtime only while the process ends.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            if let Ok(Ok(())) = timeout(SETTLE_LIMIT, connection.inner.ping()).await {
                shared.keep(connection);
            }
            drop(place);
        });
    }
}
