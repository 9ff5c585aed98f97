//! Limits the reads of streams.

use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

/// Limits the concurrent reads of all streams, so that streams that wake at the same moment do not
/// take the connections of the calls. Cheap to clone.
#[derive(Clone)]
pub struct StreamReads(Arc<Semaphore>);

impl StreamReads {
    /// A limit of a quarter of the connections of the pool.
    #[must_use]
    pub fn with_connections(connections: u32) -> Self {
        let at_a_time = usize::try_from(connections / 4).unwrap_or(usize::MAX);
        Self(Arc::new(Semaphore::new(at_a_time.max(1))))
    }

    /// Waits until a read may begin.
    pub(super) async fn permit(&self) -> SemaphorePermit<'_> {
        (self.0.acquire().await).expect("the semaphore is never closed")
    }
}
