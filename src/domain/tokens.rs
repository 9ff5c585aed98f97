//! A player's account of heist tokens, and its statement.

use time::OffsetDateTime;

use super::ids::{HeistId, UserId};

/// A player's tokens. `balance` is always `total_earned - total_spent`: what is granted by
/// hand counts as earned, what is revoked as spent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenAccount {
    pub balance: i32,
    pub total_earned: i32,
    pub total_spent: i32,
    /// When a referral last earned a token.
    pub last_earned_at: Option<OffsetDateTime>,
    /// When a heist last spent one.
    pub last_spent_at: Option<OffsetDateTime>,
}

impl TokenAccount {
    /// The account after `delta` tokens were granted, or where negative, revoked, whether there
    /// are as many or not. `None` where a number passes what it can hold.
    #[must_use]
    pub fn adjusted(&self, delta: i32) -> Option<Self> {
        let granted = delta.max(0);
        let revoked = delta.min(0).checked_neg()?;
        Some(Self {
            balance: self.balance.checked_add(delta)?,
            total_earned: self.total_earned.checked_add(granted)?,
            total_spent: self.total_spent.checked_add(revoked)?,
            ..self.clone()
        })
    }
}

/// One line of a player's statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenEvent {
    /// Grows with every event of one player.
    pub ledger_id: i64,
    /// Positive where earned, negative where spent.
    pub delta: i32,
    pub balance_after: i32,
    pub source: TokenSource,
    pub created_at: OffsetDateTime,
}

/// What changed a balance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// `None` where the referred player has been deleted.
    Referral {
        referred_id: Option<UserId>,
    },
    Heist {
        heist_id: HeistId,
    },
    Adjustment {
        actor: String,
        reason: String,
    },
    /// All before it, up to and including a heist that was archived.
    CarriedForward,
}
