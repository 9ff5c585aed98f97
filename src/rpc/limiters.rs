//! How much a server takes on at a time.

use std::time::Duration;

use tokio::time::Instant;

use super::{admission::Rates, calls::CallSlots, stream_slots::StreamSlots};

/// How much a server takes on at a time, whoever calls.
#[derive(Clone, Copy, Debug)]
pub struct TrafficLimits {
    /// Connections at a time; one more is closed at once.
    pub connections: usize,
    /// Calls at a time that have not been answered yet; one more is refused as overload.
    pub calls: usize,
    /// Streams at a time; one more is refused as overload.
    pub streams: usize,
    /// Streams of one player at a time.
    pub player_streams: usize,
    /// After so long a connection takes no more calls and streams end, so that callers come back
    /// to another replica; `None`: never.
    pub connection_age: Option<Duration>,
}

/// What has been taken on.
pub struct Limiters {
    pub(super) rates: Rates,
    pub(super) calls: CallSlots,
    pub(super) streams: StreamSlots,
}

impl Limiters {
    /// Nothing has been taken on yet.
    #[must_use]
    pub fn new(limits: TrafficLimits) -> Self {
        Self {
            rates: Rates::new(Instant::now()),
            calls: CallSlots::new(limits.calls),
            streams: StreamSlots::new(limits),
        }
    }

    /// Whether every call has been answered. Streams that have begun do not count.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.calls.are_all_free()
    }
}

impl Default for TrafficLimits {
    fn default() -> Self {
        Self {
            connections: 1000,
            calls: 10_000,
            streams: 10_000,
            player_streams: 10,
            connection_age: Some(Duration::from_hours(1)),
        }
    }
}
