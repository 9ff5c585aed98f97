//! Who is listening to what, on this replica and on the others.
//!
//! After a commit the engine says what changed. That wakes the streams of this replica at once,
//! and those of the others through PostgreSQL's `LISTEN` and `NOTIFY`, on connections apart from
//! the transactions that execute heists. Signals are hints: who streams notifications reads
//! them from the table after its cursor, and a sweep every few seconds wakes whoever missed a
//! signal. Who watches points gets the changes themselves, and is told to resynchronise
//! whenever some may have been missed.

mod hub;
mod mailboxes;
mod peers;
mod signal;
mod sweep;

use tokio::task::JoinSet;

pub use self::{
    hub::{Events, Points},
    mailboxes::Mailbox,
};
use crate::store::{PgPool, signals::ListenOptions};

/// The tasks behind [`Events`].
pub struct Tasks(JoinSet<()>);

/// Starts the tasks that exchange signals with the other replicas, on connections of their own.
#[must_use]
pub fn start(pool: PgPool, options: ListenOptions) -> (Events, Tasks) {
    let (events, from_engine) = Events::without_tasks();
    let mut tasks = JoinSet::new();
    let replica = rand::random();
    tasks.spawn(peers::tell(
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
