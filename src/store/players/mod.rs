//! The application's players.

use std::collections::HashMap;

use sqlx::{PgConnection, query_file};

use super::StoreError;
use crate::domain::{ids::UserId, rules::Player};

/// Locks players, in the order of their ids, until the transaction ends. Those who do not
/// exist are missing from the answer. Tokens and robberies are not filled in.
///
/// # Errors
///
/// Any [`StoreError`].
pub async fn lock(
    connection: &mut PgConnection,
    user_ids: &[i32],
) -> Result<HashMap<UserId, Player>, StoreError> {
    let rows = query_file!("src/store/players/lock.sql", user_ids)
        .fetch_all(connection)
        .await?;
    let players = rows.into_iter().map(|row| {
        let id = UserId(row.id);
        let player = Player {
            id,
            name: row.name,
            points: row.monthly_points,
            tokens: 0,
            last_heist_at: None,
            robbed_at: Vec::new(),
        };
        (id, player)
    });
    Ok(players.collect())
}

/// The same ids, each once.
pub(super) fn distinct(ids: impl Iterator<Item = i32>) -> Vec<i32> {
    let mut ids: Vec<i32> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}
