//! The switch: while the feature is off, no RPC of the three services does anything.

use tonic::{
    Request, Status,
    service::{Interceptor, interceptor::InterceptedService},
};

use super::status;
use crate::settings::LiveSettings;

/// Runs before a request is even decoded, so that `FEATURE_DISABLED` comes before any other
/// refusal.
#[derive(Clone)]
pub(super) struct FeatureGate {
    settings: LiveSettings,
}

impl FeatureGate {
    pub(super) fn new(settings: LiveSettings) -> Self {
        Self { settings }
    }

    /// What a stream sends, for as long as the feature is on: streams that were opened before
    /// end as those that are opened now begin.
    pub(super) async fn limit(self, feed: impl Future<Output = Status>) -> Status {
        tokio::select! {
            status = feed => status,
            () = self.settings.switched_off() => status::feature_disabled(),
        }
    }

    pub(super) fn guard<S>(&self, service: S) -> InterceptedService<S, Self> {
        InterceptedService::new(service, self.clone())
    }
}

impl Interceptor for FeatureGate {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        if self.settings.now().enabled {
            Ok(request)
        } else {
            Err(status::feature_disabled())
        }
    }
}
