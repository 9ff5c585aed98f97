//! The part of the preflight that looks for triggers, policies and rules that can change the
//! service's writes.

use sqlx::{PgConnection, query_as, query_scalar};

use super::{SchemaError, finding::Report, rights::RIGHTS};

/// All tables that the service writes to.
const WRITTEN_TABLES: [&str; 11] = [
    "User",
    "UserPointEvent",
    "HeistToken",
    "HeistTokenAward",
    "HeistTokenAdjustment",
    "Heist",
    "HeistNotification",
    "HeistNotificationPreference",
    "HeistEmailProvider",
    "HeistArchiveFile",
    "HeistArchiveTotal",
];

/// The triggers that belong to the service.
const OWN_TRIGGERS: [&str; 3] = [
    "Heist_forget_attacker",
    "HeistTokenAward_forget_referred",
    "HeistPointEvent_fill",
];

/// Reports triggers and row-level security as warnings, and rules as errors.
pub(super) async fn check(
    connection: &mut PgConnection,
    report: &mut Report,
) -> Result<(), SchemaError> {
    let triggers: Vec<(String, String)> = query_as(
        "SELECT relation.relname::text, candidate.tgname::text
        FROM pg_trigger AS candidate
        INNER JOIN pg_class AS relation ON relation.oid = candidate.tgrelid
        WHERE
            candidate.tgrelid IN (
                SELECT to_regclass(quote_ident(written.name)) FROM unnest($1::text[]) AS written (name)
            )
            AND NOT candidate.tgisinternal
            AND candidate.tgenabled <> 'D'
            AND candidate.tgname <> ALL($2::text[])
        ORDER BY 1, 2",
    )
    .bind(WRITTEN_TABLES.map(str::to_owned))
    .bind(OWN_TRIGGERS.map(str::to_owned))
    .fetch_all(&mut *connection)
    .await?;
    for (table, trigger) in triggers {
        report.warn(format!(
            "\"{table}\" has the trigger \"{trigger}\": a heist whose rows it changes is rolled back and answered with INTERNAL; cure: let it leave rows of the service alone"
        ));
    }
    let hidden = check_policies(connection, report).await?;
    let limited: Vec<String> = query_scalar(
        "SELECT written.name
        FROM unnest($1::text[]) AS written (name)
        WHERE row_security_active(to_regclass(quote_ident(written.name))::oid)",
    )
    .bind(WRITTEN_TABLES.map(str::to_owned))
    .fetch_all(&mut *connection)
    .await?;
    for table in limited.iter().filter(|table| !hidden.contains(table)) {
        report.warn(format!(
            "row-level security applies to the service's role on \"{table}\": a heist with a hidden row fails; cure: ALTER ROLE … BYPASSRLS, or a policy that shows all rows to the role"
        ));
    }
    let rules: Vec<(String, String)> = query_as(
        "SELECT relation.relname::text, rule.rulename::text
        FROM pg_rewrite AS rule
        INNER JOIN pg_class AS relation ON relation.oid = rule.ev_class
        WHERE
            rule.ev_class IN (
                SELECT to_regclass(quote_ident(written.name)) FROM unnest($1::text[]) AS written (name)
            )
            AND rule.ev_type <> '1' AND rule.ev_enabled <> 'D'
        ORDER BY 1, 2",
    )
    .bind(WRITTEN_TABLES.map(str::to_owned))
    .fetch_all(connection)
    .await?;
    for (table, rule) in rules {
        report.error(format!(
            "\"{table}\" has the rule \"{rule}\", which our statements do not work with; cure: replace the rule with a trigger"
        ));
    }
    Ok(())
}

/// Reports the tables whose row-level security has no policy for something that the service does.
/// No row is visible then, or none can be written, so that every heist would fail. Returns the
/// tables.
async fn check_policies(
    connection: &mut PgConnection,
    report: &mut Report,
) -> Result<Vec<String>, SchemaError> {
    let user = [("User", "SELECT"), ("User", "UPDATE")];
    let (tables, commands): (Vec<&str>, Vec<&str>) = user.into_iter().chain(RIGHTS).unzip();
    let missing: Vec<(String, String, String)> = query_as(
        "SELECT needed.name, string_agg(needed.command, ', '), current_user::text
        FROM unnest($1::text[], $2::text[]) AS needed (name, command)
        WHERE
            row_security_active(to_regclass(quote_ident(needed.name))::oid)
            AND NOT EXISTS (
                SELECT FROM pg_policy AS policy
                WHERE
                    policy.polrelid = to_regclass(quote_ident(needed.name))
                    AND policy.polpermissive
                    AND CASE policy.polcmd
                        WHEN '*' THEN true
                        WHEN 'r' THEN needed.command = 'SELECT'
                        WHEN 'a' THEN needed.command = 'INSERT'
                        WHEN 'w' THEN needed.command = 'UPDATE'
                        ELSE false
                    END
                    AND EXISTS (
                        SELECT FROM unnest(policy.polroles) AS role (oid)
                        WHERE role.oid = 0 OR pg_has_role(role.oid, 'USAGE')
                    )
            )
        GROUP BY needed.name
        ORDER BY needed.name",
    )
    .bind(tables)
    .bind(commands)
    .fetch_all(connection)
    .await?;
    for (table, commands, role) in &missing {
        report.error(format!(
            "row-level security of \"{table}\" has no policy for {commands} by the role {role}; cure: CREATE POLICY heist ON \"{table}\" TO {role} USING (true) WITH CHECK (true), or ALTER ROLE {role} BYPASSRLS"
        ));
    }
    Ok(missing.into_iter().map(|(table, ..)| table).collect())
}
