//! The queue as operators see and change it.

use std::time::Duration;

use sqlx::{PgExecutor, query_as, query_file, query_file_as, query_scalar};
use time::OffsetDateTime;

use super::EmailState;
use crate::{
    domain::ids::{NotificationId, UserId},
    store::{ObservedExt as _, StoreError},
};

/// The numbers of notifications by the state of their e-mail.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct QueueCounts {
    /// Queued and not due yet.
    pub waiting: i64,
    /// Queued and due.
    pub due: i64,
    pub sending: i64,
    pub failed: i64,
    pub unknown: i64,
    /// The time for which the oldest e-mail has been due.
    pub oldest_due: Duration,
}

/// An e-mail that is queued, claimed or parked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub user_id: i32,
    pub id: i64,
    /// The name of the type in the database.
    pub notification_type: String,
    pub state: EmailState,
    /// The due time of a queued e-mail, the end of the claim of a claimed or unknown one, the time
    /// of parking of a failed one.
    pub at: OffsetDateTime,
    pub attempts: i32,
    /// The player's preference, by its name in the database. `None`: the mode of the service.
    pub preference: Option<String>,
    /// Why the last attempt failed. Never an address.
    pub error: Option<String>,
}

/// Selects e-mails to resend or drop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    pub states: Vec<EmailState>,
    /// `None`: all players.
    pub user_id: Option<UserId>,
    /// `None`: all notifications.
    pub ids: Option<Vec<NotificationId>>,
}

/// How many e-mails an operator has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    pub moved: i64,
    /// Unchanged, because another transaction held or changed them at the same time.
    pub held: i64,
}

/// A provider whose last answer was a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailingProvider {
    pub provider: String,
    pub reason: String,
    pub paused_until: Option<OffsetDateTime>,
}

/// Counts the queue. Reads only the partial index of queued, claimed and parked e-mails.
///
/// # Errors
///
/// A failure of the database.
pub async fn queue_counts(executor: impl PgExecutor<'_>) -> Result<QueueCounts, StoreError> {
    let row = query_file!("src/store/emails/queue_counts.sql")
        .fetch_one(executor)
        .observed("emails.backlog")
        .await?;
    Ok(QueueCounts {
        waiting: row.waiting,
        due: row.due,
        sending: row.sending,
        failed: row.failed,
        unknown: row.unknown,
        oldest_due: Duration::try_from_secs_f64(row.oldest_due_s).unwrap_or_default(),
    })
}

/// The providers whose last answer was a failure.
///
/// # Errors
///
/// A failure of the database.
pub async fn failing_providers(
    executor: impl PgExecutor<'_>,
) -> Result<Vec<FailingProvider>, StoreError> {
    let providers = query_as!(
        FailingProvider,
        r#"SELECT "name" AS provider, "trouble" AS "reason!", "pausedUntil" AS paused_until
        FROM "HeistEmailProvider"
        WHERE "trouble" IS NOT NULL
        ORDER BY "name""#
    )
    .fetch_all(executor)
    .observed("emails.troubles")
    .await?;
    Ok(providers)
}

/// Lists up to `limit` queued, claimed or parked e-mails, ordered by [`Entry::at`].
///
/// # Errors
///
/// A failure of the database.
pub async fn list(
    executor: impl PgExecutor<'_>,
    states: &[EmailState],
    user_id: Option<UserId>,
    limit: i64,
) -> Result<Vec<Entry>, StoreError> {
    let entries = query_file_as!(
        Entry,
        "src/store/emails/list.sql",
        &names(states),
        user_id.map(crate::domain::ids::UserId::get),
        limit,
    )
    .fetch_all(executor)
    .observed("emails.list")
    .await?;
    Ok(entries)
}

/// Queues e-mails to be sent now, with a new time limit and no counted attempts.
///
/// # Errors
///
/// A failure of the database.
pub async fn resend(
    executor: impl PgExecutor<'_>,
    selection: &Selection,
) -> Result<Changed, StoreError> {
    move_to(executor, selection, EmailState::Queued).await
}

/// Drops e-mails.
///
/// # Errors
///
/// A failure of the database.
pub async fn drop(
    executor: impl PgExecutor<'_>,
    selection: &Selection,
) -> Result<Changed, StoreError> {
    move_to(executor, selection, EmailState::Dropped).await
}

async fn move_to(
    executor: impl PgExecutor<'_>,
    selection: &Selection,
    state: EmailState,
) -> Result<Changed, StoreError> {
    let ids: Option<Vec<i64>> =
        (selection.ids.as_ref()).map(|ids| ids.iter().map(|id| id.get()).collect());
    let changed = query_file_as!(
        Changed,
        "src/store/emails/requeue_or_drop.sql",
        &names(&selection.states),
        state.name(),
        selection.user_id.map(crate::domain::ids::UserId::get),
        ids.as_deref(),
    )
    .fetch_one(executor)
    .observed("emails.move")
    .await?;
    Ok(changed)
}

/// The state of a notification's e-mail. `None`: there is no such notification, or e-mail was off
/// when it was written.
///
/// # Errors
///
/// A failure of the database.
pub async fn state(
    executor: impl PgExecutor<'_>,
    user_id: UserId,
    id: NotificationId,
) -> Result<Option<EmailState>, StoreError> {
    let state = query_scalar!(
        r#"SELECT "emailState" AS "state?: EmailState"
        FROM "HeistNotification" WHERE "userId" = $1 AND "id" = $2"#,
        user_id.get(),
        id.get(),
    )
    .fetch_optional(executor)
    .observed("emails.state")
    .await?;
    Ok(state.flatten())
}

fn names(states: &[EmailState]) -> Vec<String> {
    states.iter().map(|state| state.name().to_owned()).collect()
}

impl EmailState {
    /// The name of the state in the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::Sending => "SENDING",
            Self::Sent => "SENT",
            Self::Failed => "FAILED",
            Self::Unknown => "UNKNOWN",
            Self::Skipped => "SKIPPED",
            Self::Dropped => "DROPPED",
        }
    }
}
