//! What happens when a batch's transaction fails: try again, find out, or split.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::queue::{Context, Operation};
use crate::{
    fault::Fault,
    store::{ObservedExt as _, StoreError, pool},
    telemetry::{
        LogLimiter,
        metrics::METRICS,
        request::{self, Request},
    },
};

/// Attempts at a transaction that conflicts with others.
const CONTENTION_ATTEMPTS: u32 = 6;
/// Attempts where the database seems to be away: the second one gets a new connection,
/// should the first have been given a dead one.
const UNAVAILABLE_ATTEMPTS: u32 = 2;
/// The pause before the second attempt is random up to this, and doubles from there.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// A database that is away, or a lock that is held, fails every batch.
static LOG_LIMITER: LogLimiter = LogLimiter::new();

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
    pub(super) results: Vec<Result<Outcome, Fault>>,
    /// Time was up before it could be found out whether a commit came through: what the results
    /// call an error may have happened.
    pub(super) in_doubt: bool,
}

/// Finds an answer to each order, at the latest when nobody waits any more.
///
/// A fault that is not about conflicts or connections splits the batch and runs the halves
/// again, so that one impossible order fails alone. `requests` are where the orders came from.
pub(super) async fn resolve<O: Operation>(
    context: &Context,
    orders: &[O::Order],
    requests: &[Option<Request>],
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
        Err(StoreError::Database(_) | StoreError::Interference(_)) if orders.len() > 1 => {
            let half = orders.len() / 2;
            let mut resolved = part::<O>(context, &orders[..half], &requests[..half], until).await;
            let rest = part::<O>(context, &orders[half..], &requests[half..], until).await;
            resolved.results.extend(rest.results);
            resolved.in_doubt |= rest.in_doubt || !unconfirmed.is_empty();
            resolved
        }
        Err(error) => {
            let error = Fault::from(&error);
            Resolved {
                results: orders.iter().map(|_| Err(error.clone())).collect(),
                in_doubt: !unconfirmed.is_empty(),
            }
        }
    }
}

/// A part of a batch, whose lines in the log are those of its own requests.
async fn part<O: Operation>(
    context: &Context,
    orders: &[O::Order],
    requests: &[Option<Request>],
    until: Instant,
) -> Resolved<O::Outcome> {
    let place = request::with_current(|whole| whole.span().cloned()).flatten();
    let part = Box::pin(resolve::<O>(context, orders, requests, until));
    Request::batch(requests, place).scope(part).await
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
            Ok(outcomes) => {
                let wrote = outcomes.iter().any(O::wrote);
                METRICS.transactions(1, O::NAME, if wrote { "committed" } else { "empty" });
                return Ok(outcomes);
            }
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
            StoreError::Database(_) | StoreError::Interference(_) => false,
        };
        let pause = pause_before(attempts);
        let retrying = worth_another && Instant::now() + pause < until;
        rolled_back::<O>(&error, orders.len(), attempts, retrying);
        if !retrying {
            return Err(error);
        }
        METRICS.retries(1, O::NAME, error.cause());
        sleep(pause).await;
    }
}

/// Tells the operators.
fn rolled_back<O: Operation>(error: &StoreError, batch_size: usize, attempts: u32, retrying: bool) {
    let cause = error.cause();
    METRICS.transactions(1, O::NAME, "rolled_back");
    METRICS.rollbacks(1, O::NAME, cause);
    let (event, suppressed) = match error {
        StoreError::Unavailable(_) => ("DATABASE_UNAVAILABLE", LOG_LIMITER.permit(Instant::now())),
        StoreError::Contention(_) => (
            "TRANSACTION_ROLLED_BACK",
            LOG_LIMITER.permit(Instant::now()),
        ),
        // A defect, whose caller is given an id to find in the log.
        StoreError::Database(_) | StoreError::Interference(_) => {
            ("TRANSACTION_ROLLED_BACK", Some(0))
        }
    };
    if let Some(suppressed) = suppressed {
        tracing::error!(
            event, %error, cause, operation = O::NAME, batch_size, attempts, retrying, suppressed,
        );
    }
}

async fn attempt<O: Operation>(
    context: &Context,
    orders: &[O::Order],
) -> Result<Vec<O::Outcome>, Failure<O::Outcome>> {
    let mut transaction = pool::begin(&context.pool).await?;
    let mailing = context.mailing.as_ref().and_then(|now| now());
    let outcomes = O::apply(&mut transaction, orders, mailing).await?;
    if !outcomes.iter().any(O::wrote) {
        // There is nothing to undo: a rollback that fails changes no answer.
        let _ = transaction.rollback().await;
        return Ok(outcomes);
    }
    match (transaction.commit().observed("commit").await).map_err(StoreError::from) {
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
