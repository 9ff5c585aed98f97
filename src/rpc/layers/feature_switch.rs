//! `HEIST_ENABLED=false` makes every method of the contract except `GetRules` answer
//! `FEATURE_DISABLED`.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use tonic::codegen::Service;

use super::http_types::{HttpFuture, HttpRequest, HttpResponse, answer};
use crate::{
    rpc::{methods::Method, status},
    settings::LiveSettings,
};

/// A service that is called only while the feature is enabled. It checks before the request is
/// decoded, so that `FEATURE_DISABLED` precedes every refusal that depends on the request.
#[derive(Clone)]
pub struct FeatureSwitch<S> {
    service: S,
    settings: LiveSettings,
}

impl<S> FeatureSwitch<S> {
    pub(super) fn new(service: S, settings: LiveSettings) -> Self {
        Self { service, settings }
    }
}

impl<S> Service<HttpRequest> for FeatureSwitch<S>
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
        let method = Method::at(request.uri().path());
        let is_served = method.is_some_and(Method::ignores_feature_switch);
        if is_served || self.settings.now().enabled {
            self.service.call(request)
        } else {
            answer(status::feature_disabled())
        }
    }
}
