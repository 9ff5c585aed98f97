//! `heist migrate`

use anyhow::Context as _;

use super::{
    config::{DatabaseConfig, LogConfig},
    output::{Found, print_findings, print_line, with_progress},
};
use crate::store::schema::{self, RevertTo, Step};

const EXAMPLES: &str = "\
Examples:
  heist migrate status           list applied and missing migrations
  heist migrate up --dry-run     check the application's tables, and list what would be applied
  heist migrate up               apply the missing migrations
  heist migrate sql --up         print the SQL of all migrations
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
    Up {
        #[command(flatten)]
        database: DatabaseConfig,
        /// Only check the application's tables and list the migrations that are missing
        #[arg(long)]
        dry_run: bool,
    },
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
    Status {
        #[command(flatten)]
        database: DatabaseConfig,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the SQL of all migrations in the order in which they run. Needs no database
    #[command(group = clap::ArgGroup::new("direction").required(true))]
    Sql {
        /// The SQL that `up` runs
        #[arg(long, group = "direction")]
        up: bool,
        /// The SQL that `down --all` runs
        #[arg(long, group = "direction")]
        down: bool,
    },
}

impl Migrate {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self.action {
            Action::Up {
                database,
                dry_run: true,
            } => print_plan(&database).await?,
            Action::Up { database, .. } => {
                let options = database.database_url.connect_options();
                let migrating = with_progress("migrating", schema::migrate(options));
                migrating.await.context("cannot migrate")?;
                print_line("The schema is up to date.")?;
            }
            Action::Down { database, to, all } => {
                let to = match to {
                    Some(version) => RevertTo::Version(version),
                    None if all => RevertTo::Empty,
                    None => RevertTo::Previous,
                };
                let options = database.database_url.connect_options();
                let reverting = with_progress("reverting", schema::revert(options, to));
                reverting.await.context("cannot revert")?;
                print_status(&database, false).await?;
            }
            Action::Status { database, json } => print_status(&database, json).await?,
            Action::Sql { down, .. } => print_line(schema::sql(down).trim_end())?,
        }
        Ok(())
    }
}

async fn print_plan(database: &DatabaseConfig) -> anyhow::Result<()> {
    let options = database.database_url.connect_options();
    let findings = schema::findings(options)
        .await
        .context("cannot check the schema")?;
    print_findings(&findings)?;
    let steps = schema::steps(options)
        .await
        .context("cannot read the status")?;
    for step in steps.into_iter().filter(|step| !step.applied) {
        print_line(format_args!(
            "would apply  {}  {}",
            step.version, step.description
        ))?;
    }
    match findings.iter().filter(|finding| finding.is_error).count() {
        0 => Ok(()),
        errors => Err(Found(format!("the schema has {errors} errors")).into()),
    }
}

async fn print_status(database: &DatabaseConfig, json: bool) -> anyhow::Result<()> {
    let steps = schema::steps(database.database_url.connect_options())
        .await
        .context("cannot read the status")?;
    if json {
        let step = |step: &Step| {
            serde_json::json!({
                "version": step.version,
                "description": step.description,
                "applied": step.applied,
            })
        };
        let steps: Vec<_> = steps.iter().map(step).collect();
        return print_line(serde_json::Value::from(steps));
    }
    for step in steps {
        let state = if step.applied { "applied" } else { "missing" };
        print_line(format_args!(
            "{state}  {}  {}",
            step.version, step.description
        ))?;
    }
    Ok(())
}
