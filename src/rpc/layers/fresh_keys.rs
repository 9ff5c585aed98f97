//! Fetches the identity provider's keys again if a token names an unknown one, so that callers do
//! not notice a rotation of keys.

use std::{
    convert::Infallible,
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::Semaphore;
use tonic::codegen::{Service, http::header::AUTHORIZATION};

use super::http_types::{HttpFuture, HttpRequest, HttpResponse};
use crate::auth::Authenticator;

/// Maximum number of calls that wait for the provider. Further calls are judged by the keys at hand.
const MAX_WAITING: usize = 64;

/// A service that authenticates callers with the newest keys.
#[derive(Clone)]
pub struct FreshKeys<S> {
    service: S,
    authenticator: Arc<Authenticator>,
    waiting: Arc<Semaphore>,
}

impl<S> FreshKeys<S> {
    pub(super) fn new(service: S, authenticator: Arc<Authenticator>) -> Self {
        Self {
            service,
            authenticator,
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
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
        let waiting = lacks_key.then(|| Arc::clone(&self.waiting).try_acquire_owned());
        let Some(Ok(waiting)) = waiting else {
            return self.service.call(request);
        };
        // The clone may not be ready, but this service is.
        let clone = self.service.clone();
        let mut service = mem::replace(&mut self.service, clone);
        let authenticator = Arc::clone(&self.authenticator);
        Box::pin(async move {
            authenticator.refetch_keys().await;
            drop(waiting);
            service.call(request).await
        })
    }
}
