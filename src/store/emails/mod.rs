//! The e-mail queue: claims, outcomes and the state of providers.
//!
//! The columns `"email…"` of a notification's row are its entry in the queue. A replica commits its
//! claim before it sends the e-mail, so that no two replicas send the same e-mail, also after a
//! crash.

mod due;
mod languages;
mod operators;
mod provider;

use std::time::Duration;

use sqlx::{PgConnection, PgExecutor, query_file, query_file_as};
use time::OffsetDateTime;

pub use self::due::{DueEmail, MAX_HEAD, SetAside, due, reschedule, set_aside};
pub use self::languages::{LanguageColumn, add_languages, check_language_column};
pub use self::operators::{
    Changed, Entry, FailingProvider, QueueCounts, Selection, drop, failing_providers, list,
    queue_counts, resend, state,
};
pub use self::provider::{Turn, end_turn, pause, take_turn, works};
use super::{
    ObservedExt as _, StoreError, count,
    effects::Interference,
    notifications::{NotificationRow, NotificationType},
};
use crate::domain::{
    ids::{NotificationId, UserId},
    mailing::{Digest, EmailMode, Mailing},
    notification::Notification,
};

/// The time at which the e-mails of newly written notifications are due.
#[derive(Clone, Debug)]
pub struct EmailSchedule {
    pub due_at: OffsetDateTime,
    /// The W3C `traceparent` of the call. `None`: the call is not traced.
    pub trace_parent: Option<String>,
}

/// Parameters of a claim.
#[derive(Clone, Copy, Debug)]
pub struct ClaimRequest {
    /// Maximum number of e-mails.
    pub limit: usize,
    pub mailing: Mailing,
    /// The digest at the database's time.
    pub digest: Digest,
    /// Duration of the claim. Until it ends, no other replica claims the e-mail.
    pub lasts: Duration,
}

/// An e-mail that this replica has claimed, with the facts that it reports.
#[derive(Clone, Debug)]
pub struct ClaimedEmail {
    pub user_id: UserId,
    pub user_name: String,
    /// The player's language, if [`add_languages`] found one.
    pub language: Option<String>,
    /// The address in the application's table at the time of the claim.
    pub address: Option<String>,
    /// At least one. Oldest first.
    pub notifications: Vec<Notification>,
    /// Number of attempts, including the current one.
    pub attempts: u32,
    /// The W3C `traceparent` of each traced call that caused a notification.
    pub trace_parents: Vec<String>,
    claim_ends_at: OffsetDateTime,
}

/// The outcome of a claimed e-mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement<'a> {
    Sent,
    /// Retry after this time.
    Again {
        after: Duration,
        reason: &'a str,
    },
    Failed {
        reason: &'a str,
    },
    Unknown {
        reason: &'a str,
    },
    Skipped,
}

/// The state of a notification's e-mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "\"HeistEmailState\"", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EmailState {
    /// To be sent.
    Queued,
    /// Claimed: a replica may be sending it.
    Sending,
    Sent,
    /// Parked: it was certainly not sent.
    Failed,
    /// Parked: it may have been sent.
    Unknown,
    /// The player had no address, or wanted no e-mail.
    Skipped,
    /// Dropped by an operator.
    Dropped,
}

/// The new state of a notification's e-mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateChange {
    pub user_id: i32,
    pub id: i64,
    pub state: EmailState,
}

/// The state of a notification's e-mail after its outcome was recorded. `None`: another transaction
/// holds the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    pub user_id: i32,
    pub id: i64,
    pub state: Option<EmailState>,
}

/// Claims e-mails that are due. They must not be sent before the commit.
///
/// # Errors
///
/// [`StoreError::Interference`] if an e-mail is not claimed as it should be: sent, it could be sent
/// again. Other failures of the database.
pub async fn claim(
    connection: &mut PgConnection,
    request: ClaimRequest,
) -> Result<Vec<ClaimedEmail>, StoreError> {
    let ClaimRequest {
        limit,
        mailing,
        digest,
        lasts,
    } = request;
    let rows = query_file!(
        "src/store/emails/claim.sql",
        count(limit),
        lasts.as_secs_f64(),
        mailing.default_mode == EmailMode::Digest,
        digest.is_open,
        digest.opened_at,
        digest.starts_at,
        mailing.retry_for(EmailMode::Immediate).as_secs_f64(),
        mailing.retry_for(EmailMode::Digest).as_secs_f64(),
    )
    .fetch_all(connection)
    .observed("emails.claim")
    .await?;
    let mut emails: Vec<ClaimedEmail> = Vec::new();
    for row in rows {
        let user_id = UserId::new(row.user_id)?;
        let claimed = || {
            let notification = NotificationRow {
                id: row.id,
                notification_type: row.notification_type?,
                read: row.read?,
                ledger_id: row.ledger_id?,
                other_user_id: row.other_user_id?,
                other_name: row.other_name,
                points: row.points?,
                after: row.after?,
                protection_ends_at: row.protection_ends_at,
                created_at: row.created_at?,
            };
            let claim = (row.claim_ends_at?, row.attempts?);
            row.is_claimed?.then_some((notification, claim))
        };
        let Some((notification, (claim_ends_at, attempts))) = claimed() else {
            let difference = format!("has no claim on the e-mail {user_id}/{}", row.id);
            return Err(Interference::new("HeistNotification", difference).into());
        };
        let notification = notification.into_notification(user_id)?;
        let attempts = u32::try_from(attempts).unwrap_or(u32::MAX);
        match emails.last_mut() {
            Some(email) if row.digest && email.user_id == user_id => {
                email.notifications.push(notification);
                email.attempts = email.attempts.max(attempts);
                email.trace_parents.extend(row.trace_parent);
                email.trace_parents.dedup();
            }
            _ => emails.push(ClaimedEmail {
                user_id,
                user_name: row.user_name,
                language: None,
                address: row.email,
                notifications: vec![notification],
                attempts,
                trace_parents: row.trace_parent.into_iter().collect(),
                claim_ends_at,
            }),
        }
    }
    Ok(emails)
}

/// Records the outcomes of claimed e-mails. Returns the new state of each notification. A retry
/// beyond the time limit becomes `FAILED`. The state is `None` while another transaction holds the
/// row: the outcome has to be recorded again later. A notification is missing from the result if
/// its claim was lost, for example because an operator resent it. Needs a transaction.
///
/// # Errors
///
/// [`StoreError::Interference`] if a row has another state than it was given. Other failures of the
/// database.
pub async fn settle(
    connection: &mut PgConnection,
    settlements: &[(&ClaimedEmail, Settlement<'_>)],
) -> Result<Vec<Settled>, StoreError> {
    let mut user_ids = Vec::new();
    let mut ids = Vec::new();
    let mut claim_ends_at = Vec::new();
    let mut states = Vec::new();
    let mut delays_s = Vec::new();
    let mut errors = Vec::new();
    for (email, settlement) in settlements {
        let (state, after, error) = match *settlement {
            Settlement::Sent => ("SENT", Duration::ZERO, None),
            Settlement::Again { after, reason } => ("QUEUED", after, Some(reason)),
            Settlement::Failed { reason } => ("FAILED", Duration::ZERO, Some(reason)),
            Settlement::Unknown { reason } => ("UNKNOWN", Duration::ZERO, Some(reason)),
            Settlement::Skipped => ("SKIPPED", Duration::ZERO, None),
        };
        for notification in &email.notifications {
            user_ids.push(email.user_id.get());
            ids.push(notification.id.get());
            claim_ends_at.push(email.claim_ends_at);
            states.push(state.to_owned());
            delays_s.push(after.as_secs_f64());
            errors.push(error.map(str::to_owned));
        }
    }
    let rows = query_file!(
        "src/store/emails/settle.sql",
        &user_ids,
        &ids,
        &claim_ends_at,
        &states,
        &delays_s,
        &errors as &[Option<String>],
    )
    .fetch_all(connection)
    .observed("emails.settle")
    .await?;
    let settled = rows.into_iter().map(|row| {
        if row.as_decided {
            let (user_id, id, state) = (row.user_id, row.id, row.state);
            return Ok(Settled { user_id, id, state });
        }
        let difference = format!(
            "gives the e-mail {}/{} another state than its outcome",
            row.user_id, row.id
        );
        Err(Interference::new("HeistNotification", difference).into())
    });
    settled.collect()
}

/// Parks e-mails with expired claims as `UNKNOWN`, and e-mails that no attempt reached within
/// `retry_for` as `FAILED`. Up to 1,000 of each per call.
///
/// # Errors
///
/// A failure of the database.
pub async fn expire(
    executor: impl PgExecutor<'_>,
    retry_for: Duration,
) -> Result<Vec<StateChange>, StoreError> {
    let changes = query_file_as!(
        StateChange,
        "src/store/emails/expire.sql",
        retry_for.as_secs_f64()
    )
    .fetch_all(executor)
    .observed("emails.expire")
    .await?;
    Ok(changes)
}

impl ClaimedEmail {
    /// The id of the oldest notification.
    ///
    /// # Panics
    ///
    /// Never: a claimed e-mail has at least one notification.
    #[must_use]
    pub fn first_id(&self) -> NotificationId {
        (self.notifications.first())
            .expect("a claimed e-mail has a notification")
            .id
    }

    /// `player/notification`: the name of the e-mail in `heist emails`, logs and the provider's log.
    #[must_use]
    pub fn reference(&self) -> String {
        format!("{}/{}", self.user_id, self.first_id())
    }
}
