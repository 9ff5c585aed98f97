//! `heist check`

use anyhow::Context as _;

use super::{
    config::{DatabaseConfig, LogConfig},
    output::{Found, print_findings, print_line, with_progress},
};
use crate::store::{PgConnectOptions, check, pool, schema};

const EXAMPLES: &str = "\
Examples:
  DATABASE_URL=postgres://app:secret@db/app heist check
      Print a line for each inconsistency.
  heist check --json
      Print {\"ok\": false, \"findings\": [\"...\"], \"total\": 1} for programs.
  heist check --schema
      Print a line for each part of the schema that the service cannot work with.

Exit codes: 0 without an inconsistency, 1 with an inconsistency, 3 if the check was not possible.";

/// Verifies the books: points, tokens, heists, point events and notifications
///
/// Two statements read the tables, each in one snapshot. They take no row locks and can run while the
/// service runs, or on a replica. Prints the first 10,000 inconsistencies and counts all.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Check {
    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    database: DatabaseConfig,

    /// Check the application's tables, the rights and the server's settings instead of the books.
    /// Needs no migrations
    #[arg(long)]
    schema: bool,

    #[command(flatten)]
    pub(super) log: LogConfig,
}

impl Check {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let options = self.database.database_url.connect_options();
        if self.schema {
            return check_schema(options, self.json).await;
        }
        schema::check_tables(options)
            .await
            .context("cannot check the books")?;
        let pool = pool::connect_lazy_for_command(self.database.database_url.follow().await?, 1);
        let reading = check::books_without_timeouts(&pool);
        let findings = with_progress("checking the books", reading)
            .await
            .context("cannot check the books")?;
        if self.json {
            let is_ok = findings.total == 0;
            let (first, total) = (&findings.first, findings.total);
            print_line(serde_json::json!({"ok": is_ok, "findings": first, "total": total}))?;
        } else {
            for finding in &findings.first {
                print_line(finding)?;
            }
        }
        if findings.total > 0 {
            return Err(Found(wrong_things(findings.total)).into());
        }
        if !self.json {
            print_line("The books are in order.")?;
        }
        Ok(())
    }
}

async fn check_schema(options: &PgConnectOptions, json: bool) -> anyhow::Result<()> {
    let findings = schema::findings(options)
        .await
        .context("cannot check the schema")?;
    let errors = findings.iter().filter(|finding| finding.is_error).count();
    if json {
        let lines: Vec<_> = findings.iter().map(ToString::to_string).collect();
        print_line(serde_json::json!({"ok": errors == 0, "findings": lines}))?;
    } else {
        print_findings(&findings)?;
    }
    if errors > 0 {
        return Err(Found(format!("the schema has {errors} errors")).into());
    }
    if !json {
        print_line("The service can work with this schema.")?;
    }
    Ok(())
}

fn wrong_things(count: usize) -> String {
    match count {
        1 => "1 thing is wrong with the books".to_owned(),
        count => format!("{count} things are wrong with the books"),
    }
}
