//! Runs what changes the books: collects orders into batches, and each batch into one
//! transaction.
//!
//! One transaction per heist costs five round trips and one commit each, and makes everybody
//! who robs the same popular victim wait in line for its row. So orders go into a bounded
//! queue, and whenever fewer batches are running than may, the next one takes whatever has
//! queued: one order when it is quiet, many under load. Nothing ever waits for a batch to fill.
//! Batches that run side by side have no player in common: they never wait for each other's
//! locks.
//!
//! A batch runs in a task of its own. A caller that hangs up or runs out of time stops
//! listening, and nothing else: a transaction is never dropped half-way.

mod adjustments;
mod awards;
mod backlog;
mod heists;
mod mark_read;
mod queue;
mod retry;
mod set_preference;

use sqlx::PgPool;
use tokio::{task::JoinSet, time::Instant};

use self::queue::{Context, Queue};
pub use self::{
    mark_read::Marked,
    queue::{Limits, OnCommit},
};
use crate::domain::{
    adjustment::{AdjustmentOrder, AdjustmentOutcome},
    award::{AwardOrder, AwardOutcome},
    heist::{HeistOrder, HeistOutcome},
    mailing::MailingNow,
};
use crate::fault::Fault;

/// Accepts orders. Cheap to clone; when the last clone is dropped, what was accepted is
/// finished and the [`Workers`] end.
#[derive(Clone)]
pub struct Engine {
    pool: PgPool,
    heists: Queue<heists::Heists>,
    awards: Queue<awards::Awards>,
    adjustments: Queue<adjustments::Adjustments>,
}

/// The tasks behind an [`Engine`].
pub struct Workers(JoinSet<()>);

impl Engine {
    /// Starts the workers. Who is notified is mailed, too, as `mailing` says then;
    /// `on_commit` is told what changed.
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
}

impl Workers {
    /// Waits until every accepted order is settled. Returns only after the last clone of the
    /// engine was dropped.
    pub async fn finish(mut self) {
        while self.0.join_next().await.is_some() {}
    }
}
