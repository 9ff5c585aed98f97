//! Logs, metrics and traces.
//!
//! Every module may log, count and trace. Instruments do nothing until [`Exporters::start`] has
//! configured an exporter.

mod exposition;
mod log_limiter;
mod log_queue;
mod logs;
pub mod metrics;
mod otlp;
pub mod request;
mod strangers;
pub mod traces;

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkError,
    metrics::SdkMeterProvider,
    trace::{Sampler, SdkTracerProvider},
};
use prometheus::{Registry, process_collector::ProcessCollector};
use tokio::{sync::watch, time::timeout};

use self::exposition::Exposition;
pub use self::{
    log_limiter::LogLimiter,
    log_queue::AUDIT_TARGET,
    logs::{LogFormat, LogOptions, finish, init},
    strangers::{Part, permits_repetition, permits_stranger},
};

/// How long the process waits for the last spans and metrics to be sent.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// The destinations of metrics and traces.
#[derive(Clone, Debug)]
pub struct TelemetryOptions {
    /// The address of `/metrics`; `None`: it is not served.
    pub metrics_listen: Option<SocketAddr>,
    /// An OTLP endpoint over gRPC; `None`: nothing is sent.
    pub otlp_endpoint: Option<String>,
    pub otlp_traces: bool,
    pub otlp_metrics: bool,
    pub sampler: Sampler,
    /// `service.name` of every metric and span.
    pub service_name: String,
}

/// The exporters of metrics and traces.
pub struct Exporters {
    metrics_address: Option<SocketAddr>,
    readiness: Arc<OnceLock<watch::Receiver<bool>>>,
    meters: Option<SdkMeterProvider>,
    tracers: Option<SdkTracerProvider>,
}

/// Why an exporter cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("cannot listen on {address} for metrics: {cause}")]
    Listen {
        address: SocketAddr,
        cause: std::io::Error,
    },
    #[error("OTEL_EXPORTER_OTLP_ENDPOINT: {0}")]
    Otlp(#[from] ExporterBuildError),
    #[error("metrics: {0}")]
    Sdk(#[from] OTelSdkError),
    #[error("metrics: {0}")]
    Registry(#[from] prometheus::Error),
}

impl Exporters {
    /// Starts the configured exporters. Must be called once inside the runtime, before the first use
    /// of a metric.
    ///
    /// # Errors
    ///
    /// The address cannot be listened on, or the endpoint is invalid. An endpoint that does not answer
    /// is not an error: the exporter logs it and retries.
    pub async fn start(options: TelemetryOptions) -> Result<Self, ExportError> {
        let resource = Resource::builder()
            .with_service_name(options.service_name)
            .with_attribute(opentelemetry::KeyValue::new(
                "service.version",
                env!("CARGO_PKG_VERSION"),
            ))
            .build();
        let mut exporters = Self {
            metrics_address: None,
            readiness: Arc::default(),
            meters: None,
            tracers: None,
        };
        let mut meters = SdkMeterProvider::builder().with_resource(resource.clone());
        let mut has_reader = false;
        if let Some(address) = options.metrics_listen {
            let registry = Registry::new();
            registry.register(Box::new(ProcessCollector::for_self()))?;
            let reader = opentelemetry_prometheus::exporter()
                .with_registry(registry.clone())
                .scope_info_enabled(false)
                .build()?;
            meters = meters.with_reader(reader);
            has_reader = true;
            let exposition = Exposition {
                registry,
                readiness: Arc::clone(&exporters.readiness),
            };
            let listening = exposition::serve(address, exposition).await;
            let listening = listening.map_err(|cause| ExportError::Listen { address, cause })?;
            exporters.metrics_address = Some(listening);
        }
        if let Some(endpoint) = &options.otlp_endpoint {
            if options.otlp_metrics {
                meters = meters.with_periodic_exporter(otlp::metrics(endpoint)?);
                has_reader = true;
            }
            if options.otlp_traces {
                let tracers = SdkTracerProvider::builder()
                    .with_resource(resource)
                    .with_sampler(options.sampler)
                    .with_batch_exporter(otlp::spans(endpoint)?)
                    .build();
                traces::start(&tracers);
                exporters.tracers = Some(tracers);
            }
        }
        if has_reader {
            let meters = meters.build();
            opentelemetry::global::set_meter_provider(meters.clone());
            exporters.meters = Some(meters);
            metrics::watch_log(logs::dropped_lines);
        }
        Ok(exporters)
    }

    /// The address of `/metrics`.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// Lets `/readyz` report whether the gRPC server is ready.
    pub fn report_readiness(&self, ready: watch::Receiver<bool>) {
        // It is set once, when the server has started.
        let _ = self.readiness.set(ready);
    }

    /// Sends the remaining spans and metrics. Takes at most 3 seconds.
    pub async fn flush(self) {
        // The SDK blocks until its threads have finished.
        let flushed = tokio::task::spawn_blocking(move || {
            if let Some(tracers) = &self.tracers {
                let _ = tracers.shutdown_with_timeout(FLUSH_TIMEOUT);
            }
            if let Some(meters) = &self.meters {
                let _ = meters.shutdown_with_timeout(FLUSH_TIMEOUT);
            }
        });
        let _ = timeout(FLUSH_TIMEOUT, flushed).await;
    }
}
