//! The interface between the engine and a kind of order.

use std::future::Future;

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{
    domain::{change::Changes, ids::UserId, mailing::Mailing},
    store::{StoreError, emails::EmailSchedule, players::Locked},
    telemetry::traces,
};

/// A kind of order that is executed in batches.
pub(in crate::engine) trait Operation: Sized + 'static {
    type Order: Clone + Send + Sync + 'static;
    type Outcome: Send + Sync + 'static;

    /// The kind's name in metrics and traces.
    const NAME: &'static str;

    /// Loads, decides and saves, in the transaction of `connection`, which the caller commits. The
    /// rows of [`Self::players`] are locked. Returns one outcome for each order, in the order of
    /// `orders`. With `mailing`, queues an e-mail for each notification.
    fn apply(
        connection: &mut PgConnection,
        orders: &[Self::Order],
        locked: Locked,
        mailing: Option<Mailing>,
    ) -> impl Future<Output = Result<Vec<Self::Outcome>, StoreError>> + Send;

    /// The players of an order. The batch locks their rows, and no concurrent batch of this kind
    /// has an order of these players.
    fn players(order: &Self::Order) -> Vec<UserId>;

    /// Whether this transaction writes the outcome into the books.
    fn wrote(outcome: &Self::Outcome) -> bool;

    /// Whether an earlier transaction wrote the outcome into the books, and this one found it
    /// there.
    fn was_found(outcome: &Self::Outcome) -> bool;

    /// Adds the changes of an outcome to the changes that streams report.
    fn add_changes(changes: &mut Changes, outcome: &Self::Outcome);

    /// Counts and logs a final decision.
    fn observe(order: &Self::Order, outcome: &Self::Outcome);

    /// The answer to an order that was attempted twice. The commit of `earlier` was not confirmed.
    /// `again` was decided after the first attempt had released its locks.
    fn reconcile(earlier: Self::Outcome, again: Self::Outcome) -> Self::Outcome;
}

/// The schedule of the e-mails of notifications that are written `now`: they are due at once. The
/// mail worker then schedules them by the mode of each player.
pub(super) fn mail(now: OffsetDateTime) -> EmailSchedule {
    EmailSchedule {
        due_at: now,
        trace_parent: traces::parent_to_keep(),
    }
}
