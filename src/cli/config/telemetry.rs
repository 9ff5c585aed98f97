//! Metrics and traces. Variables that begin with `OTEL_` have the meaning that OpenTelemetry defines.

use std::net::SocketAddr;

use opentelemetry_sdk::trace::Sampler;

use crate::telemetry::TelemetryOptions;

/// The destinations of metrics and traces.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Metrics and traces")]
pub struct TelemetryConfig {
    /// The address of `/metrics` for Prometheus; port 0: any free port; empty: off
    #[arg(long, env = "HEIST_METRICS_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:9464", value_parser = metrics_listen)]
    pub metrics_listen: Optional<SocketAddr>,

    /// The collector of traces and metrics (OTLP over gRPC), such as `http://collector:4317`; empty:
    /// off. OpenTelemetry's variables for headers, time-outs and batches apply
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL", hide_env_values = true, default_value = "", value_parser = otlp_endpoint)]
    pub otlp_endpoint: Optional<String>,

    /// The protocol of the collector: only `grpc` is supported
    #[arg(long, env = "OTEL_EXPORTER_OTLP_PROTOCOL", value_name = "PROTOCOL", default_value = "grpc", value_parser = protocol)]
    pub otlp_protocol: String,

    /// `true` sends nothing to the collector
    #[arg(long, env = "OTEL_SDK_DISABLED", value_name = "BOOL", default_value_t = false, value_parser = otel_switch, action = clap::ArgAction::Set)]
    pub otel_sdk_disabled: bool,

    /// Whether traces are sent to the collector: `otlp` or `none`
    #[arg(long, env = "OTEL_TRACES_EXPORTER", value_name = "EXPORTER", default_value = "otlp", value_parser = exporter)]
    pub otlp_traces: Exporter,

    /// Whether metrics are sent to the collector: `otlp` or `none`
    #[arg(long, env = "OTEL_METRICS_EXPORTER", value_name = "EXPORTER", default_value = "otlp", value_parser = exporter)]
    pub otlp_metrics: Exporter,

    /// Which calls are traced: `always_on`, `always_off` or `traceidratio`. With the prefix
    /// `parentbased_` it applies only to calls whose caller has not decided
    #[arg(long, env = "OTEL_TRACES_SAMPLER", value_name = "SAMPLER", default_value = "parentbased_always_on", value_parser = sampler)]
    pub traces_sampler: SamplerKind,

    /// The ratio of calls that `traceidratio` traces
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", value_name = "RATIO", default_value = "1", value_parser = ratio)]
    pub traces_sampler_arg: f64,

    /// The name of the service in metrics and traces
    #[arg(
        long,
        env = "OTEL_SERVICE_NAME",
        value_name = "NAME",
        default_value = "heist"
    )]
    pub service_name: String,
}

/// A setting that an empty value switches off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Optional<T>(pub Option<T>);

/// An exporter, with the names that OpenTelemetry defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exporter {
    Otlp,
    None,
}

/// A sampler, with the names that OpenTelemetry defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SamplerKind {
    /// Whether the caller's decision takes precedence.
    parent_based: bool,
    own: OwnSampler,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OwnSampler {
    AlwaysOn,
    AlwaysOff,
    TraceIdRatio,
}

impl TelemetryConfig {
    /// The options of [`telemetry`](crate::telemetry).
    #[must_use]
    pub fn options(&self) -> TelemetryOptions {
        TelemetryOptions {
            metrics_listen: self.metrics_listen.0,
            otlp_endpoint: (self.otlp_endpoint.0.clone()).filter(|_| !self.otel_sdk_disabled),
            otlp_traces: self.otlp_traces == Exporter::Otlp,
            otlp_metrics: self.otlp_metrics == Exporter::Otlp,
            sampler: self.sampler(),
            service_name: self.service_name.clone(),
        }
    }

    fn sampler(&self) -> Sampler {
        let SamplerKind { parent_based, own } = self.traces_sampler;
        let own = match own {
            OwnSampler::AlwaysOn => Sampler::AlwaysOn,
            OwnSampler::AlwaysOff => Sampler::AlwaysOff,
            OwnSampler::TraceIdRatio => Sampler::TraceIdRatioBased(self.traces_sampler_arg),
        };
        if parent_based {
            Sampler::ParentBased(Box::new(own))
        } else {
            own
        }
    }
}

fn metrics_listen(value: &str) -> Result<Optional<SocketAddr>, String> {
    if value.is_empty() {
        return Ok(Optional(None));
    }
    let address = value.parse().map_err(|_| {
        "expected an IP address and a port, such as 127.0.0.1:9464, or an empty value".to_owned()
    })?;
    Ok(Optional(Some(address)))
}

fn otlp_endpoint(value: &str) -> Result<Optional<String>, String> {
    if value.is_empty() {
        return Ok(Optional(None));
    }
    let is_url = value.parse::<http::Uri>().is_ok_and(|url| {
        matches!(url.scheme_str(), Some("http" | "https")) && url.authority().is_some()
    });
    if is_url {
        Ok(Optional(Some(value.to_owned())))
    } else {
        Err("expected a URL such as http://127.0.0.1:4317".to_owned())
    }
}

fn protocol(value: &str) -> Result<String, String> {
    match value {
        "grpc" => Ok(value.to_owned()),
        _ => Err("expected grpc: other protocols are not supported".to_owned()),
    }
}

fn otel_switch(value: &str) -> Result<bool, String> {
    let value = value.to_ascii_lowercase();
    (value.parse()).map_err(|_| "expected true or false".to_owned())
}

fn exporter(value: &str) -> Result<Exporter, String> {
    match value {
        "otlp" => Ok(Exporter::Otlp),
        "none" => Ok(Exporter::None),
        _ => Err("expected otlp or none".to_owned()),
    }
}

fn sampler(value: &str) -> Result<SamplerKind, String> {
    let name = value.strip_prefix("parentbased_");
    let own = match name.unwrap_or(value) {
        "always_on" => OwnSampler::AlwaysOn,
        "always_off" => OwnSampler::AlwaysOff,
        "traceidratio" => OwnSampler::TraceIdRatio,
        _ => {
            return Err(
                "expected always_on, always_off or traceidratio, or one of these after parentbased_"
                    .to_owned(),
            );
        }
    };
    Ok(SamplerKind {
        parent_based: name.is_some(),
        own,
    })
}

fn ratio(value: &str) -> Result<f64, String> {
    let ratio = value.parse().ok();
    ratio
        .filter(|ratio| (0.0..=1.0).contains(ratio))
        .ok_or_else(|| "expected a number from 0 to 1".to_owned())
}
