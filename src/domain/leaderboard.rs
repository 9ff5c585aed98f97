//! The monthly leaderboard.

use super::ids::UserId;

/// A player's place on the board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// 1 is the top; players with equal points share a rank, and the next rank counts them all.
    pub rank: i64,
    pub standing: Standing,
}

/// What the board shows of a player.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub user_id: UserId,
    pub name: String,
    pub monthly_points: i32,
    pub token_balance: i32,
}

/// Ranks a page of the board, best first, of whose first player is known how many players
/// have more points (`above`), and how many as many but stand before them (`tied_before`).
#[must_use]
pub fn rank(standings: Vec<Standing>, above: i64, tied_before: i64) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::with_capacity(standings.len());
    for (position, standing) in (above + tied_before + 1..).zip(standings) {
        let rank = match places.last() {
            Some(previous) if previous.standing.monthly_points == standing.monthly_points => {
                previous.rank
            }
            Some(_) => position,
            None => above + 1,
        };
        places.push(Place { rank, standing });
    }
    places
}
