//! Counts calls per player within a window of a minute.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::domain::ids::UserId;

/// The length of a window. A player's window begins with their first call, so that the windows of
/// different players end at different times and refused callers do not return all at once.
const WINDOW: Duration = Duration::from_mins(1);
/// The number of windows kept at a time; they take about 10 MiB. Calls for further players are not
/// counted: a limit per player does not stop a caller that can name this many players.
const MAX_PLAYERS: usize = 250_000;

/// A counter of calls for each player.
pub(super) struct CallCounter(Mutex<Windows>);

struct Windows {
    of: HashMap<UserId, Window>,
    swept_at: Instant,
}

struct Window {
    ends_at: Instant,
    calls: u32,
}

impl CallCounter {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(Windows {
            of: HashMap::new(),
            swept_at: now,
        }))
    }

    /// Counts a call for a player at `now`.
    ///
    /// # Errors
    ///
    /// The time until the player's window ends, if `limit` calls have been counted in it. A refused
    /// call is not counted and does not extend the window.
    pub(super) fn count(
        &self,
        player: UserId,
        limit: NonZeroU32,
        now: Instant,
    ) -> Result<(), Duration> {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        windows.sweep(now);
        if windows.of.len() >= MAX_PLAYERS && !windows.of.contains_key(&player) {
            return Ok(());
        }
        let new = Window {
            ends_at: now + WINDOW,
            calls: 0,
        };
        let window = windows.of.entry(player).or_insert(new);
        if window.ends_at <= now {
            *window = Window {
                ends_at: now + WINDOW,
                calls: 0,
            };
        }
        if window.calls >= limit.get() {
            return Err(window.ends_at - now);
        }
        window.calls += 1;
        Ok(())
    }
}

impl Windows {
    /// Removes the windows that have ended, once per [`WINDOW`].
    fn sweep(&mut self, now: Instant) {
        if now < self.swept_at + WINDOW {
            return;
        }
        self.of.retain(|_, window| window.ends_at > now);
        self.of.shrink_to_fit();
        self.swept_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADA: UserId = UserId::MIN;
    const TEN: NonZeroU32 = NonZeroU32::new(10).unwrap();
    const SECOND: Duration = Duration::from_secs(1);

    fn counted(limiter: &CallCounter) -> usize {
        limiter.0.lock().unwrap().of.len()
    }

    #[test]
    fn calls_beyond_the_limit_wait_until_the_window_ends() {
        let begun = Instant::now();
        let limiter = CallCounter::new(begun);
        for second in 0..10 {
            assert_eq!(limiter.count(ADA, TEN, begun + SECOND * second), Ok(()));
        }
        for second in 10..60 {
            let wait = limiter.count(ADA, TEN, begun + SECOND * second);
            assert_eq!(wait, Err(SECOND * (60 - second)));
        }
        for _ in 0..10 {
            assert_eq!(limiter.count(ADA, TEN, begun + WINDOW), Ok(()));
        }
        assert_eq!(limiter.count(ADA, TEN, begun + WINDOW), Err(WINDOW));
    }

    #[test]
    fn each_player_has_a_counter_of_their_own() {
        let begun = Instant::now();
        let limiter = CallCounter::new(begun);
        for _ in 0..20 {
            let _ = limiter.count(ADA, TEN, begun);
        }
        assert_eq!(limiter.count(UserId::new(2).unwrap(), TEN, begun), Ok(()));
    }

    #[test]
    fn a_changed_limit_applies_at_once() {
        let begun = Instant::now();
        let limiter = CallCounter::new(begun);
        let two = NonZeroU32::new(2).unwrap();
        for _ in 0..5 {
            limiter.count(ADA, TEN, begun).unwrap();
        }
        assert!(limiter.count(ADA, two, begun).is_err());
        assert_eq!(limiter.count(ADA, TEN, begun), Ok(()));
    }

    #[test]
    fn ended_windows_are_removed_and_their_memory_is_freed() {
        let begun = Instant::now();
        let limiter = CallCounter::new(begun);
        for id in 1..=100_000 {
            limiter.count(UserId::new(id).unwrap(), TEN, begun).unwrap();
        }
        assert_eq!(counted(&limiter), 100_000);
        limiter.count(ADA, TEN, begun + WINDOW).unwrap();
        assert_eq!(counted(&limiter), 1);
        assert!(limiter.0.lock().unwrap().of.capacity() < 100);
    }

    #[test]
    fn calls_for_invented_players_take_bounded_memory_and_limit_no_other_player() {
        let begun = Instant::now();
        let limiter = CallCounter::new(begun);
        let most = i32::try_from(MAX_PLAYERS).unwrap();
        for id in 1..=most + 1000 {
            limiter.count(UserId::new(id).unwrap(), TEN, begun).unwrap();
        }
        assert_eq!(counted(&limiter), MAX_PLAYERS);
        // A player with a window stays limited.
        for _ in 0..9 {
            limiter.count(ADA, TEN, begun).unwrap();
        }
        assert_eq!(limiter.count(ADA, TEN, begun), Err(WINDOW));
    }
}
