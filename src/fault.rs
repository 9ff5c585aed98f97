//! Why a call has no answer.

use std::fmt::Display;

use tokio::time::Instant;

use crate::{store::StoreError, telemetry::LogLimiter};

/// Why a call that changes or reads the books has no answer. Its cause was logged where it
/// happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The queue is full: the order was not accepted.
    #[error("too many orders are waiting")]
    Overloaded,
    /// The caller's time is up. The order was not executed and will not be.
    #[error("the deadline has passed")]
    DeadlineExceeded,
    /// The caller's time is up. The order may have been executed, or be executed at this moment.
    /// Repeating it with the same request id finds out.
    #[error("the deadline has passed while the order was being executed")]
    Unknown,
    /// The database is away. Safe to repeat with the same request id.
    #[error("the database is unavailable")]
    Unavailable,
    /// In conflict with other transactions until the deadline. Nothing was executed.
    #[error("too many conflicts with other transactions")]
    Contention,
    /// A defect, logged under the id of the request.
    #[error("internal error")]
    Internal,
}

/// While the database is away, every call fails with it.
static UNAVAILABLE: LogLimiter = LogLimiter::new();

impl Fault {
    /// What a caller may know of a fault that ended what the server was `doing`. Logs the rest.
    pub fn after(error: &StoreError, doing: &str) -> Self {
        match error {
            StoreError::Unavailable(_) => {
                if let Some(suppressed) = UNAVAILABLE.permit(Instant::now()) {
                    tracing::error!(event = "DATABASE_UNAVAILABLE", %error, doing, suppressed);
                }
            }
            StoreError::Contention(_) | StoreError::StalePlan(_) => {
                tracing::error!(event = "CONTENTION", %error, doing);
            }
            StoreError::Database(_) | StoreError::Interference(_) => {
                return Self::internal(error, doing);
            }
        }
        Self::from(error)
    }

    pub(crate) fn internal(error: &dyn Display, doing: &str) -> Self {
        tracing::error!(event = "INTERNAL_ERROR", %error, doing);
        Self::Internal
    }
}

/// What a caller may know of a fault that was logged where it happened.
impl From<&StoreError> for Fault {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::Unavailable,
            // Repeated, the call meets a new connection.
            StoreError::StalePlan(_) => Self::Unavailable,
            StoreError::Contention(_) => Self::Contention,
            StoreError::Database(_) | StoreError::Interference(_) => Self::Internal,
        }
    }
}
