//! The middleware of every call on the port, built in [`wrap`].

pub(super) mod call_limit;

mod audit;
mod authenticate;
mod deadline;
mod feature_switch;
mod fresh_keys;
mod grpc_only;
mod http_types;
mod memory;
mod observe;
mod rate_limit;
mod request_body;
mod response_body;

use std::sync::Arc;

use tonic::service::Routes;

use self::{
    audit::Audit, authenticate::Authenticate, call_limit::CallLimit, deadline::EnforceDeadline,
    feature_switch::FeatureSwitch, fresh_keys::FreshKeys, grpc_only::GrpcOnly, observe::Observe,
    rate_limit::RateLimit,
};
use super::{client_address::TrustedProxies, methods, traffic::Traffic};
use crate::{auth::Authenticator, settings::LiveSettings};

/// The services with their middleware.
pub type Layered = GrpcOnly<
    Observe<
        Audit<
            EnforceDeadline<FreshKeys<Authenticate<FeatureSwitch<RateLimit<CallLimit<Routes>>>>>>,
        >,
    >,
>;

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
    proxies: &TrustedProxies,
) -> Layered {
    methods::verify();
    let services = CallLimit::new(routes, traffic.calls.clone());
    let services = RateLimit::new(services, Arc::clone(&traffic.rates), settings.clone());
    let services = FeatureSwitch::new(services, settings);
    let authenticator = Arc::new(authenticator);
    let services = Authenticate::new(services, Arc::clone(&authenticator), proxies.clone());
    let services = FreshKeys::new(services, authenticator);
    let services = EnforceDeadline::new(services);
    let services = Audit::new(services);
    let services = Observe::new(services, proxies.clone());
    GrpcOnly::new(services)
}
