//! Checks the books: whether the rows of all tables agree with each other.

use sqlx::{Acquire, Executor as _, Postgres, query_file_scalar};
use tokio_stream::StreamExt as _;

use super::{
    ObservedExt as _, PgPool,
    schema::{self, SchemaError},
};
use crate::domain::award::TOKENS_PER_REFERRAL;

/// The statement reads all tables, so it may take longer than a role's time-outs allow.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; \
     SET LOCAL statement_timeout = 0; \
     SET LOCAL idle_in_transaction_session_timeout = 0";

/// Findings that are kept in memory. Further ones are only counted.
const MAX_FINDINGS: usize = 10_000;

/// What is wrong with the books.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// One sentence each, 10,000 at most.
    pub first: Vec<String>,
    /// The number of all findings.
    pub total: usize,
}

impl Findings {
    fn add(&mut self, finding: String) {
        if self.first.len() < MAX_FINDINGS {
            self.first.push(finding);
        }
        self.total += 1;
    }
}

/// All inconsistencies of the books, one sentence each. The result is empty if the books are in order.
/// Two statements read the tables without row locks, each in one snapshot.
///
/// It checks that no points and no balance are negative; that a balance equals tokens earned minus
/// tokens spent, and that both agree with the statement; that each line of a statement follows from
/// the line before; the points before and after each heist; that each heist has two notifications and
/// each award has one; that each player's point events agree with the points of their heists; that each
/// point event has a type; and that no sequence of the service is behind its rows.
pub async fn books(database: impl Acquire<'_, Database = Postgres>) -> sqlx::Result<Findings> {
    let mut connection = database.acquire().await?;
    let mut findings = Findings::default();
    let mut rows = query_file_scalar!("src/store/check/books.sql", TOKENS_PER_REFERRAL)
        .fetch(&mut *connection);
    while let Some(finding) = rows.next().await {
        findings.add(finding?);
    }
    drop(rows);
    let mut rows = query_file_scalar!("src/store/check/point_events.sql").fetch(&mut *connection);
    while let Some(finding) = rows.next().await {
        findings.add(finding?);
    }
    drop(rows);
    Ok(findings)
}

/// Runs [`books`] without the time-outs that the role may have. Also looks at the sequence of the
/// application's point events.
///
/// # Errors
///
/// A failure of the database.
pub async fn books_without_timeouts(pool: &PgPool) -> Result<Findings, SchemaError> {
    let mut connection = pool.acquire().await?;
    connection.execute(BEGIN).observed("begin").await?;
    let mut findings = books(&mut *connection).await?;
    if let Some(finding) = schema::point_event_sequence_behind(&mut connection).await? {
        findings.add(finding);
    }
    connection.execute("ROLLBACK").await?;
    Ok(findings)
}
