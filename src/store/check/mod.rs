//! Checks the books: whether the rows of all tables agree with each other.

use sqlx::{Executor as _, PgExecutor, query_file_scalar};

use super::{ObservedExt as _, PgPool, StoreError};
use crate::domain::award::TOKENS_PER_REFERRAL;

/// The statement reads all tables, so it may take longer than a role's time-outs allow.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; \
     SET LOCAL statement_timeout = 0; \
     SET LOCAL idle_in_transaction_session_timeout = 0";

/// All inconsistencies of the books, one sentence each. The result is empty if the books are in order.
/// One statement reads each table once, in one snapshot and without row locks.
///
/// It checks that no points and no balance are negative; that a balance equals tokens earned minus
/// tokens spent, and that both agree with the statement; that each line of a statement follows from
/// the line before; the points before and after each heist; that each heist has two notifications and
/// each award has one; that each player's point events agree with the heists; that each point event has
/// a type; and that no sequence is behind its rows.
pub async fn books(executor: impl PgExecutor<'_>) -> Result<Vec<String>, StoreError> {
    let findings = query_file_scalar!("src/store/check/books.sql", TOKENS_PER_REFERRAL)
        .fetch_all(executor)
        .await?;
    Ok(findings)
}

/// Runs [`books`] without the time-outs that the role may have.
pub async fn books_without_timeouts(pool: &PgPool) -> Result<Vec<String>, StoreError> {
    let mut connection = pool.acquire().await?;
    connection.execute(BEGIN).observed("begin").await?;
    let findings = books(&mut *connection).await?;
    connection.execute("ROLLBACK").await?;
    Ok(findings)
}
