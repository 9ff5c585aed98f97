//! `heist migrate`

use anyhow::Context as _;

use super::config::{DatabaseConfig, LogConfig};
use crate::store::schema::{self, RevertTo};

const EXAMPLES: &str = "\
Examples:
  heist migrate status           list applied and missing migrations
  heist migrate up               apply the missing migrations
  heist migrate down             revert the newest migration
  heist migrate down --all       revert all: the application's tables are as before";

/// Applies or reverts the service's migrations of the application's database
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
    /// Apply the missing migrations. Several processes may do so at the same time
    Up(DatabaseConfig),
    /// Revert migrations, newest first. The data in their tables is lost
    Down {
        #[command(flatten)]
        database: DatabaseConfig,
        /// Revert every migration newer than this one
        #[arg(long, value_name = "VERSION", conflicts_with = "all")]
        to: Option<i64>,
        /// Revert every migration
        #[arg(long)]
        all: bool,
    },
    /// List applied and missing migrations
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
