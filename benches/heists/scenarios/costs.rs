//! What telemetry, streams and mail take off the throughput of heists. Each round measures servers
//! without them, and then with one of them at a time.

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use tonic::{Request, Response, Status, async_trait, transport::server::TcpIncoming};

use crate::{
    bench::Bench,
    load::{Call, Plan},
    progress::say,
    report::{Limit, Spread},
    server, streams,
};

const CALLERS: usize = 64;
/// The differences are small, so there are three times as many rounds as in other scenarios.
const ROUNDS: usize = 3;

/// Open streams of notifications, a few of which are written to per batch, and of points.
const LISTENERS: i32 = 1000;
const BOARDS: usize = 10;

/// Without any telemetry.
const SILENT: [(&str, &str); 2] = [
    ("HEIST_METRICS_LISTEN", ""),
    ("RUST_LOG", "off,heist::cli=info"),
];
/// As in production: metrics, a log line for each heist, and 1 % of the calls traced.
const OBSERVED: [(&str, &str); 4] = [
    ("RUST_LOG", "info"),
    ("OTEL_METRICS_EXPORTER", "none"),
    ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
    ("OTEL_TRACES_SAMPLER_ARG", "0.01"),
];
/// The same with every call traced.
const TRACED: [(&str, &str); 3] = [
    ("RUST_LOG", "info"),
    ("OTEL_METRICS_EXPORTER", "none"),
    ("OTEL_TRACES_SAMPLER", "always_on"),
];
/// Each heist queues mail for both players; digests keep the sending out of the measurement.
const MAILING: [(&str, &str); 5] = [
    ("HEIST_EMAIL_ENABLED", "true"),
    ("HEIST_EMAIL_MODE", "digest"),
    ("HEIST_EMAIL_FROM", "heists@example.com"),
    ("SENDGRID_API_KEY", "none"),
    ("SENDGRID_BASE_URL", "http://127.0.0.1:9"),
];

struct Variant {
    name: &'static str,
    variables: &'static [(&'static str, &'static str)],
    is_traced: bool,
    has_streams: bool,
    /// The variant that its throughput is divided by, and the limit of the ratio.
    bar: Option<(&'static str, Limit)>,
}

const PLAIN: Variant = Variant {
    name: "nothing else",
    variables: &[],
    is_traced: false,
    has_streams: false,
    bar: None,
};

const VARIANTS: [Variant; 6] = [
    Variant {
        name: "no telemetry",
        variables: &SILENT,
        ..PLAIN
    },
    Variant {
        name: "telemetry",
        variables: &OBSERVED,
        is_traced: true,
        bar: Some(("no telemetry", Limit::AtLeast(0.95))),
        ..PLAIN
    },
    Variant {
        name: "telemetry, all traced",
        variables: &TRACED,
        is_traced: true,
        ..PLAIN
    },
    PLAIN,
    Variant {
        name: "streams",
        has_streams: true,
        bar: Some(("nothing else", Limit::AtLeast(0.95))),
        ..PLAIN
    },
    Variant {
        name: "mail is queued",
        variables: &MAILING,
        ..PLAIN
    },
];

pub async fn run(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    say("costs");
    let collector = start_collector()?;
    let database = bench.database.clone();
    let mut measured = VARIANTS.map(|variant| (variant, Vec::new()));
    for round in 0..bench.effort.rounds * ROUNDS {
        // The order rotates: the first variant of one round is the last of the next.
        let count = measured.len();
        for place in 0..count {
            let (variant, rounds) = &mut measured[(round + place) % count];
            let mut variables = variant.variables.to_vec();
            if variant.is_traced {
                variables.push(("OTEL_EXPORTER_OTLP_ENDPOINT", &collector));
            }
            let server = bench
                .serve_with(&database, server::UNIFORM, &variables)
                .await?;
            let streams = if variant.has_streams {
                Some(streams::open(&server, LISTENERS, BOARDS).await?)
            } else {
                None
            };
            let plan = Plan::closed(server.address, CALLERS, Call::Heist)
                .among(database.players)
                .lasting(bench.effort.round);
            rounds.push(bench.measure(&server, &plan, Call::Heist).await?);
            drop(streams);
            server.stop().await?;
        }
    }
    let rates = |name: &str| -> Vec<f64> {
        (measured.iter())
            .filter(|(variant, _)| variant.name == name)
            .flat_map(|(_, rounds)| rounds.iter().map(|(calls, _)| calls.per_second))
            .collect()
    };
    for (variant, rounds) in &measured {
        let name = variant.name;
        (bench.report).calls(format!("costs: {name}"), rounds);
        if let Some((base, limit)) = variant.bar {
            let ratio = Spread::of_ratios(&rates(name), &rates(base));
            (bench.report).bar(format!("costs: {name} ÷ {base}"), ratio, "×", limit);
        }
    }
    Ok(())
}

/// Starts a collector that discards traces. Returns its URL.
fn start_collector() -> anyhow::Result<String> {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse()?)?;
    let url = format!("http://{}", incoming.local_addr()?);
    let serving = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(Collector))
        .serve_with_incoming(incoming);
    tokio::spawn(serving);
    Ok(url)
}

struct Collector;

#[async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        _: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
