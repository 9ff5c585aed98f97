//! A player's account of heist tokens, and its statement.

use time::OffsetDateTime;

use super::ids::{HeistId, UserId};

/// A player's tokens. `balance` always equals `total_earned - total_spent`: granted tokens count as
/// earned, revoked tokens as spent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenAccount {
    pub balance: i32,
    pub total_earned: i32,
    pub total_spent: i32,
    /// The time of the last award.
    pub last_earned_at: Option<OffsetDateTime>,
    /// The time of the last heist as attacker.
    pub last_spent_at: Option<OffsetDateTime>,
}

impl TokenAccount {
    /// The account after `delta` tokens are granted, or revoked if `delta` is negative. The balance
    /// may become negative. Returns `None` on an integer overflow.
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
    /// The position in the statement. It increases with every event of one player.
    pub ledger_id: i64,
    /// Positive if earned, negative if spent.
    pub delta: i32,
    pub balance_after: i32,
    pub source: TokenSource,
    pub created_at: OffsetDateTime,
}

/// The cause of a change of a balance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    Referral {
        /// `None` if the referred player has been deleted.
        referred_id: Option<UserId>,
    },
    Heist {
        heist_id: HeistId,
    },
    Adjustment {
        actor: String,
        reason: String,
    },
    /// All earlier events, up to and including the newest archived heist.
    CarriedForward,
}
