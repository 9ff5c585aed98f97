//! Where calls of the three services come in: finds out who calls, and lets in only those who may
//! make such a call at all. Nothing of a call that is refused here is decoded.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::time::Instant;
use tonic::{
    Status,
    body::Body,
    codegen::{Body as HttpBody, Bytes, Service, StdError, http},
    server::NamedService,
    transport::server::TcpConnectInfo,
};

use super::{access::Rpc, audit::Attempt, status};
use crate::auth::{Authenticator, Caller, ClientCertificate};

/// Who is at the other end of a connection; each request on it has one in its extensions.
#[derive(Clone, Debug)]
pub struct Peer {
    pub tcp: TcpConnectInfo,
    /// The certificate that the client showed, where TLS asked for one.
    pub certificate: Option<Arc<ClientCertificate>>,
}

/// Guards services. Cheap to clone.
#[derive(Clone)]
pub(super) struct Door(Arc<Authenticator>);

/// A service behind the door.
#[derive(Clone)]
pub(super) struct Guarded<S> {
    door: Door,
    service: S,
}

type Response = http::Response<Body>;

impl Door {
    pub(super) fn new(authenticator: Authenticator) -> Self {
        Self(Arc::new(authenticator))
    }

    pub(super) fn guard<S>(&self, service: S) -> Guarded<S> {
        Guarded {
            door: self.clone(),
            service,
        }
    }

    fn identify<B>(&self, request: &http::Request<B>) -> Result<Caller, Status> {
        let authorization = request.headers().get_all(http::header::AUTHORIZATION);
        let peer: Option<&Peer> = request.extensions().get();
        let certificate = peer.and_then(|peer| peer.certificate.as_deref());
        (self.0)
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

impl<S, B> Service<http::Request<Body>> for Guarded<S>
where
    S: Service<http::Request<Body>, Response = http::Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes, Error: Into<StdError>> + Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let begun = Instant::now();
        let Some(rpc) = Rpc::at(request.uri().path()) else {
            return answer(Status::unimplemented("There is no such RPC."));
        };
        // Where RPCs look for the caller's address.
        if let Some(peer) = request.extensions().get::<Peer>() {
            let tcp = peer.tcp.clone();
            request.extensions_mut().insert(tcp);
        }
        let caller = self.door.identify(&request);
        let attempt = Attempt::begin(rpc, begun, caller.as_ref().ok(), &request);
        let admitted = caller.and_then(|caller| rpc.admits(&caller).map(|()| caller));
        let caller = match admitted {
            Ok(caller) => caller,
            Err(status) => {
                if let Some(attempt) = attempt {
                    attempt.refused(&status);
                }
                return answer(status);
            }
        };
        request.extensions_mut().insert(caller);
        if let Some(attempt) = &attempt {
            request.extensions_mut().insert(Arc::clone(attempt));
        }
        let called = self.service.call(request);
        Box::pin(async move {
            let response = called.await?;
            if let Some(attempt) = attempt {
                // What was refused before the RPC had a look at it.
                if let Some(status) = Status::from_header_map(response.headers()) {
                    attempt.refused(&status);
                }
            }
            Ok(response.map(Body::new))
        })
    }
}

fn answer(status: Status) -> Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>> {
    Box::pin(async { Ok(status.into_http()) })
}

impl<S: NamedService> NamedService for Guarded<S> {
    const NAME: &'static str = S::NAME;
}
