//! How old rows are archived.

use std::{path::PathBuf, time::Duration};

use crate::settings::parse;

/// What `heist archive` needs to know.
#[derive(Clone, Debug, clap::Args)]
pub struct ArchiveConfig {
    /// The folder that the files go to, one for each database; made where there is none
    #[arg(long, env = "HEIST_ARCHIVE_DIR", value_name = "FOLDER")]
    pub dir: PathBuf,

    /// Rows that were created longer ago are archived; at least `7d`, and longer than the
    /// cooldown and the protection window
    #[arg(long, value_name = "DURATION", default_value = "90d", value_parser = parse::duration)]
    pub older_than: Duration,

    /// Rows in one file at the most
    #[arg(long, value_name = "NUMBER", default_value = "100000", value_parser = rows_per_file)]
    pub rows_per_file: i64,

    /// Say what would be archived, and change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// As given to `heist serve`
    #[arg(long, env = "HEIST_COOLDOWN", value_name = "DURATION", default_value = "24h", value_parser = parse::duration)]
    pub cooldown: Duration,

    /// As given to `heist serve`
    #[arg(long, env = "HEIST_PROTECTION_WINDOW", value_name = "DURATION", default_value = "48h", value_parser = parse::duration)]
    pub protection_window: Duration,
}

fn rows_per_file(value: &str) -> Result<i64, String> {
    parse::whole_number(value, 1..=10_000_000)
}
