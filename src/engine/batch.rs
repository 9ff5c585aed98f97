//! Runs a batch: takes its orders, attempts its transaction, and says what becomes of each order.

use std::time::Duration;

use opentelemetry::trace::Span as _;
use tokio::time::{Instant, timeout};

use super::{
    attempt::{Failure, Found, Item, attempt},
    desk::Batch,
    job::Job,
    operations::Operation,
    schedule::Entry,
};
use crate::{
    domain::{change::Changes, ids::UserId},
    fault::Fault,
    store::{StoreError, players, pool::Transaction},
    telemetry::{
        LogLimiter,
        metrics::METRICS,
        request::{self, Request},
        traces,
    },
};

/// Attempts at an order while the database seems to be away. The second one gets a new connection,
/// should the first have been given a dead one.
const UNAVAILABLE_ATTEMPTS: u32 = 3;
/// The pause before an order that another transaction is in the way of is tried again is random
/// between half of this and all of it, and doubles from there.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// The longest pause while another transaction holds a row: as long as callers may have to wait
/// after it is free.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// An order is tried again without a line so many times before a line is opened anew.
const TRIALS_BETWEEN_LINES: u32 = 8;
/// The pause before a commit that was not confirmed is looked for again.
const PAUSE_IN_DOUBT: Duration = Duration::from_millis(50);
/// How long waiting in a line may take: PostgreSQL ends it after 100 ms.
const LINE_LIMIT: Duration = Duration::from_secs(1);

/// A database that is away, or a lock that is held, fails every batch.
static LOG_LIMITER: LogLimiter = LogLimiter::new();

type Jobs<O> = Vec<Entry<Job<O>>>;

/// Runs a batch to its end.
pub(super) async fn run<O: Operation>(mut batch: Batch<O>) {
    let begun = match batch.line {
        None => batch.desk.context.pool.begin().await,
        Some(player) => match wait_in_line(&batch, player).await {
            Err(error @ StoreError::Contention(_)) => {
                log_rollback::<O>(&error, 0, true);
                batch.close_line(player, LONGEST_PAUSE);
                batch.desk.progress.order_got_somewhere();
                return;
            }
            begun => begun,
        },
    };
    let mut jobs = batch.take();
    if jobs.is_empty() {
        return;
    }
    let requests: Vec<_> = jobs.iter().map(|job| job.order.request.clone()).collect();
    let now = Instant::now();
    let waited: Vec<_> = jobs.iter_mut().map(|job| job.order.waited(now)).collect();
    METRICS.batch(O::NAME, &waited);
    let span = traces::batch(O::NAME, &requests, &waited);
    let place = span.as_ref().map(|span| span.span_context().clone());
    (Request::batch(&requests, place))
        .scope(settle(&batch, begun, jobs))
        .await;
}

/// Begins a transaction and waits for the row of a player, holding nothing meanwhile.
async fn wait_in_line<O: Operation>(
    batch: &Batch<O>,
    player: UserId,
) -> Result<Transaction, StoreError> {
    let mut transaction = batch.desk.context.pool.begin().await?;
    let waited = timeout(LINE_LIMIT, players::wait_for(&mut transaction, player)).await;
    transaction.checked(waited)?;
    Ok(transaction)
}

/// Attempts a transaction for these orders, and settles each of them: answers it or puts it back.
///
/// A fault that only some of the orders may have caused splits them: the halves are attempted on
/// their own, so that one impossible order fails alone.
async fn settle<O: Operation>(
    batch: &Batch<O>,
    begun: Result<Transaction, StoreError>,
    jobs: Jobs<O>,
) {
    let now = Instant::now();
    let items: Vec<Item<'_, O>> = (jobs.iter())
        .map(|job| Item {
            order: &job.order.order,
            is_executed: job.order.is_awaited(now) || !job.order.in_doubt(),
        })
        .collect();
    let mailing = batch.desk.context.mailing.as_ref().and_then(|now| now());
    let result = match begun {
        Ok(transaction) => attempt(transaction, &items, mailing).await,
        Err(error) => Err(Failure::NotCommitted(error)),
    };
    match result {
        Ok(found) => {
            batch.desk.progress.order_got_somewhere();
            conclude(batch, jobs, found);
        }
        Err(Failure::Unknown { found, error }) => {
            rolled_back::<O>(&error, jobs.len(), true);
            tracing::warn!(
                %error, batch.size = jobs.len(), "finding out whether a commit came through"
            );
            look_for_later(batch, jobs, found);
        }
        Err(Failure::NotCommitted(error)) => {
            let is_split = jobs.len() > 1
                && matches!(
                    error,
                    StoreError::Database(_)
                        | StoreError::Interference(_)
                        | StoreError::Contention(_)
                );
            let is_away = batch.desk.context.pool.is_away();
            let retrying = is_split
                || (jobs.iter()).any(|job| is_worth_another_attempt(&job.order, &error, is_away));
            rolled_back::<O>(&error, jobs.len(), retrying);
            if is_split {
                split(batch, jobs).await;
            } else {
                fail(batch, jobs, &error, is_away);
            }
        }
    }
}

async fn split<O: Operation>(batch: &Batch<O>, mut jobs: Jobs<O>) {
    let rest = jobs.split_off(jobs.len() / 2);
    for part in [jobs, rest] {
        let requests: Vec<_> = part.iter().map(|job| job.order.request.clone()).collect();
        let place = request::with_current(|whole| whole.span().cloned()).flatten();
        let begun = batch.desk.context.pool.begin().await;
        let part = Box::pin(settle(batch, begun, part));
        Request::batch(&requests, place).scope(part).await;
    }
}

/// Answers the orders that were decided, and puts back those that are in the way of others.
fn conclude<O: Operation>(batch: &Batch<O>, jobs: Jobs<O>, found: Vec<Found<O::Outcome>>) {
    let mut changes = Changes::default();
    let mut answers = Vec::new();
    for (mut job, found) in jobs.into_iter().zip(found) {
        match found {
            Found::Decided(outcome) => {
                let unconfirmed = std::mem::take(&mut job.order.unconfirmed);
                let outcome = (unconfirmed.into_iter())
                    .fold(outcome, |again, earlier| O::reconcile(earlier, again));
                O::add_changes(&mut changes, &outcome);
                if let Some(since) = job.order.set_aside_since {
                    // What operators know as the time that players' locks are waited for.
                    METRICS.statement("players.lock", since.elapsed());
                }
                let request = job.order.request.clone();
                request::scope_sync(request, || O::observe(&job.order.order, &outcome));
                answers.push((job, outcome));
            }
            Found::Held(player) => set_aside(batch, job, Some(player)),
            // Whatever was committed is in the books now, and streams were not told of it.
            Found::Settled => changes.in_doubt = true,
        }
    }
    (batch.desk.context.on_commit)(changes);
    for (job, outcome) in answers {
        job.order.answer(Ok(outcome));
    }
}

/// Puts all orders back. Running them again finds out what was committed: request ids that are in
/// the books already are not executed twice.
fn look_for_later<O: Operation>(batch: &Batch<O>, jobs: Jobs<O>, found: Vec<Found<O::Outcome>>) {
    for (mut job, found) in jobs.into_iter().zip(found) {
        match found {
            Found::Decided(outcome) => {
                if O::wrote(&outcome) {
                    job.order.unconfirmed.push(outcome);
                }
                job.order.to_be_repeated(false);
                METRICS.retries(1, O::NAME, "unavailable");
                batch.put_back(job, PAUSE_IN_DOUBT);
            }
            Found::Held(player) => set_aside(batch, job, Some(player)),
            Found::Settled => (batch.desk.context.on_commit)(Changes {
                in_doubt: true,
                ..Changes::default()
            }),
        }
    }
}

/// Whether an order that was not executed is to be repeated after this error.
fn is_worth_another_attempt<O: Operation>(job: &Job<O>, error: &StoreError, is_away: bool) -> bool {
    match error {
        StoreError::Contention(_) => true,
        StoreError::Unavailable(_) | StoreError::StalePlan(_) => {
            job.in_doubt() || job.failures + 1 < UNAVAILABLE_ATTEMPTS && !is_away
        }
        StoreError::Database(_) | StoreError::Interference(_) => false,
    }
}

/// Of orders that were not executed, repeats those for which that may help, and answers the others.
fn fail<O: Operation>(batch: &Batch<O>, jobs: Jobs<O>, error: &StoreError, is_away: bool) {
    if !matches!(error, StoreError::Unavailable(_)) {
        batch.desk.progress.order_got_somewhere();
    }
    for mut job in jobs {
        if is_worth_another_attempt(&job.order, error, is_away) {
            if let StoreError::Contention(_) = error {
                set_aside(batch, job, None);
                continue;
            }
            job.order.failures += 1;
            job.order.to_be_repeated(false);
            METRICS.retries(1, O::NAME, error.cause());
            let in_doubt = job.order.in_doubt();
            let pause = if in_doubt {
                PAUSE_IN_DOUBT
            } else {
                Duration::ZERO
            };
            batch.put_back(job, pause);
            continue;
        }
        let fault = if job.order.in_doubt() {
            Fault::Unknown
        } else {
            Fault::from(error)
        };
        job.order.answer(Err(fault));
    }
}

/// Puts back an order that another transaction was in the way of.
fn set_aside<O: Operation>(batch: &Batch<O>, mut job: Entry<Job<O>>, player: Option<UserId>) {
    METRICS.retries(1, O::NAME, "contention");
    job.order.to_be_repeated(true);
    let trials = job.order.set_aside;
    job.order.set_aside += 1;
    job.order.set_aside_since.get_or_insert_with(Instant::now);
    if let Some(player) = player
        && trials.is_multiple_of(TRIALS_BETWEEN_LINES)
        && batch.line != Some(player)
    {
        batch.open_line(player);
    }
    batch.put_back(job, pause_before(trials));
}

/// Random, so that transactions that collided do not collide again.
fn pause_before(trials: u32) -> Duration {
    let longest = FIRST_PAUSE
        .saturating_mul(1 << trials.min(10))
        .min(LONGEST_PAUSE);
    longest.mul_f64(f64::midpoint(1.0, rand::random()))
}

fn rolled_back<O: Operation>(error: &StoreError, batch_size: usize, retrying: bool) {
    METRICS.transactions(1, O::NAME, "rolled_back");
    METRICS.rollbacks(1, O::NAME, error.cause());
    log_rollback::<O>(error, batch_size, retrying);
}

fn log_rollback<O: Operation>(error: &StoreError, batch_size: usize, retrying: bool) {
    let cause = error.cause();
    let (event, suppressed) = match error {
        StoreError::Unavailable(_) => ("DATABASE_UNAVAILABLE", LOG_LIMITER.permit(Instant::now())),
        StoreError::Contention(_) | StoreError::StalePlan(_) => (
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
            event, %error, cause, operation = O::NAME, batch_size, retrying, suppressed,
        );
    }
}
