//! Signals between replicas: `NOTIFY` and `LISTEN`.
//!
//! Outside the transactions that execute heists: a `NOTIFY` inside one would make every commit
//! of the database wait for every other.

use std::time::Duration;

use sqlx::{
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
    query,
};
use tokio::time::timeout;

use super::{ObservedExt as _, PgPool, StoreError, pool};

/// The channel of all replicas on one database.
const CHANNEL: &str = "heist_events";
/// How long it may take to begin to listen.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// Sends signals, each below 8000 bytes, all or none, in this order.
///
/// # Errors
///
/// Any [`StoreError`].
pub async fn send(pool: &PgPool, payloads: &[String]) -> Result<(), StoreError> {
    // The commit of a signal need not reach the disk: a replica that loses the database hears
    // nothing for a while, and resynchronises.
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

/// Where to listen for signals.
#[derive(Clone)]
pub struct ListenOptions {
    pub database: PgConnectOptions,
    /// The operator has said that there is no pooler in between: sessions are ours until we end them.
    pub is_direct: bool,
}

/// Hears the signals of all replicas, its own among them.
pub struct Listener(PgListener);

impl Listener {
    /// Listens on a connection of its own. Not on one of a pool that lives on: the pool would wait
    /// for a connection that went silent until the operating system gives it up.
    ///
    /// `None` where a pooler is in between. It would hand the session that listens to other clients,
    /// and with it what the session hears.
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
        let database = options.database.clone().application_name("heist");
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .connect_lazy_with(database);
        let mut listener = PgListener::connect_with(&pool).await?;
        if !options.is_direct && pool::is_pooled(&mut listener).await? {
            return Ok(None);
        }
        // A task that waits for a signal may be cancelled, and must not be while reconnecting.
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        Ok(Some(Self(listener)))
    }

    /// The next signal; `None` where the connection was lost, and signals with it. May be
    /// cancelled.
    ///
    /// # Errors
    ///
    /// Any [`StoreError`].
    pub async fn hear(&mut self) -> Result<Option<String>, StoreError> {
        let heard = self.0.try_recv().await?;
        Ok(heard.map(|signal| signal.payload().to_owned()))
    }
}
