//! Tokens for referrals as an operation of the engine.

use sqlx::PgConnection;

use super::operation::{self, Operation};
use crate::{
    domain::{
        award::{AwardOrder, AwardOutcome, TOKENS_PER_REFERRAL, decide},
        change::Changes,
        ids::UserId,
        mailing::Mailing,
    },
    store::{StoreError, awards, players::Locked},
    telemetry::metrics::METRICS,
};

pub(in crate::engine) struct Awards;

impl Operation for Awards {
    type Order = AwardOrder;
    type Outcome = AwardOutcome;

    const NAME: &'static str = "award";

    async fn apply(
        connection: &mut PgConnection,
        orders: &[AwardOrder],
        _locked: Locked,
        mailing: Option<Mailing>,
    ) -> Result<Vec<AwardOutcome>, StoreError> {
        let facts = awards::load(connection, orders).await?;
        let now = facts.now;
        let outcomes = decide(orders, facts);
        if outcomes.iter().any(Self::wrote) {
            let mail = mailing.map(|_| operation::mail(now));
            awards::save(connection, now, &outcomes, mail).await?;
        }
        Ok(outcomes)
    }

    /// The referred player is locked, too. Otherwise the foreign key of the award would lock the
    /// row, and wait for it.
    fn players(order: &AwardOrder) -> Vec<UserId> {
        vec![order.referrer, order.referred]
    }

    fn wrote(outcome: &AwardOutcome) -> bool {
        matches!(outcome, AwardOutcome::Awarded { .. })
    }

    fn was_found(outcome: &AwardOutcome) -> bool {
        matches!(outcome, AwardOutcome::AlreadyAwarded { .. })
    }

    fn add_changes(changes: &mut Changes, outcome: &AwardOutcome) {
        changes.add_award(outcome);
    }

    fn observe(order: &AwardOrder, outcome: &AwardOutcome) {
        let label = match outcome {
            AwardOutcome::Awarded { .. } => {
                METRICS.tokens_earned(TOKENS_PER_REFERRAL, "referral");
                METRICS.notifications(1, "TOKEN_EARNED");
                "AWARDED"
            }
            AwardOutcome::AlreadyAwarded { .. } => "ALREADY_AWARDED",
            AwardOutcome::Refused(refusal) => refusal.reason(),
            AwardOutcome::BalanceOutOfRange => "OUT_OF_RANGE",
        };
        METRICS.awards(1, label);
        let (referrer, referred) = (order.referrer.get(), order.referred.get());
        tracing::debug!(
            event = "AWARD_DECIDED",
            referrerId = referrer,
            referredId = referred,
            outcome = label,
        );
    }

    fn reconcile(earlier: AwardOutcome, again: AwardOutcome) -> AwardOutcome {
        match (&earlier, &again) {
            // Another id is the award of a duplicate call, which was made instead of the lost one.
            (AwardOutcome::Awarded { award, .. }, AwardOutcome::AlreadyAwarded { id, .. })
                if award.id == *id =>
            {
                earlier
            }
            _ => again,
        }
    }
}
