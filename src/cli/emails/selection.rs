//! How operators select e-mails.

use clap::ValueEnum;

use crate::{
    domain::ids::{NotificationId, UserId},
    store::emails::EmailState,
};

/// The states that an operator can name.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum State {
    Queued,
    Sending,
    Failed,
    Unknown,
}

/// The states of e-mails that only an operator moves on.
pub(super) const PARKED: [EmailState; 2] = [EmailState::Failed, EmailState::Unknown];

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

/// These states; all parked ones if none is named.
pub(super) fn states_or_parked(states: &[State]) -> Vec<EmailState> {
    if states.is_empty() {
        return PARKED.to_vec();
    }
    states.iter().map(|state| state.in_the_store()).collect()
}

pub(super) fn player(value: &str) -> Result<UserId, String> {
    let id = value.parse().ok().and_then(|id| UserId::new(id).ok());
    id.ok_or_else(|| "expected a player's id, such as 2".to_owned())
}

pub(super) fn email(value: &str) -> Result<(UserId, NotificationId), String> {
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
