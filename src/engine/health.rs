//! Whether the engine works, as readiness asks.

use tokio::time::Instant;

use super::progress::Progress;

/// Cheap to clone.
#[derive(Clone)]
pub struct EngineHealth(Vec<Progress>);

impl EngineHealth {
    pub(super) fn new(queues: Vec<Progress>) -> Self {
        Self(queues)
    }

    /// Whether orders have been coming for 5 s and none of one kind has got anywhere. Orders that
    /// wait for a row which another transaction holds are not such.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        let now = Instant::now();
        self.0.iter().any(|queue| queue.is_stalled(now))
    }
}
