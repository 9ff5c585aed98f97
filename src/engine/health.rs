//! The engine's health, which readiness checks.

use tokio::time::Instant;

use super::progress::Progress;

/// Cheap to clone.
#[derive(Clone)]
pub struct EngineHealth(Vec<Progress>);

impl EngineHealth {
    pub(super) fn new(queues: Vec<Progress>) -> Self {
        Self(queues)
    }

    /// Whether orders of one kind have been coming for 5 s and the database has answered no attempt
    /// at them. A row that another transaction holds is an answer.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        let now = Instant::now();
        self.0.iter().any(|queue| queue.is_stalled(now))
    }
}
