//! What happens when a batch's transaction fails: try again, find out, or split.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    EngineError,
    queue::{Context, Operation},
};
use crate::store::{StoreError, pool};

/// Attempts at a transaction that conflicts with others.
const CONTENTION_ATTEMPTS: u32 = 6;
/// Attempts where the database seems to be away: the second one gets a new connection,
/// should the first have been given a dead one.
const UNAVAILABLE_ATTEMPTS: u32 = 2;
/// The pause before the second attempt is random up to this, and doubles from there.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Why a transaction did not succeed.
enum Failure<Outcome> {
    /// Nothing happened.
    NotCommitted(StoreError),
    /// The connection was lost during the commit: either all of it happened or nothing did.
    Unknown {
        decided: Vec<Outcome>,
        error: StoreError,
    },
}

/// What became of a batch.
pub(super) struct Resolved<Outcome> {
    /// One for each order, in their order.
    pub(super) results: Vec<Result<Outcome, EngineError>>,
    /// Time was up before it could be found out whether a commit came through: what the results
    /// call an error may have happened.
    pub(super) in_doubt: bool,
}

/// Finds an answer to each order, at the latest when nobody waits any more.
///
/// A fault that is not about conflicts or connections splits the batch and runs the halves
/// again, so that one impossible order fails alone.
pub(super) async fn resolve<O: Operation>(
    context: &Context,
    orders: &[O::Order],
    until: Instant,
) -> Resolved<O::Outcome> {
    // What attempts decided whose commit may have come through.
    let mut unconfirmed = Vec::new();
    match attempt_repeatedly::<O>(context, orders, until, &mut unconfirmed).await {
        Ok(outcomes) => Resolved {
            results: reconcile_all::<O>(unconfirmed, outcomes)
                .into_iter()
                .map(Ok)
                .collect(),
            in_doubt: false,
        },
        Err(StoreError::Database(error)) if orders.len() > 1 => {
            tracing::warn!(%error, batch.size = orders.len(), "splitting a batch that failed");
            let (first, second) = orders.split_at(orders.len() / 2);
            let mut resolved = Box::pin(resolve::<O>(context, first, until)).await;
            let rest = Box::pin(resolve::<O>(context, second, until)).await;
            resolved.results.extend(rest.results);
            resolved.in_doubt |= rest.in_doubt || !unconfirmed.is_empty();
            resolved
        }
        Err(error) => {
            let error = EngineError::after(&error, "running a batch");
            Resolved {
                results: orders.iter().map(|_| Err(error.clone())).collect(),
                in_doubt: !unconfirmed.is_empty(),
            }
        }
    }
}

async fn attempt_repeatedly<O: Operation>(
    context: &Context,
    orders: &[O::Order],
    until: Instant,
    unconfirmed: &mut Vec<Vec<O::Outcome>>,
) -> Result<Vec<O::Outcome>, StoreError> {
    let mut attempts = 0;
    loop {
        let error = match attempt::<O>(context, orders).await {
            Ok(outcomes) => return Ok(outcomes),
            Err(Failure::NotCommitted(error)) => error,
            Err(Failure::Unknown { decided, error }) => {
                tracing::warn!(%error, batch.size = orders.len(), "finding out whether a commit came through");
                // Running the same orders again finds out: request ids that are in the books
                // already are not executed twice.
                unconfirmed.push(decided);
                error
            }
        };
        attempts += 1;
        let worth_another = match &error {
            StoreError::Contention(_) => attempts < CONTENTION_ATTEMPTS,
            StoreError::Unavailable(_) => {
                attempts < UNAVAILABLE_ATTEMPTS || !unconfirmed.is_empty()
            }
            StoreError::Database(_) => false,
        };
        let pause = pause_before(attempts);
        if !worth_another || Instant::now() + pause >= until {
            return Err(error);
        }
        tracing::debug!(%error, attempts, "trying a batch again");
        sleep(pause).await;
    }
}

async fn attempt<O: Operation>(
    context: &Context,
    orders: &[O::Order],
) -> Result<Vec<O::Outcome>, Failure<O::Outcome>> {
    let mut transaction = pool::begin(&context.pool).await?;
    let outcomes = O::apply(&mut transaction, orders, context.mailing).await?;
    if !outcomes.iter().any(O::wrote) {
        // There is nothing to undo: a rollback that fails changes no answer.
        let _ = transaction.rollback().await;
        return Ok(outcomes);
    }
    match transaction.commit().await.map_err(StoreError::from) {
        Ok(()) => Ok(outcomes),
        Err(error @ StoreError::Unavailable(_)) => Err(Failure::Unknown {
            decided: outcomes,
            error,
        }),
        Err(error) => Err(Failure::NotCommitted(error)),
    }
}

fn reconcile_all<O: Operation>(
    unconfirmed: Vec<Vec<O::Outcome>>,
    outcomes: Vec<O::Outcome>,
) -> Vec<O::Outcome> {
    unconfirmed.into_iter().fold(outcomes, |again, earlier| {
        (earlier.into_iter().zip(again))
            .map(|(earlier, again)| O::reconcile(earlier, again))
            .collect()
    })
}

/// Random, so that those who collided do not collide again.
fn pause_before(attempts: u32) -> Duration {
    let longest = FIRST_PAUSE
        .saturating_mul(1 << attempts.min(10))
        .min(LONGEST_PAUSE);
    longest.mul_f64(rand::random())
}

impl<Outcome> From<StoreError> for Failure<Outcome> {
    fn from(error: StoreError) -> Self {
        Self::NotCommitted(error)
    }
}
