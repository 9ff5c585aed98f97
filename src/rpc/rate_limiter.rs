//! The two rate limits per player: heists, and all other calls.

use tokio::time::Instant;
use tonic::Status;

use super::{call_counter::CallCounter, methods::Counted, status};
use crate::{domain::ids::UserId, settings::RateLimits};

/// Counts the calls for each player against the two rate limits.
pub(super) struct RateLimiter {
    heists: CallCounter,
    others: CallCounter,
}

impl RateLimiter {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            heists: CallCounter::new(now),
            others: CallCounter::new(now),
        }
    }

    /// Counts a call.
    ///
    /// # Errors
    ///
    /// `RATE_LIMITED` if the player's calls of the last minute have reached the limit.
    pub(super) fn count(&self, limits: RateLimits, counted: Counted) -> Result<(), Status> {
        let (counter, limit, player) = match counted {
            Counted::Heist(attacker) => (&self.heists, limits.heists, attacker),
            Counted::Other(player) => (&self.others, limits.others, player),
            Counted::Unlimited => return Ok(()),
        };
        match (limit, UserId::new(player)) {
            (Some(limit), Ok(player)) => counter
                .count(player, limit, Instant::now())
                .map_err(|wait| status::rate_limited(limit, wait)),
            _ => Ok(()),
        }
    }
}
