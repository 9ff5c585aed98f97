//! `heist emails`

mod change;
mod selection;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use self::{
    change::{Change, Which},
    selection::{State, player, states_or_parked},
};
use super::{
    config::{DatabaseConfig, LogConfig, TemplateConfig},
    output::print_line,
};
use crate::{
    domain::ids::UserId,
    mail,
    store::{
        PgPool,
        emails::{self, Entry, FailingProvider, QueueCounts},
        pool, schema,
    },
};

const EXAMPLES: &str = "\
Examples:
  heist emails status                    queued and parked e-mails, and provider errors
  heist emails list                      parked e-mails with their errors
  heist emails list --state queued       e-mails to be sent
  heist emails resend 2/26 5/31          send these two again
  heist emails resend --state failed     send all failed e-mails again
  heist emails preview --out preview     render a sample of each kind of e-mail to files
  heist emails drop --state unknown      drop all e-mails that may have been sent

DATABASE_URL is in the environment. An e-mail's name is PLAYER/NOTIFICATION, such as 2/26.";

/// Lists, resends and drops e-mails
///
/// An e-mail that was not sent and is not retried is `failed`. An e-mail that may have been sent is
/// `unknown`; resending it may deliver it twice.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Emails {
    #[command(subcommand)]
    action: Action,

    #[command(flatten)]
    pub(super) log: LogConfig,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Show how many e-mails are queued and parked, and the provider's errors
    Status {
        #[command(flatten)]
        database: DatabaseConfig,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List e-mails that are queued or parked, without addresses
    List {
        #[command(flatten)]
        database: DatabaseConfig,
        /// Only e-mails in this state. Default: failed and unknown
        #[arg(long, value_name = "STATE")]
        state: Vec<State>,
        /// Only e-mails to this player
        #[arg(long, value_name = "ID", value_parser = player)]
        player: Option<UserId>,
        /// Maximum number of e-mails
        #[arg(long, value_name = "EMAILS", default_value = "100", value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Queue parked e-mails again, with retries for a day. Unknown e-mails may be delivered twice
    Resend {
        #[command(flatten)]
        database: DatabaseConfig,
        #[command(flatten)]
        which: Which,
    },
    /// Render each kind of e-mail with sample data to files; needs no database
    Preview {
        #[command(flatten)]
        templates: TemplateConfig,
        /// Folder for the files; it is created if it does not exist
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
    },
    /// Drop parked or queued e-mails
    Drop {
        #[command(flatten)]
        database: DatabaseConfig,
        #[command(flatten)]
        which: Which,
    },
}

impl Emails {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self.action {
            Action::Status { database, json } => {
                let status = Status::read(&connect(&database).await?).await?;
                if json {
                    print_line(status.json())
                } else {
                    print_line(status.text().trim_end())
                }
            }
            Action::List {
                database,
                state,
                player,
                limit,
                json,
            } => {
                let states = states_or_parked(&state);
                let pool = connect(&database).await?;
                let entries = emails::list(&pool, &states, player, limit.into()).await?;
                if json {
                    print_line(entries.iter().map(as_json).collect::<Value>())
                } else {
                    print_line(table(&entries).trim_end())
                }
            }
            Action::Preview { templates, out } => preview(&templates, &out),
            Action::Resend { database, which } => {
                let pool = connect(&database).await?;
                which.change(&pool, Change::Resend).await
            }
            Action::Drop { database, which } => {
                let pool = connect(&database).await?;
                which.change(&pool, Change::Drop).await
            }
        }
    }
}

/// Writes `LANGUAGE/KIND.subject`, `.txt` and `.html`.
fn preview(templates: &TemplateConfig, out: &Path) -> anyhow::Result<()> {
    let templates = templates.load().map_err(anyhow::Error::msg)?;
    for preview in mail::previews(&templates).map_err(anyhow::Error::msg)? {
        let folder = out.join(&preview.language);
        let write = |extension: &str, text: &str| {
            let file = folder.join(format!("{}.{extension}", preview.kind));
            fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
            print_line(file.display())?;
            anyhow::Ok(())
        };
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        write("subject", &preview.subject)?;
        write("txt", &preview.text)?;
        write("html", &preview.html)?;
    }
    Ok(())
}

async fn connect(database: &DatabaseConfig) -> anyhow::Result<PgPool> {
    let options = database.database_url.follow().await?;
    schema::check_migrations(&options.newest())
        .await
        .context("cannot read the e-mails")?;
    Ok(pool::connect_lazy_for_command(options, 1))
}

struct Status {
    counts: QueueCounts,
    failing: Vec<FailingProvider>,
}

impl Status {
    async fn read(pool: &PgPool) -> anyhow::Result<Self> {
        Ok(Self {
            counts: emails::queue_counts(pool).await?,
            failing: emails::failing_providers(pool).await?,
        })
    }

    fn oldest_due(&self) -> Duration {
        Duration::from_secs(self.counts.oldest_due.as_secs())
    }

    fn text(&self) -> String {
        let counts = &self.counts;
        let oldest = humantime::format_duration(self.oldest_due());
        let mut text = format!(
            "waiting  {:>8}  to be sent later\n\
             due      {:>8}  the oldest since {oldest}\n\
             sending  {:>8}\n\
             failed   {:>8}  parked: not sent\n\
             unknown  {:>8}  parked: may have been sent\n",
            counts.waiting, counts.due, counts.sending, counts.failed, counts.unknown,
        );
        for failing in &self.failing {
            let until = failing.paused_until.map(time).unwrap_or_default();
            text.push_str(&failing.provider);
            text.push_str(" fails, next attempt after ");
            text.push_str(&until);
            text.push_str(": ");
            text.push_str(&failing.reason);
            text.push('\n');
        }
        text
    }

    fn json(&self) -> Value {
        let failing = self.failing.iter().map(|failing| {
            json!({
                "provider": failing.provider,
                "nextAttemptAfter": failing.paused_until.map(time),
                "error": failing.reason,
            })
        });
        json!({
            "waiting": self.counts.waiting,
            "due": self.counts.due,
            "oldestDueSeconds": self.oldest_due().as_secs(),
            "sending": self.counts.sending,
            "failed": self.counts.failed,
            "unknown": self.counts.unknown,
            "failingProviders": failing.collect::<Value>(),
        })
    }
}

fn as_json(entry: &Entry) -> Value {
    json!({
        "userId": entry.user_id,
        "notificationId": entry.id,
        "type": entry.notification_type,
        "state": entry.state.name(),
        "at": time(entry.at),
        "attempts": entry.attempts,
        "preference": entry.preference,
        "error": entry.error,
    })
}

fn table(entries: &[Entry]) -> String {
    let mut lines = format!(
        "{:<20} {:<13} {:<8} {:>8}  {:<20} {:<9} {}\n",
        "EMAIL", "TYPE", "STATE", "ATTEMPTS", "AT", "PREFERS", "LAST ERROR"
    );
    for entry in entries {
        let name = format!("{}/{}", entry.user_id, entry.id);
        let line = format!(
            "{name:<20} {:<13} {:<8} {:>8}  {:<20} {:<9} {}",
            entry.notification_type.to_lowercase(),
            entry.state.name().to_lowercase(),
            entry.attempts,
            time(entry.at),
            entry
                .preference
                .as_deref()
                .unwrap_or("default")
                .to_lowercase(),
            entry.error.as_deref().unwrap_or_default()
        );
        lines.push_str(line.trim_end());
        lines.push('\n');
    }
    lines
}

/// In UTC, without fractions of a second.
fn time(time: OffsetDateTime) -> String {
    time.replace_nanosecond(0)
        .expect("0 is a nanosecond")
        .format(&Rfc3339)
        .expect("the database's years have four digits")
}
