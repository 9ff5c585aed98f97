//! The causes of calls that end without a decision.

use std::fmt::Display;

use tokio::time::Instant;

use crate::{store::StoreError, telemetry::LogLimiter};

/// The cause of a call that ended without a decision. An error of the database or a defect was
/// logged where it occurred.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The queue is full: the order was not accepted.
    #[error("too many orders are waiting")]
    Overloaded,
    /// The deadline has passed. An order was not executed, and will not be. A call that marks
    /// notifications as read or stores a preference may still take effect.
    #[error("the deadline has passed")]
    DeadlineExceeded,
    /// The order may have been executed, or may be executing: the deadline passed meanwhile, or a
    /// commit was not confirmed. A retry with the same request id returns the outcome.
    #[error("the deadline has passed while the order was being executed")]
    Unknown,
    /// The database is away. Safe to repeat with the same request id.
    #[error("the database is unavailable")]
    Unavailable,
    /// The order conflicted with other transactions until the deadline, and was not executed.
    #[error("too many conflicts with other transactions")]
    Contention,
    /// A defect, logged under the id of the request.
    #[error("internal error")]
    Internal,
}

/// Limits the log lines while the database is away and every call fails.
static UNAVAILABLE: LogLimiter = LogLimiter::new();

impl Fault {
    /// Logs the error that ended what the server was `doing`, and returns the fault for the caller.
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

/// The fault for the caller. The error was logged where it occurred.
impl From<&StoreError> for Fault {
    fn from(error: &StoreError) -> Self {
        match error {
            // After a stale plan, a repeated call gets a new connection.
            StoreError::Unavailable(_) | StoreError::StalePlan(_) => Self::Unavailable,
            StoreError::Contention(_) => Self::Contention,
            StoreError::Database(_) | StoreError::Interference(_) => Self::Internal,
        }
    }
}
