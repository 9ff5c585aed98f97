//! Tokens for referrals: load what a batch has to know, save what it decided.

use std::collections::HashMap;

use sqlx::{PgConnection, query_file};
use time::OffsetDateTime;

use super::{ObservedExt as _, StoreError, count, emails::EmailSchedule, tokens};
use crate::domain::{
    award::{AwardFacts, AwardOrder, AwardOutcome, TOKENS_PER_REFERRAL},
    ids::{AwardId, InvalidId, UserId},
};

/// Reads what [`crate::domain::award::decide`] needs. The transaction of `connection` has locked
/// the referrers' rows.
///
/// # Errors
///
/// Any [`StoreError`].
pub async fn load(
    connection: &mut PgConnection,
    orders: &[AwardOrder],
) -> Result<AwardFacts, StoreError> {
    let referrers: Vec<UserId> = orders.iter().map(|order| order.referrer).collect();
    let referred: Vec<i32> = orders.iter().map(|order| order.referred.get()).collect();

    let accounts = tokens::accounts(&mut *connection, &referrers).await?;
    let facts = query_file!(
        "src/store/awards/load_facts.sql",
        count(orders.len()),
        &referred,
    )
    .fetch_one(connection)
    .observed("awards.load")
    .await?;

    Ok(AwardFacts {
        now: facts.now,
        accounts,
        referred: pairs(facts.referred_user_ids, facts.referred_by_ids)?,
        awarded: pairs(facts.awarded_referred_ids, facts.awarded_referrer_ids)?,
        fresh_ids: facts
            .fresh_ids
            .into_iter()
            .map(AwardId::new)
            .collect::<Result<_, _>>()?,
    })
}

/// Writes the awards among `outcomes` that are to happen: tokens, the awards themselves and
/// the referrers' notifications. Where there is a `mail`, these are queued to be mailed.
///
/// # Errors
///
/// Any [`StoreError`].
pub async fn save(
    connection: &mut PgConnection,
    now: OffsetDateTime,
    outcomes: &[AwardOutcome],
    mail: Option<EmailSchedule>,
) -> Result<(), StoreError> {
    let mut ids = Vec::new();
    let mut referrer_ids = Vec::new();
    let mut referred_ids = Vec::new();
    let mut referred_names = Vec::new();
    let mut balances_after = Vec::new();
    for outcome in outcomes {
        if let AwardOutcome::Awarded { award, .. } = outcome {
            ids.push(award.id.get());
            referrer_ids.push(award.referrer.get());
            referred_ids.push(award.referred.get());
            referred_names.push(award.referred_name.clone());
            balances_after.push(award.balance_after);
        }
    }

    query_file!(
        "src/store/awards/save.sql",
        now,
        &ids,
        &referrer_ids,
        &referred_ids,
        &referred_names as &[Option<String>],
        &balances_after,
        TOKENS_PER_REFERRAL,
        mail.as_ref().map(|mail| mail.due_at),
        mail.and_then(|mail| mail.trace_parent),
    )
    .execute(connection)
    .observed("awards.save")
    .await?;
    Ok(())
}

fn pairs(
    keys: Vec<i32>,
    values: Vec<Option<i32>>,
) -> Result<HashMap<UserId, Option<UserId>>, InvalidId> {
    (keys.into_iter().zip(values))
        .map(|(key, value)| Ok((UserId::new(key)?, value.map(UserId::new).transpose()?)))
        .collect()
}
