//! Whether the books are in order.

use sqlx::{PgExecutor, query_file_scalar};

use super::StoreError;
use crate::domain::award::TOKENS_PER_REFERRAL;

/// Everything that is wrong with the books, a sentence each that names what it is about;
/// empty where they are in order. Sees one moment, takes no locks, reads each table once.
///
/// Checked are: no negative points or balance; tokens earned − spent = balance, and both as
/// the statement says; every line of a statement follows from the one before; the points
/// before and after every heist; every heist's two notifications and every award's one; the
/// point events of every player's heists.
pub async fn books(executor: impl PgExecutor<'_>) -> Result<Vec<String>, StoreError> {
    let findings = query_file_scalar!("src/store/check/books.sql", TOKENS_PER_REFERRAL)
        .fetch_all(executor)
        .await?;
    Ok(findings)
}
