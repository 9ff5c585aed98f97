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
    domain::ids::UserId,
    fault::Fault,
    telemetry::request::{self, Request},
};

/// The time after an order's deadline during which the engine looks up an unconfirmed commit. By
/// the end of it PostgreSQL has ended a session whose client went silent.
const RECONCILE_FOR: Duration = Duration::from_secs(30);

/// The time that an attempt should have before the deadline, or a quarter of the caller's time if
/// that is shorter. An attempt that runs at the deadline leaves its caller with an unknown outcome.
const ATTEMPT_TIME: Duration = Duration::from_millis(100);

/// An order, from its arrival to its answer.
pub(super) struct Job<O: Operation> {
    pub(super) order: O::Order,
    pub(super) deadline: Instant,
    submitted: Instant,
    /// Whether a batch has taken the order before.
    was_begun: bool,
    pub(super) request: Option<Request>,
    /// The outcomes of attempts whose commit was not confirmed.
    pub(super) unconfirmed: Vec<O::Outcome>,
    /// Attempts that failed because the database was away.
    pub(super) failures: u32,
    /// Attempts at which another transaction blocked the order.
    pub(super) set_aside: u32,
    /// The player whose row another transaction held at the last of these attempts. `None`: the
    /// next attempt finds out whether the player exists.
    pub(super) held: Option<UserId>,
    /// The end of the first of these attempts.
    pub(super) set_aside_since: Option<Instant>,
    stage: Arc<AtomicU8>,
    reply: oneshot::Sender<Result<O::Outcome, Fault>>,
    /// The order's place in the queue. It becomes free when the order is answered, or when the
    /// order is put back after its caller has gone.
    place: Option<OwnedSemaphorePermit>,
}

/// The stage of an order. It decides which fault the caller gets at the deadline.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Stage {
    /// No batch is executing the order.
    Waiting,
    /// The order was not executed so far, because another transaction blocked it.
    SetAside,
    /// A batch may be executing the order, or may have executed it.
    Running,
    /// The caller stopped waiting while no batch was executing the order.
    GivenUp,
}

/// The caller's side of a [`Job`].
pub(super) struct Answer<O: Operation> {
    deadline: Instant,
    stage: Arc<AtomicU8>,
    result: oneshot::Receiver<Result<O::Outcome, Fault>>,
}

impl<O: Operation> Job<O> {
    pub(super) fn new(
        order: O::Order,
        deadline: Instant,
        place: OwnedSemaphorePermit,
    ) -> (Self, Answer<O>) {
        let (reply, result) = oneshot::channel();
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
            held: None,
            set_aside_since: None,
            stage: Arc::clone(&stage),
            reply,
            place: Some(place),
        };
        let answer = Answer {
            deadline,
            stage,
            result,
        };
        (job, answer)
    }

    /// Whether the order still needs an attempt: its caller waits, or a commit is unconfirmed.
    pub(super) fn is_wanted(&self, now: Instant) -> bool {
        if self.in_doubt() {
            now < self.deadline + RECONCILE_FOR
        } else {
            self.is_awaited(now)
        }
    }

    /// Whether a caller waits for its answer.
    pub(super) fn is_awaited(&self, now: Instant) -> bool {
        now < self.deadline && !self.reply.is_closed()
    }

    /// Whether an attempt that begins at this time is likely to end before the deadline. An order
    /// with an unconfirmed commit always has time.
    pub(super) fn has_time_at(&self, begin: Instant) -> bool {
        let callers_time = self.deadline.saturating_duration_since(self.submitted);
        self.in_doubt() || begin + ATTEMPT_TIME.min(callers_time / 4) < self.deadline
    }

    /// Whether an unconfirmed commit may have executed the order.
    pub(super) fn in_doubt(&self) -> bool {
        !self.unconfirmed.is_empty()
    }

    /// The time from the order's arrival to its first batch; `None` from the second batch on.
    pub(super) fn waited(&mut self, now: Instant) -> Option<Duration> {
        let is_first = !std::mem::replace(&mut self.was_begun, true);
        is_first.then(|| now.saturating_duration_since(self.submitted))
    }

    /// Marks the order as running. Returns `false` if the caller has given up: then the order must
    /// not be executed.
    pub(super) fn begin(&mut self) -> bool {
        let begun = self
            .stage
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |stage| {
                (stage != Stage::GivenUp as u8).then_some(Stage::Running as u8)
            });
        begun.is_ok()
    }

    /// Marks the order as not executed, to be tried again. `is_set_aside`: another transaction
    /// blocked it.
    pub(super) fn wait_again(&mut self, is_set_aside: bool) {
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

    /// Answers the caller, if the caller still waits.
    pub(super) fn answer(self, result: Result<O::Outcome, Fault>) {
        let _ = self.reply.send(result);
    }
}

impl<O: Operation> Answer<O> {
    /// Waits for the answer until the deadline.
    pub(super) async fn wait(mut self) -> Result<O::Outcome, Fault> {
        match timeout_at(self.deadline, &mut self.result).await {
            Ok(Ok(result)) => result,
            // The queue removed the order at its deadline, just before this timer fired.
            Ok(Err(_dropped)) if Instant::now() >= self.deadline => Err(self.give_up()),
            Ok(Err(_dropped_by_a_panic)) => Err(Fault::internal(
                &"the batch ended without an answer",
                "running a batch",
            )),
            Err(_elapsed) => Err(self.give_up()),
        }
    }

    /// Prevents a batch from beginning the order, and returns the fault for the caller.
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

/// When the caller hangs up, no batch begins the order any more.
impl<O: Operation> Drop for Answer<O> {
    fn drop(&mut self) {
        self.give_up();
    }
}
