//! Detects a stalled engine: orders come, and the database answers no attempt at them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// An engine is stalled if the database has answered no attempt for this time.
const STALLED_AFTER: Duration = Duration::from_secs(5);
/// An engine that got no order for this time is no longer reported as stalled. A replica that is
/// not ready gets no orders, so no attempt could show that the engine works again.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);

/// The time of the last order, and the time since which no attempt was answered. Clones share their
/// state.
#[derive(Clone)]
pub(super) struct Progress(Arc<Inner>);

struct Inner {
    begun: Instant,
    /// Milliseconds after `begun`, plus one; 0: no order came since an attempt was last answered.
    waiting_since: AtomicU64,
    /// Milliseconds after `begun`.
    last_order: AtomicU64,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self(Arc::new(Inner {
            begun: Instant::now(),
            waiting_since: AtomicU64::new(0),
            last_order: AtomicU64::new(0),
        }))
    }

    pub(super) fn order_arrived(&self, now: Instant) {
        let now = self.0.since_begun(now);
        self.0.last_order.store(now, Ordering::Relaxed);
        if self.0.waiting_since.load(Ordering::Relaxed) == 0 {
            self.0.waiting_since.store(now + 1, Ordering::Relaxed);
        }
    }

    /// Records that the database has answered an attempt at an order. That another transaction
    /// holds a row is an answer, too.
    pub(super) fn attempt_answered(&self) {
        self.0.waiting_since.store(0, Ordering::Relaxed);
    }

    pub(super) fn is_stalled(&self, now: Instant) -> bool {
        let now = self.0.since_begun(now);
        let since = self.0.waiting_since.load(Ordering::Relaxed);
        let idle = now.saturating_sub(self.0.last_order.load(Ordering::Relaxed));
        since != 0
            && now.saturating_sub(since - 1) >= milliseconds(STALLED_AFTER)
            && idle < milliseconds(FORGOTTEN_AFTER)
    }
}

impl Inner {
    fn since_begun(&self, now: Instant) -> u64 {
        milliseconds(now.saturating_duration_since(self.begun))
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_whose_orders_get_nowhere_for_five_seconds_is_stalled() {
        let progress = Progress::new();
        let now = Instant::now();
        assert!(!progress.is_stalled(now));
        progress.order_arrived(now);
        progress.order_arrived(now + Duration::from_secs(3));
        assert!(!progress.is_stalled(now + Duration::from_secs(4)));
        assert!(progress.is_stalled(now + Duration::from_secs(5)));
        progress.attempt_answered();
        assert!(!progress.is_stalled(now + Duration::from_secs(6)));
    }

    #[test]
    fn an_engine_that_is_given_no_orders_is_not_stalled_for_ever() {
        let progress = Progress::new();
        let now = Instant::now();
        progress.order_arrived(now);
        assert!(progress.is_stalled(now + Duration::from_secs(9)));
        assert!(!progress.is_stalled(now + Duration::from_secs(11)));
    }
}
