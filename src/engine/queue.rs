//! The bounded queue of one kind of order, and the batches that empty it.

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    sync::Arc,
    time::Duration,
};

use opentelemetry::trace::Span as _;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::{self, JoinSet},
    time::{Instant, timeout_at},
};

use super::{backlog::Backlog, retry};
use crate::{
    domain::{
        change::Changes,
        ids::UserId,
        mailing::{Mailing, MailingNow},
    },
    fault::Fault,
    store::{StoreError, emails::EmailSchedule},
    telemetry::{
        metrics::{self, METRICS},
        request::{self, Request},
        traces,
    },
};

/// How much one queue takes on.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Orders that wait at the most; one more is refused as overload.
    pub queue: usize,
    /// Orders in one transaction at the most.
    pub batch: usize,
    /// Batches that run at the same time at the most.
    pub workers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue: 4096,
            batch: 128,
            workers: 4,
        }
    }
}

/// A kind of order that is executed in batches.
pub(super) trait Operation: 'static {
    type Order: Clone + Send + Sync + 'static;
    type Outcome: Send + 'static;

    /// What metrics and traces call it.
    const NAME: &'static str;

    /// Loads, decides and saves, in the transaction of `connection`, which the caller
    /// commits. One outcome for each order, in their order. Who is notified is mailed, too,
    /// where there is `mailing`.
    fn apply(
        connection: &mut PgConnection,
        orders: &[Self::Order],
        mailing: Option<Mailing>,
    ) -> impl Future<Output = Result<Vec<Self::Outcome>, StoreError>> + Send;

    /// Whose rows an order reads or writes.
    fn players(order: &Self::Order) -> Vec<UserId>;

    /// Whether there is something to commit.
    fn wrote(outcome: &Self::Outcome) -> bool;

    /// Adds what an outcome changed that somebody may listen for.
    fn add_changes(changes: &mut Changes, outcome: &Self::Outcome);

    /// Counts a decision that stands, and logs it for who wants to know every one.
    fn observe(order: &Self::Order, outcome: &Self::Outcome);

    /// The commit that was to make `earlier` true may or may not have come through; the
    /// order was then run again, with `again` as its outcome. What is the answer?
    fn reconcile(earlier: Self::Outcome, again: Self::Outcome) -> Self::Outcome;
}

/// The e-mails of notifications that are written `now` are due at once. The worker schedules them by
/// the mode of each player.
pub(super) fn mail(now: OffsetDateTime) -> EmailSchedule {
    EmailSchedule {
        due_at: now,
        trace_parent: traces::parent_to_keep(),
    }
}

/// Told what a batch changed, after its commit and before its callers are answered. It must
/// return at once.
pub type OnCommit = Arc<dyn Fn(Changes) + Send + Sync>;

/// What batches work with.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) pool: PgPool,
    pub(super) mailing: Option<MailingNow>,
    pub(super) on_commit: OnCommit,
}

/// Where orders of one kind are handed in.
pub(super) struct Queue<O: Operation> {
    /// Never holds more than there are `places`.
    sender: mpsc::UnboundedSender<Job<O>>,
    places: Arc<Semaphore>,
}

struct Job<O: Operation> {
    order: O::Order,
    deadline: Instant,
    submitted: Instant,
    request: Option<Request>,
    reply: oneshot::Sender<Result<O::Outcome, Fault>>,
    /// Its place in the queue, which is free again when its batch begins.
    place: OwnedSemaphorePermit,
}

impl<O: Operation> Queue<O> {
    pub(super) fn start(context: &Context, limits: Limits, workers: &mut JoinSet<()>) -> Self {
        let (sender, arrivals) = mpsc::unbounded_channel();
        workers.spawn(dispatch::<O>(context.clone(), arrivals, limits));
        let places = Arc::new(Semaphore::new(limits.queue));
        let free = Arc::clone(&places);
        metrics::watch_queue(O::NAME, move || limits.queue - free.available_permits());
        Self { sender, places }
    }

    pub(super) async fn submit(
        &self,
        order: O::Order,
        deadline: Instant,
    ) -> Result<O::Outcome, Fault> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Err(Fault::Overloaded);
        };
        let (reply, answer) = oneshot::channel();
        let job = Job {
            order,
            deadline,
            submitted: Instant::now(),
            request: request::current(),
            reply,
            place,
        };
        if self.sender.send(job).is_err() {
            return Err(Fault::Unavailable);
        }
        match timeout_at(deadline, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_dropped_by_a_panic)) => Err(Fault::internal(
                &"the batch ended without an answer",
                "running a batch",
            )),
            Err(_elapsed) => Err(Fault::DeadlineExceeded),
        }
    }
}

/// Begins a batch with whatever waits and may run, as long as fewer than `limits.workers` are
/// running. Returns when nobody can hand in orders any more and all are settled.
async fn dispatch<O: Operation>(
    context: Context,
    mut arrivals: mpsc::UnboundedReceiver<Job<O>>,
    limits: Limits,
) {
    let mut arrived = Vec::new();
    let mut accepting = true;
    let mut backlog = Backlog::new();
    // Tasks of their own, so that a panic costs one batch and nothing else.
    let mut batches = JoinSet::new();
    let mut players_of: HashMap<task::Id, HashSet<UserId>> = HashMap::new();
    loop {
        while batches.len() < limits.workers
            && let Some(batch) = backlog.take(limits.batch)
        {
            let task = batches.spawn(settle(context.clone(), batch.orders));
            players_of.insert(task.id(), batch.players);
        }
        tokio::select! {
            count = arrivals.recv_many(&mut arrived, limits.queue), if accepting => {
                accepting = count > 0;
                for job in arrived.drain(..) {
                    let players = O::players(&job.order);
                    backlog.push(job, players);
                }
            }
            Some(ended) = batches.join_next_with_id() => {
                let id = match ended {
                    Ok((id, ())) => id,
                    Err(panic) => {
                        tracing::error!(error = %panic, "a batch panicked");
                        panic.id()
                    }
                };
                if let Some(players) = players_of.remove(&id) {
                    backlog.release(&players);
                }
            }
            else => return,
        }
    }
}

/// Runs a batch and answers everybody in it.
async fn settle<O: Operation>(context: Context, jobs: Vec<Job<O>>) {
    let now = Instant::now();
    // Whoever stopped waiting before their order was begun gets it not executed.
    let (mut jobs, late): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| job.deadline > now);
    jobs.retain(|job| !job.reply.is_closed());
    // Their own timer may be a little slower than this look at the clock.
    for job in late {
        let _ = job.reply.send(Err(Fault::DeadlineExceeded));
    }
    let Some(latest_deadline) = jobs.iter().map(|job| job.deadline).max() else {
        return;
    };
    let waited: Vec<Duration> = jobs.iter().map(|job| now - job.submitted).collect();
    let (orders, (requests, replies)): (Vec<_>, (Vec<_>, Vec<_>)) = (jobs.into_iter())
        .map(|job| {
            drop(job.place);
            (job.order, (job.request, job.reply))
        })
        .unzip();
    METRICS.batch(O::NAME, &waited);
    let span = traces::batch(O::NAME, &requests, &waited);
    let place = span.as_ref().map(|span| span.span_context().clone());
    let resolved = Request::batch(&requests, place)
        .scope(retry::resolve::<O>(
            &context,
            &orders,
            &requests,
            latest_deadline,
        ))
        .await;
    drop(span);
    let mut changes = Changes {
        in_doubt: resolved.in_doubt,
        ..Changes::default()
    };
    for ((order, request), result) in orders.iter().zip(requests).zip(&resolved.results) {
        if let Ok(outcome) = result {
            O::add_changes(&mut changes, outcome);
            request::scope_sync(request, || O::observe(order, outcome));
        }
    }
    (context.on_commit)(changes);
    for (reply, result) in replies.into_iter().zip(resolved.results) {
        // A caller that hung up meanwhile does not want to know.
        let _ = reply.send(result);
    }
}

impl<O: Operation> Clone for Queue<O> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            places: Arc::clone(&self.places),
        }
    }
}
