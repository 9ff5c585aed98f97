//! `heist check`

use anyhow::Context as _;

use super::{
    config::{DatabaseConfig, LogConfig},
    output::print_line,
};
use crate::store::{check, pool, schema};

const EXAMPLES: &str = "\
Examples:
  DATABASE_URL=postgres://app:secret@db/app heist check
      Print a line for each inconsistency.
  heist check --json
      Print {\"ok\": false, \"findings\": [\"...\"]} for programs.

Exit codes: 0 without an inconsistency, 1 with an inconsistency, 3 if the check was not possible.";

/// Verifies the books: points, tokens, heists, point events and notifications
///
/// One statement reads the tables in one snapshot. It takes no row locks and can run while the
/// service runs, or on a replica.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Check {
    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    database: DatabaseConfig,

    #[command(flatten)]
    pub(super) log: LogConfig,
}

impl Check {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let options = self.database.database_url.connect_options();
        schema::check(options)
            .await
            .context("cannot check the books")?;
        let pool = pool::connect_lazy(options.clone(), 1);
        let findings = check::books(&pool)
            .await
            .context("cannot check the books")?;
        if self.json {
            let is_ok = findings.is_empty();
            print_line(serde_json::json!({"ok": is_ok, "findings": findings}))?;
        } else {
            for finding in &findings {
                print_line(finding)?;
            }
        }
        if !findings.is_empty() {
            return Err(Inconsistent(findings.len()).into());
        }
        if !self.json {
            print_line("The books are in order.")?;
        }
        Ok(())
    }
}

/// The check has found inconsistencies.
#[derive(Debug, thiserror::Error)]
#[error("the books have {0} inconsistencies")]
pub(super) struct Inconsistent(usize);
