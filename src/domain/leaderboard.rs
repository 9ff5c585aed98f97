//! The monthly leaderboard.

use super::ids::UserId;

/// A player's place on the board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// 1 is the top; players with equal points share a rank, and the next rank counts them all.
    pub rank: i32,
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

/// Where a page of the board ends, and the next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageEnd {
    pub monthly_points: i32,
    pub user_id: UserId,
    pub rank: i32,
    /// How many players stand on the board up to here.
    pub players: i32,
}

/// Ranks a page of the board, best first, that begins behind `end`, or at the top.
///
/// The ranks go on from those of the page before, so that reading on costs the same however
/// far down the board it gets.
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

/// How many players have how many points: what a rank far down the board is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// Points, and how many players have more; most points first.
    above: Vec<(i32, i64)>,
}

impl Distribution {
    /// From points and the number of players who have as many, most points first.
    #[must_use]
    pub fn new(players_by_points: impl IntoIterator<Item = (i32, i64)>) -> Self {
        let mut players_so_far = 0;
        let mut above = Vec::new();
        for (points, players) in players_by_points {
            above.push((points, players_so_far));
            players_so_far += players;
        }
        // Whoever has fewer points than anybody stands below everybody.
        above.push((i32::MIN, players_so_far));
        Self { above }
    }

    /// How many players have more than `points`; at least `at_least`, which is known otherwise.
    #[must_use]
    pub fn players_above(&self, points: i32, at_least: i64) -> i64 {
        // The entry with the most points that are not more.
        let index = self.above.partition_point(|(entry, _)| *entry > points);
        let known = self.above.get(index).map_or(0, |(_, above)| *above);
        known.max(at_least)
    }
}
