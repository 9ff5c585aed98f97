//! The rules that allow or refuse a heist, and the number of points that it steals.

use std::{collections::HashMap, time::Duration};

use time::OffsetDateTime;

use super::ids::UserId;

/// The configured numbers of the game.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Share of the victim's monthly points that a heist steals, in percent, 1 to 100.
    pub steal_percentage: i32,
    /// The maximum number of points that one heist steals. `None` means no maximum.
    pub max_steal_points: Option<i32>,
    /// The minimum number of points of a victim.
    pub min_target_points: i32,
    /// The time between two heists of one attacker. Zero means no cooldown.
    pub cooldown: Duration,
    /// When a victim is protected. `None` means never.
    pub protection: Option<Protection>,
}

/// A victim who was robbed `after` times within `window` is protected until the oldest of these
/// heists is older than `window`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection {
    pub after: usize,
    pub window: Duration,
}

/// The facts about a player that the rules use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Player {
    pub id: UserId,
    pub name: String,
    /// Monthly points.
    pub points: i32,
    /// Heist tokens to spend.
    pub tokens: i32,
    /// The time of the player's last heist as attacker.
    pub last_heist_at: Option<OffsetDateTime>,
    /// The times of the player's last heists as victim, oldest first: at least the newest
    /// [`Protection::after`] of them.
    pub robbed_at: Vec<OffsetDateTime>,
}

/// Why a heist is not allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Attacker and victim are the same player.
    SelfTarget,
    AttackerNotFound,
    TargetNotFound,
    /// The attacker has no token.
    InsufficientTokens,
    /// The attacker's last heist is too recent.
    CooldownActive {
        ends_at: OffsetDateTime,
    },
    /// The victim has fewer points than `required`, or too few for one point to be stolen.
    InsufficientPoints {
        points: i32,
        required: i32,
    },
    /// The victim was robbed too often recently.
    TargetProtected {
        ends_at: OffsetDateTime,
    },
    /// The attacker's points after the heist would be outside 0 to [`i32::MAX`], the range of the
    /// column. They can be below 0 if the application made them negative before the service was
    /// installed.
    PointsLimitReached {
        points: i32,
        points_at_stake: i32,
    },
}

impl Refusal {
    /// The stable name of this refusal on the wire, in logs and in metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::SelfTarget => "SELF_TARGET",
            Self::AttackerNotFound => "ATTACKER_NOT_FOUND",
            Self::TargetNotFound => "TARGET_NOT_FOUND",
            Self::InsufficientTokens => "INSUFFICIENT_TOKENS",
            Self::CooldownActive { .. } => "COOLDOWN_ACTIVE",
            Self::InsufficientPoints { .. } => "INSUFFICIENT_POINTS",
            Self::TargetProtected { .. } => "TARGET_PROTECTED",
            Self::PointsLimitReached { .. } => "POINTS_LIMIT_REACHED",
        }
    }
}

impl Rules {
    /// Decides whether `attacker` may rob `victim` at `now`, and returns the number of points that
    /// the heist steals. `players` lacks a player who does not exist.
    ///
    /// `ExecuteHeist` and `CheckEligibility` both call this function, so they cannot disagree. The
    /// order of the checks is part of the contract.
    ///
    /// # Errors
    ///
    /// The first rule that refuses the heist.
    pub fn judge(
        &self,
        now: OffsetDateTime,
        attacker: UserId,
        victim: UserId,
        players: &HashMap<UserId, Player>,
    ) -> Result<i32, Refusal> {
        if attacker == victim {
            return Err(Refusal::SelfTarget);
        }
        let attacker = players.get(&attacker).ok_or(Refusal::AttackerNotFound)?;
        let victim = players.get(&victim).ok_or(Refusal::TargetNotFound)?;
        if attacker.tokens < 1 {
            return Err(Refusal::InsufficientTokens);
        }
        if let Some(ends_at) = self.cooldown_end(attacker, now) {
            return Err(Refusal::CooldownActive { ends_at });
        }
        let points_at_stake = self.points_at_stake(victim.points);
        if victim.points < self.min_target_points || points_at_stake < 1 {
            return Err(Refusal::InsufficientPoints {
                points: victim.points,
                required: self.fewest_points_to_rob(),
            });
        }
        if let Some(ends_at) = self.protection_end(victim, now) {
            return Err(Refusal::TargetProtected { ends_at });
        }
        let points_after = attacker.points.checked_add(points_at_stake);
        if points_after.is_none_or(|points| points < 0) {
            return Err(Refusal::PointsLimitReached {
                points: attacker.points,
                points_at_stake,
            });
        }
        Ok(points_at_stake)
    }

    /// The number of points that a heist steals from a victim with `victim_points`:
    /// `min(floor(points × percentage / 100), maximum)`, and at least 0.
    #[must_use]
    pub fn points_at_stake(&self, victim_points: i32) -> i32 {
        let share = i64::from(victim_points.max(0)) * i64::from(self.steal_percentage) / 100;
        // The percentage is 100 at most, so the share fits into an i32.
        let share = i32::try_from(share).unwrap_or(i32::MAX);
        share.min(self.max_steal_points.unwrap_or(i32::MAX))
    }

    /// The end of the attacker's cooldown. `None` if no cooldown is active.
    #[must_use]
    pub fn cooldown_end(&self, attacker: &Player, now: OffsetDateTime) -> Option<OffsetDateTime> {
        let ends_at = self.cooldown_end_after(attacker.last_heist_at?)?;
        (ends_at > now).then_some(ends_at)
    }

    /// The end of the cooldown after a heist at `heist_at`. `None` if the rules have no cooldown.
    #[must_use]
    pub fn cooldown_end_after(&self, heist_at: OffsetDateTime) -> Option<OffsetDateTime> {
        (!self.cooldown.is_zero()).then(|| heist_at + self.cooldown)
    }

    /// The end of the victim's protection. `None` if the victim is not protected.
    #[must_use]
    pub fn protection_end(&self, victim: &Player, now: OffsetDateTime) -> Option<OffsetDateTime> {
        let Protection { after, window } = self.protection?;
        let oldest_that_counts = victim.robbed_at.len().checked_sub(after)?;
        let ends_at = *victim.robbed_at.get(oldest_that_counts)? + window;
        (ends_at > now).then_some(ends_at)
    }

    /// The number of a victim's newest heists that [`Rules::protection_end`] needs.
    #[must_use]
    pub fn robberies_to_know(&self) -> usize {
        self.protection.map_or(0, |protection| protection.after)
    }

    /// The smallest number of points that satisfies the minimum and of which a heist steals at
    /// least one.
    fn fewest_points_to_rob(&self) -> i32 {
        let one_point =
            100_i32.div_euclid(self.steal_percentage) + i32::from(100 % self.steal_percentage != 0);
        self.min_target_points.max(one_point)
    }
}

impl Default for Rules {
    /// The numbers of the original game design.
    fn default() -> Self {
        Self {
            steal_percentage: 5,
            max_steal_points: Some(100),
            min_target_points: 20,
            cooldown: Duration::from_hours(24),
            protection: Some(Protection {
                after: 10,
                window: Duration::from_hours(48),
            }),
        }
    }
}
