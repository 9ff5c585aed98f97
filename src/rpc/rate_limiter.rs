//! How often each player has been called for lately.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::domain::ids::UserId;

/// The time in which calls are counted. A player's begins with their first call, so that not
/// everybody who has to wait comes back at the same moment.
const WINDOW: Duration = Duration::from_mins(1);
/// So many players are counted at a time at the most, which takes some 10 MiB. Whoever comes on
/// top of them is not counted: a caller who can name so many players is not held up by a limit
/// for each.
const MAX_PLAYERS: usize = 250_000;

/// Counts calls for each player.
pub(super) struct RateLimiter(Mutex<Windows>);

struct Windows {
    of: HashMap<UserId, Window>,
    swept_at: Instant,
}

struct Window {
    ends_at: Instant,
    calls: u32,
}

impl RateLimiter {
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
    /// How long to wait where `limit` calls were counted in the player's window. A call that is
    /// refused does not count, and waiting does not grow by asking.
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
    /// Forgets, once in a window, whoever has not been called for since.
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

    fn counted(limiter: &RateLimiter) -> usize {
        limiter.0.lock().unwrap().of.len()
    }

    #[test]
    fn so_many_calls_a_minute_pass_and_the_wait_is_until_the_minute_is_over() {
        let begun = Instant::now();
        let limiter = RateLimiter::new(begun);
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
    fn players_do_not_count_for_each_other() {
        let begun = Instant::now();
        let limiter = RateLimiter::new(begun);
        for _ in 0..20 {
            let _ = limiter.count(ADA, TEN, begun);
        }
        assert_eq!(limiter.count(UserId::new(2).unwrap(), TEN, begun), Ok(()));
    }

    #[test]
    fn a_limit_that_changes_holds_at_once() {
        let begun = Instant::now();
        let limiter = RateLimiter::new(begun);
        let two = NonZeroU32::new(2).unwrap();
        for _ in 0..5 {
            limiter.count(ADA, TEN, begun).unwrap();
        }
        assert!(limiter.count(ADA, two, begun).is_err());
        assert_eq!(limiter.count(ADA, TEN, begun), Ok(()));
    }

    #[test]
    fn players_nobody_calls_for_are_forgotten_and_their_memory_is_given_back() {
        let begun = Instant::now();
        let limiter = RateLimiter::new(begun);
        for id in 0..100_000 {
            limiter.count(UserId::new(id).unwrap(), TEN, begun).unwrap();
        }
        assert_eq!(counted(&limiter), 100_000);
        limiter.count(ADA, TEN, begun + WINDOW).unwrap();
        assert_eq!(counted(&limiter), 1);
        assert!(limiter.0.lock().unwrap().of.capacity() < 100);
    }

    #[test]
    fn whoever_invents_players_cannot_fill_the_memory_and_locks_nobody_out() {
        let begun = Instant::now();
        let limiter = RateLimiter::new(begun);
        let most = i32::try_from(MAX_PLAYERS).unwrap();
        for id in 0..most + 1000 {
            limiter.count(UserId::new(id).unwrap(), TEN, begun).unwrap();
        }
        assert_eq!(counted(&limiter), MAX_PLAYERS);
        // Who is counted already stays limited.
        for _ in 0..9 {
            limiter.count(ADA, TEN, begun).unwrap();
        }
        assert_eq!(limiter.count(ADA, TEN, begun), Err(WINDOW));
    }
}
