//! Ends calls at their deadline with `DEADLINE_EXCEEDED`.
//!
//! Each method observes the deadline itself. This layer answers for methods and layers that do not
//! answer in time, before tonic's own time-out would answer `CANCELLED`.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use tokio::time::timeout_at;
use tonic::codegen::Service;

use super::http_types::{HttpFuture, HttpRequest, HttpResponse, answer};
use crate::{
    fault::Fault,
    rpc::{deadline::Deadline, methods::Method, status},
};

/// A service whose calls end in time. For a stream the deadline limits the time until it begins.
#[derive(Clone)]
pub struct EnforceDeadline<S>(S);

impl<S> EnforceDeadline<S> {
    pub(super) fn new(service: S) -> Self {
        Self(service)
    }
}

impl<S> Service<HttpRequest> for EnforceDeadline<S>
where
    S: Service<HttpRequest, Response = HttpResponse, Error = Infallible, Future = HttpFuture>,
{
    type Response = HttpResponse;
    type Error = Infallible;
    type Future = HttpFuture;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: HttpRequest) -> HttpFuture {
        if Method::at(request.uri().path()).is_some_and(Method::is_open) {
            return self.0.call(request);
        }
        let Some(deadline) = Deadline::of(request.headers()) else {
            return answer(status::fault(&Fault::DeadlineExceeded));
        };
        request.extensions_mut().insert(deadline);
        let called = timeout_at(deadline.answer_leaves, self.0.call(request));
        Box::pin(async move {
            match called.await {
                Ok(response) => response,
                Err(_elapsed) => Ok(status::fault(&Fault::DeadlineExceeded).into_http()),
            }
        })
    }
}
