//! Adjustments by hand as an operation of the engine.

use sqlx::PgConnection;

use super::operation::Operation;
use crate::{
    domain::{
        adjustment::{AdjustmentOrder, AdjustmentOutcome, decide},
        change::Changes,
        ids::UserId,
        mailing::Mailing,
    },
    store::{StoreError, adjustments, players::Locked},
    telemetry::metrics::METRICS,
};

pub(in crate::engine) struct Adjustments;

impl Operation for Adjustments {
    type Order = AdjustmentOrder;
    type Outcome = AdjustmentOutcome;

    const NAME: &'static str = "adjustment";

    async fn apply(
        connection: &mut PgConnection,
        orders: &[AdjustmentOrder],
        _locked: Locked,
        _mailing: Option<Mailing>,
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

    fn was_found(outcome: &AdjustmentOutcome) -> bool {
        matches!(outcome, AdjustmentOutcome::Replayed { .. })
    }

    /// No stream reports adjustments.
    fn add_changes(_: &mut Changes, _: &AdjustmentOutcome) {}

    fn observe(order: &AdjustmentOrder, outcome: &AdjustmentOutcome) {
        let label = match outcome {
            AdjustmentOutcome::Adjusted { adjustment, .. } => {
                let delta = adjustment.delta;
                METRICS.tokens_earned(delta.max(0), "adjustment");
                METRICS.tokens_spent(delta.saturating_neg().max(0), "adjustment");
                "ADJUSTED"
            }
            AdjustmentOutcome::Replayed { .. } => "REPLAYED",
            AdjustmentOutcome::UserNotFound => "USER_NOT_FOUND",
            AdjustmentOutcome::InsufficientTokens { .. } => "INSUFFICIENT_TOKENS",
            AdjustmentOutcome::RequestIdReused => "REQUEST_ID_REUSED",
            AdjustmentOutcome::BalanceOutOfRange => "OUT_OF_RANGE",
        };
        let user_id = order.user_id.get();
        tracing::debug!(
            event = "ADJUSTMENT_DECIDED",
            userId = user_id,
            delta = order.delta,
            outcome = label,
        );
    }

    fn reconcile(earlier: AdjustmentOutcome, again: AdjustmentOutcome) -> AdjustmentOutcome {
        match (&earlier, &again) {
            // Another id is the adjustment of a duplicate call, which was made instead of the lost
            // one.
            (
                AdjustmentOutcome::Adjusted { adjustment, .. },
                AdjustmentOutcome::Replayed { id, .. },
            ) if adjustment.id == *id => earlier,
            _ => again,
        }
    }
}
