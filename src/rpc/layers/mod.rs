//! The middleware of every call on the port, built in [`wrap`].

pub(super) mod call_limit;

mod audit;
mod authenticate;
mod feature_switch;
mod observe;

use std::{convert::Infallible, sync::Arc};

use tonic::{
    Status,
    body::Body,
    codegen::{BoxFuture, http},
    service::Routes,
};

use self::{
    audit::Audit, authenticate::Authenticate, call_limit::CallLimit, feature_switch::FeatureSwitch,
    observe::Observe,
};
use super::{methods, traffic::Traffic};
use crate::{auth::Authenticator, settings::LiveSettings};

type HttpRequest = http::Request<Body>;
type HttpResponse = http::Response<Body>;
type HttpFuture = BoxFuture<HttpResponse, Infallible>;

/// The services with their middleware.
pub type Layered = Observe<Audit<Authenticate<FeatureSwitch<CallLimit<Routes>>>>>;

/// Wraps the services into their middleware. A call passes the layers from the last line to the
/// first.
///
/// # Panics
///
/// The table of methods does not match the contract.
#[must_use]
pub fn wrap(
    routes: Routes,
    authenticator: Authenticator,
    settings: LiveSettings,
    traffic: &Traffic,
) -> Layered {
    methods::verify();
    let services = CallLimit::new(routes, traffic.calls.clone());
    let services = FeatureSwitch::new(services, settings);
    let services = Authenticate::new(services, Arc::new(authenticator));
    let services = Audit::new(services);
    Observe::new(services)
}

/// Answers a call without passing it on.
fn answer(status: Status) -> HttpFuture {
    Box::pin(async { Ok(status.into_http()) })
}
