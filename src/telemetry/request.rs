//! The call for which the current task works: its call id, and its span.
//!
//! It is a task-local value, so that every log line of the task can contain it.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use opentelemetry::trace::SpanContext;
use uuid::Uuid;

tokio::task_local! {
    static CURRENT: Request;
}

/// The maximum length of a call id from a caller, in bytes.
const MAX_ID_BYTES: usize = 128;

/// The telemetry of a call. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Request(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// `None` for a batch of several calls.
    id: Option<String>,
    span: Option<SpanContext>,
    audited: AtomicBool,
    decoded: AtomicBool,
}

impl Request {
    /// A call with the caller's call id. If the caller sent none, or one with characters that need
    /// escapes in a log, the call gets a new id.
    #[must_use]
    pub fn new(callers_id: Option<&[u8]>, span: Option<SpanContext>) -> Self {
        let id = callers_id.filter(|id| is_valid(id));
        let id = id.and_then(|id| String::from_utf8(id.to_vec()).ok());
        let id = id.unwrap_or_else(|| Uuid::now_v7().to_string());
        Self::with(Some(id), span)
    }

    /// The telemetry of a batch: it has the id of the only call in `members`, or no id if there are
    /// several.
    pub(crate) fn batch(members: &[Option<Self>], span: Option<SpanContext>) -> Self {
        match members {
            [Some(only)] => {
                let span = span.or_else(|| only.0.span.clone());
                Self::with(only.0.id.clone(), span)
            }
            _ => Self::with(None, span),
        }
    }

    fn with(id: Option<String>, span: Option<SpanContext>) -> Self {
        Self(Arc::new(Inner {
            id,
            span,
            audited: AtomicBool::new(false),
            decoded: AtomicBool::new(false),
        }))
    }

    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.0.id.as_deref()
    }

    /// Its span, or the caller's span if it has none.
    #[must_use]
    pub fn span(&self) -> Option<&SpanContext> {
        self.0.span.as_ref()
    }

    /// Whether an audit line reports how the call ended.
    #[must_use]
    pub fn is_audited(&self) -> bool {
        self.0.audited.load(Ordering::Relaxed)
    }

    /// Whether its message has been decoded.
    #[must_use]
    pub fn is_decoded(&self) -> bool {
        self.0.decoded.load(Ordering::Relaxed)
    }

    /// Runs `work` as a part of this call.
    pub fn enter<T>(self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self, work)
    }

    /// Runs the future `work` as a part of this call.
    pub fn scope<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, work)
    }
}

/// The call for which the current task works.
#[must_use]
pub fn current() -> Option<Request> {
    CURRENT.try_with(Clone::clone).ok()
}

/// Reads the current call's telemetry without cloning it.
pub fn with_current<T>(look: impl FnOnce(&Request) -> T) -> Option<T> {
    CURRENT.try_with(look).ok()
}

/// Records that an audit line will report how the current call ended.
pub fn mark_audited() {
    let _ = CURRENT.try_with(|request| request.0.audited.store(true, Ordering::Relaxed));
}

/// Records that the message of the current call has been decoded.
pub fn mark_decoded() {
    let _ = CURRENT.try_with(|request| request.0.decoded.store(true, Ordering::Relaxed));
}

/// Runs a part of the call `request` in another task.
pub async fn carry<F: Future>(request: Option<Request>, work: F) -> F::Output {
    match request {
        Some(request) => CURRENT.scope(request, work).await,
        None => work.await,
    }
}

/// [`carry`] for synchronous work.
pub fn scope_sync<T>(request: Option<Request>, work: impl FnOnce() -> T) -> T {
    match request {
        Some(request) => CURRENT.sync_scope(request, work),
        None => work(),
    }
}

/// Whether the id has only letters, digits and a few marks. Such an id cannot end a line or a
/// string of a log.
fn is_valid(id: &[u8]) -> bool {
    (1..=MAX_ID_BYTES).contains(&id.len())
        && (id.iter()).all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_for(callers_id: &[u8]) -> String {
        let request = Request::new(Some(callers_id), None);
        request.id().unwrap().to_owned()
    }

    #[test]
    fn a_callers_id_is_kept() {
        for id in [
            "7",
            "0191e0a2-7c1e-7cc0-8f6b-0a3b2c1d4e5f",
            "web:a/b+c=d_e.f@g",
        ] {
            assert_eq!(id_for(id.as_bytes()), id);
        }
        let longest = "x".repeat(MAX_ID_BYTES);
        assert_eq!(id_for(longest.as_bytes()), longest);
    }

    #[test]
    fn an_id_that_could_forge_a_line_is_replaced() {
        let too_long = "x".repeat(MAX_ID_BYTES + 1);
        for id in [
            "",
            "a b",
            "a\nb",
            "a\"b",
            "a\\b",
            "a\u{1b}b",
            "é",
            "a,b",
            too_long.as_str(),
        ] {
            assert!(Uuid::try_parse(&id_for(id.as_bytes())).is_ok(), "{id:?}");
        }
        assert!(Uuid::try_parse(&id_for(b"\xff\xfe")).is_ok());
        assert!(Uuid::try_parse(Request::new(None, None).id().unwrap()).is_ok());
    }
}
