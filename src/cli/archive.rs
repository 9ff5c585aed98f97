//! `heist archive`

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, ensure};

use super::{
    config::{ArchiveConfig, ArchivedDatabase, LogConfig},
    output::{Found, print_line, with_progress},
};
use crate::{
    archive::{self, ArchiveError, Options, Summary},
    store::{pool::DatabaseUrl, schema},
};

/// The service recognises a repeated request id for as long as the heist is in the database. Callers
/// must repeat a call within this time.
const MIN_RETENTION: Duration = Duration::from_hours(7 * 24);

const EXAMPLES: &str = "\
Examples:
  heist archive --dir /var/lib/heist-archive --dry-run
      Print what would be archived. DATABASE_URL is in the environment.
  heist archive --dir /var/lib/heist-archive --older-than 90d
      Archive it. After a failure, the same command continues where it stopped.
  heist archive verify /var/lib/heist-archive/*.jsonl.gz
      Check that files are complete.
  zcat heists-000001.jsonl.gz | jq 'select(.attackerId == 42)'
      Read a file.";

/// Moves old heists and old read notifications to compressed files
///
/// Each file is written, synced to disk, read back and compared before its rows are deleted from the
/// database, in small transactions that do not delay heists. Only one run at a time is possible.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Archive {
    #[command(subcommand)]
    action: Option<Action>,

    #[command(flatten)]
    database: ArchivedDatabase,

    #[command(flatten)]
    config: Option<ArchiveConfig>,

    #[command(flatten)]
    pub(super) log: LogConfig,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Check that files are complete: every line, their order and number, the checksum
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
        match (self.database.database_url, self.config) {
            (Some(database), Some(config)) => move_old_rows(&database, config).await,
            _ => unreachable!("clap requires both"),
        }
    }
}

/// A damaged file is what `verify` looks for; a file that cannot be read is not.
fn found(error: ArchiveError) -> anyhow::Error {
    if error.is_damage() {
        Found(error.to_string()).into()
    } else {
        error.into()
    }
}

fn verify(files: &[PathBuf]) -> anyhow::Result<()> {
    for path in files {
        let contents = archive::verify(path).map_err(found)?;
        print_line(format_args!(
            "{}: {} rows, ids {} to {}, sha256 {}",
            path.display(),
            contents.rows,
            contents.first_row_id,
            contents.last_row_id,
            contents.sha256
        ))?;
    }
    Ok(())
}

async fn move_old_rows(database: &DatabaseUrl, config: ArchiveConfig) -> anyhow::Result<()> {
    check_retention(&config)?;
    let database = database.follow().await?;
    schema::check_migrations(&database.newest())
        .await
        .context("cannot archive")?;
    let options = Options {
        database,
        folder: config.dir,
        older_than: config.older_than,
        rows_per_file: config.rows_per_file,
    };
    if config.dry_run {
        let summary = with_progress("reading the rows", archive::dry_run(&options))
            .await
            .context("cannot read the rows")?;
        report(summary, config.json, "Would archive")?;
    } else {
        let summary = with_progress("archiving", archive::run(&options)).await;
        let summary = summary.context("cannot archive")?;
        report(summary, config.json, "Archived")?;
    }
    Ok(())
}

fn check_retention(config: &ArchiveConfig) -> anyhow::Result<()> {
    let limits = [
        (
            MIN_RETENTION,
            "callers may repeat a request within this time",
        ),
        (config.cooldown, "it is HEIST_COOLDOWN"),
        (config.protection_window, "it is HEIST_PROTECTION_WINDOW"),
    ];
    for (limit, reason) in limits {
        ensure!(
            config.older_than >= limit,
            "--older-than {} is too short: the minimum is {}, because {reason}",
            humantime::format_duration(config.older_than),
            humantime::format_duration(limit),
        );
    }
    Ok(())
}

fn report(summary: Summary, json: bool, verb: &str) -> anyhow::Result<()> {
    let Summary {
        heists,
        notifications,
        files,
    } = summary;
    if json {
        return print_line(serde_json::json!({
            "heists": heists,
            "notifications": notifications,
            "files": files,
        }));
    }
    print_line(format_args!(
        "{verb} {heists} heists and {notifications} notifications in {files} files."
    ))
}
