//! Notifications: reads them, and marks them as read.

use sqlx::{PgConnection, PgExecutor, query_file, query_file_as, query_file_scalar};
use time::OffsetDateTime;

use super::{
    ObservedExt as _, StoreError,
    effects::{self, Interference},
};
use crate::domain::{
    ids::{HeistId, InvalidId, NotificationId, UserId},
    notification::{Details, Notification},
};

/// Selects notifications by their position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// The newest ones.
    Newest,
    /// The newest ones with a lower id.
    Before(NotificationId),
    /// The oldest ones with a higher id. `None` begins with the first notification.
    After(Option<NotificationId>),
}

/// Up to `limit` of a player's notifications within a range, newest first.
pub async fn page(
    executor: impl PgExecutor<'_>,
    user_id: UserId,
    unread_only: bool,
    range: Range,
    limit: i64,
) -> Result<Vec<Notification>, StoreError> {
    let (bound, is_after) = match range {
        Range::Newest => (i64::MAX, false),
        Range::Before(id) => (id.get(), false),
        Range::After(id) => (id.map_or(0, NotificationId::get), true),
    };
    let rows = query_file_as!(
        NotificationRow,
        "src/store/notifications/page.sql",
        user_id.get(),
        unread_only,
        bound,
        limit,
        is_after,
    )
    .fetch_all(executor)
    .observed("notifications.page")
    .await?;
    rows.into_iter()
        .map(|row| Ok(row.into_notification(user_id)?))
        .collect()
}

/// Players who have a newer notification than the `known` one, with the id of their newest
/// notification. `None` in `known` means that no notification of the player is known.
pub async fn newer(
    executor: impl PgExecutor<'_>,
    known: &[(UserId, Option<NotificationId>)],
) -> Result<Vec<(UserId, NotificationId)>, StoreError> {
    let (user_ids, ids): (Vec<i32>, Vec<i64>) = known
        .iter()
        .map(|(user_id, id)| (user_id.get(), id.map_or(0, NotificationId::get)))
        .unzip();
    let rows = query_file!("src/store/notifications/newer.sql", &user_ids, &ids)
        .fetch_all(executor)
        .observed("notifications.newer")
        .await?;
    rows.into_iter()
        .map(|row| Ok((UserId::new(row.user_id)?, NotificationId::new(row.id)?)))
        .collect()
}

/// The number of a player's unread notifications. `None` if the player does not exist.
pub async fn unread_count(
    executor: impl PgExecutor<'_>,
    user_id: UserId,
) -> Result<Option<i32>, StoreError> {
    let count = query_file_scalar!("src/store/notifications/unread_count.sql", user_id.get())
        .fetch_optional(executor)
        .observed("notifications.count_unread")
        .await?;
    Ok(count)
}

/// What marking has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marked {
    /// How many went from unread to read.
    pub marked: i32,
    /// How many are still unread.
    pub unread: i32,
}

/// Marks a player's notifications as read: the ones with one of the `ids`, and all up to and
/// including `up_to`. Ids of other players' notifications are ignored. The transaction of
/// `connection` has locked the player's row, so that no other transaction adds or marks notifications
/// of the player meanwhile.
///
/// # Errors
///
/// [`StoreError::Interference`] if one of these notifications is still unread afterwards.
pub async fn mark_read(
    connection: &mut PgConnection,
    user_id: UserId,
    ids: &[NotificationId],
    up_to: Option<NotificationId>,
) -> Result<Marked, StoreError> {
    let ids: Vec<i64> = ids.iter().map(|id| id.get()).collect();
    let up_to = up_to.map_or(0, NotificationId::get);
    let done = query_file!(
        "src/store/notifications/mark_read.sql",
        user_id.get(),
        &ids,
        up_to,
    )
    .execute(&mut *connection)
    .observed("notifications.mark_read")
    .await?;
    let mut left = unread_after_mark(connection, user_id, &ids, up_to).await?;
    if left.has_foreign_triggers {
        effects::run_deferred_triggers(connection).await?;
        left = unread_after_mark(connection, user_id, &ids, up_to).await?;
    }
    if left.not_marked > 0 {
        let difference = format!(
            "keeps {} notifications of player {user_id} unread",
            left.not_marked
        );
        return Err(Interference::new("HeistNotification", difference).into());
    }
    Ok(Marked {
        marked: i32::try_from(done.rows_affected()).unwrap_or(i32::MAX),
        unread: left.unread,
    })
}

struct UnreadAfterMark {
    unread: i32,
    not_marked: i64,
    has_foreign_triggers: bool,
}

async fn unread_after_mark(
    connection: &mut PgConnection,
    user_id: UserId,
    ids: &[i64],
    up_to: i64,
) -> Result<UnreadAfterMark, StoreError> {
    let left = query_file_as!(
        UnreadAfterMark,
        "src/store/notifications/unread_after_mark.sql",
        user_id.get(),
        ids,
        up_to,
    )
    .fetch_one(connection)
    .observed("notifications.count_unread")
    .await?;
    Ok(left)
}

#[derive(Clone, Copy, Debug, sqlx::Type)]
#[sqlx(
    type_name = "\"HeistNotificationType\"",
    rename_all = "SCREAMING_SNAKE_CASE"
)]
pub(super) enum NotificationType {
    HeistSuccess,
    HeistVictim,
    TokenEarned,
}

pub(super) struct NotificationRow {
    pub(super) id: i64,
    pub(super) notification_type: NotificationType,
    pub(super) read: bool,
    pub(super) ledger_id: i64,
    pub(super) other_user_id: i32,
    pub(super) other_name: Option<String>,
    pub(super) points: i32,
    pub(super) after: i32,
    pub(super) protection_ends_at: Option<OffsetDateTime>,
    pub(super) created_at: OffsetDateTime,
}

impl NotificationRow {
    pub(super) fn into_notification(self, user_id: UserId) -> Result<Notification, InvalidId> {
        let heist_id = HeistId::new(self.ledger_id)?;
        let other = UserId::new(self.other_user_id)?;
        let details = match self.notification_type {
            NotificationType::HeistSuccess => Details::HeistSuccess {
                heist_id,
                victim_id: other,
                victim_name: self.other_name,
                points_stolen: self.points,
                points_after: self.after,
            },
            NotificationType::HeistVictim => Details::HeistVictim {
                heist_id,
                attacker_id: other,
                attacker_name: self.other_name,
                points_lost: self.points,
                points_after: self.after,
                protection_ends_at: self.protection_ends_at,
            },
            NotificationType::TokenEarned => Details::TokenEarned {
                referred_id: other,
                referred_name: self.other_name,
                balance_after: self.after,
            },
        };
        Ok(Notification {
            id: NotificationId::new(self.id)?,
            user_id,
            details,
            read: self.read,
            created_at: self.created_at,
        })
    }
}
