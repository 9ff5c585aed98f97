//! Limits the calls in progress, and the time in which a request must arrive.
//!
//! A call counts from its headers to the beginning of its answer. The limit covers calls that wait
//! for the database and calls whose request does not arrive. It does not cover open streams, which
//! have a limit of their own, nor health and reflection: a busy server must answer its probes.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http_body::Frame;
use tokio::{
    sync::Semaphore,
    time::{Instant, Sleep, sleep_until},
};
use tonic::{
    Status,
    body::Body,
    codegen::{Bytes, Service},
};

use super::{HttpFuture, HttpRequest, HttpResponse, answer};
use crate::rpc::{methods::Method, status};

/// The time in which a request must arrive, from its headers to the end of its message.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(10);

/// The slots for calls in progress. Cheap to clone.
#[derive(Clone)]
pub(in crate::rpc) struct CallSlots {
    free: Arc<Semaphore>,
    limit: usize,
}

impl CallSlots {
    pub(in crate::rpc) fn new(limit: usize) -> Self {
        let free = Arc::new(Semaphore::new(limit));
        Self { free, limit }
    }

    pub(in crate::rpc) fn are_all_free(&self) -> bool {
        self.free.available_permits() == self.limit
    }
}

/// A service that takes on no more calls than there are slots. Further calls fail with
/// `OVERLOADED`.
#[derive(Clone)]
pub struct CallLimit<S> {
    service: S,
    slots: CallSlots,
}

impl<S> CallLimit<S> {
    pub(super) fn new(service: S, slots: CallSlots) -> Self {
        Self { service, slots }
    }
}

impl<S> Service<HttpRequest> for CallLimit<S>
where
    S: Service<HttpRequest, Response = HttpResponse, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = HttpResponse;
    type Error = Infallible;
    type Future = HttpFuture;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: HttpRequest) -> HttpFuture {
        if Method::at(request.uri().path()).is_some_and(Method::is_open) {
            return Box::pin(self.service.call(request));
        }
        let Ok(slot) = Arc::clone(&self.slots.free).try_acquire_owned() else {
            return answer(status::overloaded());
        };
        let due = Instant::now() + ARRIVAL_TIMEOUT;
        let answer = (self.service).call(request.map(|body| Body::new(Arriving::new(body, due))));
        Box::pin(async move {
            let answer = answer.await;
            drop(slot);
            answer
        })
    }
}

/// The body of a request that must arrive in time.
struct Arriving {
    body: Body,
    due: Instant,
    /// Created when the body is first awaited.
    late: Option<Pin<Box<Sleep>>>,
}

impl Arriving {
    fn new(body: Body, due: Instant) -> Self {
        Self {
            body,
            due,
            late: None,
        }
    }
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        let due = self.due;
        let late = (self.late).get_or_insert_with(|| Box::pin(sleep_until(due)));
        late.as_mut()
            .poll(context)
            .map(|()| Some(Err(status::request_too_late())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use http_body::Body as _;

    use super::*;

    /// A body that never arrives.
    struct Nothing;

    impl http_body::Body for Nothing {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            self: Pin<&mut Self>,
            _context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_does_not_arrive_times_out() {
        let begun = Instant::now();
        let mut body = Arriving::new(Body::new(Nothing), begun + ARRIVAL_TIMEOUT);
        let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        let status = frame.unwrap().unwrap_err();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        assert_eq!(begun.elapsed(), ARRIVAL_TIMEOUT);
    }
}
