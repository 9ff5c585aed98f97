//! The columns of the application's tables.

use sqlx::{FromRow, PgConnection, query_as};

use super::SchemaError;

/// The tables of the application.
pub(super) const TABLES: [&str; 3] = ["User", "PointEventTypeMaster", "UserPointEvent"];

/// The length of a UUID as text.
const UUID_LENGTH: i32 = 36;

/// A column of one of the application's tables.
#[derive(Clone, Debug, FromRow)]
pub(super) struct Column {
    pub(super) table: String,
    pub(super) name: String,
    /// The name of the type in `pg_type`, such as `int4`.
    pub(super) kind: String,
    /// The category in `pg_type`: `S` for strings, `E` for enums.
    category: String,
    /// The maximum length of a `varchar` or `char`.
    pub(super) length: Option<i32>,
    pub(super) is_not_null: bool,
    has_default: bool,
}

impl Column {
    /// Whether an insert has to name this column.
    pub(super) fn needs_value(&self) -> bool {
        self.is_not_null && !self.has_default
    }

    /// Whether the service's trigger can fill this column: a text or UUID id, or a time stamp.
    pub(super) fn can_be_filled(&self) -> bool {
        self.kind == "uuid" || self.is_time() || self.name == "id" && self.holds_text(UUID_LENGTH)
    }

    pub(super) fn is_time(&self) -> bool {
        matches!(self.kind.as_str(), "timestamp" | "timestamptz")
    }

    pub(super) fn holds_text(&self, length: i32) -> bool {
        self.category == "S" && self.length.is_none_or(|maximum| maximum >= length)
    }

    /// Whether the service writes this column of `"UserPointEvent"`.
    pub(super) fn is_written(&self) -> bool {
        [
            "userId",
            "points",
            "pointEventTypeId",
            "description",
            "createdAt",
        ]
        .contains(&self.name.as_str())
    }
}

/// All columns of the application's tables.
///
/// # Errors
///
/// [`SchemaError::Store`] if the catalogue cannot be read.
pub(super) async fn all(connection: &mut PgConnection) -> Result<Vec<Column>, SchemaError> {
    let columns = query_as(
        r#"SELECT
            wanted.name AS "table",
            attribute.attname::text AS name,
            kind.typname::text AS kind,
            kind.typcategory::text AS category,
            CASE
                WHEN kind.typname IN ('varchar', 'bpchar') AND attribute.atttypmod > 4
                    THEN attribute.atttypmod - 4
            END AS length,
            attribute.attnotnull OR kind.typnotnull AS is_not_null,
            attribute.atthasdef OR attribute.attidentity <> '' OR kind.typdefault IS NOT NULL
                AS has_default
        FROM unnest($1::text[]) AS wanted (name)
        INNER JOIN pg_attribute AS attribute
            ON attribute.attrelid = to_regclass(quote_ident(wanted.name))
        INNER JOIN pg_type AS kind ON kind.oid = attribute.atttypid
        WHERE attribute.attnum > 0 AND NOT attribute.attisdropped
        ORDER BY wanted.name, attribute.attnum"#,
    )
    .bind(TABLES.map(str::to_owned))
    .fetch_all(connection)
    .await?;
    Ok(columns)
}

/// The columns of `"UserPointEvent"` that the service has to fill by a trigger, because the
/// application fills them in its client.
///
/// # Errors
///
/// [`SchemaError::Store`] if the catalogue cannot be read.
pub(super) async fn to_fill(connection: &mut PgConnection) -> Result<Vec<Column>, SchemaError> {
    let mut columns = all(connection).await?;
    columns.retain(|column| {
        column.table == "UserPointEvent"
            && !column.is_written()
            && column.needs_value()
            && column.can_be_filled()
    });
    Ok(columns)
}
