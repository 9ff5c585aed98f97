//! What the engine has to know of a kind of order.

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

    /// What metrics and traces call it.
    const NAME: &'static str;

    /// Loads, decides and saves, in the transaction of `connection`, which the caller commits. The
    /// rows of [`Self::players`] are locked. Returns one outcome for each order, in their order.
    /// Queues an e-mail for each notification where there is `mailing`.
    fn apply(
        connection: &mut PgConnection,
        orders: &[Self::Order],
        locked: Locked,
        mailing: Option<Mailing>,
    ) -> impl Future<Output = Result<Vec<Self::Outcome>, StoreError>> + Send;

    /// The players whose rows are locked for it, and who are in no other batch at the same time.
    fn players(order: &Self::Order) -> Vec<UserId>;

    /// Whether the outcome is something that happens now, in this transaction.
    fn wrote(outcome: &Self::Outcome) -> bool;

    /// Whether the outcome was found in the books, put there by an earlier transaction.
    fn was_found(outcome: &Self::Outcome) -> bool;

    /// Adds what an outcome changed to what streams are told.
    fn add_changes(changes: &mut Changes, outcome: &Self::Outcome);

    /// Counts and logs a decision that stands.
    fn observe(order: &Self::Order, outcome: &Self::Outcome);

    /// The answer to an order that was run twice: the commit of `earlier` was not confirmed, and
    /// `again` was decided when its locks were free again.
    fn reconcile(earlier: Self::Outcome, again: Self::Outcome) -> Self::Outcome;
}

/// The e-mails of notifications that are written `now` are due at once. The worker schedules them by
/// the mode of each player.
pub(super) fn mail(now: OffsetDateTime) -> EmailSchedule {
    EmailSchedule {
        due_at: now,
        trace_parent: traces::parent_to_keep(),
    }
}
