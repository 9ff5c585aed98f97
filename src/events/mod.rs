//! Delivers the changes of each commit to the open streams of this replica and of the others.
//!
//! After a commit the engine publishes the changes. They wake the streams of this replica at once.
//! The other replicas get a signal through PostgreSQL's `LISTEN` and `NOTIFY`, on connections apart
//! from the transactions that execute heists. Signals are hints: a stream of notifications reads
//! the table after its cursor, and a sweep every 3 s wakes the streams that missed a signal. A
//! stream of points gets the changes themselves, and the message `resync` whenever it may have
//! missed some.

mod hub;
mod peers;
mod signal;
mod sweep;
mod wakers;

use tokio::task::JoinSet;

pub use self::{
    hub::{Events, Points},
    wakers::StreamWaker,
};
use crate::store::{PgPool, signals::ListenOptions};

/// The tasks behind [`Events`].
pub struct Tasks(JoinSet<()>);

/// Starts the tasks that signal the other replicas, listen to them, and sweep for missed
/// notifications.
#[must_use]
pub fn start(pool: PgPool, options: ListenOptions) -> (Events, Tasks) {
    let (events, from_engine) = Events::without_tasks();
    let mut tasks = JoinSet::new();
    let replica = rand::random();
    tasks.spawn(peers::send_changes(
        events.clone(),
        replica,
        from_engine,
        pool.clone(),
    ));
    tasks.spawn(peers::listen(events.clone(), replica, options));
    tasks.spawn(sweep::run(events.clone(), pool));
    (events, Tasks(tasks))
}

impl Tasks {
    /// Waits until the tasks have ended, after [`Events::stop`].
    pub async fn finish(mut self) {
        while self.0.join_next().await.is_some() {}
    }
}
