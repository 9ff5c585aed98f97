//! `heist check`

use anyhow::Context as _;

use super::{
    config::{DatabaseConfig, LogConfig},
    output::{print_findings, print_line},
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
        let findings = check::books_without_timeouts(&pool)
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
            return Err(Inconsistent::Books(findings.total).into());
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
        return Err(Inconsistent::Schema(errors).into());
    }
    if !json {
        print_line("The service can work with this schema.")?;
    }
    Ok(())
}

/// The check has found inconsistencies.
#[derive(Debug, thiserror::Error)]
pub(super) enum Inconsistent {
    #[error("{} wrong with the books", things(.0))]
    Books(usize),
    #[error("the schema has {0} errors")]
    Schema(usize),
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "thiserror passes a reference"
)]
fn things(count: &usize) -> String {
    match count {
        1 => "1 thing is".to_owned(),
        count => format!("{count} things are"),
    }
}
