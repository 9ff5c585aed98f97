//! Storing a player's e-mail preference: one player at a time, detached from its caller.

use sqlx::PgPool;
use tokio::time::{Instant, timeout_at};

use super::Engine;
use crate::{
    domain::{ids::UserId, mailing::EmailPreference},
    fault::Fault,
    store::{ObservedExt as _, StoreError, pool, preferences},
    telemetry::request,
};

const DOING: &str = "storing an e-mail preference";

impl Engine {
    /// Stores a player's e-mail preference. `None` removes it. Returns whether there is such a player.
    ///
    /// # Errors
    ///
    /// See [`Fault`].
    pub async fn set_email_preference(
        &self,
        user_id: UserId,
        preference: Option<EmailPreference>,
        deadline: Instant,
    ) -> Result<bool, Fault> {
        let work = set(self.pool.clone(), user_id, preference);
        let work = tokio::spawn(request::carry(request::current(), work));
        match timeout_at(deadline, work).await {
            Ok(Ok(result)) => result.map_err(|error| Fault::after(&error, DOING)),
            Ok(Err(panic)) => Err(Fault::internal(&panic, DOING)),
            Err(_elapsed) => Err(Fault::DeadlineExceeded),
        }
    }
}

async fn set(
    pool: PgPool,
    user_id: UserId,
    preference: Option<EmailPreference>,
) -> Result<bool, StoreError> {
    let mut transaction = pool::begin(&pool).await?;
    let stored = preferences::set_email(&mut transaction, user_id, preference).await?;
    transaction.commit().observed("commit").await?;
    Ok(stored)
}
