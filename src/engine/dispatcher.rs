//! The state that the tasks of one queue share: the schedule and the running batches.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::{
    job::Job,
    limits::{Limits, Running, USUAL_DURATION},
    operations::Operation,
    progress::Progress,
    schedule::{Entry, Schedule},
};
use crate::{
    domain::{change::Changes, ids::UserId, mailing::MailingNow},
    store::PgPool,
};

/// Called with the changes of a batch, after its commit and before its callers are answered. It
/// must not block.
pub type OnCommit = Arc<dyn Fn(Changes) + Send + Sync>;

/// The pool and the callbacks that every batch uses.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) pool: PgPool,
    pub(super) mailing: Option<MailingNow>,
    pub(super) on_commit: OnCommit,
}

/// The schedule and the running batches of one kind of order.
pub(super) struct Dispatcher<O: Operation> {
    pub(super) context: Context,
    pub(super) limits: Limits,
    pub(super) progress: Progress,
    state: Mutex<State<O>>,
    /// Wakes `queue::watch_schedule` after a change of the schedule or of the running batches.
    pub(super) changed: Notify,
}

struct State<O: Operation> {
    schedule: Schedule<Job<O>>,
    running: HashMap<u64, RunningBatch>,
    next_batch: u64,
    /// No more orders will come.
    is_closed: bool,
}

struct RunningBatch {
    since: Instant,
    is_line: bool,
    has_taken: bool,
}

/// A running batch. Dropping it, also by a panic, releases its players.
pub(super) struct Batch<O: Operation> {
    pub(super) dispatcher: Arc<Dispatcher<O>>,
    id: u64,
    /// The player whose row the batch waits for before it takes orders; `None`: it waits for no
    /// row.
    pub(super) line: Option<UserId>,
    players: Vec<UserId>,
}

impl<O: Operation> Dispatcher<O> {
    pub(super) fn new(context: Context, limits: Limits) -> Self {
        Self {
            context,
            limits,
            progress: Progress::new(),
            state: Mutex::new(State {
                schedule: Schedule::new(),
                running: HashMap::new(),
                next_batch: 0,
                is_closed: false,
            }),
            changed: Notify::new(),
        }
    }

    pub(super) fn push(&self, job: Job<O>) {
        let now = Instant::now();
        self.progress.order_arrived(now);
        let players = O::players(&job.order);
        let mut state = self.state();
        if state.schedule.is_empty() {
            self.changed.notify_one();
        }
        state.schedule.push(job, players, now);
    }

    /// Registers and returns the batches that should start now.
    pub(super) fn next_batches(self: &Arc<Self>) -> Vec<Batch<O>> {
        let now = Instant::now();
        let mut state = self.state();
        let state = &mut *state;
        if state.schedule.next_look().is_some_and(|time| time <= now) {
            state.schedule.look_again(now);
        }
        let mut batches = Vec::new();
        loop {
            let running = state.count_running(now);
            let line = if self
                .limits
                .allow_batch(running, state.schedule.count_ready())
            {
                None
            } else if Limits::allow_line(running)
                && let Some(player) = state.schedule.begin_line(now)
            {
                Some(player)
            } else {
                return batches;
            };
            let id = state.next_batch;
            state.next_batch += 1;
            let batch = RunningBatch {
                since: now,
                is_line: line.is_some(),
                has_taken: false,
            };
            state.running.insert(id, batch);
            batches.push(Batch {
                dispatcher: Arc::clone(self),
                id,
                line,
                players: Vec::from_iter(line),
            });
        }
    }

    /// Removes the orders that no longer need an attempt. Returns whether an unconfirmed commit may
    /// have executed one of them.
    pub(super) fn remove_abandoned(&self) -> bool {
        let now = Instant::now();
        let mut some_in_doubt = false;
        self.state().schedule.retain(
            |job| {
                let is_wanted = job.is_wanted(now);
                some_in_doubt |= !is_wanted && job.in_doubt();
                is_wanted
            },
            now,
        );
        some_in_doubt
    }

    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_one();
    }

    pub(super) fn has_orders(&self) -> bool {
        !self.state().schedule.is_empty()
    }

    /// Whether the queue is closed and every order is settled.
    pub(super) fn is_over(&self) -> bool {
        let state = self.state();
        state.is_closed && state.schedule.is_empty() && state.running.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State<O>> {
        // No code under the lock can panic in the middle of a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<O: Operation> State<O> {
    fn count_running(&self, now: Instant) -> Running {
        let mut count = Running::default();
        for batch in self.running.values() {
            if batch.is_line {
                count.lines += 1;
                continue;
            }
            let is_recent = now.saturating_duration_since(batch.since) < USUAL_DURATION;
            count.batches += 1;
            count.recent += usize::from(is_recent);
            count.starting += usize::from(is_recent && !batch.has_taken);
        }
        count
    }
}

impl<O: Operation> Batch<O> {
    /// Takes the orders that the batch runs. Call it after the transaction has begun, so that the
    /// batch includes the orders that arrived meanwhile.
    pub(super) fn take(&mut self) -> Vec<Entry<Job<O>>> {
        let now = Instant::now();
        let limit = self.dispatcher.limits.batch;
        let mut state = self.dispatcher.state();
        if let Some(batch) = state.running.get_mut(&self.id) {
            batch.has_taken = true;
        }
        let mut entries = match self.line {
            None => state.schedule.take(limit, now),
            Some(player) => state.schedule.take_line(player, limit, now),
        };
        drop(state);
        self.dispatcher.changed.notify_one();
        (self.players).extend(entries.iter().flat_map(Entry::players));
        entries.retain_mut(|entry| {
            let is_begun = entry.order.is_awaited(now) && entry.order.begin();
            is_begun || entry.order.in_doubt()
        });
        entries
    }

    /// Puts an order back into the schedule, to be run after a `pause`.
    pub(super) fn put_back(&self, entry: Entry<Job<O>>, pause: Duration) {
        self.dispatcher
            .state()
            .schedule
            .put_back(entry, pause, Instant::now());
        self.dispatcher.changed.notify_one();
    }

    /// Opens a line for this player: the next batch waits in PostgreSQL's lock queue for the row.
    pub(super) fn open_line(&self, player: UserId) {
        self.dispatcher.state().schedule.open_line(player);
    }

    /// Closes the line of this player, because the row did not become free in time.
    pub(super) fn close_line(&self, player: UserId, pause: Duration) {
        let mut state = self.dispatcher.state();
        state.schedule.close_line(player, pause, Instant::now());
    }
}

impl<O: Operation> Drop for Batch<O> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(operation = O::NAME, "a batch panicked");
        }
        let mut state = self.dispatcher.state();
        state.running.remove(&self.id);
        state
            .schedule
            .release(self.players.drain(..), Instant::now());
        if state.is_closed {
            self.dispatcher.changed.notify_one();
        }
    }
}
