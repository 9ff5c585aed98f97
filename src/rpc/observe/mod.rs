//! What operators see of every call, whatever its RPC: how long it took, how it ended, its id,
//! and its place in a trace.
//!
//! It is wrapped around all else, so that what never reaches an RPC is seen, too. Health and
//! reflection are not: they would only be noise.

mod body;
mod call;
mod methods;

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderName, HeaderValue, Request, Response};
use tonic::body::Body;
use tower_layer::Layer;
use tower_service::Service;

pub use self::body::ObservedBody;
use self::call::Call;

/// The header with the id of the request: from callers who have one, and in every answer.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Wraps the services.
#[derive(Clone, Copy, Debug)]
pub struct Observe;

/// Services that are observed.
#[derive(Clone, Debug)]
pub struct Observed<S>(S);

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;

    fn layer(&self, services: S) -> Observed<S> {
        Observed(services)
    }
}

impl<S> Service<Request<Body>> for Observed<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<ObservedBody>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Some(method) = methods::method_of(request.uri().path()) else {
            let answer = self.0.call(request);
            return Box::pin(async {
                let response = answer.await?;
                Ok(response.map(ObservedBody::of_nobody))
            });
        };
        let callers_id = request.headers().get(REQUEST_ID);
        let mut call = Call::begin(method, &request, callers_id.map(HeaderValue::as_bytes));
        let scope = call.request().clone();
        let answer = scope.clone().enter(|| self.0.call(request));
        let answer = scope.scope(answer);
        Box::pin(async move {
            let mut response = answer.await?;
            if let Some(id) = call.request().id() {
                let id = HeaderValue::from_str(id).expect("an id is letters, digits and marks");
                response.headers_mut().insert(REQUEST_ID, id);
            }
            // A refusal is all headers.
            call.end_with(response.headers());
            Ok(response.map(|body| ObservedBody::new(body, call)))
        })
    }
}
