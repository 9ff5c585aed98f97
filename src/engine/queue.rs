//! The bounded queue of one kind of order, and the batches that empty it.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    batch,
    desk::{Context, Desk},
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
    desk: Arc<Desk<O>>,
    places: Arc<Semaphore>,
}

impl<O: Operation> Queue<O> {
    pub(super) fn start(context: &Context, limits: Limits, workers: &mut JoinSet<()>) -> Self {
        let desk = Arc::new(Desk::new(context.clone(), limits));
        workers.spawn(tend(Arc::clone(&desk)));
        let places = Arc::new(Semaphore::new(limits.queue));
        let free = Arc::clone(&places);
        metrics::watch_queue(O::NAME, move || limits.queue - free.available_permits());
        let progress = desk.progress.clone();
        metrics::watch_stall(O::NAME, move || progress.is_stalled(Instant::now()));
        Self {
            intake: Arc::new(Intake { desk, places }),
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
        self.intake.desk.push(job);
        start_batches(&self.intake.desk);
        answer.wait().await
    }

    pub(super) fn progress(&self) -> Progress {
        self.intake.desk.progress.clone()
    }
}

/// Starts the batches that should run now, each in a task of its own, so that a panic ends only one
/// batch.
fn start_batches<O: Operation>(desk: &Arc<Desk<O>>) {
    for batch in desk.next_batches() {
        let desk = Arc::clone(desk);
        tokio::spawn(async move {
            batch::run(batch).await;
            start_batches(&desk);
        });
    }
}

/// Starts batches when waiting orders may run, and removes orders that no longer need an attempt.
/// Returns when the queue is closed and every order is settled.
async fn tend<O: Operation>(desk: Arc<Desk<O>>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !desk.is_over() {
        if desk.has_orders() {
            tokio::select! {
                () = desk.changed.notified() => {}
                _ = ticks.tick() => {
                    if desk.remove_unwanted() {
                        (desk.context.on_commit)(Changes { in_doubt: true, ..Changes::default() });
                    }
                }
            }
        } else {
            desk.changed.notified().await;
        }
        start_batches(&desk);
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
        self.desk.close();
    }
}
