//! Records every call for operators: its duration, status, call id and trace.
//!
//! This is the outermost layer, so that it also sees calls that other layers refuse. It leaves out
//! health and reflection, whose calls would hide those of the contract.

mod body;
mod call;

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use http::{HeaderName, HeaderValue, Response};
use tonic::codegen::{BoxFuture, Service};

pub use self::body::ObservedBody;
use self::call::Call;
use super::http_types::{HttpFuture, HttpRequest, HttpResponse};
use crate::rpc::{
    client_address::TrustedProxies, connection_info::ConnectionInfo, methods::Method,
};

/// The header of the call id. Callers may send one; every answer has one.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The name of all methods that are not in the table. It bounds the label values of metrics and
/// traces.
const UNKNOWN_METHOD: &str = "_OTHER";

/// A service whose calls are recorded.
#[derive(Clone)]
pub struct Observe<S> {
    service: S,
    proxies: TrustedProxies,
}

impl<S> Observe<S> {
    pub(super) fn new(service: S, proxies: TrustedProxies) -> Self {
        Self { service, proxies }
    }
}

impl<S> Service<HttpRequest> for Observe<S>
where
    S: Service<HttpRequest, Response = HttpResponse, Error = Infallible, Future = HttpFuture>,
{
    type Response = Response<ObservedBody>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: HttpRequest) -> Self::Future {
        let method = Method::at(request.uri().path());
        if method.is_some_and(Method::is_open) {
            let answer = self.service.call(request);
            return Box::pin(async { Ok(answer.await?.map(ObservedBody::unobserved)) });
        }
        let connection: Option<&ConnectionInfo> = request.extensions().get();
        let address = connection
            .and_then(|connection| (self.proxies).client(connection, request.headers(), false));
        if let Some(address) = address {
            request.extensions_mut().insert(address);
        }
        let name = method.map_or(UNKNOWN_METHOD, Method::name);
        let callers_id = request.headers().get(REQUEST_ID);
        let mut call = Call::begin(name, &request, callers_id.map(HeaderValue::as_bytes));
        let scope = call.request().clone();
        let answer = scope.clone().enter(|| self.service.call(request));
        let answer = scope.scope(answer);
        Box::pin(async move {
            let mut response = answer.await?;
            if let Some(id) = call.request().id() {
                let id = HeaderValue::from_str(id).expect("an id is letters, digits and marks");
                response.headers_mut().insert(REQUEST_ID, id);
            }
            // A refusal has its status in the headers and no trailers.
            call.end_with(response.headers());
            Ok(response.map(|body| ObservedBody::new(body, call)))
        })
    }
}
