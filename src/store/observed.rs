//! Measures statements: the duration of each as a metric and as a span of a trace.

use std::{future::Future, time::Instant};

use crate::telemetry::{
    metrics::METRICS,
    traces::{self, Span},
};

/// A future that sends a statement to the database and waits for the answer.
pub(crate) trait ObservedExt: Future + Sized {
    /// Records the duration under the name `operation`, in the form `<subject>.<action>`.
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

/// The measurement of one statement. It ends with the statement, or when the future is dropped.
struct Observation {
    operation: &'static str,
    begun: Instant,
    /// The span ends when it is dropped.
    span: Option<Span>,
}

impl Drop for Observation {
    fn drop(&mut self) {
        METRICS.statement(self.operation, self.begun.elapsed());
    }
}
