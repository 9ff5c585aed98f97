//! Stores a player's e-mail preference, in a task that continues when the caller hangs up.

use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::Engine;
use crate::{
    domain::{ids::UserId, mailing::EmailPreference},
    fault::Fault,
    store::{PgPool, StoreError, preferences},
    telemetry::request,
};

/// The time limit of the statement.
const LIMIT: Duration = Duration::from_secs(4);
const DOING: &str = "storing an e-mail preference";

impl Engine {
    /// Stores a player's e-mail preference. `None` removes it. Returns whether the player exists.
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
    let mut transaction = pool.begin().await?;
    let setting = preferences::set_email(&mut transaction, user_id, preference);
    let stored = timeout(LIMIT, setting).await;
    let stored = transaction.checked(stored)?;
    transaction.commit().await?;
    Ok(stored)
}
