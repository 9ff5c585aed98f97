//! Players: rows of the application's table `"User"`.

use std::collections::HashMap;

use sqlx::{PgConnection, PgExecutor, query_file, query_scalar};

use super::{ObservedExt as _, StoreError, count};
use crate::domain::{eligibility::Snapshot, ids::UserId, rules::Player};

/// Locks players, in the order of their ids, until the transaction ends. Those who do not
/// exist are missing from the answer. Tokens and robberies are not filled in.
pub async fn lock(
    connection: &mut PgConnection,
    user_ids: &[UserId],
) -> Result<HashMap<UserId, Player>, StoreError> {
    let user_ids: Vec<i32> = user_ids.iter().map(|user_id| user_id.get()).collect();
    let rows = query_file!("src/store/players/lock.sql", &user_ids)
        .fetch_all(connection)
        .observed("players.lock")
        .await?;
    let players = rows.into_iter().map(|row| {
        let id = UserId::new(row.id)?;
        let player = Player {
            id,
            name: row.name,
            points: row.monthly_points,
            tokens: 0,
            last_heist_at: None,
            robbed_at: Vec::new(),
        };
        Ok((id, player))
    });
    players.collect()
}

/// Whether the player exists.
pub async fn exists(executor: impl PgExecutor<'_>, user_id: UserId) -> Result<bool, StoreError> {
    let exists = query_scalar!(
        r#"SELECT EXISTS (SELECT FROM "User" WHERE "id" = $1) AS "exists!""#,
        user_id.get()
    )
    .fetch_one(executor)
    .observed("players.exists")
    .await?;
    Ok(exists)
}

/// Reads the facts about players that the rules use, in one statement and without locks. Reads only
/// the newest `robberies_to_know` heists on each player.
pub async fn snapshot(
    executor: impl PgExecutor<'_>,
    user_ids: &[UserId],
    robberies_to_know: usize,
) -> Result<Snapshot, StoreError> {
    let user_ids: Vec<i32> = user_ids.iter().map(|user_id| user_id.get()).collect();
    let rows = query_file!(
        "src/store/players/snapshot.sql",
        &user_ids,
        count(robberies_to_know)
    )
    .fetch_all(executor)
    .observed("players.snapshot")
    .await?;
    // The result always has a row, because it holds the time.
    let now = rows.first().ok_or(sqlx::Error::RowNotFound)?.now;
    let players = rows.into_iter().filter_map(|row| {
        let id = UserId::new(row.id?).ok()?;
        let player = Player {
            id,
            name: row.name.unwrap_or_default(),
            points: row.monthly_points.unwrap_or_default(),
            tokens: row.tokens,
            last_heist_at: row.last_heist_at,
            robbed_at: row.robbed_at,
        };
        Some((id, player))
    });
    Ok(Snapshot {
        now,
        players: players.collect(),
    })
}
