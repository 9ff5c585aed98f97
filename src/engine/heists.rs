//! Heists as an operation of the engine.

use sqlx::PgConnection;

use super::queue::Operation;
use crate::{
    domain::{
        change::Changes,
        heist::{HeistOrder, HeistOutcome, decide},
        ids::UserId,
    },
    store::{StoreError, heists},
};

pub(super) struct Heists;

impl Operation for Heists {
    type Order = HeistOrder;
    type Outcome = HeistOutcome;

    async fn apply(
        connection: &mut PgConnection,
        orders: &[HeistOrder],
    ) -> Result<Vec<HeistOutcome>, StoreError> {
        let facts = heists::load(connection, orders).await?;
        let now = facts.now;
        let outcomes = decide(orders, facts);
        if outcomes.iter().any(Self::wrote) {
            heists::save(connection, now, orders, &outcomes).await?;
        }
        Ok(outcomes)
    }

    fn players(order: &HeistOrder) -> Vec<UserId> {
        vec![order.attacker, order.victim]
    }

    fn wrote(outcome: &HeistOutcome) -> bool {
        matches!(outcome, HeistOutcome::Executed { .. })
    }

    fn add_changes(changes: &mut Changes, outcome: &HeistOutcome) {
        changes.add_heist(outcome);
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
