//! Adjustments: reads the facts that a batch needs, and saves its decisions.

use std::collections::HashMap;

use sqlx::{PgConnection, query_file};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    ObservedExt as _, StoreError, count,
    effects::{Effects, Written},
    tokens,
};
use crate::domain::{
    adjustment::{Adjustment, AdjustmentFacts, AdjustmentOrder, AdjustmentOutcome},
    ids::{AdjustmentId, RequestId, UserId},
    tokens::TokenAccount,
};

/// Reads the facts that [`crate::domain::adjustment::decide`] needs. The transaction of
/// `connection` has locked the players' rows.
pub async fn load(
    connection: &mut PgConnection,
    orders: &[AdjustmentOrder],
) -> Result<AdjustmentFacts, StoreError> {
    let user_ids: Vec<UserId> = orders.iter().map(|order| order.user_id).collect();
    let request_ids: Vec<Uuid> = orders.iter().map(|order| order.request_id.get()).collect();

    let accounts = tokens::accounts(&mut *connection, &user_ids).await?;
    let made = find(connection, &request_ids).await?;
    let facts = query_file!("src/store/adjustments/load_facts.sql", count(orders.len()))
        .fetch_one(connection)
        .observed("adjustments.load")
        .await?;
    Ok(AdjustmentFacts {
        now: facts.now,
        accounts,
        made,
        fresh_ids: facts
            .fresh_ids
            .into_iter()
            .map(AdjustmentId::new)
            .collect::<Result<_, _>>()?,
    })
}

/// Writes the new adjustments among `outcomes`, and the accounts.
///
/// # Errors
///
/// [`StoreError::Interference`] if the tables do not hold the decided values.
pub async fn save(
    connection: &mut PgConnection,
    now: OffsetDateTime,
    outcomes: &[AdjustmentOutcome],
) -> Result<(), StoreError> {
    // Each account after the last adjustment of the batch.
    let mut accounts: HashMap<UserId, &TokenAccount> = HashMap::new();
    let mut adjustments: Vec<&Adjustment> = Vec::new();
    for outcome in outcomes {
        if let AdjustmentOutcome::Adjusted {
            adjustment,
            account,
        } = outcome
        {
            accounts.insert(adjustment.user_id, account);
            adjustments.push(adjustment);
        }
    }
    let effects = Effects {
        balances: (accounts.iter())
            .map(|(user_id, account)| (*user_id, account.balance))
            .collect(),
        adjustments: adjustments.len(),
        ..Effects::default()
    };
    let (account_ids, accounts): (Vec<UserId>, Vec<&TokenAccount>) = accounts.into_iter().unzip();

    let saved = query_file!(
        "src/store/adjustments/save.sql",
        now,
        &column(&account_ids, |user_id| user_id.get()),
        &column(&accounts, |account| account.balance),
        &column(&accounts, |account| account.total_earned),
        &column(&accounts, |account| account.total_spent),
        &column(&adjustments, |adjustment| adjustment.id.get()),
        &column(&adjustments, |adjustment| adjustment.user_id.get()),
        &column(&adjustments, |adjustment| adjustment.delta),
        &column(&adjustments, |adjustment| adjustment.balance_after),
        &column(&adjustments, |adjustment| adjustment.actor.clone()),
        &column(&adjustments, |adjustment| adjustment.reason.clone()),
        &column(&adjustments, |adjustment| adjustment.request_id.get()),
    )
    .fetch_one(&mut *connection)
    .observed("adjustments.save")
    .await?;
    let written = Written {
        balances: (saved.account_user_ids.into_iter())
            .zip(saved.account_balances)
            .collect(),
        adjustments: saved.adjustments,
        has_foreign_triggers: saved.has_foreign_triggers,
        ..Written::default()
    };
    effects.verify(connection, &written).await
}

async fn find(
    connection: &mut PgConnection,
    request_ids: &[Uuid],
) -> Result<HashMap<RequestId, Adjustment>, StoreError> {
    let rows = query_file!("src/store/adjustments/find.sql", request_ids)
        .fetch_all(connection)
        .observed("adjustments.find")
        .await?;
    let adjustments = rows.into_iter().map(|row| {
        let adjustment = Adjustment {
            id: AdjustmentId::new(row.id)?,
            user_id: UserId::new(row.user_id)?,
            delta: row.delta,
            balance_after: row.balance_after,
            actor: row.actor,
            reason: row.reason,
            request_id: RequestId::new(row.request_id),
            created_at: row.created_at,
        };
        Ok((adjustment.request_id, adjustment))
    });
    adjustments.collect()
}

fn column<T, C>(rows: &[T], value: impl Fn(&T) -> C) -> Vec<C> {
    rows.iter().map(value).collect()
}
