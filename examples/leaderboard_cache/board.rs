//! The copy of the leaderboard, without any network: what it holds, and what a change does to
//! it.

use std::{cmp::Reverse, collections::HashMap};

use heist::pb::{LeaderboardEntry, WatchPointsResponse};

/// The top of the leaderboard.
#[derive(Debug)]
pub struct Board {
    size: usize,
    /// In the order of the leaderboard.
    places: Vec<Place>,
    /// The last place as it was loaded, where there may be somebody behind it.
    edge: Option<Order>,
    /// The newest heist that was heard of for each player. It is kept when the board is loaded
    /// again: a change of another replica may arrive after a newer one, and after a load that
    /// has seen both.
    newest_heists: HashMap<i32, i64>,
}

/// A player on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub user_id: i32,
    pub name: String,
    pub monthly_points: i32,
}

/// Most points first, and among equals the higher id.
type Order = (Reverse<i32>, Reverse<i32>);

/// What a message did to the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Nothing,
    Changed,
    /// The copy cannot know any more who is on the board.
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

    /// Takes over the first page of the leaderboard. Whether that changed anything.
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
                // We know better.
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
            // Somebody whom we have never seen may be in front of them now.
            Some(_) if is_behind_edge => Effect::Reload,
            Some(place) if place.monthly_points == monthly_points => Effect::Nothing,
            Some(place) => {
                place.monthly_points = monthly_points;
                self.places.sort_by_key(Place::order);
                Effect::Changed
            }
            None if is_behind_edge => Effect::Nothing,
            // They enter the board, and the stream does not say their name.
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
    /// The effect of both.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Reload, _) | (_, Self::Reload) => Self::Reload,
            (Self::Changed, _) | (_, Self::Changed) => Self::Changed,
            (Self::Nothing, Self::Nothing) => Self::Nothing,
        }
    }
}
