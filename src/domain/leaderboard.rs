//! The monthly leaderboard.

use super::ids::UserId;

/// A player's place on the board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// One more than the number of players who have more points, so that players with equal points
    /// share a rank.
    pub rank: i32,
    pub standing: Standing,
}

/// One row of the board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub user_id: UserId,
    pub name: String,
    pub monthly_points: i32,
    pub token_balance: i32,
}

/// A cursor: the last row of a page, after which the next page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageEnd {
    pub monthly_points: i32,
    pub user_id: UserId,
    pub rank: i32,
    /// The number of players on the board up to and including this row.
    pub players: i32,
}

/// Ranks the rows of one page, which are sorted by descending points. The page begins after `end`,
/// or at the top if `end` is `None`.
///
/// The ranks continue from the rank in `end`, so a page costs the same at any depth of the board.
#[must_use]
pub fn rank(standings: Vec<Standing>, end: Option<PageEnd>) -> Vec<(Place, PageEnd)> {
    let mut before = end;
    let ranked = standings.into_iter().map(|standing| {
        let players = before.map_or(0, |before| before.players).saturating_add(1);
        let rank = match before {
            Some(before) if before.monthly_points == standing.monthly_points => before.rank,
            _ => players,
        };
        let end = PageEnd {
            monthly_points: standing.monthly_points,
            user_id: standing.user_id,
            rank,
            players,
        };
        before = Some(end);
        (Place { rank, standing }, end)
    });
    ranked.collect()
}

/// A histogram of points, from which ranks at the lower end of the board are computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// Pairs of points and the number of players who have more, sorted by descending points.
    above: Vec<(i32, i64)>,
}

impl Distribution {
    /// Builds a histogram from pairs of points and the number of players who have exactly as many,
    /// sorted by descending points.
    #[must_use]
    pub fn new(players_by_points: impl IntoIterator<Item = (i32, i64)>) -> Self {
        let mut players_so_far = 0;
        let mut above = Vec::new();
        for (points, players) in players_by_points {
            above.push((points, players_so_far));
            players_so_far += players;
        }
        // A player with fewer points than the lowest entry is below all other players.
        above.push((i32::MIN, players_so_far));
        Self { above }
    }

    /// The number of players who have more than `points`, and at least `at_least`, a lower bound
    /// that the caller has counted.
    #[must_use]
    pub fn players_above(&self, points: i32, at_least: i64) -> i64 {
        // The highest entry that is not above `points`.
        let index = self.above.partition_point(|(entry, _)| *entry > points);
        let known = self.above.get(index).map_or(0, |(_, above)| *above);
        known.max(at_least)
    }
}
