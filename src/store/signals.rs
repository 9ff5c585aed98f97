//! Signals between replicas: `NOTIFY` and `LISTEN`.
//!
//! Outside the transactions that execute heists: a `NOTIFY` inside one would make every commit
//! of the database wait for every other.

use sqlx::{PgPool, postgres::PgListener, query};

use super::StoreError;

/// The channel of all replicas on one database.
const CHANNEL: &str = "heist_events";

/// Sends signals, each below 8000 bytes, all or none, in this order.
///
/// # Errors
///
/// Any [`StoreError`].
pub async fn send(pool: &PgPool, payloads: &[String]) -> Result<(), StoreError> {
    query!(
        "SELECT pg_notify($1, payload) FROM unnest($2::text[]) WITH ORDINALITY AS signal (payload, position) ORDER BY position",
        CHANNEL,
        payloads,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Hears the signals of all replicas, its own among them.
pub struct Listener(PgListener);

impl Listener {
    /// Listens on a connection that it takes from `pool` for as long as it lives.
    ///
    /// # Errors
    ///
    /// Any [`StoreError`].
    pub async fn connect(pool: &PgPool) -> Result<Self, StoreError> {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen(CHANNEL).await?;
        Ok(Self(listener))
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
