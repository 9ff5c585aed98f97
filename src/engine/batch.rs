//! Runs a batch: takes its orders, attempts its transaction, and then answers each order, splits
//! the batch, or puts orders back to be tried again.

use std::time::Duration;

use opentelemetry::trace::Span as _;
use tokio::time::{Instant, timeout};

use super::{
    attempt::{AttemptError, AttemptResult, BatchItem, attempt},
    dispatcher::Batch,
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

/// The limit of attempts at an order that fail because the database is unreachable or a plan is
/// stale. The second attempt gets a new connection if the first one got a dead one.
const UNAVAILABLE_ATTEMPTS: u32 = 3;
/// The longest first pause after another transaction blocked an order: it held a player's row, or
/// caused a deadlock, a lock time-out or a serialization failure. Each pause is random between half
/// of its limit and its limit. The limit doubles with every pause, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// The longest pause while another transaction holds a row. A caller may wait this long after the
/// row has become free.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// An order opens a line for a held row at its first attempt, and again after this many attempts.
/// Then an attempt also finds out whether the held player still exists.
const TRIALS_BETWEEN_LINES: u32 = 8;
/// The pause before the engine looks up again whether an unconfirmed commit took effect.
const PAUSE_IN_DOUBT: Duration = Duration::from_millis(50);
/// The time limit of the statement that waits in a line. After 100 ms PostgreSQL itself ends the
/// wait.
const LINE_LIMIT: Duration = Duration::from_secs(1);

/// Limits the log lines about rollbacks: an unreachable database, or a held lock, fails every
/// batch.
static LOG_LIMITER: LogLimiter = LogLimiter::new();

type Jobs<O> = Vec<Entry<Job<O>>>;

/// Runs a batch to its end.
pub(super) async fn run<O: Operation>(mut batch: Batch<O>) {
    let begun = match batch.line {
        None => batch.dispatcher.context.pool.begin().await,
        Some(player) => match wait_in_line(&batch, player).await {
            Err(error @ StoreError::Contention(_)) => {
                log_rollback::<O>(&error, 0, true);
                batch.close_line(player, LONGEST_PAUSE);
                batch.dispatcher.progress.attempt_answered();
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

/// Begins a transaction and waits for the row of a player. The transaction holds no lock while it
/// waits.
async fn wait_in_line<O: Operation>(
    batch: &Batch<O>,
    player: UserId,
) -> Result<Transaction, StoreError> {
    let mut transaction = batch.dispatcher.context.pool.begin().await?;
    let waited = timeout(LINE_LIMIT, players::wait_for(&mut transaction, player)).await;
    transaction.checked(waited)?;
    Ok(transaction)
}

/// Attempts a transaction for these orders, and settles each of them: answers it or puts it back.
///
/// If only some of the orders may have caused the error, the batch is split in halves, and each
/// half gets a transaction of its own, so that an order that can never be executed fails alone.
async fn settle<O: Operation>(
    batch: &Batch<O>,
    begun: Result<Transaction, StoreError>,
    jobs: Jobs<O>,
) {
    let now = Instant::now();
    let items: Vec<BatchItem<'_, O>> = (jobs.iter())
        .map(|job| BatchItem {
            order: &job.order.order,
            is_executed: job.order.is_awaited(now) || !job.order.in_doubt(),
            held: job.order.held,
        })
        .collect();
    let mailing = batch
        .dispatcher
        .context
        .mailing
        .as_ref()
        .and_then(|now| now());
    let result = match begun {
        Ok(transaction) => attempt(transaction, &items, mailing).await,
        Err(error) => Err(AttemptError::NotCommitted(error)),
    };
    match result {
        Ok(found) => {
            batch.dispatcher.progress.attempt_answered();
            conclude(batch, jobs, found);
        }
        Err(AttemptError::Unknown { found, error }) => {
            rolled_back::<O>(&error, jobs.len(), true);
            tracing::warn!(
                %error, batch.size = jobs.len(), "looking up whether a lost commit took effect"
            );
            look_for_later(batch, jobs, found);
        }
        Err(AttemptError::NotCommitted(error)) => {
            let is_split = jobs.len() > 1
                && matches!(
                    error,
                    StoreError::Database(_)
                        | StoreError::Interference(_)
                        | StoreError::Contention(_)
                );
            let is_away = batch.dispatcher.context.pool.is_away();
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
        let begun = batch.dispatcher.context.pool.begin().await;
        let part = Box::pin(settle(batch, begun, part));
        Request::batch(&requests, place).scope(part).await;
    }
}

/// Answers the orders that were decided. Puts back each order that has a player whose row another
/// transaction holds.
fn conclude<O: Operation>(batch: &Batch<O>, jobs: Jobs<O>, found: Vec<AttemptResult<O::Outcome>>) {
    let mut changes = Changes::default();
    let mut answers = Vec::new();
    for (mut job, found) in jobs.into_iter().zip(found) {
        match found {
            AttemptResult::Decided(outcome) => {
                let unconfirmed = std::mem::take(&mut job.order.unconfirmed);
                let outcome = (unconfirmed.into_iter())
                    .fold(outcome, |again, earlier| O::reconcile(earlier, again));
                O::add_changes(&mut changes, &outcome);
                if let Some(since) = job.order.set_aside_since {
                    // Operators see this as the time for which orders wait for the locks of
                    // players.
                    METRICS.statement("players.lock", since.elapsed());
                }
                let request = job.order.request.clone();
                request::scope_sync(request, || O::observe(&job.order.order, &outcome));
                answers.push((job, outcome));
            }
            AttemptResult::Held(player) => set_aside(batch, job, Some(player)),
            // The earlier attempt has ended, and streams were not told whether it changed
            // something.
            AttemptResult::EarlierAttemptEnded => changes.in_doubt = true,
        }
    }
    (batch.dispatcher.context.on_commit)(changes);
    for (job, outcome) in answers {
        job.order.answer(Ok(outcome));
    }
}

/// Puts all orders back after an unconfirmed commit. The next attempt finds the request ids that
/// were committed, and does not execute their orders again.
fn look_for_later<O: Operation>(
    batch: &Batch<O>,
    jobs: Jobs<O>,
    found: Vec<AttemptResult<O::Outcome>>,
) {
    for (mut job, found) in jobs.into_iter().zip(found) {
        match found {
            AttemptResult::Decided(outcome) => {
                if O::wrote(&outcome) {
                    job.order.unconfirmed.push(outcome);
                }
                job.order.wait_again(false);
                METRICS.retries(1, O::NAME, "unavailable");
                batch.put_back(job, PAUSE_IN_DOUBT);
            }
            AttemptResult::Held(player) => set_aside(batch, job, Some(player)),
            AttemptResult::EarlierAttemptEnded => (batch.dispatcher.context.on_commit)(Changes {
                in_doubt: true,
                ..Changes::default()
            }),
        }
    }
}

/// Whether another attempt at an order may succeed after this error.
fn is_worth_another_attempt<O: Operation>(job: &Job<O>, error: &StoreError, is_away: bool) -> bool {
    match error {
        StoreError::Contention(_) => true,
        StoreError::Unavailable(_) | StoreError::StalePlan(_) => {
            job.in_doubt() || job.failures + 1 < UNAVAILABLE_ATTEMPTS && !is_away
        }
        StoreError::Database(_) | StoreError::Interference(_) => false,
    }
}

/// Puts back the orders at which another attempt may succeed, and answers the others with a fault.
fn fail<O: Operation>(batch: &Batch<O>, jobs: Jobs<O>, error: &StoreError, is_away: bool) {
    if !matches!(error, StoreError::Unavailable(_)) {
        batch.dispatcher.progress.attempt_answered();
    }
    for mut job in jobs {
        if is_worth_another_attempt(&job.order, error, is_away) {
            if let StoreError::Contention(_) = error {
                set_aside(batch, job, None);
                continue;
            }
            job.order.failures += 1;
            job.order.wait_again(false);
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

/// Puts back an order that another transaction blocked, or answers it if its deadline is too near
/// for another attempt. `player` is the player whose row the other transaction holds.
fn set_aside<O: Operation>(batch: &Batch<O>, mut job: Entry<Job<O>>, player: Option<UserId>) {
    job.order.wait_again(true);
    let trials = job.order.set_aside;
    let pause = pause_before(trials);
    if !job.order.has_time_at(Instant::now() + pause) {
        job.order.answer(Err(Fault::Contention));
        return;
    }
    METRICS.retries(1, O::NAME, "contention");
    job.order.set_aside += 1;
    job.order.held = player.filter(|_| !job.order.set_aside.is_multiple_of(TRIALS_BETWEEN_LINES));
    job.order.set_aside_since.get_or_insert_with(Instant::now);
    if let Some(player) = player
        && trials.is_multiple_of(TRIALS_BETWEEN_LINES)
        && batch.line != Some(player)
    {
        batch.open_line(player);
    }
    batch.put_back(job, pause);
}

/// A random pause, so that transactions that collided do not collide again.
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
        // A defect is logged every time, because its caller gets an id that finds this line.
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
