//! Executes the orders that change the books. It collects orders into batches, and runs each batch
//! as one transaction.
//!
//! With one transaction per heist, each heist would cost five round trips and a commit, and the
//! attackers of a popular victim would wait for the victim's row one after the other. Instead,
//! orders go into a bounded queue, and the next batch takes the orders that have queued: one order
//! at low traffic, many under load. An idle engine starts a batch at once. [`limits`] decides when
//! a further batch starts beside a running one. The concurrent batches of a queue have no player in
//! common, so they never compete for a row.
//!
//! A batch runs in a task of its own. A caller that hangs up or reaches its deadline only stops
//! waiting for the answer: the transaction runs to its end.
//!
//! The files, each importing only files above it:
//!
//! | file | knows |
//! |---|---|
//! | [`operations`] | the kinds of orders, and their work in a transaction |
//! | [`schedule`] | which orders may run; pure |
//! | [`limits`] | the limit of the queue, and when a further batch starts; pure |
//! | [`progress`] | whether the database answers attempts at orders |
//! | [`job`] | an order with its caller |
//! | [`attempt`] | one transaction |
//! | [`dispatcher`] | the schedule and the running batches, which tasks share |
//! | [`batch`] | the rules for retries and splits: answers each order or puts it back |
//! | [`queue`] | accepts orders, starts batches, removes orders whose callers are gone |
//!
//! `mark_read` and `set_preference` run single transactions without a queue. `health` tells readiness
//! whether a queue is stalled.

mod attempt;
mod batch;
mod dispatcher;
mod health;
mod job;
mod limits;
mod mark_read;
mod operations;
mod progress;
mod queue;
mod schedule;
mod set_preference;

use tokio::{task::JoinSet, time::Instant};

use self::{
    dispatcher::Context,
    mark_read::ReadMarker,
    operations::{Adjustments, Awards, Heists},
    queue::Queue,
};
pub use self::{dispatcher::OnCommit, health::EngineHealth, limits::Limits};
use crate::domain::{
    adjustment::{AdjustmentOrder, AdjustmentOutcome},
    award::{AwardOrder, AwardOutcome},
    heist::{HeistOrder, HeistOutcome},
    ids::{NotificationId, UserId},
    mailing::MailingNow,
};
use crate::{
    fault::Fault,
    store::{PgPool, notifications::Marked},
};

/// Accepts orders. Cheap to clone. When the last clone is dropped, the accepted orders are
/// finished, and then the [`Workers`] end.
#[derive(Clone)]
pub struct Engine {
    heists: Queue<Heists>,
    awards: Queue<Awards>,
    adjustments: Queue<Adjustments>,
    read_marker: ReadMarker,
    pool: PgPool,
}

/// The tasks behind an [`Engine`].
pub struct Workers(JoinSet<()>);

impl Engine {
    /// Starts the workers. For each batch, `mailing` says whether its notifications are also queued
    /// as e-mails. `on_commit` is called with the changes of each batch.
    #[must_use]
    pub fn start(
        pool: PgPool,
        limits: Limits,
        mailing: Option<MailingNow>,
        on_commit: OnCommit,
    ) -> (Self, Workers) {
        let mut workers = JoinSet::new();
        let context = Context {
            pool,
            mailing,
            on_commit,
        };
        let engine = Self {
            heists: Queue::start(&context, limits, &mut workers),
            awards: Queue::start(&context, limits, &mut workers),
            adjustments: Queue::start(&context, limits, &mut workers),
            read_marker: ReadMarker::new(context.pool.clone()),
            pool: context.pool,
        };
        (engine, Workers(workers))
    }

    /// Executes a heist, or returns the reason why not.
    ///
    /// # Errors
    ///
    /// See [`Fault`].
    pub async fn execute_heist(
        &self,
        order: HeistOrder,
        deadline: Instant,
    ) -> Result<HeistOutcome, Fault> {
        self.heists.submit(order, deadline).await
    }

    /// Gives a referrer a token, or returns the reason why not.
    ///
    /// # Errors
    ///
    /// See [`Fault`].
    pub async fn award_token(
        &self,
        order: AwardOrder,
        deadline: Instant,
    ) -> Result<AwardOutcome, Fault> {
        self.awards.submit(order, deadline).await
    }

    /// Grants or revokes tokens by hand, or returns the reason why not.
    ///
    /// # Errors
    ///
    /// See [`Fault`].
    pub async fn adjust_balance(
        &self,
        order: AdjustmentOrder,
        deadline: Instant,
    ) -> Result<AdjustmentOutcome, Fault> {
        self.adjustments.submit(order, deadline).await
    }

    /// Marks a player's notifications as read: the ones with one of the `ids`, and all up to and
    /// including `up_to`. Returns `None` if the player does not exist.
    ///
    /// # Errors
    ///
    /// See [`Fault`].
    pub async fn mark_read(
        &self,
        user_id: UserId,
        ids: Vec<NotificationId>,
        up_to: Option<NotificationId>,
        deadline: Instant,
    ) -> Result<Option<Marked>, Fault> {
        self.read_marker.mark(user_id, ids, up_to, deadline).await
    }

    /// The engine's health, for the readiness check.
    #[must_use]
    pub fn health(&self) -> EngineHealth {
        EngineHealth::new(vec![
            self.heists.progress(),
            self.awards.progress(),
            self.adjustments.progress(),
        ])
    }
}

impl Workers {
    /// Waits until every accepted order is settled. Returns only after the last clone of the
    /// engine was dropped.
    pub async fn finish(mut self) {
        while self.0.join_next().await.is_some() {}
    }
}
