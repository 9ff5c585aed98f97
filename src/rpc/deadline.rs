//! How long a call may take.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, timeout_at};
use tonic::{Request, Status, metadata::MetadataMap};

use super::status;
use crate::{fault::Fault, store::StoreError};

/// For callers that set no deadline, and the most that any caller gets.
const LONGEST: Duration = Duration::from_secs(10);
/// The answer leaves a little before the caller stops listening, but never by more than this.
const HEAD_START: Duration = Duration::from_millis(10);

/// When the answer to `request` has to be on its way.
pub(super) fn of<T>(request: &Request<T>) -> Instant {
    let asked = grpc_timeout(request.metadata()).unwrap_or(LONGEST);
    let head_start = (asked / 10).min(HEAD_START);
    Instant::now() + asked.min(LONGEST).saturating_sub(head_start)
}

/// Reads from the database for as long as the caller waits. `doing` goes to the log if it fails.
pub(super) async fn read_within<T>(
    deadline: Instant,
    doing: &'static str,
    read: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, Status> {
    match timeout_at(deadline, read).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(status::fault(&Fault::after(&error, doing))),
        Err(_elapsed) => Err(status::fault(&Fault::DeadlineExceeded)),
    }
}

/// The caller's time-out: up to eight digits and a unit, as gRPC over HTTP/2 says. One that
/// is malformed counts as none.
fn grpc_timeout(metadata: &MetadataMap) -> Option<Duration> {
    let value = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}
