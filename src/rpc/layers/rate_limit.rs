//! Counts each call with a player's token against that player's rate limit, whatever player the
//! request names. This happens before the request is decoded. A call of a service counts for the
//! player that the request names: see `Api::accept`.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use tonic::codegen::Service;

use super::http_types::{HttpFuture, HttpRequest, HttpResponse, answer};
use crate::{
    auth::{Caller, Who},
    rpc::{
        methods::{Counted, Method},
        rate_limiter::RateLimiter,
    },
    settings::LiveSettings,
};

/// A service whose calls by players are counted.
#[derive(Clone)]
pub struct RateLimit<S> {
    service: S,
    rates: Arc<RateLimiter>,
    settings: LiveSettings,
}

impl<S> RateLimit<S> {
    pub(super) fn new(service: S, rates: Arc<RateLimiter>, settings: LiveSettings) -> Self {
        Self {
            service,
            rates,
            settings,
        }
    }
}

impl<S> Service<HttpRequest> for RateLimit<S>
where
    S: Service<HttpRequest, Response = HttpResponse, Error = Infallible, Future = HttpFuture>,
{
    type Response = HttpResponse;
    type Error = Infallible;
    type Future = HttpFuture;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: HttpRequest) -> HttpFuture {
        let caller: Option<&Caller> = request.extensions().get();
        if let Some(Who::Player(player)) = caller.map(|caller| &caller.who) {
            let is_heist = Method::at(request.uri().path()).is_some_and(Method::is_heist);
            let counted = if is_heist {
                Counted::Heist(player.get())
            } else {
                Counted::Other(player.get())
            };
            if let Err(status) = self.rates.count(self.settings.now().rates, counted) {
                return answer(status);
            }
        }
        self.service.call(request)
    }
}
