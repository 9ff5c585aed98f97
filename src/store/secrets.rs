//! Secrets that all replicas share.

use super::{PgPool, StoreError};

/// The key that signs page tokens. A migration has created it.
///
/// # Errors
///
/// Any [`StoreError`].
pub async fn page_token_key(pool: &PgPool) -> Result<String, StoreError> {
    let key =
        sqlx::query_scalar!(r#"SELECT "value" FROM "HeistSecret" WHERE "name" = 'page-token-key'"#)
            .fetch_one(pool)
            .await?;
    Ok(key)
}
