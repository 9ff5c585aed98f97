//! Calls in progress: how many there are at a time, and how long a request may take to arrive.
//!
//! A call counts from its headers to the beginning of its answer. So it bounds what waits inside
//! for the database, and calls whose request never comes. Streams that have begun are counted
//! elsewhere, and health and reflection not at all: a busy server is not a dead one.

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
    codegen::{BoxFuture, Bytes, Service, http},
    server::NamedService,
};

use super::status;

/// How long a request may take to arrive, from its headers to the end of its one message.
const ARRIVAL: Duration = Duration::from_secs(10);

/// Places for calls in progress. Cheap to clone.
#[derive(Clone)]
pub(super) struct CallSlots {
    free: Arc<Semaphore>,
    all: usize,
}

impl CallSlots {
    pub(super) fn new(all: usize) -> Self {
        let free = Arc::new(Semaphore::new(all));
        Self { free, all }
    }

    /// A service that takes on no more calls than there are places.
    pub(super) fn limit<S>(&self, service: S) -> LimitedCalls<S> {
        LimitedCalls {
            service,
            slots: self.clone(),
        }
    }

    pub(super) fn are_all_free(&self) -> bool {
        self.free.available_permits() == self.all
    }
}

/// A service whose calls are counted.
#[derive(Clone)]
pub(super) struct LimitedCalls<S> {
    service: S,
    slots: CallSlots,
}

type HttpRequest = http::Request<Body>;
type HttpResponse = http::Response<Body>;

impl<S> Service<HttpRequest> for LimitedCalls<S>
where
    S: Service<HttpRequest, Response = HttpResponse, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = HttpResponse;
    type Error = Infallible;
    type Future = BoxFuture<HttpResponse, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: HttpRequest) -> Self::Future {
        let Ok(slot) = Arc::clone(&self.slots.free).try_acquire_owned() else {
            return Box::pin(async { Ok(status::overloaded().into_http()) });
        };
        let due = Instant::now() + ARRIVAL;
        let answer = (self.service).call(request.map(|body| Body::new(Arriving::new(body, due))));
        Box::pin(async move {
            let answer = answer.await;
            drop(slot);
            answer
        })
    }
}

impl<S: NamedService> NamedService for LimitedCalls<S> {
    const NAME: &'static str = S::NAME;
}

/// The bytes of a request, which have to come in time.
struct Arriving {
    body: Body,
    due: Instant,
    /// Begins when there is something to wait for.
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

    /// A request of which nothing comes.
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
    async fn a_request_that_does_not_come_is_given_up() {
        let begun = Instant::now();
        let mut body = Arriving::new(Body::new(Nothing), begun + ARRIVAL);
        let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        let status = frame.unwrap().unwrap_err();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        assert_eq!(begun.elapsed(), ARRIVAL);
    }
}
