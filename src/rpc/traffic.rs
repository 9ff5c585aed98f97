//! The calls and streams in progress, and their limits.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{layers::call_limit::CallSlots, rate_limiter::RateLimiter, stream_slots::StreamSlots};

/// The limits of concurrent connections, calls and streams, over all callers.
#[derive(Clone, Copy, Debug)]
pub struct TrafficLimits {
    /// Open connections. A further one takes the place of one without an authenticated call, and is
    /// closed at once if there is none.
    pub connections: usize,
    /// Open connections from one IP address without an authenticated call. A further one takes the
    /// place of the oldest.
    pub address_connections: usize,
    /// Calls in progress. Further calls fail with `OVERLOADED`.
    pub calls: usize,
    /// The memory of calls in progress, in bytes. Further calls fail with `OVERLOADED`.
    pub call_memory: usize,
    /// Open streams. Further streams fail with `OVERLOADED`.
    pub streams: usize,
    /// Open streams of one player. Further streams fail with `TOO_MANY_STREAMS`.
    pub player_streams: usize,
    /// The age at which a connection takes no more calls and streams end, so that callers spread
    /// over the replicas again; `None`: no limit.
    pub connection_age: Option<Duration>,
}

/// The calls and streams in progress, and the calls counted against the rate limits.
pub struct Traffic {
    pub(super) rates: Arc<RateLimiter>,
    pub(super) calls: CallSlots,
    pub(super) streams: StreamSlots,
}

impl Traffic {
    #[must_use]
    pub fn new(limits: TrafficLimits) -> Self {
        Self {
            rates: Arc::new(RateLimiter::new(Instant::now())),
            calls: CallSlots::new(limits.calls, limits.call_memory),
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
        Self {
            connections: 1000,
            address_connections: 250,
            calls: 10_000,
            call_memory: 96 * 1024 * 1024,
            streams: 10_000,
            player_streams: 10,
            connection_age: Some(Duration::from_hours(1)),
        }
    }
}
