//! How players want to receive notifications.

use sqlx::{PgConnection, PgExecutor, query_file, query_file_scalar};

use super::{
    ObservedExt as _, StoreError,
    effects::{self, Interference},
};
use crate::domain::{ids::UserId, mailing::EmailPreference};

/// A preference as the database stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(
    type_name = "\"HeistEmailPreference\"",
    rename_all = "SCREAMING_SNAKE_CASE"
)]
pub(super) enum PreferenceRow {
    Immediate,
    Digest,
    Never,
}

/// The player's e-mail preference. The outer `None`: the player does not exist. The inner `None`:
/// the player has no preference.
///
/// # Errors
///
/// A failure of the database.
pub async fn email(
    executor: impl PgExecutor<'_>,
    user_id: UserId,
) -> Result<Option<Option<EmailPreference>>, StoreError> {
    let row = query_file_scalar!("src/store/preferences/find.sql", user_id.get())
        .fetch_optional(executor)
        .observed("preferences.find")
        .await?;
    Ok(row.map(|preference| preference.map(EmailPreference::from)))
}

/// Stores a player's e-mail preference. `None` removes it. Returns whether the player exists. The
/// mail worker applies the preference to queued e-mails at its next poll.
///
/// # Errors
///
/// [`StoreError::Interference`] if the table does not hold the preference afterwards. Other failures
/// of the database.
pub async fn set_email(
    connection: &mut PgConnection,
    user_id: UserId,
    preference: Option<EmailPreference>,
) -> Result<bool, StoreError> {
    let saved = query_file!(
        "src/store/preferences/save.sql",
        user_id.get(),
        preference.map(PreferenceRow::from) as Option<PreferenceRow>,
    )
    .fetch_one(&mut *connection)
    .observed("preferences.save")
    .await?;
    if !saved.player_exists {
        return Ok(false);
    }
    let mut is_stored = saved.is_stored;
    if is_stored && saved.has_foreign_triggers {
        effects::run_deferred_triggers(connection).await?;
        is_stored = email(connection, user_id).await? == Some(preference);
    }
    if !is_stored {
        let difference = format!("does not hold the preference of player {user_id} as given");
        return Err(Interference::new("HeistNotificationPreference", difference).into());
    }
    Ok(true)
}

impl From<PreferenceRow> for EmailPreference {
    fn from(row: PreferenceRow) -> Self {
        match row {
            PreferenceRow::Immediate => Self::Immediate,
            PreferenceRow::Digest => Self::Digest,
            PreferenceRow::Never => Self::Never,
        }
    }
}

impl From<EmailPreference> for PreferenceRow {
    fn from(preference: EmailPreference) -> Self {
        match preference {
            EmailPreference::Immediate => Self::Immediate,
            EmailPreference::Digest => Self::Digest,
            EmailPreference::Never => Self::Never,
        }
    }
}
