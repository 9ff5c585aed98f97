//! Compares sequences with the rows that they number.
//!
//! A restored dump or `RESTART IDENTITY` can leave a sequence behind its rows. New rows then collide
//! with old ones, or get lower ids than older rows, and readers that continue after an id miss them.

use sqlx::{FromRow, PgConnection, query, query_as, query_scalar};

use super::SchemaError;

/// A sequence whose next value is not above all ids.
#[derive(Debug, FromRow)]
pub(super) struct Behind {
    sequence: String,
    last_value: i64,
    highest_id: i64,
}

impl Behind {
    /// Whether the sequence belongs to the service.
    pub(super) fn is_ours(&self) -> bool {
        self.sequence.contains("Heist")
    }

    pub(super) fn text(&self) -> String {
        let Self {
            sequence,
            last_value,
            highest_id,
        } = self;
        let cure = if self.is_ours() {
            "run `heist migrate up`".to_owned()
        } else {
            format!("SELECT setval('{sequence}', {highest_id})")
        };
        format!(
            "the sequence {sequence} is at {last_value}, behind the row with the id {highest_id}; cure: {cure}"
        )
    }
}

/// The sequences that are behind their rows. Needs the migrated schema.
///
/// The lookup uses indexes. For notifications it looks at the newest ones of the players of the
/// newest heist and award, because no index holds all ids.
///
/// # Errors
///
/// [`SchemaError::Store`] if the tables cannot be read.
pub(super) async fn behind(connection: &mut PgConnection) -> Result<Vec<Behind>, SchemaError> {
    let mut behind: Vec<Behind> = query_as(include_str!("sequences.sql"))
        .fetch_all(&mut *connection)
        .await?;
    behind.extend(of_point_events(connection).await?);
    Ok(behind)
}

/// The sequence of the application's point events, if it is behind its rows.
///
/// # Errors
///
/// [`SchemaError::Store`] if the table cannot be read.
pub(super) async fn of_point_events(
    connection: &mut PgConnection,
) -> Result<Option<Behind>, SchemaError> {
    let Some(sequence) = point_event_sequence(connection).await? else {
        return Ok(None);
    };
    let behind = query_as(
        r#"SELECT
            $1 AS sequence,
            COALESCE(pg_sequence_last_value($1::text::regclass), 0) AS last_value,
            max("id")::bigint AS highest_id
        FROM "UserPointEvent"
        HAVING max("id") > COALESCE(pg_sequence_last_value($1::text::regclass), 0)"#,
    )
    .bind(sequence)
    .fetch_optional(connection)
    .await?;
    Ok(behind)
}

/// The sequence of the application's point events. `None` if their ids have none.
async fn point_event_sequence(
    connection: &mut PgConnection,
) -> Result<Option<String>, SchemaError> {
    let sequence: Option<Option<String>> = query_scalar(
        r#"SELECT pg_get_serial_sequence('"UserPointEvent"', attname::text)
        FROM pg_attribute
        WHERE
            attrelid = to_regclass('"UserPointEvent"') AND attname = 'id' AND attnum > 0
            AND atttypid IN ('integer'::regtype, 'bigint'::regtype)"#,
    )
    .fetch_optional(connection)
    .await?;
    Ok(sequence.flatten())
}

/// Advances the service's own sequences behind their rows. Blocks writers of the numbered tables,
/// so that no row is inserted between the comparison and the repair.
///
/// # Errors
///
/// [`SchemaError::Store`] if a lock is not granted within 2 s, or the role may not write the sequences.
pub(super) async fn repair(connection: &mut PgConnection) -> Result<(), SchemaError> {
    let mut transaction = sqlx::Connection::begin(connection).await?;
    sqlx::raw_sql(
        r#"SET LOCAL lock_timeout = '2s';
        LOCK TABLE "Heist", "HeistTokenAward", "HeistTokenAdjustment", "HeistNotification"
            IN SHARE ROW EXCLUSIVE MODE"#,
    )
    .execute(&mut *transaction)
    .await?;
    query(
        r#"SELECT
            setval('"HeistLedger_id_seq"', ledger.highest),
            setval('"HeistNotification_id_seq"', note.highest)
        FROM (
            SELECT greatest(
                (SELECT max("id") FROM "Heist"),
                (SELECT max("id") FROM "HeistTokenAward"),
                (SELECT max("id") FROM "HeistTokenAdjustment"),
                (SELECT max("lastSpendId") FROM "HeistArchiveTotal"),
                pg_sequence_last_value('"HeistLedger_id_seq"'),
                1
            ) AS highest
        ) AS ledger
        CROSS JOIN (
            SELECT greatest(
                (SELECT max("id") FROM "HeistNotification"),
                (SELECT max("lastRowId") FROM "HeistArchiveFile" WHERE "kind" = 'notifications'),
                pg_sequence_last_value('"HeistNotification_id_seq"'),
                1
            ) AS highest
        ) AS note"#,
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}
