//! The language of players: a column of the application's table that a setting names.

use std::collections::HashMap;

use sqlx::{AssertSqlSafe, PgConnection, PgExecutor, query_as};

use super::ClaimedEmail;
use crate::store::{ObservedExt as _, StoreError};

/// The number of characters of a language that are read.
const MAX_CHARACTERS: u32 = 35;

/// The name of a column of `"User"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LanguageColumn(String);

impl LanguageColumn {
    /// # Errors
    ///
    /// Returns the expected form.
    pub fn parse(name: &str) -> Result<Self, String> {
        let is_part = |it: char| it.is_ascii_alphanumeric() || it == '_';
        let is_name = (1..=63).contains(&name.len()) && name.chars().all(is_part);
        is_name
            .then(|| Self(name.to_owned()))
            .ok_or_else(|| "expected the name of a column, such as locale".to_owned())
    }

    /// The name holds letters, digits and underscores only, so that it is safe within quotes.
    fn statement(&self) -> AssertSqlSafe<String> {
        AssertSqlSafe(format!(
            r#"SELECT "id", left("{}"::text, {MAX_CHARACTERS}) FROM "User" WHERE "id" = ANY($1)"#,
            self.0
        ))
    }
}

/// Checks that the column exists and that the service's role may read it.
///
/// # Errors
///
/// PostgreSQL's error, for example that the column does not exist.
pub async fn check_language_column(
    executor: impl PgExecutor<'_>,
    column: &LanguageColumn,
) -> Result<(), StoreError> {
    languages(executor, column, &[]).await.map(drop)
}

/// Reads the languages of the players of claimed e-mails.
///
/// # Errors
///
/// A failure of the database.
pub async fn add_languages(
    connection: &mut PgConnection,
    column: &LanguageColumn,
    emails: &mut [ClaimedEmail],
) -> Result<(), StoreError> {
    let ids: Vec<i32> = emails.iter().map(|email| email.user_id.get()).collect();
    let mut languages = languages(connection, column, &ids).await?;
    for email in emails {
        let language = languages.get_mut(&email.user_id.get());
        email.language = language.and_then(|it| it.clone());
    }
    Ok(())
}

async fn languages(
    executor: impl PgExecutor<'_>,
    column: &LanguageColumn,
    ids: &[i32],
) -> Result<HashMap<i32, Option<String>>, StoreError> {
    let rows: Vec<(i32, Option<String>)> = query_as(column.statement())
        .bind(ids)
        .fetch_all(executor)
        .observed("emails.languages")
        .await?;
    Ok(rows.into_iter().collect())
}
