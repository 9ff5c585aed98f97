//! Fetches the identity provider's keys again if a token names an unknown one, so that callers do
//! not notice a rotation of keys.

use std::{
    convert::Infallible,
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use tonic::codegen::{Service, http::header::AUTHORIZATION};

use super::http_types::{HttpFuture, HttpRequest, HttpResponse};
use crate::auth::Authenticator;

/// A service that authenticates callers with the newest keys.
#[derive(Clone)]
pub struct FreshKeys<S> {
    service: S,
    authenticator: Arc<Authenticator>,
}

impl<S> FreshKeys<S> {
    pub(super) fn new(service: S, authenticator: Arc<Authenticator>) -> Self {
        Self {
            service,
            authenticator,
        }
    }
}

impl<S> Service<HttpRequest> for FreshKeys<S>
where
    S: Service<HttpRequest, Response = HttpResponse, Error = Infallible, Future = HttpFuture>
        + Clone
        + Send
        + 'static,
{
    type Response = HttpResponse;
    type Error = Infallible;
    type Future = HttpFuture;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: HttpRequest) -> HttpFuture {
        let authorization = request.headers().get(AUTHORIZATION);
        let lacks_key = authorization
            .is_some_and(|authorization| self.authenticator.lacks_key(authorization.as_bytes()));
        if !lacks_key {
            return self.service.call(request);
        }
        // The clone may not be ready, but this service is.
        let clone = self.service.clone();
        let mut service = mem::replace(&mut self.service, clone);
        let authenticator = Arc::clone(&self.authenticator);
        Box::pin(async move {
            authenticator.refetch_keys().await;
            service.call(request).await
        })
    }
}
