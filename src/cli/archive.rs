//! `heist archive`

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, ensure};

use super::config::{ArchiveConfig, DatabaseConfig, LogConfig};
use crate::{
    archive::{self, Options, Summary},
    store::schema,
};

/// A request id is remembered for as long as its heist is in the database: callers who repeat a
/// call must not come later.
const SHORTEST_RETENTION: Duration = Duration::from_hours(7 * 24);

const EXAMPLES: &str = "\
Examples:
  heist archive --dir /var/lib/heist-archive --dry-run
      What would be archived, with DATABASE_URL in the environment.
  heist archive --dir /var/lib/heist-archive --older-than 90d
      Move it. Killed or failed, the same command goes on where it was.
  heist archive verify /var/lib/heist-archive/*.jsonl.gz
      Check that files are whole.
  zcat heists-000001.jsonl.gz | jq 'select(.attackerId == 42)'
      Read one.";

/// Moves old heists, and old notifications that were read, to compressed files
///
/// Each file is written, synced to the disk, read back and compared before its rows are removed
/// from the database, in small transactions that heists do not wait for. Two runs at a time
/// exclude each other.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Archive {
    #[command(subcommand)]
    action: Option<Action>,

    #[command(flatten)]
    database: Option<DatabaseConfig>,

    #[command(flatten)]
    config: Option<ArchiveConfig>,

    #[command(flatten)]
    pub(super) log: LogConfig,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Check that files are whole: every line, their order and number, the checksum
    Verify {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

impl Archive {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        if let Some(Action::Verify { files }) = self.action {
            return verify(&files);
        }
        match (self.database, self.config) {
            (Some(database), Some(config)) => move_old_rows(&database, config).await,
            _ => unreachable!("clap asks for what is required"),
        }
    }
}

fn verify(files: &[PathBuf]) -> anyhow::Result<()> {
    for path in files {
        let contents = archive::verify(path)?;
        println!(
            "{}: {} rows, ids {} to {}, sha256 {}",
            path.display(),
            contents.rows,
            contents.first_row_id,
            contents.last_row_id,
            contents.sha256
        );
    }
    Ok(())
}

async fn move_old_rows(database: &DatabaseConfig, config: ArchiveConfig) -> anyhow::Result<()> {
    check_retention(&config)?;
    let database = database.database_url.connect_options().clone();
    schema::check(&database).await.context("cannot archive")?;
    let options = Options {
        database,
        folder: config.dir,
        older_than: config.older_than,
        rows_per_file: config.rows_per_file,
    };
    if config.dry_run {
        let summary = archive::dry_run(&options).await.context("cannot look")?;
        println!("Would archive {}.", said(summary));
    } else {
        let summary = archive::run(&options).await.context("cannot archive")?;
        println!("Archived {}.", said(summary));
    }
    Ok(())
}

fn check_retention(config: &ArchiveConfig) -> anyhow::Result<()> {
    let limits = [
        (
            SHORTEST_RETENTION,
            "callers may repeat a request for so long",
        ),
        (config.cooldown, "HEIST_COOLDOWN looks back so far"),
        (
            config.protection_window,
            "HEIST_PROTECTION_WINDOW looks back so far",
        ),
    ];
    for (limit, reason) in limits {
        ensure!(
            config.older_than >= limit,
            "--older-than {} is too short: at least {}, because {reason}",
            humantime::format_duration(config.older_than),
            humantime::format_duration(limit),
        );
    }
    Ok(())
}

fn said(summary: Summary) -> String {
    let Summary {
        heists,
        notifications,
        files,
    } = summary;
    format!("{heists} heists and {notifications} notifications in {files} files")
}
