//! The viewer's rank when the viewer is not on the requested page.
//!
//! Ranks up to 1000 are exact: a statement counts the players above. Counting takes longer for
//! lower ranks. They come from the distribution of points, which a task reads at most once in 10 s.
//! Such a rank may be out of date, for example 412,007 instead of 412,011. The task continues when
//! the call that started it is cancelled. Otherwise calls with short deadlines would never complete
//! the first reading.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sqlx::query_file;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

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
/// A call that finds an older reading starts a new one. Until it is complete, calls use the old
/// one.
const MAX_AGE: Duration = Duration::from_secs(10);

/// The time limit of one reading.
const READING_LIMIT: Duration = Duration::from_secs(30);

/// Finds the ranks of players. Clones share the latest reading.
#[derive(Clone)]
pub struct Ranks {
    reads: Reads,
    latest: Arc<Mutex<Latest>>,
}

#[derive(Default)]
struct Latest {
    reading: Option<Reading>,
    /// Gets the outcome of the task that takes the next reading. `None`: no task runs.
    task: Option<watch::Receiver<Option<Outcome>>>,
}

#[derive(Clone)]
struct Reading {
    distribution: Arc<Distribution>,
    taken_at: Instant,
}

/// The outcome of a reading. The task logs the error.
type Outcome = Result<Arc<Distribution>, ReadingFailed>;

#[derive(Clone, Copy)]
struct ReadingFailed;

impl Ranks {
    #[must_use]
    pub fn new(reads: Reads) -> Self {
        Self {
            reads,
            latest: Arc::default(),
        }
    }

    /// A player's place on the board; `None` if the player does not exist.
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
            // Ids have 32 bits, so the number of players fits.
            rank: i32::try_from(above + 1).unwrap_or(i32::MAX),
            standing: Standing {
                user_id,
                name: row.name,
                monthly_points: row.monthly_points,
                token_balance: row.token_balance,
            },
        }))
    }

    /// The latest reading. Only calls before the end of the first reading wait for it. Later calls
    /// get the latest complete reading while the task takes the next one.
    async fn distribution(&self) -> Result<Arc<Distribution>, StoreError> {
        let mut task = {
            let mut latest = self.latest();
            let age = latest
                .reading
                .as_ref()
                .map(|reading| reading.taken_at.elapsed());
            if age.is_none_or(|age| age > MAX_AGE) && latest.task.is_none() {
                let (tell, told) = watch::channel(None);
                latest.task = Some(told);
                tokio::spawn(self.clone().replace(tell));
            }
            match (&latest.reading, &latest.task) {
                (Some(reading), _) => return Ok(Arc::clone(&reading.distribution)),
                (None, Some(task)) => task.clone(),
                (None, None) => unreachable!("a task was started where there is no reading"),
            }
        };
        let outcome = task.wait_for(Option::is_some).await;
        match outcome.as_deref() {
            Ok(Some(Ok(distribution))) => Ok(Arc::clone(distribution)),
            _ => Err(StoreError::timed_out()),
        }
    }

    async fn replace(self, tell: watch::Sender<Option<Outcome>>) {
        let result = timeout(READING_LIMIT, read(&self.reads)).await;
        let result = result.unwrap_or_else(|_elapsed| Err(StoreError::timed_out()));
        let outcome = match result {
            Ok(reading) => {
                let distribution = Arc::clone(&reading.distribution);
                self.latest().reading = Some(reading);
                Ok(distribution)
            }
            Err(error) => {
                tracing::warn!(%error, "the distribution of points could not be read");
                Err(ReadingFailed)
            }
        };
        self.latest().task = None;
        tell.send_replace(Some(outcome));
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        // No code under the lock can panic in the middle of a change.
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
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
    })
}
