//! Whether orders get anywhere.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// An engine whose orders get nowhere for so long is stalled.
const STALLED_AFTER: Duration = Duration::from_secs(5);
/// An engine that was given no order for so long is not called stalled any more: when it is not
/// ready, no order would come that could show that it works again.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);

/// When orders were last given, and since when none has got anywhere. Clones share what they know.
#[derive(Clone)]
pub(super) struct Progress(Arc<Inner>);

struct Inner {
    begun: Instant,
    /// Milliseconds after `begun`, plus one; 0: the last order got somewhere.
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

    pub(super) fn order_came(&self, now: Instant) {
        let now = self.0.since_begun(now);
        self.0.last_order.store(now, Ordering::Relaxed);
        if self.0.waiting_since.load(Ordering::Relaxed) == 0 {
            self.0.waiting_since.store(now + 1, Ordering::Relaxed);
        }
    }

    /// The database has answered an attempt at an order. That the order has to wait for a row that
    /// another transaction holds is an answer, too.
    pub(super) fn order_got_somewhere(&self) {
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
        progress.order_came(now);
        progress.order_came(now + Duration::from_secs(3));
        assert!(!progress.is_stalled(now + Duration::from_secs(4)));
        assert!(progress.is_stalled(now + Duration::from_secs(5)));
        progress.order_got_somewhere();
        assert!(!progress.is_stalled(now + Duration::from_secs(6)));
    }

    #[test]
    fn an_engine_that_is_given_no_orders_is_not_stalled_for_ever() {
        let progress = Progress::new();
        let now = Instant::now();
        progress.order_came(now);
        assert!(progress.is_stalled(now + Duration::from_secs(9)));
        assert!(!progress.is_stalled(now + Duration::from_secs(11)));
    }
}
