//! Eligibility: whether an attacker could rob a victim now.

use std::collections::HashMap;

use time::OffsetDateTime;

use super::{
    ids::UserId,
    rules::{Player, Refusal, Rules},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eligibility {
    pub victim_id: UserId,
    /// Empty if the player does not exist.
    pub victim_name: String,
    pub victim_points: i32,
    /// The attacker's tokens.
    pub tokens_available: i32,
    /// The points that a heist would steal now, or the reason why it would be refused.
    pub verdict: Result<i32, Refusal>,
    /// Set during the attacker's cooldown, independently of the verdict.
    pub cooldown_ends_at: Option<OffsetDateTime>,
    /// Set while the victim is protected, independently of the verdict.
    pub protection_ends_at: Option<OffsetDateTime>,
}

/// Players as one statement read them, without locks.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The database's clock.
    pub now: OffsetDateTime,
    /// The players who exist.
    pub players: HashMap<UserId, Player>,
}

impl Snapshot {
    /// Whether `attacker` could rob `victim`. The verdict comes from [`Rules::judge`], which
    /// executing a heist uses too.
    #[must_use]
    pub fn assess(&self, rules: &Rules, attacker: UserId, victim: UserId) -> Eligibility {
        let verdict = rules.judge(self.now, attacker, victim, &self.players);
        let attacker = self.players.get(&attacker);
        let target = self.players.get(&victim);
        Eligibility {
            victim_id: victim,
            victim_name: target.map_or_else(String::new, |player| player.name.clone()),
            victim_points: target.map_or(0, |player| player.points),
            tokens_available: attacker.map_or(0, |player| player.tokens),
            verdict,
            cooldown_ends_at: attacker.and_then(|player| rules.cooldown_end(player, self.now)),
            protection_ends_at: target.and_then(|player| rules.protection_end(player, self.now)),
        }
    }
}
