//! The state of providers, which all replicas share: whose turn it is, the rate and pauses.

use std::time::Duration;

use sqlx::{PgConnection, PgExecutor, postgres::PgQueryResult, query, query_file};
use time::OffsetDateTime;

use crate::store::{ObservedExt as _, StoreError, effects::Interference};

/// A replica's exclusive turn to claim e-mails for a provider. It ends with its transaction.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// The database's clock.
    pub now: OffsetDateTime,
    /// How far the e-mails sent so far are ahead of the rate.
    pub ahead: Duration,
    /// The provider's pause has not ended.
    pub paused: bool,
    /// The provider's last answer was a failure of the provider.
    pub provider_fails: bool,
}

/// Takes the turn to claim e-mails for a provider. `None`: another replica has it.
///
/// # Errors
///
/// A failure of the database.
pub async fn take_turn(
    connection: &mut PgConnection,
    provider: &str,
) -> Result<Option<Turn>, StoreError> {
    let row = query_file!("src/store/emails/turn.sql", provider)
        .fetch_optional(connection)
        .observed("emails.take_turn")
        .await?;
    Ok(row.map(|row| Turn {
        now: row.now,
        ahead: Duration::try_from_secs_f64(row.ahead_s).unwrap_or_default(),
        paused: row.paused,
        provider_fails: row.provider_fails,
    }))
}

/// Records how much of the provider's rate is used up, and starts a pause.
///
/// # Errors
///
/// [`StoreError::Interference`] if the row of the provider was not changed. Other failures of the
/// database.
pub async fn end_turn(
    connection: &mut PgConnection,
    provider: &str,
    used: Duration,
    pause: Duration,
) -> Result<(), StoreError> {
    query!(
        r#"UPDATE "HeistEmailProvider"
        SET
            "paidUntil" = GREATEST("paidUntil", now()) + make_interval(secs => $2),
            "pausedUntil" = now() + make_interval(secs => $3)
        WHERE "name" = $1"#,
        provider,
        used.as_secs_f64(),
        pause.as_secs_f64(),
    )
    .execute(connection)
    .observed("emails.end_turn")
    .await
    .map(|done| the_provider(&done))?
}

/// Starts a pause of the provider for all replicas. Afterwards they claim one e-mail at a time
/// until [`works`].
///
/// # Errors
///
/// [`StoreError::Interference`] if the row of the provider was not changed. Other failures of the
/// database.
pub async fn pause(
    executor: impl PgExecutor<'_>,
    provider: &str,
    pause: Duration,
    reason: &str,
) -> Result<(), StoreError> {
    query!(
        r#"UPDATE "HeistEmailProvider"
        SET
            "pausedUntil" = GREATEST("pausedUntil", now() + make_interval(secs => $2)),
            "trouble" = $3
        WHERE "name" = $1"#,
        provider,
        pause.as_secs_f64(),
        reason,
    )
    .execute(executor)
    .observed("emails.pause")
    .await
    .map(|done| the_provider(&done))?
}

/// Records that the provider works. Returns whether it failed before. Ends a pause of up to `pause`,
/// which a single attempt had started. A longer one, for example of a rate limit, stays.
///
/// # Errors
///
/// A failure of the database.
pub async fn works(
    executor: impl PgExecutor<'_>,
    provider: &str,
    pause: Duration,
) -> Result<bool, StoreError> {
    let done = query!(
        r#"UPDATE "HeistEmailProvider"
        SET
            "trouble" = NULL,
            "pausedUntil" = CASE
                WHEN "pausedUntil" > now() + make_interval(secs => $2) THEN "pausedUntil"
            END
        WHERE "name" = $1 AND "trouble" IS NOT NULL"#,
        provider,
        pause.as_secs_f64(),
    )
    .execute(executor)
    .observed("emails.works")
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Whether a write has changed the row of the provider, which the migrations have made.
fn the_provider(done: &PgQueryResult) -> Result<(), StoreError> {
    if done.rows_affected() == 1 {
        return Ok(());
    }
    let difference = "was not updated for the provider";
    Err(Interference::new("HeistEmailProvider", difference).into())
}
