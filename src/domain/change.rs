//! The changes of a commit, as the streams report them.

use super::{
    award::AwardOutcome,
    heist::{HeistOutcome, Party},
    ids::{HeistId, UserId},
};

/// The changes of one batch that streams report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Players who have a new notification, apart from the players of `heists`.
    pub notified: Vec<UserId>,
    pub heists: Vec<PointsMoved>,
    /// The connection was lost during a commit, so the batch may have made further changes.
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
    /// The player's points after the heist.
    pub monthly_points: i32,
    pub delta: i32,
}

impl Changes {
    /// Adds the changes of a heist that this batch executed. Other outcomes change nothing.
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

    /// Adds the changes of an award that this batch made. Other outcomes change nothing.
    pub fn add_award(&mut self, outcome: &AwardOutcome) {
        if let AwardOutcome::Awarded { award, .. } = outcome {
            self.notified.push(award.referrer);
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.notified.is_empty() && self.heists.is_empty() && !self.in_doubt
    }

    /// All players who have a new notification. A player may occur more than once.
    pub fn notified_players(&self) -> impl Iterator<Item = UserId> {
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
