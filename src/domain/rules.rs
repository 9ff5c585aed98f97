//! Who may rob whom, and of how much.

use std::{collections::HashMap, time::Duration};

use time::OffsetDateTime;

use super::ids::UserId;

/// The numbers of the game, as they are set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Share of the victim's monthly points that a heist steals, in percent, 1 to 100.
    pub steal_percentage: i32,
    /// The most that one heist steals, in points; `None`: no cap.
    pub max_steal_points: Option<i32>,
    /// A victim needs at least so many points.
    pub min_target_points: i32,
    /// How long an attacker waits after a heist; zero: not at all.
    pub cooldown: Duration,
    /// When a victim is left alone; `None`: never.
    pub protection: Option<Protection>,
}

/// A victim robbed `after` times within `window` is protected until the oldest of those
/// robberies is older than `window`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection {
    pub after: usize,
    pub window: Duration,
}

/// What the rules have to know of a player.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Player {
    pub id: UserId,
    pub name: String,
    /// Monthly points.
    pub points: i32,
    /// Heist tokens to spend.
    pub tokens: i32,
    /// When they last robbed somebody.
    pub last_heist_at: Option<OffsetDateTime>,
    /// When they were last robbed, oldest first; at least the newest [`Protection::after`] times.
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
    /// The victim was robbed too often lately.
    TargetProtected {
        ends_at: OffsetDateTime,
    },
}

impl Refusal {
    /// What programs compare, on the wire, in logs and in metrics.
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
        }
    }
}

impl Rules {
    /// Decides whether `attacker` may rob `victim` at `now`, and of how many points, where
    /// `players` are those of the two who exist.
    ///
    /// Executing a heist and answering whether one would be allowed both come here, so that
    /// they cannot disagree. The order of the checks is part of the contract.
    ///
    /// # Errors
    ///
    /// The first rule that forbids it.
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
        Ok(points_at_stake)
    }

    /// What a heist steals from somebody with `victim_points`:
    /// `min(floor(points × percentage / 100), cap)`, never below zero.
    #[must_use]
    pub fn points_at_stake(&self, victim_points: i32) -> i32 {
        let share = i64::from(victim_points.max(0)) * i64::from(self.steal_percentage) / 100;
        // Up to 100% of an i32 is an i32.
        let share = i32::try_from(share).unwrap_or(i32::MAX);
        share.min(self.max_steal_points.unwrap_or(i32::MAX))
    }

    /// Until when `attacker` has to wait; `None` where they need not.
    #[must_use]
    pub fn cooldown_end(&self, attacker: &Player, now: OffsetDateTime) -> Option<OffsetDateTime> {
        let ends_at = self.cooldown_end_after(attacker.last_heist_at?)?;
        (ends_at > now).then_some(ends_at)
    }

    /// Until when somebody waits who robbed at `heist_at`; `None` where there is no cooldown.
    #[must_use]
    pub fn cooldown_end_after(&self, heist_at: OffsetDateTime) -> Option<OffsetDateTime> {
        (!self.cooldown.is_zero()).then(|| heist_at + self.cooldown)
    }

    /// Until when `victim` is protected; `None` where they are not.
    #[must_use]
    pub fn protection_end(&self, victim: &Player, now: OffsetDateTime) -> Option<OffsetDateTime> {
        let Protection { after, window } = self.protection?;
        let oldest_that_counts = victim.robbed_at.len().checked_sub(after)?;
        let ends_at = *victim.robbed_at.get(oldest_that_counts)? + window;
        (ends_at > now).then_some(ends_at)
    }

    /// How many of a victim's robberies [`Rules::protection_end`] needs to see.
    #[must_use]
    pub fn robberies_to_know(&self) -> usize {
        self.protection.map_or(0, |protection| protection.after)
    }

    /// The fewest points of which a heist steals at least one and that the minimum allows.
    fn fewest_points_to_rob(&self) -> i32 {
        let one_point =
            100_i32.div_euclid(self.steal_percentage) + i32::from(100 % self.steal_percentage != 0);
        self.min_target_points.max(one_point)
    }
}

impl Default for Rules {
    /// The review's numbers.
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
