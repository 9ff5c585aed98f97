//! Heists as an operation of the engine.

use sqlx::PgConnection;

use super::operation::{self, Operation};
use crate::{
    domain::{
        change::Changes,
        heist::{HeistOrder, HeistOutcome, decide},
        ids::UserId,
        mailing::Mailing,
    },
    store::{StoreError, heists, players::Locked},
    telemetry::metrics::METRICS,
};

pub(in crate::engine) struct Heists;

impl Operation for Heists {
    type Order = HeistOrder;
    type Outcome = HeistOutcome;

    const NAME: &'static str = "heist";

    async fn apply(
        connection: &mut PgConnection,
        orders: &[HeistOrder],
        locked: Locked,
        mailing: Option<Mailing>,
    ) -> Result<Vec<HeistOutcome>, StoreError> {
        let facts = heists::load(connection, orders, locked.players).await?;
        let now = facts.now;
        let outcomes = decide(orders, facts);
        if outcomes.iter().any(Self::wrote) {
            let mail = mailing.map(|_| operation::mail(now));
            heists::save(connection, now, orders, &outcomes, mail).await?;
        }
        Ok(outcomes)
    }

    fn players(order: &HeistOrder) -> Vec<UserId> {
        vec![order.attacker, order.victim]
    }

    fn wrote(outcome: &HeistOutcome) -> bool {
        matches!(outcome, HeistOutcome::Executed { .. })
    }

    fn was_found(outcome: &HeistOutcome) -> bool {
        matches!(outcome, HeistOutcome::Replayed(_))
    }

    fn add_changes(changes: &mut Changes, outcome: &HeistOutcome) {
        changes.add_heist(outcome);
    }

    fn observe(order: &HeistOrder, outcome: &HeistOutcome) {
        let label = match outcome {
            HeistOutcome::Executed { heist, .. } => {
                METRICS.points_stolen(heist.points_stolen);
                METRICS.tokens_spent(1, "heist");
                METRICS.notifications(1, "HEIST_SUCCESS");
                METRICS.notifications(1, "HEIST_VICTIM");
                "EXECUTED"
            }
            HeistOutcome::Replayed(_) => "REPLAYED",
            HeistOutcome::Refused { refusal, .. } => refusal.reason(),
            HeistOutcome::RequestIdReused => "REQUEST_ID_REUSED",
        };
        METRICS.heists(1, label);
        let (attacker, victim) = (order.attacker.get(), order.victim.get());
        tracing::debug!(
            event = "HEIST_DECIDED",
            attackerId = attacker,
            victimId = victim,
            outcome = label,
        );
    }

    fn reconcile(earlier: HeistOutcome, again: HeistOutcome) -> HeistOutcome {
        match (&earlier, &again) {
            (HeistOutcome::Executed { heist, .. }, HeistOutcome::Replayed(found))
                if heist.id == found.id =>
            {
                earlier
            }
            _ => again,
        }
    }
}
