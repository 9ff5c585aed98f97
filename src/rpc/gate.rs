//! The switch: while the feature is off, no RPC of the three services does anything.

use std::sync::Arc;

use tonic::{
    Request, Status,
    service::{Interceptor, interceptor::InterceptedService},
};

use super::status;
use crate::settings::Settings;

/// Runs before a request is even decoded, so that `FEATURE_DISABLED` comes before any other
/// refusal.
#[derive(Clone)]
pub(super) struct FeatureGate {
    settings: Arc<Settings>,
}

impl FeatureGate {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self { settings }
    }

    pub(super) fn guard<S>(&self, service: S) -> InterceptedService<S, Self> {
        InterceptedService::new(service, self.clone())
    }
}

impl Interceptor for FeatureGate {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        if self.settings.enabled {
            Ok(request)
        } else {
            Err(status::feature_disabled())
        }
    }
}
