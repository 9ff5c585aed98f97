//! The memory that calls in progress may take, in bytes.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The bytes that are free. Cheap to clone.
#[derive(Clone)]
pub(in crate::rpc) struct CallMemory(Arc<Semaphore>);

/// Reserved bytes. They are free again when the share is dropped.
pub(super) struct Share {
    _permit: OwnedSemaphorePermit,
}

impl CallMemory {
    pub(in crate::rpc) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))))
    }

    /// Reserves bytes; `None` if they are not free.
    pub(super) fn reserve(&self, bytes: usize) -> Option<Share> {
        let bytes = u32::try_from(bytes).ok()?;
        let permit = Arc::clone(&self.0).try_acquire_many_owned(bytes).ok()?;
        Some(Share { _permit: permit })
    }
}
