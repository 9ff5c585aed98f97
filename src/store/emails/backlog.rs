//! What operators see of the mail, and do with it.

use std::time::Duration;

use sqlx::{PgExecutor, query_as, query_file, query_file_as};
use time::OffsetDateTime;

use super::EmailState;
use crate::{
    domain::ids::{NotificationId, UserId},
    store::{ObservedExt as _, StoreError},
};

/// How many notifications are in which state, and for how long the oldest has been due.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Backlog {
    /// To be sent later.
    pub waiting: i64,
    /// To be sent now.
    pub due: i64,
    pub sending: i64,
    pub failed: i64,
    pub unknown: i64,
    pub oldest_due: Duration,
}

/// A mail that is queued or parked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub user_id: i32,
    pub id: i64,
    /// As the database calls it.
    pub notification_type: String,
    pub state: EmailState,
    /// When it is due, or the claim ends or ended, or it was parked.
    pub at: OffsetDateTime,
    pub attempts: i32,
    /// Why the last attempt did not succeed. Never an address.
    pub error: Option<String>,
}

/// Which mails are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    pub states: Vec<EmailState>,
    /// `None`: of all players.
    pub user_id: Option<UserId>,
    /// `None`: all of them.
    pub ids: Option<Vec<NotificationId>>,
}

/// A provider that does not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TroubledProvider {
    pub provider: String,
    pub trouble: String,
    pub paused_until: Option<OffsetDateTime>,
}

/// The queue in figures. Reads an index of what is queued and parked, and nothing else.
///
/// # Errors
///
/// Any [`StoreError`].
pub async fn backlog(executor: impl PgExecutor<'_>) -> Result<Backlog, StoreError> {
    let row = query_file!("src/store/emails/backlog.sql")
        .fetch_one(executor)
        .observed("emails.backlog")
        .await?;
    Ok(Backlog {
        waiting: row.waiting,
        due: row.due,
        sending: row.sending,
        failed: row.failed,
        unknown: row.unknown,
        oldest_due: Duration::try_from_secs_f64(row.oldest_due_s).unwrap_or_default(),
    })
}

/// Providers that did not work when they were last asked.
///
/// # Errors
///
/// Any [`StoreError`].
pub async fn troubles(executor: impl PgExecutor<'_>) -> Result<Vec<TroubledProvider>, StoreError> {
    let troubles = query_as!(
        TroubledProvider,
        r#"SELECT "name" AS provider, "trouble" AS "trouble!", "pausedUntil" AS paused_until
        FROM "HeistEmailProvider"
        WHERE "trouble" IS NOT NULL
        ORDER BY "name""#
    )
    .fetch_all(executor)
    .observed("emails.troubles")
    .await?;
    Ok(troubles)
}

/// Up to `limit` of what is queued or parked, those first that are due or were parked first.
///
/// # Errors
///
/// Any [`StoreError`].
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

/// Queues mails anew, to be sent now and tried again as if they had never been; how many.
///
/// # Errors
///
/// Any [`StoreError`].
pub async fn resend(
    executor: impl PgExecutor<'_>,
    selection: &Selection,
) -> Result<u64, StoreError> {
    move_to(executor, selection, EmailState::Queued).await
}

/// Gives mails up; how many.
///
/// # Errors
///
/// Any [`StoreError`].
pub async fn drop(executor: impl PgExecutor<'_>, selection: &Selection) -> Result<u64, StoreError> {
    move_to(executor, selection, EmailState::Dropped).await
}

async fn move_to(
    executor: impl PgExecutor<'_>,
    selection: &Selection,
    state: EmailState,
) -> Result<u64, StoreError> {
    let ids: Option<Vec<i64>> =
        (selection.ids.as_ref()).map(|ids| ids.iter().map(|id| id.get()).collect());
    let done = query_file!(
        "src/store/emails/move.sql",
        &names(&selection.states),
        state.name(),
        selection.user_id.map(crate::domain::ids::UserId::get),
        ids.as_deref(),
    )
    .execute(executor)
    .observed("emails.move")
    .await?;
    Ok(done.rows_affected())
}

fn names(states: &[EmailState]) -> Vec<String> {
    states.iter().map(|state| state.name().to_owned()).collect()
}

impl EmailState {
    /// As the database calls it.
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
