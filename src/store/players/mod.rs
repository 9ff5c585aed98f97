//! Players: rows of the application's table `"User"`.

use std::collections::{HashMap, HashSet};

use sqlx::{AssertSqlSafe, PgConnection, PgExecutor, query_file, query_scalar, raw_sql};

use super::{ObservedExt as _, StoreError, count};
use crate::domain::{eligibility::Snapshot, ids::UserId, rules::Player};

/// The result of [`lock`].
#[derive(Debug, Default)]
pub struct Locked {
    /// The players whose rows are locked until the transaction ends. Their tokens and robberies are
    /// not filled in.
    pub players: HashMap<UserId, Player>,
    /// The players whose rows another transaction holds.
    pub held: HashSet<UserId>,
}

/// Locks the players whose rows are free, and never waits for the others. Players who do not exist
/// are missing from the result. The players in `known` existed a moment ago. If one of them cannot
/// be locked, no further statement finds out whether the player still exists.
pub async fn lock(
    connection: &mut PgConnection,
    user_ids: &[UserId],
    known: &[UserId],
) -> Result<Locked, StoreError> {
    let ids: Vec<i32> = user_ids.iter().map(|user_id| user_id.get()).collect();
    let rows = query_file!("src/store/players/lock.sql", &ids)
        .fetch_all(&mut *connection)
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
    let players: HashMap<_, _> = players.collect::<Result<_, StoreError>>()?;
    let missing = user_ids
        .iter()
        .filter(|user_id| !players.contains_key(*user_id));
    let (mut held, unsure): (HashSet<UserId>, HashSet<UserId>) =
        missing.partition(|user_id| known.contains(user_id));
    if !unsure.is_empty() {
        held.extend(existing(connection, unsure).await?);
    }
    Ok(Locked { players, held })
}

/// Waits up to 100 ms for a player's row, long enough for another batch to end, and locks it. Call
/// it before the transaction locks any other row, so that no transaction waits for this one while
/// this one waits.
///
/// # Errors
///
/// [`StoreError::Contention`] if another transaction still holds the row after 100 ms.
pub async fn wait_for(connection: &mut PgConnection, user_id: UserId) -> Result<(), StoreError> {
    let statement = format!(
        r#"SET LOCAL lock_timeout = '100ms';
        SELECT FROM "User" WHERE "id" = {} FOR NO KEY UPDATE"#,
        user_id.get()
    );
    // Not prepared, so that it takes one round trip. The only inserted value is a number.
    raw_sql(AssertSqlSafe(statement))
        .execute(connection)
        .observed("players.wait")
        .await?;
    Ok(())
}

/// The ids that belong to a player.
async fn existing(
    connection: &mut PgConnection,
    user_ids: HashSet<UserId>,
) -> Result<HashSet<UserId>, StoreError> {
    let ids: Vec<i32> = user_ids.iter().map(|user_id| user_id.get()).collect();
    let ids = query_scalar!(r#"SELECT "id" FROM "User" WHERE "id" = ANY($1)"#, &ids)
        .fetch_all(connection)
        .observed("players.exist")
        .await?;
    ids.into_iter().map(|id| Ok(UserId::new(id)?)).collect()
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
