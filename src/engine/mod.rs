//! Runs what changes the books: collects orders into batches, and each batch into one
//! transaction.
//!
//! One transaction per heist costs five round trips and one commit each, and lets all attackers of
//! a popular victim wait for its row one after the other. So orders go into a bounded queue, and
//! the next batch takes what has queued: one order when it is quiet, many under load. An idle engine
//! starts a batch at once; when a further one starts beside a running one is told in [`limits`].
//! Batches that run side by side have no player in common: they never wait for each other's locks.
//!
//! A batch runs in a task of its own. A caller that hangs up or runs out of time stops listening,
//! and nothing else: a transaction is never dropped half-way.
//!
//! The files, each importing only those above it:
//!
//! | file | knows |
//! |---|---|
//! | [`operations`] | the kinds of orders, and what they do in a transaction |
//! | [`schedule`] | which orders may run; pure |
//! | [`limits`] | when a further batch pays; pure |
//! | [`progress`] | whether orders get anywhere |
//! | [`job`] | an order with its caller |
//! | [`attempt`] | one transaction |
//! | [`desk`] | the schedule and the running batches, which tasks share |
//! | [`batch`] | what becomes of each order after an attempt |
//! | [`queue`] | starts batches, and looks after the orders that wait |

mod attempt;
mod batch;
mod desk;
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
    desk::Context,
    mark_read::ReadMarker,
    operations::{Adjustments, Awards, Heists},
    queue::Queue,
};
pub use self::{desk::OnCommit, health::EngineHealth, limits::Limits, mark_read::Marked};
use crate::domain::{
    adjustment::{AdjustmentOrder, AdjustmentOutcome},
    award::{AwardOrder, AwardOutcome},
    heist::{HeistOrder, HeistOutcome},
    ids::{NotificationId, UserId},
    mailing::MailingNow,
};
use crate::{fault::Fault, store::PgPool};

/// Accepts orders. Cheap to clone; when the last clone is dropped, what was accepted is
/// finished and the [`Workers`] end.
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
    /// Starts the workers. Each notification is also queued as an e-mail, as `mailing` says at that
    /// time; `on_commit` is told what changed.
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

    /// Executes a heist, or says why not.
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

    /// Gives a referrer a token, or says why not.
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

    /// Grants or revokes tokens by hand, or says why not.
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

    /// Marks as read those of a player's notifications with one of the `ids` and those up to and
    /// including `up_to`. `None` where there is no such player.
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

    /// What readiness has to know of this engine.
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
