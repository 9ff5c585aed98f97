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

use std::fmt::Display;

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
use crate::{store::StoreError, telemetry::Flood};

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

/// Why there is no answer. Whatever caused it was logged where it happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The queue is full: the order was not accepted.
    #[error("too many orders are waiting")]
    Overloaded,
    /// The caller's time is up. The order may still be executed if a worker had begun it.
    #[error("the deadline has passed")]
    DeadlineExceeded,
    /// The database is away. Safe to repeat with the same request id.
    #[error("the database is unavailable")]
    Unavailable,
    /// Still in conflict with other transactions after several attempts.
    #[error("too many conflicts with other transactions")]
    Contention,
    /// A defect, logged under the id of the request.
    #[error("internal error")]
    Internal,
}

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
    /// See [`EngineError`].
    pub async fn execute_heist(
        &self,
        order: HeistOrder,
        deadline: Instant,
    ) -> Result<HeistOutcome, EngineError> {
        self.heists.submit(order, deadline).await
    }

    /// Gives a referrer a token, or says why not.
    ///
    /// # Errors
    ///
    /// See [`EngineError`].
    pub async fn award_token(
        &self,
        order: AwardOrder,
        deadline: Instant,
    ) -> Result<AwardOutcome, EngineError> {
        self.awards.submit(order, deadline).await
    }

    /// Grants or revokes tokens by hand, or says why not.
    ///
    /// # Errors
    ///
    /// See [`EngineError`].
    pub async fn adjust_balance(
        &self,
        order: AdjustmentOrder,
        deadline: Instant,
    ) -> Result<AdjustmentOutcome, EngineError> {
        self.adjustments.submit(order, deadline).await
    }
}

/// A database that is away is away for everybody.
static UNAVAILABLE: Flood = Flood::new();

impl EngineError {
    /// What a caller may know of a fault that ended what we were `doing`. Logs the rest.
    pub fn after(error: &StoreError, doing: &str) -> Self {
        match error {
            StoreError::Unavailable(_) => {
                if let Some(suppressed) = UNAVAILABLE.admit(Instant::now()) {
                    tracing::error!(event = "DATABASE_UNAVAILABLE", %error, doing, suppressed);
                }
            }
            StoreError::Contention(_) => {
                tracing::error!(event = "CONTENTION", %error, doing);
            }
            StoreError::Database(_) => return Self::internal(error, doing),
        }
        Self::from(error)
    }

    pub(crate) fn internal(error: &dyn Display, doing: &str) -> Self {
        tracing::error!(event = "INTERNAL_ERROR", %error, doing);
        Self::Internal
    }
}

/// What a caller may know of a fault that was logged where it happened.
impl From<&StoreError> for EngineError {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::Unavailable,
            StoreError::Contention(_) => Self::Contention,
            StoreError::Database(_) => Self::Internal,
        }
    }
}

impl Workers {
    /// Waits until every accepted order is settled. Returns only after the last clone of the
    /// engine was dropped.
    pub async fn finish(mut self) {
        while self.0.join_next().await.is_some() {}
    }
}
