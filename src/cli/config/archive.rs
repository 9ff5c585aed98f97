//! The configuration of `heist archive`.

use std::{path::PathBuf, time::Duration};

use crate::{
    domain::rules::Rules,
    settings::{default_window, parse},
    store::pool::DatabaseUrl,
};

/// The database of `heist archive`; `None` for its subcommands. It is not part of [`ArchiveConfig`],
/// because a database in the environment does not mean that the rest must be given, too.
#[derive(Clone, Debug, clap::Args)]
pub struct ArchivedDatabase {
    /// The application's database, such as `postgres://user:password@host/database`
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true, required = true, value_parser = DatabaseUrl::parse)]
    pub database_url: Option<DatabaseUrl>,
}

/// The configuration of `heist archive`.
#[derive(Clone, Debug, clap::Args)]
pub struct ArchiveConfig {
    /// The directory of the archive files, one directory per database. It is created if it is missing
    #[arg(long, env = "HEIST_ARCHIVE_DIR", value_name = "DIRECTORY")]
    pub dir: PathBuf,

    /// The age above which rows are archived; at least `7d`, the cooldown and the protection window
    #[arg(long, value_name = "DURATION", default_value = "90d", value_parser = parse::duration)]
    pub older_than: Duration,

    /// Maximum number of rows in one file
    #[arg(long, value_name = "NUMBER", default_value_t = 100_000, value_parser = rows_per_file)]
    pub rows_per_file: i64,

    /// Print what would be archived, and change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    /// As given to `heist serve`
    #[arg(long, env = "HEIST_COOLDOWN", value_name = "DURATION", default_value = parse::duration_text(Rules::default().cooldown), value_parser = parse::duration)]
    pub cooldown: Duration,

    /// As given to `heist serve`
    #[arg(long, env = "HEIST_PROTECTION_WINDOW", value_name = "DURATION", default_value = parse::duration_text(default_window()), value_parser = parse::duration)]
    pub protection_window: Duration,
}

fn rows_per_file(value: &str) -> Result<i64, String> {
    parse::whole_number(value, 1..=10_000_000)
}
