//! The waiting orders, and which of them may run beside the running batches.
//!
//! The schedule is pure: it uses no database and no tasks, and the caller passes in the time. It
//! guarantees that
//!
//! - two batches that run at the same time have no player in common. One of them would find the
//!   player's row locked by the other, and could not run the player's orders;
//! - the orders of a player run in the order of their arrival, unless one of them was set aside;
//! - an order that names no blocked player runs. A player is *blocked* while another transaction
//!   holds the player's row, or after the player's batch has run for [`BLOCKED_AFTER`]. Orders that name
//!   a blocked player are set aside: they reserve nothing, and later orders overtake them.
//!
//! An order held back by an ordinary batch reserves its players for at most [`BLOCKED_AFTER`], so that
//! later orders of the same players do not overtake it.
//!
//! Most often, another replica that robs the same popular victim holds a row for a few
//! milliseconds. So one batch for such a player waits in PostgreSQL's lock queue for the row, and
//! holds no other lock meanwhile: the player has a *line*. At most [`MAX_PLAYERS_WITH_LINE`] players have a
//! line. Orders of other blocked players are tried again after pauses.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::Duration,
};

use tokio::time::Instant;

use crate::domain::ids::UserId;

/// A batch that has run for this time blocks its players: orders that name them are set aside.
pub(super) const BLOCKED_AFTER: Duration = Duration::from_millis(250);
/// The limit of players that have a line at the same time.
const MAX_PLAYERS_WITH_LINE: usize = 4;
/// A line is closed after this many batches, to find out whether the player still needs one.
const BATCHES_OF_LINE: u32 = 64;

/// Orders of type `T`, and the players of running batches.
pub(super) struct Schedule<T> {
    waiting: BTreeMap<u64, Entry<T>>,
    /// The waiting orders that may run now.
    ready: BTreeSet<u64>,
    next_sequence: u64,
    /// The players of running batches, and since when.
    busy: HashMap<UserId, Instant>,
    /// The players of orders that are held back. Later orders must not overtake these orders.
    reserved: HashSet<UserId>,
    /// The players that have a line, each with the number of batches until the line is closed.
    lines: HashMap<UserId, u32>,
    /// The next time at which a waiting order may become ready or blocked.
    next_look: Option<Instant>,
}

/// An order and its place in the schedule.
pub(super) struct Entry<T> {
    pub(super) order: T,
    players: Vec<UserId>,
    sequence: u64,
    not_before: Option<Instant>,
}

/// Whether an order may run, and otherwise what it waits for.
enum Place {
    Ready,
    /// It waits for an earlier order of one of its players, or for a batch that blocks no player
    /// yet.
    HeldBack,
    /// It waits for a blocked player, or until the end of its pause.
    SetAside(Option<Instant>),
}

impl<T> Schedule<T> {
    pub(super) fn new() -> Self {
        Self {
            waiting: BTreeMap::new(),
            ready: BTreeSet::new(),
            next_sequence: 0,
            busy: HashMap::new(),
            reserved: HashSet::new(),
            lines: HashMap::new(),
            next_look: None,
        }
    }

    pub(super) fn push(&mut self, order: T, players: Vec<UserId>, now: Instant) {
        let entry = Entry {
            order,
            players,
            sequence: self.next_sequence,
            not_before: None,
        };
        self.next_sequence += 1;
        self.insert(entry, now);
    }

    /// Takes back an order that its batch could not run. The order keeps its place among the
    /// orders, and may run again after a `pause`.
    pub(super) fn put_back(&mut self, mut entry: Entry<T>, pause: Duration, now: Instant) {
        entry.not_before = Some(now + pause);
        self.insert(entry, now);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The number of orders that may run now.
    pub(super) fn count_ready(&self) -> usize {
        self.ready.len()
    }

    /// Takes up to `limit` of the oldest orders that may run now, oldest first. Their players are
    /// busy until [`Self::release`].
    pub(super) fn take(&mut self, limit: usize, now: Instant) -> Vec<Entry<T>> {
        let mut taken = Vec::new();
        while taken.len() < limit
            && let Some(sequence) = self.ready.pop_first()
        {
            taken.extend(self.waiting.remove(&sequence));
        }
        self.occupy(&taken, now);
        if !self.ready.is_empty() {
            self.look_again(now);
        }
        taken
    }

    /// Begins the line whose order has waited longest, and returns the line's player; `None` if no
    /// line can begin. The player is busy until [`Self::release`].
    pub(super) fn begin_line(&mut self, now: Instant) -> Option<UserId> {
        if self.lines.is_empty() {
            return None;
        }
        let may_run = |entry: &&Entry<T>| {
            entry.not_before.is_none_or(|time| time <= now)
                && !entry
                    .players
                    .iter()
                    .any(|player| self.busy.contains_key(player))
        };
        let mut players = self
            .waiting
            .values()
            .filter(may_run)
            .flat_map(|it| &it.players);
        let player = *players.find(|player| self.lines.contains_key(player))?;
        self.busy.insert(player, now);
        Some(player)
    }

    /// Takes up to `limit` orders that name the player of a line, oldest first, after the line's
    /// batch has locked the player's row. Leaves the orders that pause or have another player who
    /// is busy.
    pub(super) fn take_line(
        &mut self,
        player: UserId,
        limit: usize,
        now: Instant,
    ) -> Vec<Entry<T>> {
        if let Some(left) = self.lines.get_mut(&player) {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.lines.remove(&player);
            }
        }
        let is_free = |other: &UserId| *other == player || !self.busy.contains_key(other);
        let sequences = self.waiting.values().filter(|entry| {
            entry.players.contains(&player)
                && entry.players.iter().all(is_free)
                && entry.not_before.is_none_or(|time| time <= now)
        });
        let sequences: Vec<u64> = sequences.map(|entry| entry.sequence).take(limit).collect();
        let mut taken = Vec::new();
        for sequence in sequences {
            self.ready.remove(&sequence);
            taken.extend(self.waiting.remove(&sequence));
        }
        self.occupy(&taken, now);
        self.look_again(now);
        taken
    }

    /// Opens a line for this player, whose row another transaction holds: the next batch waits for
    /// the row. Does nothing while [`MAX_PLAYERS_WITH_LINE`] players have a line.
    pub(super) fn open_line(&mut self, player: UserId) {
        if self.lines.len() < MAX_PLAYERS_WITH_LINE {
            self.lines.entry(player).or_insert(BATCHES_OF_LINE);
        }
    }

    /// Closes the line of this player, because the row was held for as long as a line waits. The
    /// player's orders are tried again after a `pause`, without a line.
    pub(super) fn close_line(&mut self, player: UserId, pause: Duration, now: Instant) {
        self.lines.remove(&player);
        for entry in self.waiting.values_mut() {
            if entry.players.contains(&player) {
                entry.not_before = Some(now + pause);
            }
        }
    }

    /// Releases the players of a batch that has ended.
    pub(super) fn release(&mut self, players: impl IntoIterator<Item = UserId>, now: Instant) {
        for player in players {
            self.busy.remove(&player);
        }
        self.look_again(now);
    }

    /// The time at which [`Self::look_again`] may find further orders that may run.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.next_look
    }

    /// Computes anew which orders may run.
    pub(super) fn look_again(&mut self, now: Instant) {
        self.ready.clear();
        self.reserved.clear();
        self.next_look = None;
        let waiting = std::mem::take(&mut self.waiting);
        for (sequence, entry) in &waiting {
            self.find_place(*sequence, entry, now);
        }
        self.waiting = waiting;
    }

    /// Removes the orders for which `is_wanted` returns `false`.
    pub(super) fn retain(&mut self, mut is_wanted: impl FnMut(&T) -> bool, now: Instant) {
        let count = self.waiting.len();
        self.waiting.retain(|_, entry| is_wanted(&entry.order));
        if self.waiting.len() < count {
            self.look_again(now);
        }
    }

    fn insert(&mut self, entry: Entry<T>, now: Instant) {
        self.find_place(entry.sequence, &entry, now);
        self.waiting.insert(entry.sequence, entry);
    }

    fn occupy(&mut self, taken: &[Entry<T>], now: Instant) {
        for player in taken.iter().flat_map(|entry| &entry.players) {
            self.busy.entry(*player).or_insert(now);
        }
    }

    fn find_place(&mut self, sequence: u64, entry: &Entry<T>, now: Instant) {
        match self.place(entry, now) {
            Place::Ready => {
                self.ready.insert(sequence);
            }
            Place::HeldBack => {
                self.reserved.extend(&entry.players);
                let since = entry
                    .players
                    .iter()
                    .filter_map(|player| self.busy.get(player));
                let blocked_at = since.map(|since| *since + BLOCKED_AFTER).min();
                self.look_at(blocked_at);
            }
            Place::SetAside(until) => self.look_at(until),
        }
    }

    fn place(&self, entry: &Entry<T>, now: Instant) -> Place {
        if let Some(time) = entry.not_before
            && time > now
        {
            return Place::SetAside(Some(time));
        }
        let mut is_held_back = false;
        for player in &entry.players {
            if self.lines.contains_key(player) {
                return Place::SetAside(None);
            }
            if let Some(since) = self.busy.get(player) {
                if *since + BLOCKED_AFTER <= now {
                    return Place::SetAside(None);
                }
                is_held_back = true;
            }
            is_held_back |= self.reserved.contains(player);
        }
        if is_held_back {
            Place::HeldBack
        } else {
            Place::Ready
        }
    }

    fn look_at(&mut self, time: Option<Instant>) {
        if let Some(time) = time {
            self.next_look = Some(self.next_look.map_or(time, |next| next.min(time)));
        }
    }
}

impl<T> Entry<T> {
    pub(super) fn players(&self) -> &[UserId] {
        &self.players
    }
}

#[cfg(test)]
mod tests;
