//! `heist check`

use anyhow::{Context as _, bail};

use super::config::{DatabaseConfig, LogConfig};
use crate::store::{PgConnectOptions, check, pool, schema};

const EXAMPLES: &str = "\
Examples:
  DATABASE_URL=postgres://app:secret@db/app heist check
      Prints a line for each inconsistency, and exits with 1 if there is any.
  DATABASE_URL=postgres://app:secret@db/app heist check --schema
      Prints a line for each thing in the schema that the service cannot work with.";

/// Verifies the books: points, tokens, heists, point events and notifications
///
/// One statement reads the tables in one snapshot. It takes no row locks and can run while the
/// service runs, or on a replica.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Check {
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
            return check_schema(options).await;
        }
        schema::check_tables(options)
            .await
            .context("cannot check the books")?;
        let pool = pool::connect_lazy(options.clone(), 1);
        let findings = check::books_without_timeouts(&pool)
            .await
            .context("cannot check the books")?;
        for finding in &findings {
            println!("{finding}");
        }
        match findings.len() {
            0 => {
                println!("The books are in order.");
                Ok(())
            }
            1 => bail!("1 thing is wrong with the books"),
            count => bail!("{count} things are wrong with the books"),
        }
    }
}

async fn check_schema(options: &PgConnectOptions) -> anyhow::Result<()> {
    let findings = schema::findings(options)
        .await
        .context("cannot check the schema")?;
    let mut errors = 0;
    for finding in &findings {
        let kind = if finding.is_error { "error" } else { "warning" };
        println!("{kind}: {finding}");
        errors += usize::from(finding.is_error);
    }
    match errors {
        0 => {
            println!("The service can work with this schema.");
            Ok(())
        }
        count => bail!("the service cannot work with this schema: {count} errors"),
    }
}
