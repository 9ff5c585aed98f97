//! `heist check`

use anyhow::{Context as _, bail};

use super::config::{DatabaseConfig, LogConfig};
use crate::store::{check, pool, schema};

const EXAMPLES: &str = "\
Examples:
  DATABASE_URL=postgres://app:secret@db/app heist check
      Prints a line for each inconsistency, and exits with 1 if there is any.";

/// Verifies the books: points, tokens, heists, point events and notifications
///
/// One statement reads the tables in one snapshot. It takes no row locks and can run while the
/// service runs, or on a replica.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Check {
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
        let pool = pool::connect_lazy_for_command(options.clone(), 1);
        let findings = check::books(&pool)
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
