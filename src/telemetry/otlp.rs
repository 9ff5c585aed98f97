//! The OTLP exporters, over gRPC.

use opentelemetry_otlp::{
    ExporterBuildError, MetricExporter, SpanExporter, WithExportConfig as _, WithTonicConfig,
    tonic_types::transport::ClientTlsConfig,
};

pub(super) fn metrics(endpoint: &str) -> Result<MetricExporter, ExporterBuildError> {
    let exporter = MetricExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint);
    with_roots(exporter, endpoint).build()
}

pub(super) fn spans(endpoint: &str) -> Result<SpanExporter, ExporterBuildError> {
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint);
    with_roots(exporter, endpoint).build()
}

/// Trusts the public certificate authorities. By default the library trusts none.
fn with_roots<T: WithTonicConfig>(exporter: T, endpoint: &str) -> T {
    if endpoint.starts_with("https://") {
        exporter.with_tls_config(ClientTlsConfig::new().with_enabled_roots())
    } else {
        exporter
    }
}
