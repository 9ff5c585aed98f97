//! A player's account of heist tokens.

use time::OffsetDateTime;

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
