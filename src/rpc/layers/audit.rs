//! Begins and ends the audit record of each call of an audited method.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::time::Instant;
use tonic::{Status, codegen::Service};

use super::http_types::{HttpFuture, HttpRequest, HttpResponse};
use crate::{
    rpc::{audit::Attempt, client_address::ClientAddress, methods::Method},
    telemetry,
};

/// A service whose calls of audited methods are recorded.
#[derive(Clone)]
pub struct Audit<S>(S);

impl<S> Audit<S> {
    pub(super) fn new(service: S) -> Self {
        Self(service)
    }
}

impl<S> Service<HttpRequest> for Audit<S>
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
        let kind = Method::at(request.uri().path()).and_then(|method| method.audited);
        let Some(kind) = kind else {
            return self.0.call(request);
        };
        telemetry::request::mark_audited();
        let address: Option<&ClientAddress> = request.extensions().get();
        let attempt = Arc::new(Attempt::begin(kind, Instant::now(), address.copied()));
        request.extensions_mut().insert(Arc::clone(&attempt));
        let answer = self.0.call(request);
        Box::pin(async move {
            let response = answer.await?;
            // Set if another layer or the decoder has refused the call. Otherwise the method has
            // recorded its outcome itself.
            if let Some(status) = Status::from_header_map(response.headers()) {
                attempt.refused(&status);
            }
            Ok(response)
        })
    }
}
