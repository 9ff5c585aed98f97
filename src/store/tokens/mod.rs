//! Reads token accounts and their statements.

use std::collections::HashMap;

use sqlx::{PgExecutor, query_file, query_file_as};
use time::OffsetDateTime;

use super::{ObservedExt as _, StoreError};
use crate::domain::{
    award::TOKENS_PER_REFERRAL,
    ids::{HeistId, InvalidId, UserId},
    tokens::{TokenAccount, TokenEvent, TokenSource},
};

/// The accounts of the players who exist.
pub async fn accounts(
    executor: impl PgExecutor<'_>,
    user_ids: &[UserId],
) -> Result<HashMap<UserId, TokenAccount>, StoreError> {
    let user_ids: Vec<i32> = user_ids.iter().map(|user_id| user_id.get()).collect();
    let rows = query_file!("src/store/tokens/accounts.sql", &user_ids)
        .fetch_all(executor)
        .observed("tokens.accounts")
        .await?;
    let accounts = rows.into_iter().map(|row| {
        let account = TokenAccount {
            balance: row.balance,
            total_earned: row.total_earned,
            total_spent: row.total_spent,
            last_earned_at: row.last_earned_at,
            last_spent_at: row.last_spent_at,
        };
        Ok((UserId::new(row.user_id)?, account))
    });
    accounts.collect()
}

/// Up to `limit` lines of a player's statement, newest first, all with a ledger id below `before`.
pub async fn statement(
    executor: impl PgExecutor<'_>,
    user_id: UserId,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<TokenEvent>, StoreError> {
    let rows = query_file_as!(
        EventRow,
        "src/store/tokens/statement.sql",
        user_id.get(),
        before.unwrap_or(i64::MAX),
        limit,
        TOKENS_PER_REFERRAL,
    )
    .fetch_all(executor)
    .observed("tokens.statement")
    .await?;
    rows.into_iter()
        .map(|row| Ok(TokenEvent::try_from(row)?))
        .collect()
}

struct EventRow {
    ledger_id: i64,
    delta: i32,
    balance_after: i32,
    kind: String,
    referred_id: Option<i32>,
    actor: Option<String>,
    reason: Option<String>,
    created_at: OffsetDateTime,
}

impl TryFrom<EventRow> for TokenEvent {
    type Error = InvalidId;

    fn try_from(row: EventRow) -> Result<Self, InvalidId> {
        let source = match (row.kind.as_str(), row.actor, row.reason) {
            ("heist", _, _) => TokenSource::Heist {
                heist_id: HeistId::new(row.ledger_id)?,
            },
            ("carried forward", _, _) => TokenSource::CarriedForward,
            (_, Some(actor), Some(reason)) => TokenSource::Adjustment { actor, reason },
            _ => TokenSource::Referral {
                referred_id: row.referred_id.map(UserId::new).transpose()?,
            },
        };
        Ok(Self {
            ledger_id: row.ledger_id,
            delta: row.delta,
            balance_after: row.balance_after,
            source,
            created_at: row.created_at,
        })
    }
}
