//! `heist migrate`

use anyhow::Context as _;

use super::config::{DatabaseConfig, LogConfig};
use crate::store::schema::{self, RevertTo};

const EXAMPLES: &str = "\
Examples:
  heist migrate status           what is applied, and what is not
  heist migrate up               apply what is missing
  heist migrate down             undo the newest migration
  heist migrate down --all       undo everything: the application's tables are as before";

/// Prepares the application's database, or takes the preparation back
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Migrate {
    #[command(subcommand)]
    action: Action,

    #[command(flatten)]
    pub(super) log: LogConfig,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Apply every migration that is missing; replicas may do so at the same time
    Up(DatabaseConfig),
    /// Undo migrations, newest first; what the service stored in their tables is lost
    Down {
        #[command(flatten)]
        database: DatabaseConfig,
        /// Undo every migration newer than this one
        #[arg(long, value_name = "VERSION", conflicts_with = "all")]
        to: Option<i64>,
        /// Undo every migration
        #[arg(long)]
        all: bool,
    },
    /// Show which migrations are applied; changes nothing
    Status(DatabaseConfig),
}

impl Migrate {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self.action {
            Action::Up(database) => {
                let options = database.database_url.connect_options();
                schema::migrate(options).await.context("cannot migrate")?;
                println!("The schema is up to date.");
            }
            Action::Down { database, to, all } => {
                let to = match to {
                    Some(version) => RevertTo::Version(version),
                    None if all => RevertTo::Empty,
                    None => RevertTo::Previous,
                };
                let options = database.database_url.connect_options();
                schema::revert(options, to).await.context("cannot revert")?;
                print_status(&database).await?;
            }
            Action::Status(database) => print_status(&database).await?,
        }
        Ok(())
    }
}

async fn print_status(database: &DatabaseConfig) -> anyhow::Result<()> {
    let steps = schema::steps(database.database_url.connect_options())
        .await
        .context("cannot read the status")?;
    for step in steps {
        let state = if step.applied { "applied" } else { "missing" };
        println!("{state}  {}  {}", step.version, step.description);
    }
    Ok(())
}
