//! Reading token accounts.

use sqlx::{PgExecutor, query_file_as};

use super::StoreError;
use crate::domain::{ids::UserId, tokens::TokenAccount};

/// A player's account; `None` where there is no such player.
///
/// # Errors
///
/// Any [`StoreError`].
pub async fn balance(
    executor: impl PgExecutor<'_>,
    user_id: UserId,
) -> Result<Option<TokenAccount>, StoreError> {
    let account = query_file_as!(TokenAccount, "src/store/tokens/balance.sql", user_id.0)
        .fetch_optional(executor)
        .await?;
    Ok(account)
}
