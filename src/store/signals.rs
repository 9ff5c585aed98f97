//! Signals between replicas: `NOTIFY` and `LISTEN`.
//!
//! Signals are sent outside the transactions that execute heists. PostgreSQL commits transactions
//! with a `NOTIFY` one after the other, so otherwise every heist would wait for the commit of every
//! other one.

use std::time::Duration;

use sqlx::{
    postgres::{PgListener, PgPoolOptions},
    query,
};
use tokio::time::timeout;

use super::{
    ObservedExt as _, PgPool, StoreError,
    pool::{self, ConnectOptions},
};

/// The channel of all replicas on one database.
const CHANNEL: &str = "heist_events";
/// The time limit for connecting and beginning to listen.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// Sends all of the signals or none, in this order. Each must be shorter than 8000 bytes.
///
/// # Errors
///
/// Any [`StoreError`].
pub async fn send(pool: &PgPool, payloads: &[String]) -> Result<(), StoreError> {
    // The commit of a signal does not wait for the disk: a replica that loses the database hears
    // nothing for a while, and then resynchronises.
    query!(
        "SELECT pg_notify($1, signal.payload) \
         FROM unnest($2::text[]) WITH ORDINALITY AS signal (payload, position) \
         CROSS JOIN (SELECT set_config('synchronous_commit', 'off', true)) AS unflushed \
         ORDER BY signal.position",
        CHANNEL,
        payloads,
    )
    .execute(pool)
    .observed("signals.send")
    .await?;
    Ok(())
}

/// The database on which to listen for signals.
#[derive(Clone)]
pub struct ListenOptions {
    pub database: ConnectOptions,
    /// Whether the operator has declared that no pooler is in between. Then a session belongs to
    /// the service until it ends.
    pub is_direct: bool,
}

/// Receives the signals of all replicas, including its own.
pub struct Listener(PgListener);

impl Listener {
    /// Listens on a connection with a pool of its own. A long-lived pool would wait for a
    /// connection that went silent until the operating system gives it up.
    ///
    /// Returns `None` if a pooler is in between. It would hand the listening session, and so the
    /// signals, to other clients.
    ///
    /// # Errors
    ///
    /// Any [`StoreError`].
    pub async fn connect(options: &ListenOptions) -> Result<Option<Self>, StoreError> {
        match timeout(CONNECT_LIMIT, Self::connect_untimed(options)).await {
            Ok(connected) => connected,
            Err(_elapsed) => Err(StoreError::timed_out()),
        }
    }

    async fn connect_untimed(options: &ListenOptions) -> Result<Option<Self>, StoreError> {
        let database = options.database.newest().application_name("heist");
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .connect_lazy_with(database);
        let mut listener = PgListener::connect_with(&pool).await?;
        if !options.is_direct && pool::is_pooled(&mut listener).await? {
            return Ok(None);
        }
        // A task that waits for a signal may be cancelled, and reconnecting must not be cancelled.
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        Ok(Some(Self(listener)))
    }

    /// The next signal; `None` if the connection was lost, and perhaps signals with it. May be
    /// cancelled.
    ///
    /// # Errors
    ///
    /// Any [`StoreError`].
    pub async fn receive(&mut self) -> Result<Option<String>, StoreError> {
        let heard = self.0.try_recv().await?;
        Ok(heard.map(|signal| signal.payload().to_owned()))
    }
}
