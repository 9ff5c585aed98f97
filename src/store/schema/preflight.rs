//! The preflight: checks that the application's tables, the rights of the service's role and the
//! server's settings meet the service's needs.
//!
//! Each finding is one line that names the table, the column, the problem and the cure. Errors stop
//! `heist migrate up` and the start of a server, and make a running server unready. Warnings are
//! logged.

use sqlx::{FromRow, PgConnection, query_as, query_scalar};

use super::{
    SchemaError,
    column::{self, Column, TABLES},
    event_types,
    finding::{Finding, Report},
    interference, rights,
};

/// The lengths of the longest values that the service writes into columns of event types.
const EVENT_TYPE_NAME_LENGTH: i32 = 10;
/// The shortest useful description of a point event. Longer texts are cut.
const EVENT_DESCRIPTION_LENGTH: i32 = 20;
/// The end of the text of a finding that `heist migrate up` cures.
pub(super) const CURED_BY_MIGRATING: &str =
    "cure: run `heist migrate up`, which adds a trigger that fills it";

#[derive(FromRow)]
struct Relation {
    table: String,
    kind: String,
}

/// Finds everything that keeps the service from working on this database.
///
/// # Errors
///
/// [`SchemaError::Store`] if the catalogue cannot be read.
pub(super) async fn findings(connection: &mut PgConnection) -> Result<Vec<Finding>, SchemaError> {
    let mut report = Report::default();
    server(connection, &mut report).await?;
    let relations = relations(connection).await?;
    let columns = column::all(connection).await?;
    for table in TABLES {
        match relations.iter().find(|relation| relation.table == table) {
            None => report.error(format!(
                "the application's table \"{table}\" is missing from the database; cure: create it, or name its schema in the URL (?schema=…)"
            )),
            Some(relation) if !matches!(relation.kind.as_str(), "r" | "p") => report.error(format!(
                "\"{table}\" is not a table; cure: point the service at the table itself"
            )),
            Some(_) => {}
        }
    }
    if report.has_errors() {
        return Ok(report.into_findings());
    }
    check_columns(&columns, &mut report);
    check_inserted_columns(&columns, connection, &mut report).await?;
    check_unique_keys(connection, &mut report).await?;
    // Before anything is read from the tables.
    rights::check(connection, &mut report).await?;
    event_types::check(&columns, connection, &mut report).await?;
    interference::check(connection, &mut report).await?;
    Ok(report.into_findings())
}

async fn server(connection: &mut PgConnection, report: &mut Report) -> Result<(), SchemaError> {
    let (encoding, schema): (String, Option<String>) = query_as(
        "SELECT pg_encoding_to_char(encoding)::text, current_schema()::text \
         FROM pg_database WHERE datname = current_database()",
    )
    .fetch_one(&mut *connection)
    .await?;
    if encoding != "UTF8" {
        report.error(format!(
            "the database has the encoding {encoding}, which cannot hold every name; cure: move to a database with ENCODING 'UTF8'"
        ));
    }
    if schema.is_none() {
        report.error(
            "no schema of the search path exists; cure: correct ?schema=… in the URL, or the role's search_path"
                .to_owned(),
        );
    }
    Ok(())
}

async fn relations(connection: &mut PgConnection) -> Result<Vec<Relation>, SchemaError> {
    let relations = query_as(
        r#"SELECT wanted.name AS "table", relation.relkind::text AS kind
        FROM unnest($1::text[]) AS wanted (name)
        INNER JOIN pg_class AS relation ON relation.oid = to_regclass(quote_ident(wanted.name))"#,
    )
    .bind(TABLES.map(str::to_owned))
    .fetch_all(connection)
    .await?;
    Ok(relations)
}

/// The type that a column needs.
#[derive(Clone, Copy)]
enum Needed {
    /// The service reads the column as a 32-bit integer.
    Integer,
    /// The service only writes the column, so a wider integer is fine.
    IntegerOrWider,
    /// Text of at least this length.
    Text(i32),
    Time,
}

fn check_columns(columns: &[Column], report: &mut Report) {
    use Needed::{Integer, IntegerOrWider, Text, Time};
    for (table, name, needed) in [
        ("User", "id", Integer),
        ("User", "name", Text(1)),
        ("User", "email", Text(1)),
        ("User", "monthlyPoints", Integer),
        ("User", "referredByUserId", Integer),
        ("PointEventTypeMaster", "id", IntegerOrWider),
        ("PointEventTypeMaster", "name", Text(EVENT_TYPE_NAME_LENGTH)),
        ("PointEventTypeMaster", "description", Text(1)),
        ("UserPointEvent", "userId", IntegerOrWider),
        ("UserPointEvent", "points", IntegerOrWider),
        ("UserPointEvent", "pointEventTypeId", IntegerOrWider),
        (
            "UserPointEvent",
            "description",
            Text(EVENT_DESCRIPTION_LENGTH),
        ),
        ("UserPointEvent", "createdAt", Time),
    ] {
        let found = (columns.iter()).find(|column| column.table == table && column.name == name);
        let Some(column) = found else {
            report.error(format!(
                "the application's table \"{table}\" has no column \"{name}\"; cure: add it, or rename the one that holds it"
            ));
            continue;
        };
        let (fits, expected) = match needed {
            Integer => (column.kind == "int4", "integer".to_owned()),
            IntegerOrWider => (
                matches!(column.kind.as_str(), "int4" | "int8"),
                "integer or bigint".to_owned(),
            ),
            Text(length) => (
                column.holds_text(length),
                format!("text of {length} characters or more"),
            ),
            Time => (column.is_time(), "timestamp or timestamptz".to_owned()),
        };
        if fits {
            continue;
        }
        let length = (column.length).map_or_else(String::new, |length| format!("({length})"));
        let hint = match column.kind.as_str() {
            "uuid" | "text" if name == "id" => {
                "UUID and text ids of players are not supported".to_owned()
            }
            "int8" => "64-bit ids and points are not supported".to_owned(),
            _ => format!("change the column's type to {expected}"),
        };
        report.error(format!(
            "\"{table}\".\"{name}\" is {}{length}, not {expected}; cure: {hint}",
            column.kind
        ));
    }
    let points =
        (columns.iter()).find(|column| column.table == "User" && column.name == "monthlyPoints");
    if points.is_some_and(|points| !points.is_not_null) {
        report.error(
            "\"User\".\"monthlyPoints\" may be NULL; cure: UPDATE \"User\" SET \"monthlyPoints\" = 0 WHERE \"monthlyPoints\" IS NULL; ALTER TABLE \"User\" ALTER COLUMN \"monthlyPoints\" SET NOT NULL (Prisma: Int @default(0))"
                .to_owned(),
        );
    }
}

async fn check_inserted_columns(
    columns: &[Column],
    connection: &mut PgConnection,
    report: &mut Report,
) -> Result<(), SchemaError> {
    let is_filled: bool = query_scalar(
        "SELECT EXISTS (
            SELECT FROM pg_trigger
            WHERE tgrelid = to_regclass('\"UserPointEvent\"') AND tgname = 'HeistPointEvent_fill'
        )",
    )
    .fetch_one(&mut *connection)
    .await?;
    let is_migrated: bool = query_scalar("SELECT to_regclass('\"Heist\"') IS NOT NULL")
        .fetch_one(connection)
        .await?;
    for column in columns {
        if column.table != "UserPointEvent" || column.is_written() || !column.needs_value() {
            continue;
        }
        let Column { name, kind, .. } = column;
        if !column.can_be_filled() {
            report.error(format!(
                "\"UserPointEvent\".\"{name}\" ({kind}) is NOT NULL and has no default, so the service cannot insert; cure: ALTER TABLE \"UserPointEvent\" ALTER COLUMN \"{name}\" SET DEFAULT … (Prisma: @default(…))"
            ));
        } else if is_migrated && !is_filled {
            report.error(format!(
                "\"UserPointEvent\".\"{name}\" ({kind}) is NOT NULL and has no default; {CURED_BY_MIGRATING}"
            ));
        }
    }
    Ok(())
}

async fn check_unique_keys(
    connection: &mut PgConnection,
    report: &mut Report,
) -> Result<(), SchemaError> {
    let unique: Vec<(String, String)> = query_as(
        r#"SELECT relation.relname::text, attribute.attname::text
        FROM pg_index AS key
        INNER JOIN pg_class AS relation ON relation.oid = key.indrelid
        INNER JOIN pg_attribute AS attribute
            ON attribute.attrelid = key.indrelid AND attribute.attnum = key.indkey[0]
        WHERE
            key.indrelid IN (to_regclass('"User"'), to_regclass('"PointEventTypeMaster"'))
            AND key.indisunique AND key.indisvalid AND key.indnkeyatts = 1
            AND key.indpred IS NULL AND key.indexprs IS NULL"#,
    )
    .fetch_all(connection)
    .await?;
    let is_unique =
        |table: &str, column: &str| (unique.iter()).any(|(of, name)| of == table && name == column);
    if !is_unique("User", "id") {
        report.error(
            "\"User\".\"id\" has no primary or unique key; cure: ALTER TABLE \"User\" ADD PRIMARY KEY (\"id\") (Prisma: @id)"
                .to_owned(),
        );
    }
    if !is_unique("PointEventTypeMaster", "name") {
        report.warn(
            "\"PointEventTypeMaster\".\"name\" is not unique: heists fail if HEIST_GAIN or HEIST_LOSS is added again; cure: CREATE UNIQUE INDEX ON \"PointEventTypeMaster\" (\"name\") (Prisma: @unique)"
                .to_owned(),
        );
    }
    Ok(())
}
