//! Everything in the database, to see whether something changed.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, PgPool};

/// The rows of every table, as text, in an order that does not depend on how they are stored.
pub async fn snapshot(pool: &PgPool) -> BTreeMap<String, Vec<String>> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let mut rows = BTreeMap::new();
    for table in tables {
        let query = format!(r#"SELECT row::text FROM "{table}" AS row ORDER BY row::text"#);
        let content = sqlx::query_scalar(AssertSqlSafe(query))
            .fetch_all(pool)
            .await
            .unwrap();
        rows.insert(table, content);
    }
    rows
}
