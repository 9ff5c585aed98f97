//! The calls and streams that the server has taken on, and their limits.

use std::time::Duration;

use tokio::time::Instant;

use super::{layers::call_limit::CallSlots, rate_limiter::RateLimiter, stream_slots::StreamSlots};

/// How many connections, calls and streams the server takes on at a time, from all callers.
#[derive(Clone, Copy, Debug)]
pub struct TrafficLimits {
    /// Open connections. The server closes further ones at once.
    pub connections: usize,
    /// Calls in progress. Further calls fail with `OVERLOADED`.
    pub calls: usize,
    /// Open streams. Further streams fail with `OVERLOADED`.
    pub streams: usize,
    /// Open streams of one player. Further streams fail with `TOO_MANY_STREAMS`.
    pub player_streams: usize,
    /// The age at which a connection takes no more calls and streams end, so that callers spread
    /// over the replicas again; `None`: no limit.
    pub connection_age: Option<Duration>,
}

impl TrafficLimits {
    pub const DEFAULT: Self = Self {
        connections: 1000,
        calls: 10_000,
        streams: 10_000,
        player_streams: 10,
        connection_age: Some(Duration::from_hours(1)),
    };
}

/// The calls and streams in progress, and the calls counted against the rate limits.
pub struct Traffic {
    pub(super) rates: RateLimiter,
    pub(super) calls: CallSlots,
    pub(super) streams: StreamSlots,
}

impl Traffic {
    #[must_use]
    pub fn new(limits: TrafficLimits) -> Self {
        Self {
            rates: RateLimiter::new(Instant::now()),
            calls: CallSlots::new(limits.calls),
            streams: StreamSlots::new(limits.streams, limits.player_streams, limits.connection_age),
        }
    }

    /// Whether no call is in progress. Streams that have begun do not count.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.calls.are_all_free()
    }
}

impl Default for TrafficLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
