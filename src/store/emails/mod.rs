//! Notifications that are sent by e-mail: the queue, claims on it, and what became of them.
//!
//! A notification's own row says whether it is to be mailed, when, and what came of it. Claims are
//! committed before anything is sent, so that no two replicas send the same, whoever dies when.

mod backlog;

use std::time::Duration;

use sqlx::{PgConnection, PgExecutor, query, query_file, query_file_as};
use time::OffsetDateTime;

pub use self::backlog::{Backlog, Entry, Selection, backlog, drop, list, resend, troubles};
use super::{
    ObservedExt as _, StoreError, count,
    notifications::{NotificationRow, NotificationType},
};
use crate::domain::{
    ids::{NotificationId, UserId},
    notification::Notification,
};

/// How what is written now is to be mailed.
#[derive(Clone, Debug)]
pub struct Mail {
    pub due_at: OffsetDateTime,
    /// A W3C `traceparent`: what the mail is a part of. `None` where that is not traced.
    pub trace_parent: Option<String>,
}

/// A replica's turn at claiming mail for a provider. Lasts until its transaction ends.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// The database's time.
    pub now: OffsetDateTime,
    /// How far the mail sent so far is ahead of the rate.
    pub ahead: Duration,
    /// Nothing is to be sent now.
    pub paused: bool,
    /// The provider did not work when it was last asked.
    pub troubled: bool,
}

/// What to claim.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// The most that is claimed; in mails of several notifications, these count once.
    pub limit: usize,
    /// All that is due of a player goes in one mail.
    pub one_mail_for_each_player: bool,
    /// How long others leave it alone.
    pub lasts: Duration,
    /// How long after it was first due a notification is tried again.
    pub patience: Duration,
}

/// Something to be sent to one player, now and by the caller alone.
#[derive(Clone, Debug)]
pub struct ClaimedMail {
    pub user_id: UserId,
    pub user_name: String,
    /// Where it goes, as the application says now.
    pub address: Option<String>,
    /// At least one, oldest first.
    pub notifications: Vec<Notification>,
    /// With this one.
    pub attempts: u32,
    /// What the notifications are parts of, where that is traced.
    pub trace_parents: Vec<String>,
    claim_ends_at: OffsetDateTime,
}

/// What became of a claimed mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement<'a> {
    Sent,
    /// To be tried again, after this time.
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

/// Where the mail of a notification stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "\"HeistEmailState\"", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EmailState {
    /// To be sent.
    Queued,
    /// Claimed: it may be on its way.
    Sending,
    Sent,
    /// Parked: it surely did not leave.
    Failed,
    /// Parked: it may have left.
    Unknown,
    /// There was no address.
    Skipped,
    /// Given up by an operator.
    Dropped,
}

/// The mail of a notification that came into another state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    pub user_id: i32,
    pub id: i64,
    pub state: EmailState,
}

/// Takes the turn at claiming mail for a provider; `None` where another replica has it.
///
/// # Errors
///
/// Any [`StoreError`].
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
        troubled: row.troubled,
    }))
}

/// Claims what is due. It must not be sent before the commit.
///
/// # Errors
///
/// Any [`StoreError`].
pub async fn claim(
    connection: &mut PgConnection,
    claim: Claim,
) -> Result<Vec<ClaimedMail>, StoreError> {
    let rows = query_file!(
        "src/store/emails/claim.sql",
        count(claim.limit),
        claim.one_mail_for_each_player,
        claim.lasts.as_secs_f64(),
        claim.patience.as_secs_f64(),
    )
    .fetch_all(connection)
    .observed("emails.claim")
    .await?;
    let mut mails: Vec<ClaimedMail> = Vec::new();
    for row in rows {
        let user_id = UserId::new(row.user_id)?;
        let attempts = u32::try_from(row.attempts).unwrap_or(u32::MAX);
        let notification = NotificationRow {
            id: row.id,
            notification_type: row.notification_type,
            read: row.read,
            ledger_id: row.ledger_id,
            other_user_id: row.other_user_id,
            other_name: row.other_name,
            points: row.points,
            after: row.after,
            protection_ends_at: row.protection_ends_at,
            created_at: row.created_at,
        }
        .into_notification(user_id)?;
        match mails.last_mut() {
            Some(mail) if claim.one_mail_for_each_player && mail.user_id == user_id => {
                mail.notifications.push(notification);
                mail.attempts = mail.attempts.max(attempts);
                mail.trace_parents.extend(row.trace_parent);
                mail.trace_parents.dedup();
            }
            _ => mails.push(ClaimedMail {
                user_id,
                user_name: row.user_name,
                address: row.email,
                notifications: vec![notification],
                attempts,
                trace_parents: row.trace_parent.into_iter().collect(),
                claim_ends_at: row.claim_ends_at,
            }),
        }
    }
    Ok(mails)
}

/// Notes how much of the provider's rate is used up, and that nothing is sent for a while.
///
/// # Errors
///
/// Any [`StoreError`].
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
    .await?;
    Ok(())
}

/// Sends nothing through the provider for a while, and then carefully.
///
/// # Errors
///
/// Any [`StoreError`].
pub async fn pause(
    executor: impl PgExecutor<'_>,
    provider: &str,
    pause: Duration,
    trouble: &str,
) -> Result<(), StoreError> {
    query!(
        r#"UPDATE "HeistEmailProvider"
        SET
            "pausedUntil" = GREATEST("pausedUntil", now() + make_interval(secs => $2)),
            "trouble" = $3
        WHERE "name" = $1"#,
        provider,
        pause.as_secs_f64(),
        trouble,
    )
    .execute(executor)
    .observed("emails.pause")
    .await?;
    Ok(())
}

/// Notes that the provider works; whether it did not before.
///
/// # Errors
///
/// Any [`StoreError`].
pub async fn works(executor: impl PgExecutor<'_>, provider: &str) -> Result<bool, StoreError> {
    let done = query!(
        r#"UPDATE "HeistEmailProvider"
        SET "trouble" = NULL
        WHERE "name" = $1 AND "trouble" IS NOT NULL"#,
        provider,
    )
    .execute(executor)
    .observed("emails.works")
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Writes what became of claimed mails. Answers the notifications whose state it is now: those
/// that were to be tried again and are too old for it have failed, and those that somebody has
/// taken in hand since are missing.
///
/// # Errors
///
/// Any [`StoreError`].
pub async fn settle(
    executor: impl PgExecutor<'_>,
    settlements: &[(&ClaimedMail, Settlement<'_>)],
) -> Result<Vec<Moved>, StoreError> {
    let mut user_ids = Vec::new();
    let mut ids = Vec::new();
    let mut claim_ends_at = Vec::new();
    let mut states = Vec::new();
    let mut delays_s = Vec::new();
    let mut errors = Vec::new();
    for (mail, settlement) in settlements {
        let (state, after, error) = match *settlement {
            Settlement::Sent => ("SENT", Duration::ZERO, None),
            Settlement::Again { after, reason } => ("QUEUED", after, Some(reason)),
            Settlement::Failed { reason } => ("FAILED", Duration::ZERO, Some(reason)),
            Settlement::Unknown { reason } => ("UNKNOWN", Duration::ZERO, Some(reason)),
            Settlement::Skipped => ("SKIPPED", Duration::ZERO, None),
        };
        for notification in &mail.notifications {
            user_ids.push(mail.user_id.get());
            ids.push(notification.id.get());
            claim_ends_at.push(mail.claim_ends_at);
            states.push(state.to_owned());
            delays_s.push(after.as_secs_f64());
            errors.push(error.map(str::to_owned));
        }
    }
    let moved = query_file_as!(
        Moved,
        "src/store/emails/settle.sql",
        &user_ids,
        &ids,
        &claim_ends_at,
        &states,
        &delays_s,
        &errors as &[Option<String>],
    )
    .fetch_all(executor)
    .observed("emails.settle")
    .await?;
    Ok(moved)
}

/// Parks claims that ran out, as unknown, and what could not be sent within `patience`, as failed:
/// a thousand of each at the most.
///
/// # Errors
///
/// Any [`StoreError`].
pub async fn expire(
    executor: impl PgExecutor<'_>,
    patience: Duration,
) -> Result<Vec<Moved>, StoreError> {
    let moved = query_file_as!(Moved, "src/store/emails/expire.sql", patience.as_secs_f64())
        .fetch_all(executor)
        .observed("emails.expire")
        .await?;
    Ok(moved)
}

impl ClaimedMail {
    /// The first of its notifications, which names it.
    ///
    /// # Panics
    ///
    /// Never: there is one.
    #[must_use]
    pub fn first_id(&self) -> NotificationId {
        (self.notifications.first())
            .expect("a mail tells something")
            .id
    }
}
