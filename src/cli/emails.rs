//! `heist emails`

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::ValueEnum;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::config::{DatabaseConfig, LogConfig};
use crate::{
    domain::ids::{NotificationId, UserId},
    store::{
        PgPool,
        emails::{self, EmailState, Entry, Selection},
        pool, schema,
    },
};

const EXAMPLES: &str = "\
Examples:
  heist emails status                    the queue, what is parked, and the provider
  heist emails list                      what is parked, and why
  heist emails list --state queued       what is still to be sent
  heist emails resend 2/26 5/31          send these two again
  heist emails resend --state failed     send all again that surely did not leave
  heist emails drop --state unknown      give up all of which nobody knows whether they left

They work on DATABASE_URL. A mail is known by its player and notification, as in 2/26.";

/// Lists, resends and drops e-mails
///
/// A mail that surely did not leave and is not tried again is `failed`; one that may have left is
/// `unknown`, and resending it may send it twice.
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
    /// Show how many mails are queued and parked, and whether the provider works
    Status(DatabaseConfig),
    /// List mails that are queued or parked, without addresses
    List {
        #[command(flatten)]
        database: DatabaseConfig,
        /// Only those in this state; default: failed and unknown
        #[arg(long, value_name = "STATE")]
        state: Vec<State>,
        /// Only those of this player
        #[arg(long, value_name = "ID", value_parser = player)]
        player: Option<UserId>,
        /// So many at the most
        #[arg(long, value_name = "MAILS", default_value = "100", value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Send parked mails again, from now on for a day; unknown ones may arrive twice
    Resend {
        #[command(flatten)]
        database: DatabaseConfig,
        #[command(flatten)]
        which: Which,
    },
    /// Give mails up that are parked or queued
    Drop {
        #[command(flatten)]
        database: DatabaseConfig,
        #[command(flatten)]
        which: Which,
    },
}

/// Which mails are meant: it has to be said.
#[derive(clap::Args)]
#[group(required = true, multiple = true)]
struct Which {
    /// These, as player/notification
    #[arg(value_name = "MAIL", value_parser = mail, conflicts_with_all = ["state", "player"])]
    mails: Vec<(UserId, NotificationId)>,
    /// All in this state
    #[arg(long, value_name = "STATE")]
    state: Vec<State>,
    /// Only those of this player; without a state, all that are parked
    #[arg(long, value_name = "ID", value_parser = player)]
    player: Option<UserId>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum State {
    Queued,
    Sending,
    Failed,
    Unknown,
}

const PARKED: [EmailState; 2] = [EmailState::Failed, EmailState::Unknown];

impl Emails {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self.action {
            Action::Status(database) => status(&connect(&database).await?).await,
            Action::List {
                database,
                state,
                player,
                limit,
            } => {
                let states = states_or_parked(&state);
                let pool = connect(&database).await?;
                let entries = emails::list(&pool, &states, player, limit.into()).await?;
                print!("{}", table(&entries));
                Ok(())
            }
            Action::Resend { database, which } => {
                let selections = which.selections(&PARKED)?;
                let pool = connect(&database).await?;
                let mut mails = 0;
                for selection in &selections {
                    mails += emails::resend(&pool, selection).await?;
                }
                conclude(mails, "queued to be sent again")
            }
            Action::Drop { database, which } => {
                let selections = which.selections(&[PARKED[0], PARKED[1], EmailState::Queued])?;
                let pool = connect(&database).await?;
                let mut mails = 0;
                for selection in &selections {
                    mails += emails::drop(&pool, selection).await?;
                }
                conclude(mails, "given up")
            }
        }
    }
}

impl Which {
    /// As the store takes it. Only what is in one of the `possible` states can be meant.
    fn selections(&self, possible: &[EmailState]) -> anyhow::Result<Vec<Selection>> {
        if !self.mails.is_empty() {
            let one = |&(user_id, id): &(UserId, NotificationId)| Selection {
                states: possible.to_vec(),
                user_id: Some(user_id),
                ids: Some(vec![id]),
            };
            return Ok(self.mails.iter().map(one).collect());
        }
        let states = states_or_parked(&self.state);
        for state in &states {
            ensure!(
                possible.contains(state),
                "what is {} cannot be meant",
                state.name().to_lowercase()
            );
        }
        Ok(vec![Selection {
            states,
            user_id: self.player,
            ids: None,
        }])
    }
}

async fn connect(database: &DatabaseConfig) -> anyhow::Result<PgPool> {
    let options = database.database_url.connect_options();
    schema::check(options)
        .await
        .context("cannot look at the mail")?;
    Ok(pool::connect_lazy_for_command(options.clone(), 1))
}

async fn status(pool: &PgPool) -> anyhow::Result<()> {
    let backlog = emails::backlog(pool).await?;
    println!("waiting  {:>8}  to be sent later", backlog.waiting);
    println!(
        "due      {:>8}  the oldest for {}",
        backlog.due,
        humantime::format_duration(Duration::from_secs(backlog.oldest_due.as_secs()))
    );
    println!("sending  {:>8}", backlog.sending);
    println!("failed   {:>8}  parked: did not leave", backlog.failed);
    println!("unknown  {:>8}  parked: may have left", backlog.unknown);
    for trouble in emails::troubles(pool).await? {
        let until = trouble.paused_until.map(time).unwrap_or_default();
        println!(
            "{} does not work, next attempt after {until}: {}",
            trouble.provider, trouble.trouble
        );
    }
    Ok(())
}

fn states_or_parked(states: &[State]) -> Vec<EmailState> {
    if states.is_empty() {
        return PARKED.to_vec();
    }
    states.iter().map(|state| state.in_the_store()).collect()
}

impl State {
    fn in_the_store(self) -> EmailState {
        match self {
            Self::Queued => EmailState::Queued,
            Self::Sending => EmailState::Sending,
            Self::Failed => EmailState::Failed,
            Self::Unknown => EmailState::Unknown,
        }
    }
}

fn table(entries: &[Entry]) -> String {
    let mut lines = format!(
        "{:<20} {:<13} {:<8} {:>8}  {:<20} {}\n",
        "MAIL", "TELLS", "STATE", "ATTEMPTS", "AT", "LAST ERROR"
    );
    for entry in entries {
        let mail = format!("{}/{}", entry.user_id, entry.id);
        let line = format!(
            "{mail:<20} {:<13} {:<8} {:>8}  {:<20} {}",
            entry.notification_type.to_lowercase(),
            entry.state.name().to_lowercase(),
            entry.attempts,
            time(entry.at),
            entry.error.as_deref().unwrap_or_default()
        );
        lines.push_str(line.trim_end());
        lines.push('\n');
    }
    lines
}

fn conclude(mails: u64, what: &str) -> anyhow::Result<()> {
    match mails {
        0 => bail!("there is no such mail"),
        1 => println!("1 mail is {what}."),
        _ => println!("{mails} mails are {what}."),
    }
    Ok(())
}

/// To the second, in UTC.
fn time(time: OffsetDateTime) -> String {
    time.replace_nanosecond(0)
        .expect("0 is a nanosecond")
        .format(&Rfc3339)
        .expect("the database's years have four digits")
}

fn player(value: &str) -> Result<UserId, String> {
    let id = value.parse().ok().and_then(|id| UserId::new(id).ok());
    id.ok_or_else(|| "expected a player's id, such as 2".to_owned())
}

fn mail(value: &str) -> Result<(UserId, NotificationId), String> {
    value
        .split_once('/')
        .and_then(|(player, notification)| {
            Some((
                UserId::new(player.parse().ok()?).ok()?,
                NotificationId::new(notification.parse().ok()?).ok()?,
            ))
        })
        .ok_or_else(|| "expected a player and a notification, such as 2/26".to_owned())
}
