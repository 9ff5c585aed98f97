//! The bounded queue of one kind of order, and the workers that empty it.

use std::{future::Future, sync::Arc};

use sqlx::{PgConnection, PgPool};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{EngineError, retry};
use crate::{
    domain::{change::Changes, mailing::Mailing},
    store::StoreError,
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
            workers: 2,
        }
    }
}

/// A kind of order that is executed in batches.
pub(super) trait Operation: 'static {
    type Order: Clone + Send + Sync + 'static;
    type Outcome: Send + 'static;

    /// Loads, decides and saves, in the transaction of `connection`, which the caller
    /// commits. One outcome for each order, in their order. Who is notified is mailed, too,
    /// where there is `mailing`.
    fn apply(
        connection: &mut PgConnection,
        orders: &[Self::Order],
        mailing: Option<Mailing>,
    ) -> impl Future<Output = Result<Vec<Self::Outcome>, StoreError>> + Send;

    /// Whether there is something to commit.
    fn wrote(outcome: &Self::Outcome) -> bool;

    /// Adds what an outcome changed that somebody may listen for.
    fn add_changes(changes: &mut Changes, outcome: &Self::Outcome);

    /// The commit that was to make `earlier` true may or may not have come through; the
    /// order was then run again, with `again` as its outcome. What is the answer?
    fn reconcile(earlier: Self::Outcome, again: Self::Outcome) -> Self::Outcome;
}

/// Told what a batch changed, after its commit and before its callers are answered. It must
/// return at once.
pub type OnCommit = Arc<dyn Fn(Changes) + Send + Sync>;

/// What workers work with.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) pool: PgPool,
    pub(super) mailing: Option<Mailing>,
    pub(super) on_commit: OnCommit,
}

/// Where orders of one kind are handed in.
pub(super) struct Queue<O: Operation> {
    sender: mpsc::Sender<Job<O>>,
}

struct Job<O: Operation> {
    order: O::Order,
    deadline: Instant,
    reply: oneshot::Sender<Result<O::Outcome, EngineError>>,
}

type Receiver<O> = Arc<Mutex<mpsc::Receiver<Job<O>>>>;

impl<O: Operation> Queue<O> {
    pub(super) fn start(context: &Context, limits: Limits, workers: &mut JoinSet<()>) -> Self {
        let (sender, receiver) = mpsc::channel(limits.queue);
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..limits.workers {
            workers.spawn(work::<O>(
                context.clone(),
                Arc::clone(&receiver),
                limits.batch,
            ));
        }
        Self { sender }
    }

    pub(super) async fn submit(
        &self,
        order: O::Order,
        deadline: Instant,
    ) -> Result<O::Outcome, EngineError> {
        let (reply, answer) = oneshot::channel();
        let job = Job {
            order,
            deadline,
            reply,
        };
        self.sender.try_send(job).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => EngineError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => EngineError::Unavailable,
        })?;
        match timeout_at(deadline, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_dropped_by_a_panic)) => Err(EngineError::internal(
                &"the batch ended without an answer",
                "running a batch",
            )),
            Err(_elapsed) => Err(EngineError::DeadlineExceeded),
        }
    }
}

async fn work<O: Operation>(context: Context, receiver: Receiver<O>, batch_limit: usize) {
    loop {
        let mut jobs = Vec::new();
        // Whoever holds the receiver waits for the first order and takes all that came with it.
        let taken = receiver
            .lock()
            .await
            .recv_many(&mut jobs, batch_limit)
            .await;
        if taken == 0 {
            return;
        }
        // A task of its own, so that a panic costs one batch and not the worker.
        let batch = tokio::spawn(settle(context.clone(), jobs));
        if let Err(panic) = batch.await {
            tracing::error!(error = %panic, "a batch panicked");
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
        let _ = job.reply.send(Err(EngineError::DeadlineExceeded));
    }
    let Some(latest_deadline) = jobs.iter().map(|job| job.deadline).max() else {
        return;
    };
    let (orders, replies): (Vec<_>, Vec<_>) =
        jobs.into_iter().map(|job| (job.order, job.reply)).unzip();
    let resolved = retry::resolve::<O>(&context, &orders, latest_deadline).await;
    let mut changes = Changes {
        in_doubt: resolved.in_doubt,
        ..Changes::default()
    };
    for outcome in resolved.results.iter().flatten() {
        O::add_changes(&mut changes, outcome);
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
        }
    }
}
