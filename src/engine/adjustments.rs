//! Adjustments by hand as an operation of the engine.

use sqlx::PgConnection;

use super::queue::Operation;
use crate::{
    domain::{
        adjustment::{AdjustmentOrder, AdjustmentOutcome, decide},
        change::Changes,
        ids::UserId,
    },
    store::{StoreError, adjustments},
};

pub(super) struct Adjustments;

impl Operation for Adjustments {
    type Order = AdjustmentOrder;
    type Outcome = AdjustmentOutcome;

    async fn apply(
        connection: &mut PgConnection,
        orders: &[AdjustmentOrder],
    ) -> Result<Vec<AdjustmentOutcome>, StoreError> {
        let facts = adjustments::load(connection, orders).await?;
        let now = facts.now;
        let outcomes = decide(orders, facts);
        if outcomes.iter().any(Self::wrote) {
            adjustments::save(connection, now, &outcomes).await?;
        }
        Ok(outcomes)
    }

    fn players(order: &AdjustmentOrder) -> Vec<UserId> {
        vec![order.user_id]
    }

    fn wrote(outcome: &AdjustmentOutcome) -> bool {
        matches!(outcome, AdjustmentOutcome::Adjusted { .. })
    }

    /// Nobody is told of an adjustment.
    fn add_changes(_: &mut Changes, _: &AdjustmentOutcome) {}

    fn reconcile(earlier: AdjustmentOutcome, again: AdjustmentOutcome) -> AdjustmentOutcome {
        match (&earlier, &again) {
            // The request id is the caller's own: nobody else made this adjustment.
            (AdjustmentOutcome::Adjusted { .. }, AdjustmentOutcome::Replayed(_)) => earlier,
            _ => again,
        }
    }
}
