//! `heist emails resend` and `heist emails drop`

use anyhow::ensure;

use super::selection::{PARKED, State, email, player, states_or_parked};
use crate::{
    cli::output::{Found, print_line},
    domain::ids::{NotificationId, UserId},
    store::{
        PgPool, StoreError,
        emails::{self, Changed, EmailState, Selection},
    },
};

/// Why an e-mail in a fitting state was not changed.
const HELD: &str = "another transaction holds it; try again";

/// The selected e-mails. One of the options is required.
#[derive(clap::Args)]
#[group(required = true, multiple = true)]
pub(super) struct Which {
    /// These e-mails
    #[arg(value_name = "EMAIL", value_parser = email, conflicts_with_all = ["state", "player"])]
    emails: Vec<(UserId, NotificationId)>,
    /// All e-mails in this state
    #[arg(long, value_name = "STATE")]
    state: Vec<State>,
    /// Only e-mails to this player. Without a state: all parked e-mails
    #[arg(long, value_name = "ID", value_parser = player)]
    player: Option<UserId>,
}

/// What an operator does with e-mails.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Resend,
    Drop,
}

impl Change {
    /// The states of the e-mails that can be changed.
    fn states(self) -> Vec<EmailState> {
        match self {
            Self::Resend => PARKED.to_vec(),
            Self::Drop => [&PARKED[..], &[EmailState::Queued]].concat(),
        }
    }

    fn done(self) -> &'static str {
        match self {
            Self::Resend => "queued again",
            Self::Drop => "dropped",
        }
    }

    async fn run(self, pool: &PgPool, selection: &Selection) -> Result<Changed, StoreError> {
        match self {
            Self::Resend => emails::resend(pool, selection).await,
            Self::Drop => emails::drop(pool, selection).await,
        }
    }
}

impl Which {
    /// Changes the selected e-mails, and says which of them could not be changed and why.
    pub(super) async fn change(&self, pool: &PgPool, change: Change) -> anyhow::Result<()> {
        if self.emails.is_empty() {
            return self.change_all(pool, change).await;
        }
        let mut moved = 0;
        let mut unchanged = Vec::new();
        for &(user_id, id) in &self.emails {
            let selection = Selection {
                states: change.states(),
                user_id: Some(user_id),
                ids: Some(vec![id]),
            };
            let changed = change.run(pool, &selection).await?;
            moved += changed.moved;
            if changed.moved == 0 {
                let reason = match emails::state(pool, user_id, id).await? {
                    _ if changed.held > 0 => HELD.to_owned(),
                    None => "there is no such e-mail".to_owned(),
                    Some(state) => format!("it is {}", state.name().to_lowercase()),
                };
                unchanged.push(format!(
                    "{user_id}/{id} was not {}: {reason}",
                    change.done()
                ));
            }
        }
        if moved > 0 {
            print_line(counted(moved, change.done()))?;
        }
        if unchanged.is_empty() {
            Ok(())
        } else {
            Err(Found(unchanged.join("\n")).into())
        }
    }

    async fn change_all(&self, pool: &PgPool, change: Change) -> anyhow::Result<()> {
        let states = states_or_parked(&self.state);
        for state in &states {
            ensure!(
                change.states().contains(state),
                "e-mails that are {} cannot be selected",
                state.name().to_lowercase()
            );
        }
        let selection = Selection {
            states,
            user_id: self.player,
            ids: None,
        };
        let Changed { moved, held } = change.run(pool, &selection).await?;
        if moved == 0 && held == 0 {
            return Err(Found("no e-mail was found".to_owned()).into());
        }
        if moved > 0 {
            print_line(counted(moved, change.done()))?;
        }
        if held == 0 {
            return Ok(());
        }
        let not_changed = counted(held, &format!("not {}", change.done()));
        let not_changed = not_changed.trim_end_matches('.');
        Err(Found(format!("{not_changed}: {HELD}")).into())
    }
}

fn counted(emails: i64, what: &str) -> String {
    match emails {
        1 => format!("1 e-mail was {what}."),
        _ => format!("{emails} e-mails were {what}."),
    }
}
