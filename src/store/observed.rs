//! What operators see of a statement: how long it took, and where it was in a trace.

use std::{future::Future, time::Instant};

use crate::telemetry::{
    metrics::METRICS,
    traces::{self, Span},
};

/// Anything that is sent to the database and waited for.
pub(crate) trait ObservedExt: Future + Sized {
    /// Tells how long it takes, under the name `operation`: `<what it is about>.<what it does>`.
    fn observed(self, operation: &'static str) -> impl Future<Output = Self::Output>;
}

impl<F, T, E> ObservedExt for F
where
    F: Future<Output = Result<T, E>>,
{
    async fn observed(self, operation: &'static str) -> Result<T, E> {
        let mut observation = Observation {
            operation,
            begun: Instant::now(),
            span: traces::statement(operation),
        };
        let result = self.await;
        if let (Err(_), Some(span)) = (&result, &mut observation.span) {
            traces::fail(span);
        }
        result
    }
}

/// Ends with the statement, also where nobody waits for it any longer.
struct Observation {
    operation: &'static str,
    begun: Instant,
    /// Ends when it is dropped.
    span: Option<Span>,
}

impl Drop for Observation {
    fn drop(&mut self) {
        METRICS.statement(self.operation, self.begun.elapsed());
    }
}
