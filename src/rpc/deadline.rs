//! The deadline of a call.

use std::{future::Future, time::Duration};

use http::HeaderMap;
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use super::status;
use crate::{fault::Fault, store::StoreError};

/// The time limit of a call without a deadline, and the maximum for every call.
const MAX_TIME: Duration = Duration::from_secs(10);
/// The answer must be ready some time before the caller's deadline, so that it arrives in time: a
/// tenth of the caller's time, within these bounds.
const MIN_HEAD_START: Duration = Duration::from_millis(1);
const MAX_HEAD_START: Duration = Duration::from_millis(50);

/// The two moments by which a call must end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    /// When the method must have its answer.
    pub(super) answer_ready: Instant,
    /// When an answer must leave, whatever the method does.
    pub(super) answer_leaves: Instant,
}

impl Deadline {
    /// The deadline of a call with these headers that begins now; `None` if the caller's time is
    /// too short for any answer.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let time = grpc_timeout(headers).unwrap_or(MAX_TIME);
        let head_start = (time / 10).clamp(MIN_HEAD_START, MAX_HEAD_START);
        let time = time.min(MAX_TIME).checked_sub(head_start)?;
        if time.is_zero() {
            return None;
        }
        let answer_ready = Instant::now() + time;
        Some(Self {
            answer_ready,
            answer_leaves: answer_ready + head_start / 2,
        })
    }
}

/// Awaits a read from the database, until the deadline at most. `doing` names the read in the log
/// if it fails.
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

/// The caller's time-out: up to eight digits and a unit, as gRPC over HTTP/2 specifies. A malformed
/// value counts as no time-out.
fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("grpc-timeout")?.to_str().ok()?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn time(timeout: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", timeout.parse().unwrap());
        Some(Deadline::of(&headers)?.answer_ready - Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_ready_before_the_caller_gives_up() {
        assert_eq!(time("1S"), Some(Duration::from_millis(950)));
        assert_eq!(time("50m"), Some(Duration::from_millis(45)));
        assert_eq!(time("3m"), Some(Duration::from_millis(2)));
        assert_eq!(time("99H"), Some(Duration::from_millis(9950)));
        assert_eq!(time("rubbish"), Some(Duration::from_millis(9950)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_too_short_for_any_answer_is_over_at_once() {
        for timeout in ["1m", "0m", "999u", "1n", "0H"] {
            assert_eq!(time(timeout), None, "{timeout}");
        }
    }
}
