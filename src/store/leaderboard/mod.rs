//! The monthly leaderboard.

mod ranks;

use sqlx::{PgExecutor, query_file};

pub use self::ranks::Ranks;
use super::{ObservedExt as _, StoreError};
use crate::domain::{
    ids::{InvalidId, UserId},
    leaderboard::{PageEnd, Place, Standing, rank},
};

/// A page of the board with up to `limit` players, after the page with the cursor `behind`. Returns
/// each player with the cursor of a page that ends with this player.
pub async fn page(
    executor: impl PgExecutor<'_>,
    behind: Option<PageEnd>,
    limit: i64,
) -> Result<Vec<(Place, PageEnd)>, StoreError> {
    let (points, user_id) = behind.map_or((i32::MAX, i32::MAX), |end| {
        (end.monthly_points, end.user_id.get())
    });
    let rows = query_file!("src/store/leaderboard/page.sql", limit, points, user_id)
        .fetch_all(executor)
        .observed("leaderboard.page")
        .await?;
    let standings = rows.into_iter().map(|row| {
        Ok(Standing {
            user_id: UserId::new(row.user_id)?,
            name: row.name,
            monthly_points: row.monthly_points,
            token_balance: row.token_balance,
        })
    });
    let standings: Result<_, InvalidId> = standings.collect();
    Ok(rank(standings?, behind))
}
