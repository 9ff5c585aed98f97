//! What a commit changed, for those who listen.

use super::{
    award::AwardOutcome,
    heist::{HeistOutcome, Party},
    ids::{HeistId, UserId},
};

/// Everything that one batch changed and somebody may listen for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Players who have a new notification besides those of `heists`.
    pub notified: Vec<UserId>,
    pub heists: Vec<PointsMoved>,
    /// Nobody knows what a commit whose connection was lost has changed besides, if anything.
    pub in_doubt: bool,
}

/// The points that one heist moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointsMoved {
    pub heist_id: HeistId,
    pub attacker: PointsChange,
    pub victim: PointsChange,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointsChange {
    pub user_id: UserId,
    /// As they are after it.
    pub monthly_points: i32,
    pub delta: i32,
}

impl Changes {
    /// Adds what a heist changed, if it happened now.
    pub fn add_heist(&mut self, outcome: &HeistOutcome) {
        let HeistOutcome::Executed { heist, .. } = outcome else {
            return;
        };
        if let (Some(attacker), Some(victim)) = (change(&heist.attacker), change(&heist.victim)) {
            self.heists.push(PointsMoved {
                heist_id: heist.id,
                attacker,
                victim,
            });
        }
    }

    /// Adds what an award changed, if it happened now.
    pub fn add_award(&mut self, outcome: &AwardOutcome) {
        if let AwardOutcome::Awarded { award, .. } = outcome {
            self.notified.push(award.referrer);
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.notified.is_empty() && self.heists.is_empty() && !self.in_doubt
    }

    /// Everybody who has a new notification; some perhaps more than once.
    pub fn everybody_notified(&self) -> impl Iterator<Item = UserId> {
        let robbers_and_robbed =
            (self.heists.iter()).flat_map(|moved| [moved.attacker.user_id, moved.victim.user_id]);
        self.notified.iter().copied().chain(robbers_and_robbed)
    }
}

fn change(party: &Party) -> Option<PointsChange> {
    Some(PointsChange {
        user_id: party.id?,
        monthly_points: party.points_after,
        delta: party.points_after - party.points_before,
    })
}
