//! Awards: reads the facts that a batch needs, and saves its decisions.

use sqlx::{PgConnection, query_file};
use time::OffsetDateTime;

use super::{
    ObservedExt as _, StoreError, count,
    effects::{Effects, Written},
    emails::EmailSchedule,
    tokens,
};
use crate::domain::{
    award::{AwardFacts, AwardOrder, AwardOutcome, PastAward, TOKENS_PER_REFERRAL},
    ids::{AwardId, InvalidId, UserId},
};

/// Reads the facts that [`crate::domain::award::decide`] needs. The transaction of `connection` has
/// locked the rows of the referrers and the referred players.
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

    let referred = (facts.referred_user_ids.into_iter()).zip(facts.referred_by_ids);
    let referred = referred
        .map(|(id, referrer)| Ok((UserId::new(id)?, player(referrer)?)))
        .collect::<Result<_, InvalidId>>()?;
    let awarded = (facts.awarded_referred_ids.into_iter())
        .zip(facts.award_ids)
        .zip(facts.awarded_referrer_ids);
    let awarded = awarded
        .map(|((referred, id), referrer)| {
            let award = PastAward {
                id: AwardId::new(id)?,
                referrer: player(referrer)?,
            };
            Ok((UserId::new(referred)?, award))
        })
        .collect::<Result<_, InvalidId>>()?;
    Ok(AwardFacts {
        now: facts.now,
        accounts,
        referred,
        awarded,
        fresh_ids: facts
            .fresh_ids
            .into_iter()
            .map(AwardId::new)
            .collect::<Result<_, _>>()?,
    })
}

/// Writes the new awards among `outcomes`: tokens, the awards themselves and the referrers'
/// notifications. With a `mail`, the notifications are queued to be mailed.
///
/// # Errors
///
/// [`StoreError::Interference`] if the tables do not hold the decided values.
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
    let mut effects = Effects::default();
    for outcome in outcomes {
        if let AwardOutcome::Awarded { award, account } = outcome {
            effects.balances.insert(award.referrer, account.balance);
            ids.push(award.id.get());
            referrer_ids.push(award.referrer.get());
            referred_ids.push(award.referred.get());
            referred_names.push(award.referred_name.clone());
            balances_after.push(award.balance_after);
        }
    }

    effects.awards = ids.len();
    effects.notifications = ids.len();

    let saved = query_file!(
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
    .fetch_one(&mut *connection)
    .observed("awards.save")
    .await?;
    let written = Written {
        balances: (saved.account_user_ids.into_iter())
            .zip(saved.account_balances)
            .collect(),
        awards: saved.awards,
        notifications: saved.notifications,
        has_foreign_triggers: saved.has_foreign_triggers,
        ..Written::default()
    };
    effects.verify(connection, &written).await
}

fn player(id: Option<i32>) -> Result<Option<UserId>, InvalidId> {
    id.map(UserId::new).transpose()
}
