//! An order with its caller.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::{Instant, timeout_at},
};

use super::operations::Operation;
use crate::{
    fault::Fault,
    telemetry::request::{self, Request},
};

/// How long an order whose commit was not confirmed is looked after when its caller is gone. By then
/// PostgreSQL has ended a session that went silent.
const AFTERCARE: Duration = Duration::from_secs(30);

/// An order, from its arrival to its answer.
pub(super) struct Job<O: Operation> {
    pub(super) order: O::Order,
    pub(super) deadline: Instant,
    submitted: Instant,
    /// It was part of a batch before.
    was_begun: bool,
    pub(super) request: Option<Request>,
    /// What attempts decided whose commit was not confirmed.
    pub(super) unconfirmed: Vec<O::Outcome>,
    /// Attempts that failed because the database was away.
    pub(super) failures: u32,
    /// Attempts that another transaction was in the way of.
    pub(super) set_aside: u32,
    /// When the first of these ended.
    pub(super) set_aside_since: Option<Instant>,
    stage: Arc<AtomicU8>,
    reply: oneshot::Sender<Result<O::Outcome, Fault>>,
    /// Its place in the queue, which is free again when the order is answered or its caller gone.
    place: Option<OwnedSemaphorePermit>,
}

/// Where an order is. What its caller is told when the time is up depends on it.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Stage {
    /// It was not begun.
    Waiting,
    /// It was not executed so far, because another transaction was in its way.
    SetAside,
    /// It may be executed at this moment, or have been executed.
    Running,
    /// The caller does not wait any more, and the order was not begun then.
    GivenUp,
}

/// The caller's side of a [`Job`].
pub(super) struct Answer<O: Operation> {
    deadline: Instant,
    stage: Arc<AtomicU8>,
    answer: oneshot::Receiver<Result<O::Outcome, Fault>>,
}

impl<O: Operation> Job<O> {
    pub(super) fn new(
        order: O::Order,
        deadline: Instant,
        place: OwnedSemaphorePermit,
    ) -> (Self, Answer<O>) {
        let (reply, answer) = oneshot::channel();
        let stage = Arc::new(AtomicU8::new(Stage::Waiting as u8));
        let job = Self {
            order,
            deadline,
            submitted: Instant::now(),
            was_begun: false,
            request: request::current(),
            unconfirmed: Vec::new(),
            failures: 0,
            set_aside: 0,
            set_aside_since: None,
            stage: Arc::clone(&stage),
            reply,
            place: Some(place),
        };
        let answer = Answer {
            deadline,
            stage,
            answer,
        };
        (job, answer)
    }

    /// Whether there is something to do for it: a caller waits, or a commit is to be found out.
    pub(super) fn is_wanted(&self, now: Instant) -> bool {
        if self.in_doubt() {
            now < self.deadline + AFTERCARE
        } else {
            self.is_awaited(now)
        }
    }

    /// Whether a caller waits for its answer.
    pub(super) fn is_awaited(&self, now: Instant) -> bool {
        now < self.deadline && !self.reply.is_closed()
    }

    /// Whether an attempt may have executed it without our knowing.
    pub(super) fn in_doubt(&self) -> bool {
        !self.unconfirmed.is_empty()
    }

    /// How long it has waited for its first batch; `None` from the second time on.
    pub(super) fn waited(&mut self, now: Instant) -> Option<Duration> {
        let is_first = !std::mem::replace(&mut self.was_begun, true);
        is_first.then(|| now.saturating_duration_since(self.submitted))
    }

    /// Begins to execute it. `false` where the caller has given up meanwhile: then the order must
    /// not be executed.
    pub(super) fn begin(&mut self) -> bool {
        let begun = self
            .stage
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |stage| {
                (stage != Stage::GivenUp as u8).then_some(Stage::Running as u8)
            });
        begun.is_ok()
    }

    /// It was not executed, and is to be tried again. `is_set_aside`: another transaction was in its
    /// way.
    pub(super) fn to_be_repeated(&mut self, is_set_aside: bool) {
        if self.reply.is_closed() {
            self.place = None;
        }
        if self.in_doubt() {
            return;
        }
        let stage = if is_set_aside {
            Stage::SetAside
        } else {
            Stage::Waiting
        };
        let _ = self
            .stage
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| {
                (now == Stage::Running as u8).then_some(stage as u8)
            });
    }

    /// Answers the caller, if there still is one.
    pub(super) fn answer(self, result: Result<O::Outcome, Fault>) {
        let _ = self.reply.send(result);
    }
}

impl<O: Operation> Answer<O> {
    /// The answer, at the latest when the deadline has passed.
    pub(super) async fn wait(mut self) -> Result<O::Outcome, Fault> {
        match timeout_at(self.deadline, &mut self.answer).await {
            Ok(Ok(result)) => result,
            // The order left the queue, a moment before this timer.
            Ok(Err(_dropped)) if Instant::now() >= self.deadline => Err(self.give_up()),
            Ok(Err(_dropped_by_a_panic)) => Err(Fault::internal(
                &"the batch ended without an answer",
                "running a batch",
            )),
            Err(_elapsed) => Err(self.give_up()),
        }
    }

    /// Keeps the order from being begun, and says what is known of it.
    fn give_up(&self) -> Fault {
        let stage = self
            .stage
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |stage| {
                (stage != Stage::Running as u8).then_some(Stage::GivenUp as u8)
            });
        match stage {
            Err(_running) => Fault::Unknown,
            Ok(stage) if stage == Stage::SetAside as u8 => Fault::Contention,
            Ok(_waiting) => Fault::DeadlineExceeded,
        }
    }
}

/// The caller hung up.
impl<O: Operation> Drop for Answer<O> {
    fn drop(&mut self) {
        self.give_up();
    }
}
