//! A trigger that fills columns of `"UserPointEvent"` which the application fills in its client.
//!
//! Prisma's `@default(cuid())`, `@default(uuid())` and `@updatedAt` make columns that are NOT NULL
//! and have no default in the database. The service does not know these columns. So `heist migrate
//! up` finds them, and adds a trigger that fills them. The trigger sets only values that an insert
//! leaves out, ignores columns that no longer exist, and is no object that Prisma compares.

use sqlx::{AssertSqlSafe, PgConnection};

use super::{
    SchemaError,
    column::{self, Column},
};

/// Removes the trigger and its function.
const DROP: &str = r#"
    DROP TRIGGER IF EXISTS "HeistPointEvent_fill" ON "UserPointEvent";
    DROP FUNCTION IF EXISTS "HeistPointEvent_fill"();"#;

/// Creates, replaces or removes the trigger, according to the columns that need it.
///
/// # Errors
///
/// [`SchemaError::Store`] if the role does not own `"UserPointEvent"`.
pub(super) async fn install(connection: &mut PgConnection) -> Result<(), SchemaError> {
    let columns = column::to_fill(connection).await?;
    if columns.is_empty() && !is_installed(connection).await? {
        return Ok(());
    }
    let create = if columns.is_empty() {
        String::new()
    } else {
        create(&columns)
    };
    let script = format!("BEGIN; SET LOCAL lock_timeout = '2s'; {DROP} {create} COMMIT");
    sqlx::raw_sql(AssertSqlSafe(script))
        .execute(connection)
        .await?;
    Ok(())
}

/// Removes the trigger, if the table still exists.
///
/// # Errors
///
/// [`SchemaError::Store`] if the role does not own `"UserPointEvent"`.
pub(super) async fn remove(connection: &mut PgConnection) -> Result<(), SchemaError> {
    if is_installed(connection).await? {
        sqlx::raw_sql(DROP).execute(connection).await?;
    }
    Ok(())
}

async fn is_installed(connection: &mut PgConnection) -> Result<bool, SchemaError> {
    let is_installed = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgname = 'HeistPointEvent_fill' \
         AND tgrelid = to_regclass('\"UserPointEvent\"'))",
    )
    .fetch_one(connection)
    .await?;
    Ok(is_installed)
}

fn create(columns: &[Column]) -> String {
    let values: Vec<String> = (columns.iter())
        .map(|column| {
            let name = column.name.replace('\'', "''");
            // The time of the event, if it has one, otherwise the clock in UTC.
            let value = match column.kind.as_str() {
                "timestamp" => {
                    r"COALESCE(given -> 'createdAt', to_jsonb(clock_timestamp() AT TIME ZONE 'UTC'))"
                }
                "timestamptz" => r"COALESCE(given -> 'createdAt', to_jsonb(clock_timestamp()))",
                _ => "to_jsonb(gen_random_uuid())",
            };
            format!("'{name}', {value}")
        })
        .collect();
    format!(
        r#"CREATE FUNCTION "HeistPointEvent_fill"() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            given jsonb := jsonb_strip_nulls(to_jsonb(NEW));
        BEGIN
            -- Only columns that the insert leaves out: jsonb_populate_record keeps all others.
            RETURN jsonb_populate_record(
                NEW,
                (
                    SELECT COALESCE(jsonb_object_agg(filled.key, filled.value), '{{}}')
                    FROM jsonb_each(jsonb_build_object({})) AS filled
                    WHERE NOT given ? filled.key
                )
            );
        END
        $$;
        CREATE TRIGGER "HeistPointEvent_fill" BEFORE INSERT ON "UserPointEvent"
        FOR EACH ROW EXECUTE FUNCTION "HeistPointEvent_fill"();"#,
        values.join(", ")
    )
}
