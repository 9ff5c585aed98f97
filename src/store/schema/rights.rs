//! The part of the preflight that checks the rights of the service's role.

use sqlx::{PgConnection, query_as, query_scalar};

use super::{SchemaError, finding::Report};

/// The rights to columns of `"User"` that `heist serve` needs.
const USER_RIGHTS: [(&str, &str); 6] = [
    ("id", "SELECT"),
    ("name", "SELECT"),
    ("email", "SELECT"),
    ("monthlyPoints", "SELECT"),
    ("referredByUserId", "SELECT"),
    ("monthlyPoints", "UPDATE"),
];

/// The rights to other tables that `heist serve` needs. Tables and sequences that do not exist are
/// skipped.
pub(super) const RIGHTS: [(&str, &str); 24] = [
    ("_heist_migrations", "SELECT"),
    ("PointEventTypeMaster", "SELECT"),
    ("UserPointEvent", "SELECT"),
    ("UserPointEvent", "INSERT"),
    ("Heist", "SELECT"),
    ("Heist", "INSERT"),
    ("HeistTokenAward", "SELECT"),
    ("HeistTokenAward", "INSERT"),
    ("HeistTokenAdjustment", "SELECT"),
    ("HeistTokenAdjustment", "INSERT"),
    ("HeistToken", "SELECT"),
    ("HeistToken", "INSERT"),
    ("HeistToken", "UPDATE"),
    ("HeistNotification", "SELECT"),
    ("HeistNotification", "INSERT"),
    ("HeistNotification", "UPDATE"),
    ("HeistNotificationPreference", "SELECT"),
    ("HeistNotificationPreference", "INSERT"),
    ("HeistNotificationPreference", "UPDATE"),
    ("HeistEmailProvider", "SELECT"),
    ("HeistEmailProvider", "UPDATE"),
    ("HeistArchiveFile", "SELECT"),
    ("HeistArchiveTotal", "SELECT"),
    ("HeistSecret", "SELECT"),
];

/// Reports each right that the role lacks.
pub(super) async fn check(
    connection: &mut PgConnection,
    report: &mut Report,
) -> Result<(), SchemaError> {
    let (tables, rights): (Vec<&str>, Vec<&str>) = RIGHTS.iter().copied().unzip();
    let (columns, column_rights): (Vec<&str>, Vec<&str>) = USER_RIGHTS.iter().copied().unzip();
    let missing: Vec<(String, String, String)> = query_as(
        "SELECT needed.name, needed.privilege, current_user::text
        FROM unnest($1::text[], $2::text[]) AS needed (name, privilege)
        WHERE NOT has_table_privilege(to_regclass(quote_ident(needed.name)), needed.privilege)
        UNION ALL
        SELECT 'User', needed.privilege || ' (\"' || needed.name || '\")', current_user::text
        FROM unnest($3::text[], $4::text[]) AS needed (name, privilege)
        INNER JOIN pg_attribute AS attribute
            ON attribute.attrelid = '\"User\"'::regclass AND attribute.attname = needed.name
        WHERE NOT has_column_privilege(attribute.attrelid, attribute.attnum, needed.privilege)
        UNION ALL
        SELECT sequence.oid::text, 'USAGE', current_user::text
        FROM (
            VALUES
                (to_regclass('\"HeistLedger_id_seq\"')),
                (to_regclass('\"HeistNotification_id_seq\"')),
                (
                    (
                        SELECT pg_get_serial_sequence('\"UserPointEvent\"', attname::text)::regclass
                        FROM pg_attribute
                        WHERE
                            attrelid = to_regclass('\"UserPointEvent\"')
                            AND attname = 'id' AND attnum > 0 AND attidentity = ''
                    )
                )
        ) AS sequence (oid)
        WHERE NOT has_sequence_privilege(sequence.oid, 'USAGE')",
    )
    .bind(tables)
    .bind(rights)
    .bind(columns)
    .bind(column_rights)
    .fetch_all(connection)
    .await?;
    for (name, right, role) in missing {
        // The names of sequences are quoted already.
        let object = match right.as_str() {
            "USAGE" => format!("SEQUENCE {name}"),
            _ => format!("\"{name}\""),
        };
        report.error(format!(
            "the role {role} lacks {right} on {object}; cure: GRANT {right} ON {object} TO {role}"
        ));
    }
    Ok(())
}

/// Checks that the role can apply migrations. They add a check and an index to `"User"`, create
/// tables, and insert the types of point events.
///
/// # Errors
///
/// [`SchemaError::Unfit`] with a line for each missing right.
pub(super) async fn check_migrating(connection: &mut PgConnection) -> Result<(), SchemaError> {
    let missing: Vec<String> = query_scalar(
        r#"SELECT format(
            'the role %1$s does not own "User"; cure: run `heist migrate` as %2$s, or GRANT %2$s TO %1$I',
            current_user, relation.relowner::regrole
        )
        FROM pg_class AS relation
        WHERE
            relation.oid = to_regclass('"User"')
            AND NOT pg_has_role(relation.relowner, 'USAGE')
        UNION ALL
        SELECT format(
            'the role %1$s lacks CREATE on the schema %2$I; cure: GRANT CREATE ON SCHEMA %2$I TO %1$I',
            current_user, current_schema()
        )
        WHERE NOT has_schema_privilege(current_schema(), 'CREATE')
        UNION ALL
        SELECT format(
            'the role %1$s lacks INSERT on "PointEventTypeMaster"; cure: GRANT INSERT ON "PointEventTypeMaster" TO %1$I',
            current_user
        )
        WHERE NOT has_table_privilege('"PointEventTypeMaster"', 'INSERT')"#,
    )
    .fetch_all(connection)
    .await?;
    if missing.is_empty() {
        Ok(())
    } else {
        Err(SchemaError::Unfit(missing.join("\n")))
    }
}
