//! Where on the board a player stands who is on no page that anybody looks at.
//!
//! Counting everybody above them is exact and cheap near the top, and takes ever longer further
//! down. There the rank comes from the distribution of points, which is read in the background
//! at most every few seconds: nobody notices whether they are the 412,007th or the 412,011th.

use std::{sync::Arc, time::Duration};

use sqlx::query_file;
use tokio::{sync::Mutex, time::Instant};

use super::{super::PgPool, StoreError};
use crate::{
    domain::{
        ids::UserId,
        leaderboard::{Distribution, Place, Standing},
    },
    store::{ObservedExt as _, reads::Reads},
};

/// Ranks up to this one are exact.
const EXACT_RANKS: i64 = 1000;
/// Ranks below are those of a moment that is not longer ago than this and one reading.
const MAX_AGE: Duration = Duration::from_secs(10);

/// Tells ranks. Clones share what they know.
#[derive(Clone)]
pub struct Ranks {
    reads: Reads,
    latest: Arc<Mutex<Option<Reading>>>,
}

struct Reading {
    distribution: Arc<Distribution>,
    taken_at: Instant,
    /// Somebody is about to replace it.
    replacing: bool,
}

impl Ranks {
    #[must_use]
    pub fn new(reads: Reads) -> Self {
        Self {
            reads,
            latest: Arc::default(),
        }
    }

    /// A player's place on the board; `None` where there is no such player.
    ///
    /// # Errors
    ///
    /// Any [`StoreError`].
    pub async fn place(&self, pool: &PgPool, user_id: UserId) -> Result<Option<Place>, StoreError> {
        let row = query_file!(
            "src/store/leaderboard/standing.sql",
            user_id.get(),
            EXACT_RANKS
        )
        .fetch_optional(pool)
        .observed("leaderboard.standing")
        .await?;
        let Some(row) = row else {
            return Ok(None);
        };
        let above = if row.above < EXACT_RANKS {
            row.above
        } else {
            let distribution = self.distribution().await?;
            distribution.players_above(row.monthly_points, row.above)
        };
        Ok(Some(Place {
            // There are not more players than ids.
            rank: i32::try_from(above + 1).unwrap_or(i32::MAX),
            standing: Standing {
                user_id,
                name: row.name,
                monthly_points: row.monthly_points,
                token_balance: row.token_balance,
            },
        }))
    }

    /// The latest reading. Only the very first caller waits for one; later ones get the one
    /// before while the next is taken.
    async fn distribution(&self) -> Result<Arc<Distribution>, StoreError> {
        let mut latest = self.latest.lock().await;
        let reading = match latest.take() {
            Some(reading) => reading,
            None => read(&self.reads).await?,
        };
        let reading = latest.insert(reading);
        if reading.taken_at.elapsed() > MAX_AGE && !reading.replacing {
            reading.replacing = true;
            tokio::spawn(self.clone().replace());
        }
        Ok(Arc::clone(&reading.distribution))
    }

    async fn replace(self) {
        let result = read(&self.reads).await;
        let mut latest = self.latest.lock().await;
        match result {
            Ok(reading) => *latest = Some(reading),
            Err(error) => {
                tracing::warn!(%error, "ranks stay as they were");
                if let Some(reading) = latest.as_mut() {
                    reading.replacing = false;
                }
            }
        }
    }
}

async fn read(reads: &Reads) -> Result<Reading, StoreError> {
    let rows = reads.run(|pool| async move {
        let rows = query_file!("src/store/leaderboard/distribution.sql")
            .fetch_all(&pool)
            .observed("leaderboard.distribution")
            .await?;
        Ok(rows)
    });
    let rows = rows.await?;
    let by_points = rows
        .into_iter()
        .map(|row| (row.monthly_points, row.players));
    Ok(Reading {
        distribution: Arc::new(Distribution::new(by_points)),
        taken_at: Instant::now(),
        replacing: false,
    })
}
