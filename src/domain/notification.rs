//! Notifications and their texts.

use time::OffsetDateTime;

use super::ids::{HeistId, NotificationId, UserId};

/// The name shown for a deleted player.
const DELETED_PLAYER: &str = "[deleted player]";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    pub id: NotificationId,
    pub user_id: UserId,
    pub details: Details,
    pub read: bool,
    pub created_at: OffsetDateTime,
}

/// The facts of a notification. Names are the current ones, and `None` for a deleted player.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Details {
    /// The player robbed `victim_id`.
    HeistSuccess {
        heist_id: HeistId,
        victim_id: UserId,
        victim_name: Option<String>,
        points_stolen: i32,
        points_after: i32,
    },
    /// The player was robbed by `attacker_id`.
    HeistVictim {
        heist_id: HeistId,
        attacker_id: UserId,
        attacker_name: Option<String>,
        points_lost: i32,
        points_after: i32,
        /// Set if the heist left the player protected.
        protection_ends_at: Option<OffsetDateTime>,
    },
    /// A referral earned the player a token.
    TokenEarned {
        referred_id: UserId,
        referred_name: Option<String>,
        balance_after: i32,
    },
}

impl Details {
    #[must_use]
    pub fn title(&self) -> &'static str {
        match self {
            Self::HeistSuccess { .. } => "Heist successful!",
            Self::HeistVictim { .. } => "You were robbed!",
            Self::TokenEarned { .. } => "Token earned!",
        }
    }

    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::HeistSuccess {
                victim_name,
                points_stolen,
                ..
            } => format!(
                "You stole {points_stolen} points from {}.",
                name_or_deleted(victim_name.as_deref())
            ),
            Self::HeistVictim {
                attacker_name,
                points_lost,
                ..
            } => format!(
                "{} stole {points_lost} of your monthly points.",
                name_or_deleted(attacker_name.as_deref())
            ),
            Self::TokenEarned { referred_name, .. } => format!(
                "{} joined with your code. You earned a heist token.",
                name_or_deleted(referred_name.as_deref())
            ),
        }
    }
}

fn name_or_deleted(name: Option<&str>) -> &str {
    name.unwrap_or(DELETED_PLAYER)
}
