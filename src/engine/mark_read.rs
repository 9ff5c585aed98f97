//! Marking notifications as read: one player at a time, no batch, but as detached from its
//! caller as the rest.

use sqlx::PgPool;
use tokio::time::{Instant, timeout_at};

use super::Engine;
use crate::{
    domain::ids::{NotificationId, UserId},
    fault::Fault,
    store::{ObservedExt as _, StoreError, notifications, players, pool},
    telemetry::request,
};

const DOING: &str = "marking notifications as read";

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marked {
    /// How many went from unread to read.
    pub marked: i32,
    /// How many are still unread.
    pub unread: i32,
}

impl Engine {
    /// Marks as read those of a player's notifications with one of the `ids` and those up to
    /// and including `up_to`. `None` where there is no such player.
    ///
    /// # Errors
    ///
    /// See [`Fault`].
    pub async fn mark_read(
        &self,
        user_id: UserId,
        ids: Vec<NotificationId>,
        up_to: Option<NotificationId>,
        deadline: Instant,
    ) -> Result<Option<Marked>, Fault> {
        let work = mark(self.pool.clone(), user_id, ids, up_to);
        let work = tokio::spawn(request::carry(request::current(), work));
        match timeout_at(deadline, work).await {
            Ok(Ok(result)) => result.map_err(|error| Fault::after(&error, DOING)),
            Ok(Err(panic)) => Err(Fault::internal(&panic, DOING)),
            Err(_elapsed) => Err(Fault::DeadlineExceeded),
        }
    }
}

async fn mark(
    pool: PgPool,
    user_id: UserId,
    ids: Vec<NotificationId>,
    up_to: Option<NotificationId>,
) -> Result<Option<Marked>, StoreError> {
    let mut transaction = pool::begin(&pool).await?;
    // With the player locked, nobody else adds or marks notifications, so the count is exact.
    if players::lock(&mut transaction, &[user_id])
        .await?
        .is_empty()
    {
        return Ok(None);
    }
    let marked = notifications::mark_read(&mut transaction, user_id, &ids, up_to).await?;
    let unread = notifications::unread_count(&mut *transaction, user_id).await?;
    transaction.commit().observed("commit").await?;
    Ok(Some(Marked {
        marked: i32::try_from(marked).unwrap_or(i32::MAX),
        unread: unread.unwrap_or(0),
    }))
}
