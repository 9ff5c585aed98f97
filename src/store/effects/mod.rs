//! Verifies the effects of a write inside its transaction.
//!
//! A trigger, rule or row-level security policy of the application can change, add or suppress rows
//! that this service writes. So a saving statement returns the values that it wrote, and the
//! functions here compare them with the decision. A trigger can also change rows after the
//! statement. So the functions read the rows again if a table has triggers that are not the
//! service's.

mod interference;

use std::collections::BTreeMap;

use sqlx::{PgConnection, query, query_file};

pub use self::interference::Interference;
use super::{ObservedExt as _, StoreError};
use crate::domain::ids::UserId;

/// The decided effects of one batch.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// Each player's points after the batch.
    pub(super) points: BTreeMap<UserId, i32>,
    /// Each account's balance after the batch.
    pub(super) balances: BTreeMap<UserId, i32>,
    pub(super) heists: usize,
    pub(super) point_events: usize,
    pub(super) notifications: usize,
    pub(super) awards: usize,
    pub(super) adjustments: usize,
}

/// The effects that the saving statement has returned. The arrays of rows hold their `ctid`s.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) points: Vec<(i32, i32)>,
    pub(super) balances: Vec<(i32, i32)>,
    pub(super) heists: Vec<String>,
    pub(super) point_events: Vec<String>,
    pub(super) notifications: Vec<String>,
    pub(super) awards: Vec<String>,
    pub(super) adjustments: Vec<String>,
    /// A table has triggers that are not the service's, so rows may change after the statement.
    pub(super) has_foreign_triggers: bool,
}

impl Effects {
    /// Compares `written` with these effects. If the tables have triggers that are not the
    /// service's, runs the deferred triggers and reads the rows again.
    ///
    /// # Errors
    ///
    /// [`StoreError::Interference`] for the first difference.
    pub(super) async fn verify(
        &self,
        connection: &mut PgConnection,
        written: &Written,
    ) -> Result<(), StoreError> {
        let rows = [
            written.heists.len(),
            written.point_events.len(),
            written.notifications.len(),
            written.awards.len(),
            written.adjustments.len(),
        ];
        self.compare(&written.points, &written.balances, rows)?;
        if written.has_foreign_triggers {
            self.reread(connection, written).await?;
        }
        Ok(())
    }

    async fn reread(
        &self,
        connection: &mut PgConnection,
        written: &Written,
    ) -> Result<(), StoreError> {
        run_deferred_triggers(connection).await?;
        let found = query_file!(
            "src/store/effects/reread.sql",
            &ids(&self.points),
            &ids(&self.balances),
            &written.heists,
            &written.point_events,
            &written.notifications,
            &written.awards,
            &written.adjustments,
        )
        .fetch_one(connection)
        .observed("effects.reread")
        .await?;
        let points: Vec<_> = found
            .player_ids
            .into_iter()
            .zip(found.player_points)
            .collect();
        let balances: Vec<_> = (found.account_user_ids.into_iter())
            .zip(found.account_balances)
            .collect();
        let rows = [
            found.heists,
            found.point_events,
            found.notifications,
            found.awards,
            found.adjustments,
        ];
        let rows = rows.map(|count| usize::try_from(count).unwrap_or(usize::MAX));
        self.compare(&points, &balances, rows)?;
        Ok(())
    }

    fn compare(
        &self,
        points: &[(i32, i32)],
        balances: &[(i32, i32)],
        rows: [usize; 5],
    ) -> Result<(), Interference> {
        values("User", "points", &self.points, points)?;
        values("HeistToken", "tokens", &self.balances, balances)?;
        let expected = [
            ("Heist", self.heists),
            ("UserPointEvent", self.point_events),
            ("HeistNotification", self.notifications),
            ("HeistTokenAward", self.awards),
            ("HeistTokenAdjustment", self.adjustments),
        ];
        for ((table, expected), found) in expected.into_iter().zip(rows) {
            if expected != found {
                let difference = format!("holds {found} of {expected} new rows as written");
                return Err(Interference::new(table, difference));
            }
        }
        Ok(())
    }
}

/// Runs the deferred triggers now, so that a later statement of the transaction sees what they did.
pub(super) async fn run_deferred_triggers(connection: &mut PgConnection) -> Result<(), StoreError> {
    query!("SET CONSTRAINTS ALL IMMEDIATE")
        .execute(connection)
        .await?;
    Ok(())
}

fn ids(values: &BTreeMap<UserId, i32>) -> Vec<i32> {
    values.keys().map(|user_id| user_id.get()).collect()
}

fn values(
    table: &'static str,
    what: &str,
    expected: &BTreeMap<UserId, i32>,
    found: &[(i32, i32)],
) -> Result<(), Interference> {
    let found: BTreeMap<i32, i32> = found.iter().copied().collect();
    for (user_id, expected) in expected {
        let difference = match found.get(&user_id.get()) {
            Some(value) if value == expected => continue,
            Some(value) => format!("gives player {user_id} {value} {what} instead of {expected}"),
            None => format!("has no updated row for player {user_id}"),
        };
        return Err(Interference::new(table, difference));
    }
    Ok(())
}
