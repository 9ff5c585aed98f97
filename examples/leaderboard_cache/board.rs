//! The copy of the leaderboard, without network: its contents, and the effect of a change.

use std::{cmp::Reverse, collections::HashMap};

use heist::pb::{LeaderboardEntry, WatchPointsResponse};

/// The top of the leaderboard.
#[derive(Debug)]
pub struct Board {
    size: usize,
    /// In the order of the leaderboard.
    places: Vec<Place>,
    /// The last entry as loaded, if further players may follow it.
    edge: Option<Order>,
    /// The newest known heist of each player. Loading the board keeps it: a change from another
    /// replica may arrive after a newer one, and after a load that includes both.
    newest_heists: HashMap<i32, i64>,
}

/// A player on the leaderboard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub user_id: i32,
    pub name: String,
    pub monthly_points: i32,
}

/// Most points first, and among equals the higher id.
type Order = (Reverse<i32>, Reverse<i32>);

/// The effect of a message on the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Nothing,
    Changed,
    /// The copy no longer knows which players are on the board.
    Reload,
}

impl Board {
    /// An empty copy of the first `size` places.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self {
            size,
            places: Vec::new(),
            edge: None,
            newest_heists: HashMap::new(),
        }
    }

    #[must_use]
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Replaces the copy by the first page of the leaderboard. Returns whether the copy changed.
    pub fn load(&mut self, entries: Vec<LeaderboardEntry>) -> bool {
        let places: Vec<Place> = (entries.into_iter().take(self.size))
            .map(|entry| Place {
                user_id: entry.user_id,
                name: entry.name,
                monthly_points: entry.monthly_points,
            })
            .collect();
        let is_full = places.len() == self.size;
        self.edge = places.last().filter(|_| is_full).map(Place::order);
        let changed = self.places != places;
        self.places = places;
        changed
    }

    /// Applies a message of the stream.
    pub fn apply(&mut self, message: &WatchPointsResponse) -> Effect {
        let mut effect = Effect::Nothing;
        if message.resync {
            effect = Effect::Reload;
        }
        for change in &message.changes {
            let newest = self.newest_heists.entry(change.user_id).or_default();
            if *newest >= message.heist_id {
                // The copy already includes a newer change.
                continue;
            }
            *newest = message.heist_id;
            effect = effect.and(self.set_points(change.user_id, change.monthly_points));
        }
        effect
    }

    fn set_points(&mut self, user_id: i32, monthly_points: i32) -> Effect {
        let now = (Reverse(monthly_points), Reverse(user_id));
        let is_behind_edge = self.edge.is_some_and(|edge| now > edge);
        let known = (self.places.iter_mut()).find(|place| place.user_id == user_id);
        match known {
            // A player who was never loaded may now be ahead of this one.
            Some(_) if is_behind_edge => Effect::Reload,
            Some(place) if place.monthly_points == monthly_points => Effect::Nothing,
            Some(place) => {
                place.monthly_points = monthly_points;
                self.places.sort_by_key(Place::order);
                Effect::Changed
            }
            None if is_behind_edge => Effect::Nothing,
            // The player enters the board, and the stream does not carry names.
            None => Effect::Reload,
        }
    }
}

impl Place {
    fn order(&self) -> Order {
        (Reverse(self.monthly_points), Reverse(self.user_id))
    }
}

impl Effect {
    /// The combined effect of two messages.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Reload, _) | (_, Self::Reload) => Self::Reload,
            (Self::Changed, _) | (_, Self::Changed) => Self::Changed,
            (Self::Nothing, Self::Nothing) => Self::Nothing,
        }
    }
}
