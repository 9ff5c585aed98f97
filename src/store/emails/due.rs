//! Due e-mails that cannot be sent now: the player has no usable address or wants no e-mail, or the
//! e-mail belongs to a later digest. The worker sets them aside before it claims e-mails, so that
//! they do not delay other e-mails.

use sqlx::{PgExecutor, query_file, query_file_as};
use time::OffsetDateTime;

use super::{EmailState, StateChange};
use crate::{
    domain::mailing::{EmailMode, EmailPreference, Mailing},
    store::{ObservedExt as _, StoreError, count, preferences::PreferenceRow},
};

/// The number of e-mails that [`due`] reads. Its statement repeats the number as a literal.
pub const MAX_HEAD: usize = 200;

/// A queued e-mail that is due.
#[derive(Clone, Debug)]
pub struct DueEmail {
    user_id: i32,
    id: i64,
    pub due_at: OffsetDateTime,
    /// Whether an attempt to send it was made.
    pub attempted: bool,
    /// Retries end at this time. `None`: the time limit has not started.
    pub until: Option<OffsetDateTime>,
    /// The address in the application's table.
    pub address: Option<String>,
    pub preference: Option<EmailPreference>,
}

/// What to do with a due e-mail that cannot be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetAside {
    /// The player has no address, or wants no e-mail.
    Skip(&'static str),
    /// It can never be sent.
    Fail(&'static str),
    /// It is sent later.
    Defer(OffsetDateTime),
}

/// The head of the queue.
#[derive(Clone, Debug)]
pub struct Head {
    /// The database's clock. `None`: no e-mail is due.
    pub now: Option<OffsetDateTime>,
    /// Oldest first.
    pub emails: Vec<DueEmail>,
}

/// The first [`MAX_HEAD`] due e-mails.
///
/// # Errors
///
/// A failure of the database.
pub async fn due(executor: impl PgExecutor<'_>) -> Result<Head, StoreError> {
    let rows = query_file!("src/store/emails/due.sql")
        .fetch_all(executor)
        .observed("emails.due")
        .await?;
    let now = rows.first().map(|row| row.now);
    let emails = rows.into_iter().map(|row| DueEmail {
        user_id: row.user_id,
        id: row.id,
        due_at: row.due_at,
        attempted: row.attempted,
        until: row.until,
        address: row.address,
        preference: row.preference.map(EmailPreference::from),
    });
    Ok(Head {
        now,
        emails: emails.collect(),
    })
}

/// Sets e-mails aside. Returns the e-mails whose state or due time changed. An e-mail that another
/// transaction holds or has changed stays as it is.
///
/// # Errors
///
/// A failure of the database.
pub async fn set_aside(
    executor: impl PgExecutor<'_>,
    emails: &[(DueEmail, SetAside)],
    mailing: Mailing,
) -> Result<Vec<StateChange>, StoreError> {
    let mut user_ids = Vec::new();
    let mut ids = Vec::new();
    let mut due_at = Vec::new();
    let mut states = Vec::new();
    let mut next_at = Vec::new();
    let mut reasons = Vec::new();
    for (email, fate) in emails {
        let (state, next, reason) = match *fate {
            SetAside::Skip(reason) => (EmailState::Skipped, None, Some(reason)),
            SetAside::Fail(reason) => (EmailState::Failed, None, Some(reason)),
            SetAside::Defer(until) => (EmailState::Queued, Some(until), None),
        };
        user_ids.push(email.user_id);
        ids.push(email.id);
        due_at.push(email.due_at);
        states.push(state.name().to_owned());
        next_at.push(next);
        reasons.push(reason.map(str::to_owned));
    }
    let changes = query_file_as!(
        StateChange,
        "src/store/emails/set_aside.sql",
        &user_ids,
        &ids,
        &due_at,
        &states,
        &next_at as &[Option<OffsetDateTime>],
        &reasons as &[Option<String>],
        mailing.retry_for(EmailMode::Digest).as_secs_f64(),
    )
    .fetch_all(executor)
    .observed("emails.set_aside")
    .await?;
    Ok(changes)
}

/// Makes the queued e-mails of players due who changed their preference, for up to `players` of
/// these players. Returns the number of finished players.
///
/// # Errors
///
/// A failure of the database.
pub async fn reschedule(executor: impl PgExecutor<'_>, players: usize) -> Result<u64, StoreError> {
    let done = query_file!("src/store/emails/reschedule.sql", count(players))
        .execute(executor)
        .observed("emails.reschedule")
        .await?;
    Ok(done.rows_affected())
}
