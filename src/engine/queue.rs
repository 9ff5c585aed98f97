//! The bounded queue of one kind of order, and the batches that empty it.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    batch,
    dispatcher::{Context, Dispatcher},
    job::Job,
    limits::Limits,
    operations::Operation,
    progress::Progress,
};
use crate::{domain::change::Changes, fault::Fault, telemetry::metrics};

/// The interval of the check whether waiting orders may run now, or no longer need an attempt.
const TICK: Duration = Duration::from_millis(10);

/// The queue of one kind of order. Clones share it.
pub(super) struct Queue<O: Operation> {
    intake: Arc<Intake<O>>,
}

struct Intake<O: Operation> {
    dispatcher: Arc<Dispatcher<O>>,
    places: Arc<Semaphore>,
}

impl<O: Operation> Queue<O> {
    pub(super) fn start(context: &Context, limits: Limits, workers: &mut JoinSet<()>) -> Self {
        let dispatcher = Arc::new(Dispatcher::new(context.clone(), limits));
        workers.spawn(watch_schedule(Arc::clone(&dispatcher)));
        let places = Arc::new(Semaphore::new(limits.queue));
        let free = Arc::clone(&places);
        metrics::watch_queue(O::NAME, move || limits.queue - free.available_permits());
        let progress = dispatcher.progress.clone();
        metrics::watch_stall(O::NAME, move || progress.is_stalled(Instant::now()));
        Self {
            intake: Arc::new(Intake { dispatcher, places }),
        }
    }

    pub(super) async fn submit(
        &self,
        order: O::Order,
        deadline: Instant,
    ) -> Result<O::Outcome, Fault> {
        let Ok(place) = Arc::clone(&self.intake.places).try_acquire_owned() else {
            return Err(Fault::Overloaded);
        };
        let (job, answer) = Job::new(order, deadline, place);
        self.intake.dispatcher.push(job);
        start_batches(&self.intake.dispatcher);
        answer.wait().await
    }

    pub(super) fn progress(&self) -> Progress {
        self.intake.dispatcher.progress.clone()
    }
}

/// Starts the batches that should run now, each in a task of its own, so that a panic ends only one
/// batch.
fn start_batches<O: Operation>(dispatcher: &Arc<Dispatcher<O>>) {
    for batch in dispatcher.next_batches() {
        let dispatcher = Arc::clone(dispatcher);
        tokio::spawn(async move {
            batch::run(batch).await;
            start_batches(&dispatcher);
        });
    }
}

/// Starts batches when waiting orders may run, and removes orders that no longer need an attempt.
/// Returns when the queue is closed and every order is settled.
async fn watch_schedule<O: Operation>(dispatcher: Arc<Dispatcher<O>>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !dispatcher.is_over() {
        if dispatcher.has_orders() {
            tokio::select! {
                () = dispatcher.changed.notified() => {}
                _ = ticks.tick() => {
                    if dispatcher.remove_abandoned() {
                        (dispatcher.context.on_commit)(Changes { in_doubt: true, ..Changes::default() });
                    }
                }
            }
        } else {
            dispatcher.changed.notified().await;
        }
        start_batches(&dispatcher);
    }
}

impl<O: Operation> Clone for Queue<O> {
    fn clone(&self) -> Self {
        Self {
            intake: Arc::clone(&self.intake),
        }
    }
}

impl<O: Operation> Drop for Intake<O> {
    fn drop(&mut self) {
        self.dispatcher.close();
    }
}
