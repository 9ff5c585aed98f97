//! Limits the calls in progress and the memory that they take.
//!
//! A call holds a slot and memory from the arrival of its headers until the caller has read the
//! answer. The memory of a call is [`CALL_BYTES`], its headers, the request while it arrives, and
//! the answer. A stream frees its slot when it begins, because streams have a limit of their own.
//!
//! Calls of health and reflection do not count against these limits, so that a busy server answers
//! its probes. They have a limit per connection and smaller messages instead.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tonic::{Code, Status, body::Body, codegen::Service};

use super::{
    http_types::{HttpFuture, HttpRequest, HttpResponse, answer},
    memory::CallMemory,
    request_body::RequestBody,
    response_body::{Resources, UnreadAnswers},
};
use crate::{
    rpc::{
        connection_info::{ConnectionInfo, ConnectionUsage},
        methods::Method,
        status,
    },
    telemetry::request,
};

/// The time in which a request must arrive, from its headers to the end of its message.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(10);
/// The memory of a call without its headers, request and answer: its task, its HTTP/2 stream and
/// the state of its method.
const CALL_BYTES: usize = 8 * 1024;

/// The slots and the memory for calls in progress. Cheap to clone.
#[derive(Clone)]
pub(in crate::rpc) struct CallSlots {
    free: Arc<Semaphore>,
    limit: usize,
    memory: CallMemory,
    unread: UnreadAnswers,
}

impl CallSlots {
    pub(in crate::rpc) fn new(limit: usize, memory: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(limit)),
            limit,
            memory: CallMemory::new(memory),
            unread: UnreadAnswers::default(),
        }
    }

    pub(in crate::rpc) fn are_all_free(&self) -> bool {
        self.free.available_permits() == self.limit
    }

    fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_owned().ok()
    }
}

/// A service that accepts a call only while a slot and memory are free. Other calls fail with
/// `OVERLOADED`.
#[derive(Clone)]
pub struct CallLimit<S> {
    service: S,
    slots: CallSlots,
}

impl<S> CallLimit<S> {
    pub(super) fn new(service: S, slots: CallSlots) -> Self {
        slots.unread.start_sweeping();
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
        let method = Method::at(request.uri().path()).expect("Authenticate refuses other paths");
        let connection: Option<&ConnectionInfo> = request.extensions().get();
        let connection = connection.map(|connection| Arc::clone(&connection.usage));
        if method.is_open() {
            self.call_open(method, request, connection)
        } else {
            self.call_limited(method, request, connection)
        }
    }
}

impl<S> CallLimit<S>
where
    S: Service<HttpRequest, Response = HttpResponse, Error = Infallible>,
    S::Future: Send + 'static,
{
    fn call_open(
        &mut self,
        method: &Method,
        request: HttpRequest,
        connection: Option<Arc<ConnectionUsage>>,
    ) -> HttpFuture {
        let slot = match &connection {
            Some(connection) => match connection.open_call() {
                Some(slot) => Some(slot),
                None => return answer(status::overloaded()),
            },
            None => None,
        };
        let due = Instant::now() + ARRIVAL_TIMEOUT;
        let request =
            request.map(|body| Body::new(RequestBody::new(body, due, method.messages, None)));
        let answer = self.service.call(request);
        let unread = self.slots.unread.clone();
        Box::pin(async move {
            let response = answer.await?;
            Ok(response.map(|body| Body::new(unread.watch(body, Box::new(slot), connection))))
        })
    }

    fn call_limited(
        &mut self,
        method: &'static Method,
        request: HttpRequest,
        connection: Option<Arc<ConnectionUsage>>,
    ) -> HttpFuture {
        let memory = &self.slots.memory;
        let headers = request.headers().iter();
        let header_bytes: usize = headers
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        let (Some(slot), Some(share)) =
            (self.slots.take(), memory.reserve(CALL_BYTES + header_bytes))
        else {
            return answer(status::overloaded());
        };
        let due = Instant::now() + ARRIVAL_TIMEOUT;
        let request = request.map(|body| {
            Body::new(RequestBody::new(
                body,
                due,
                method.messages,
                Some(memory.clone()),
            ))
        });
        let answer = self.service.call(request);
        let slots = self.slots.clone();
        Box::pin(async move {
            let response = answer.await?;
            if response.body().is_end_stream() {
                // A refusal, whose status is in its headers.
                return Ok(explained(response));
            }
            if method.streams {
                drop(slot);
                let watched =
                    |body| Body::new(slots.unread.watch(body, Box::new(share), connection));
                return Ok(response.map(watched));
            }
            // The answer is encoded here, so that its size is known before the caller reads it.
            let (parts, body) = response.into_parts();
            let body = match body.collect().await {
                Ok(body) => body,
                Err(status) => return Ok(status.into_http()),
            };
            let trailers = body.trailers().cloned();
            let bytes = body.to_bytes();
            // `CALL_BYTES` includes a small answer. The answers of all changes are that small, so
            // no executed order is answered with `OVERLOADED`.
            let more = bytes.len().saturating_sub(CALL_BYTES);
            let Some(answer_share) = slots.memory.reserve(more) else {
                return Ok(status::overloaded().into_http());
            };
            let resources: Resources = Box::new((slot, share, answer_share));
            let body = http_body_util::Full::new(bytes)
                .with_trailers(std::future::ready(trailers.map(Ok)));
            let body = slots.unread.watch(Body::new(body), resources, connection);
            Ok(HttpResponse::from_parts(parts, Body::new(body)))
        })
    }
}

/// Replaces tonic's answer to a message that it could not decode.
fn explained(refusal: HttpResponse) -> HttpResponse {
    let status = Status::from_header_map(refusal.headers());
    let status = status.filter(|status| status.code() == Code::Internal);
    let is_decoded = request::with_current(request::Request::is_decoded);
    match (status, is_decoded) {
        (Some(status), Some(false)) => status::undecodable(&status).into_http(),
        _ => refusal,
    }
}
