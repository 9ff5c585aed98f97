//! The monthly leaderboard.

use sqlx::{PgExecutor, query_file};

use super::StoreError;
use crate::domain::{
    ids::UserId,
    leaderboard::{Place, Standing, rank},
};

/// Where a page of the board begins: behind the player with these points and this id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    pub monthly_points: i32,
    pub user_id: UserId,
}

impl Behind {
    /// In front of everybody.
    const TOP: Self = Self {
        monthly_points: i32::MAX,
        user_id: UserId(i32::MAX),
    };
}

/// A page of the board, best first, `limit` players at the most.
///
/// # Errors
///
/// Any [`StoreError`].
pub async fn page(
    executor: impl PgExecutor<'_>,
    behind: Option<Behind>,
    limit: i64,
) -> Result<Vec<Place>, StoreError> {
    let behind = behind.unwrap_or(Behind::TOP);
    let rows = query_file!(
        "src/store/leaderboard/page.sql",
        limit,
        behind.monthly_points,
        behind.user_id.0
    )
    .fetch_all(executor)
    .await?;
    let (above, tied_before) = rows
        .first()
        .map_or((0, 0), |row| (row.above, row.tied_before));
    let standings = rows.into_iter().map(|row| Standing {
        user_id: UserId(row.user_id),
        name: row.name,
        monthly_points: row.monthly_points,
        token_balance: row.token_balance,
    });
    Ok(rank(standings.collect(), above, tied_before))
}

/// A player's own place on the board; `None` where there is no such player.
///
/// # Errors
///
/// Any [`StoreError`].
pub async fn place(
    executor: impl PgExecutor<'_>,
    user_id: UserId,
) -> Result<Option<Place>, StoreError> {
    let row = query_file!("src/store/leaderboard/place.sql", user_id.0)
        .fetch_optional(executor)
        .await?;
    Ok(row.map(|row| Place {
        rank: row.above + 1,
        standing: Standing {
            user_id,
            name: row.name,
            monthly_points: row.monthly_points,
            token_balance: row.token_balance,
        },
    }))
}
