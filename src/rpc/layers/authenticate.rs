//! Authenticates the caller, and refuses methods that the caller may not call for any player. A
//! request that is refused here is not decoded.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use tonic::{
    Status,
    codegen::{Service, http},
};

use super::http_types::{HttpFuture, HttpRequest, HttpResponse, answer};
use crate::{
    auth::{Authenticator, Caller, Scope, Who},
    rpc::{
        audit::Attempt,
        client_address::{ClientAddress, TrustedProxies},
        connection_info::{ConnectionInfo, count_refusal},
        methods::{Denied, Method},
        status,
    },
};

/// A service for authenticated callers. Methods without a line in the table of methods are not
/// served. Health and reflection are open to all callers.
#[derive(Clone)]
pub struct Authenticate<S> {
    service: S,
    authenticator: Arc<Authenticator>,
    proxies: TrustedProxies,
}

impl<S> Authenticate<S> {
    pub(super) fn new(
        service: S,
        authenticator: Arc<Authenticator>,
        proxies: TrustedProxies,
    ) -> Self {
        Self {
            service,
            authenticator,
            proxies,
        }
    }

    /// Where the call comes from, by the caller's own word if it may forward addresses.
    fn address(&self, request: &HttpRequest, caller: &Caller) -> Option<ClientAddress> {
        let connection: Option<&ConnectionInfo> = request.extensions().get();
        match &caller.who {
            Who::Service { scopes, .. } if scopes.has(Scope::AddressForward) => {
                (self.proxies).client(connection?, request.headers(), true)
            }
            _ => request.extensions().get().copied(),
        }
    }

    fn identify(&self, request: &HttpRequest) -> Result<Caller, Status> {
        let authorization = request.headers().get_all(http::header::AUTHORIZATION);
        let connection: Option<&ConnectionInfo> = request.extensions().get();
        let certificate = connection.and_then(|connection| connection.certificate.as_deref());
        (self.authenticator)
            .authenticate(
                authorization.iter().map(http::HeaderValue::as_bytes),
                certificate,
            )
            .map_err(|error| {
                tracing::debug!(error = ?error, "a caller was not authenticated");
                status::unauthenticated(&error.to_string())
            })
    }
}

impl<S> Service<HttpRequest> for Authenticate<S>
where
    S: Service<HttpRequest, Response = HttpResponse, Error = Infallible, Future = HttpFuture>,
{
    type Response = HttpResponse;
    type Error = Infallible;
    type Future = HttpFuture;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: HttpRequest) -> HttpFuture {
        let Some(method) = Method::at(request.uri().path()) else {
            count_refusal(&request);
            return answer(Status::unimplemented("There is no such RPC."));
        };
        if method.is_open() {
            return self.service.call(request);
        }
        let caller = match self.identify(&request) {
            Ok(caller) => caller,
            Err(status) => {
                count_refusal(&request);
                return answer(status);
            }
        };
        let address = self.address(&request, &caller);
        let attempt: Option<&Arc<Attempt>> = request.extensions().get();
        if let Some(attempt) = attempt {
            attempt.set_caller(&caller, address);
        }
        if let Some(address) = address {
            request.extensions_mut().insert(address);
        }
        if let Err(denied) = method.access.check(&caller.who) {
            return answer(match denied {
                Denied::ScopeNeeded(scope) => status::scope_needed(scope),
                Denied::NotForPlayers => status::not_for_players(),
            });
        }
        if let Some(connection) = request.extensions().get::<ConnectionInfo>() {
            if connection.usage.is_for_probes_only() {
                connection.usage.close();
                return answer(status::overloaded());
            }
            let player = match caller.who {
                Who::Player(user_id) => Some(user_id),
                _ => None,
            };
            connection.usage.set_authenticated(player);
        }
        request.extensions_mut().insert(caller);
        self.service.call(request)
    }
}
