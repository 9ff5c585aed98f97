//! Where metrics and traces go. What begins with `OTEL_` means what OpenTelemetry says.

use std::net::SocketAddr;

use opentelemetry_sdk::trace::Sampler;

use crate::telemetry::TelemetryOptions;

/// Where metrics and traces go.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Metrics and traces")]
pub struct TelemetryConfig {
    /// Where Prometheus finds `/metrics`; port 0: any free one; empty: nowhere
    #[arg(long, env = "HEIST_METRICS_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:9464", value_parser = metrics_listen)]
    pub metrics_listen: Optional<SocketAddr>,

    /// Where traces and metrics are sent by OTLP over gRPC, such as `http://collector:4317`;
    /// empty: nowhere. OpenTelemetry's variables for headers, time-outs and batches are heeded
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL", default_value = "", value_parser = otlp_endpoint)]
    pub otlp_endpoint: Optional<String>,

    /// Whether traces are sent there: `otlp` or `none`
    #[arg(long, env = "OTEL_TRACES_EXPORTER", value_name = "EXPORTER", default_value = "otlp", value_parser = exporter)]
    pub otlp_traces: Exporter,

    /// Whether metrics are sent there: `otlp` or `none`
    #[arg(long, env = "OTEL_METRICS_EXPORTER", value_name = "EXPORTER", default_value = "otlp", value_parser = exporter)]
    pub otlp_metrics: Exporter,

    /// Which calls are traced: `always_on`, `always_off`, `traceidratio`, or one of these after
    /// `parentbased_`, for calls whose caller has not decided
    #[arg(long, env = "OTEL_TRACES_SAMPLER", value_name = "SAMPLER", default_value = "parentbased_always_on", value_parser = sampler)]
    pub traces_sampler: SamplerKind,

    /// The share of calls that `traceidratio` traces
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", value_name = "RATIO", default_value = "1", value_parser = ratio)]
    pub traces_sampler_arg: f64,

    /// What the service is called in metrics and traces
    #[arg(
        long,
        env = "OTEL_SERVICE_NAME",
        value_name = "NAME",
        default_value = "heist"
    )]
    pub service_name: String,
}

/// What an empty value switches off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Optional<T>(pub Option<T>);

/// An exporter, by the names that OpenTelemetry gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exporter {
    Otlp,
    None,
}

/// A sampler, by the names that OpenTelemetry gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SamplerKind {
    /// Whether a caller's decision goes before ours.
    parent_based: bool,
    ours: OurSampler,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OurSampler {
    AlwaysOn,
    AlwaysOff,
    TraceIdRatio,
}

impl TelemetryConfig {
    /// These settings as [`telemetry`](crate::telemetry) takes them.
    #[must_use]
    pub fn options(&self) -> TelemetryOptions {
        TelemetryOptions {
            metrics_listen: self.metrics_listen.0,
            otlp_endpoint: self.otlp_endpoint.0.clone(),
            otlp_traces: self.otlp_traces == Exporter::Otlp,
            otlp_metrics: self.otlp_metrics == Exporter::Otlp,
            sampler: self.sampler(),
            service_name: self.service_name.clone(),
        }
    }

    fn sampler(&self) -> Sampler {
        let SamplerKind { parent_based, ours } = self.traces_sampler;
        let ours = match ours {
            OurSampler::AlwaysOn => Sampler::AlwaysOn,
            OurSampler::AlwaysOff => Sampler::AlwaysOff,
            OurSampler::TraceIdRatio => Sampler::TraceIdRatioBased(self.traces_sampler_arg),
        };
        if parent_based {
            Sampler::ParentBased(Box::new(ours))
        } else {
            ours
        }
    }
}

fn metrics_listen(value: &str) -> Result<Optional<SocketAddr>, String> {
    if value.is_empty() {
        return Ok(Optional(None));
    }
    let address = value.parse().map_err(|_| {
        "expected an IP address and a port, such as 127.0.0.1:9464, or nothing".to_owned()
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

fn exporter(value: &str) -> Result<Exporter, String> {
    match value {
        "otlp" => Ok(Exporter::Otlp),
        "none" => Ok(Exporter::None),
        _ => Err("expected otlp or none".to_owned()),
    }
}

fn sampler(value: &str) -> Result<SamplerKind, String> {
    let name = value.strip_prefix("parentbased_");
    let ours = match name.unwrap_or(value) {
        "always_on" => OurSampler::AlwaysOn,
        "always_off" => OurSampler::AlwaysOff,
        "traceidratio" => OurSampler::TraceIdRatio,
        _ => {
            return Err(
                "expected always_on, always_off or traceidratio, or one of these after parentbased_"
                    .to_owned(),
            );
        }
    };
    Ok(SamplerKind {
        parent_based: name.is_some(),
        ours,
    })
}

fn ratio(value: &str) -> Result<f64, String> {
    let ratio = value.parse().ok();
    ratio
        .filter(|ratio| (0.0..=1.0).contains(ratio))
        .ok_or_else(|| "expected a number from 0 to 1".to_owned())
}
