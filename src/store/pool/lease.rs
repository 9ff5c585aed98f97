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

/// How long a connection whose user left in the middle of a statement may take to become ready.
const SETTLE_LIMIT: Duration = Duration::from_secs(1);

/// A connection in use. Dropped, it goes back to the pool when it has answered what it was last
/// asked, and is closed where it does not answer within a second.
pub struct Lease {
    /// `None` when it was given back.
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

    /// How its transactions begin.
    pub(super) fn begin(&self) -> &'static str {
        self.connection.as_ref().expect("not given back").begin
    }

    /// Gives it back at once: it has answered everything.
    pub(super) fn give_back(mut self) {
        if let Some(connection) = self.connection.take() {
            self.shared.keep(connection);
        }
    }

    /// Closes it, and those of its age with it: it was found dead, or its plans stale.
    pub fn distrust(mut self) {
        if let Some(connection) = self.connection.take() {
            self.shared.distrust(connection.generation);
        }
    }

    /// Waits for an answer up to `limit`. Then the connection counts as dead.
    pub(super) async fn limited<T>(
        limit: Duration,
        work: impl Future<Output = sqlx::Result<T>>,
    ) -> sqlx::Result<T> {
        match timeout(limit, work).await {
            Ok(result) => result,
            Err(_elapsed) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    }

    /// Gives it back after `result`, or closes it where that says that it cannot be used again.
    pub(super) fn give_back_after<T>(self, result: &sqlx::Result<T>) {
        match result {
            Err(error) if is_connection_lost(error) || is_stale_plan(error) => self.distrust(),
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
        // Without a runtime the process is about to end.
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
