//! Tokens for referrals as an operation of the engine.

use sqlx::PgConnection;

use super::queue::Operation;
use crate::{
    domain::{
        award::{AwardOrder, AwardOutcome, decide},
        change::Changes,
        ids::UserId,
    },
    store::{StoreError, awards},
};

pub(super) struct Awards;

impl Operation for Awards {
    type Order = AwardOrder;
    type Outcome = AwardOutcome;

    async fn apply(
        connection: &mut PgConnection,
        orders: &[AwardOrder],
    ) -> Result<Vec<AwardOutcome>, StoreError> {
        let facts = awards::load(connection, orders).await?;
        let now = facts.now;
        let outcomes = decide(orders, facts);
        if outcomes.iter().any(Self::wrote) {
            awards::save(connection, now, &outcomes).await?;
        }
        Ok(outcomes)
    }

    fn players(order: &AwardOrder) -> Vec<UserId> {
        vec![order.referrer, order.referred]
    }

    fn wrote(outcome: &AwardOutcome) -> bool {
        matches!(outcome, AwardOutcome::Awarded { .. })
    }

    fn add_changes(changes: &mut Changes, outcome: &AwardOutcome) {
        changes.add_award(outcome);
    }

    fn reconcile(earlier: AwardOutcome, again: AwardOutcome) -> AwardOutcome {
        match (&earlier, &again) {
            // Nobody else earns this referrer the token of this referral.
            (AwardOutcome::Awarded { .. }, AwardOutcome::AlreadyAwarded(_)) => earlier,
            _ => again,
        }
    }
}
