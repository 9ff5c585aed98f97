//! Traces as a collector receives them, by OTLP over gRPC.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex},
};

use heist::pb::{ExecuteHeistRequest, GetBalanceRequest};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::Span,
};
use tonic::{Request, Response, Status, async_trait, transport::server::TcpIncoming};

use crate::harness::{
    Player, World, all_at_once, connect,
    mail::{Provider, mailing},
    process::{Heist, Serving},
};

/// A caller's trace, and the span in it that calls us.
const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN_ID: &str = "b7ad6b7169203331";

/// What a collector has received.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

#[async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans;
        let scopes = resources
            .into_iter()
            .flat_map(|resource| resource.scope_spans);
        let spans = scopes.flat_map(|scope| scope.spans);
        self.0.lock().unwrap().extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Listens, and returns its URL.
    fn start(&self) -> String {
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let url = format!("http://{}", incoming.local_addr().unwrap());
        let service = TraceServiceServer::new(self.clone());
        let serving = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(incoming);
        tokio::spawn(serving);
        url
    }

    fn spans(&self) -> Vec<Span> {
        self.0.lock().unwrap().clone()
    }

    /// The only span of this name.
    #[track_caller]
    fn span(&self, name: &str) -> Span {
        let mut spans = self.named(name);
        assert_eq!(spans.len(), 1, "{name}: {:?}", self.names());
        spans.remove(0)
    }

    fn named(&self, name: &str) -> Vec<Span> {
        let spans = self.spans().into_iter();
        spans.filter(|span| span.name == name).collect()
    }

    fn names(&self) -> Vec<String> {
        self.spans().into_iter().map(|span| span.name).collect()
    }
}

/// A server that sends its traces to the collector, and the world as seen through it.
async fn traced(world: &World, collector: &Collector, sampler: &str) -> (Serving, World) {
    traced_as(Heist::serve(), world, collector, sampler).await
}

async fn traced_as(
    heist: Heist,
    world: &World,
    collector: &Collector,
    sampler: &str,
) -> (Serving, World) {
    let server = heist
        .env("DATABASE_URL", &world.database_url)
        .env("HEIST_AUTH", "none")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.start())
        .env("OTEL_METRICS_EXPORTER", "none")
        .env("OTEL_TRACES_SAMPLER", sampler)
        .serving()
        .await;
    let there = world.through(connect(server.address).await);
    (server, there)
}

fn calling<T>(message: T, traceparent: &str) -> Request<T> {
    let mut request = Request::new(message);
    (request.metadata_mut()).insert("traceparent", traceparent.parse().unwrap());
    request
}

/// A heist in a trace with these flags.
fn robbing(attacker: &Player, victim: &Player, flags: &str) -> Request<ExecuteHeistRequest> {
    let heist = ExecuteHeistRequest {
        attacker_id: attacker.id,
        victim_id: victim.id,
        request_id: String::new(),
    };
    calling(heist, &format!("00-{TRACE_ID}-{SPAN_ID}-{flags}"))
}

fn hex(id: &[u8]) -> String {
    id.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a string has room");
        hex
    })
}

#[test]
fn one_heist_is_one_trace_from_its_caller_to_the_statements() {
    World::run(async |world| {
        let collector = Collector::default();
        let (server, there) = traced(world, &collector, "parentbased_always_on").await;
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        let request = robbing(&ada, &ben, "01");
        there.heists.clone().execute_heist(request).await.unwrap();
        let line = server.event("HEIST_SUCCESS").await;
        assert_eq!(line["traceId"], TRACE_ID);
        // What was not sent yet is sent before it ends.
        assert_eq!(server.stopped_by("TERM").await.code, Some(0));

        for span in collector.spans() {
            assert_eq!(hex(&span.trace_id), TRACE_ID, "{span:?}");
            assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
        }
        let call = collector.span("heist.v1.HeistService/ExecuteHeist");
        assert_eq!(hex(&call.parent_span_id), SPAN_ID);
        assert_eq!(line["spanId"], hex(&call.span_id));
        let wait = collector.span("queue wait");
        assert_eq!(wait.parent_span_id, call.span_id);
        let batch = collector.span("heist batch");
        assert_eq!(batch.parent_span_id, call.span_id);
        assert_eq!(batch.links[0].span_id, call.span_id);
        // The transaction begins before the batch has orders, and so is part of no call's trace.
        for statement in ["players.lock", "heists.load", "heists.save", "commit"] {
            let statement = collector.span(statement);
            assert_eq!(statement.parent_span_id, batch.span_id, "{statement:?}");
        }
    });
}

#[test]
fn the_email_of_a_heist_is_in_its_trace() {
    World::run(async |world| {
        let collector = Collector::default();
        let provider = Provider::start().await;
        let heist = mailing(world, &provider.url);
        let (server, there) = traced_as(heist, world, &collector, "parentbased_always_on").await;
        let ada = world.player("Ada").tokens(2).email("ada@example.com").await;
        let ben = world
            .player("Ben")
            .points(1000)
            .email("ben@example.com")
            .await;
        for flags in ["01", "00"] {
            let request = robbing(&ada, &ben, flags);
            there.heists.clone().execute_heist(request).await.unwrap();
        }
        provider.has_received(4).await;
        world.all_emails_are("SENT").await;
        assert_eq!(server.stopped_by("TERM").await.code, Some(0));

        let batch = collector.span("heist batch");
        let mails = collector.named("send mail");
        assert_eq!(mails.len(), 2, "only those of the heist that is traced");
        for mail in mails {
            assert_eq!(hex(&mail.trace_id), TRACE_ID);
            assert_eq!(mail.parent_span_id, batch.span_id);
        }
    });
}

#[test]
fn the_spans_of_a_batch_are_linked() {
    let setup = World::setup().limits(|limits| limits.workers = 1);
    setup.run(async |world| {
        let collector = Collector::default();
        let (server, there) = traced(world, &collector, "parentbased_always_on").await;
        let robbers = world.crowd("Robber", 6).tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        // Orders that arrive while the victim is locked share a batch.
        let transaction = ben.locked().await;
        let calls = robbers
            .iter()
            .map(|robber| robber.seen_by(&there).robs(&ben));
        let calls = tokio::spawn(all_at_once(calls.collect::<Vec<_>>()));
        world.a_session_waits_for_a_lock().await;
        transaction.rollback().await;
        for answer in calls.await.unwrap() {
            answer.unwrap();
        }
        assert_eq!(server.stopped_by("TERM").await.code, Some(0));

        let calls = collector.named("heist.v1.HeistService/ExecuteHeist");
        let waits = collector.named("queue wait");
        let batches = collector.named("heist batch");
        assert_eq!(calls.len(), 6);
        assert_eq!(waits.len(), 6);
        assert!(batches.len() < 6, "no orders shared a batch");
        for call in calls {
            let wait = (waits.iter())
                .find(|wait| wait.parent_span_id == call.span_id)
                .expect("each has waited");
            assert_eq!(wait.trace_id, call.trace_id);
            let batch = (batches.iter())
                .find(|batch| batch.span_id == wait.links[0].span_id)
                .expect("the link leads to a batch");
            let links = batch.links.iter();
            assert_eq!(links.filter(|link| link.span_id == call.span_id).count(), 1);
        }
    });
}

#[test]
fn unsampled_calls_and_health_checks_are_not_traced() {
    World::run(async |world| {
        let collector = Collector::default();
        let (server, there) = traced(world, &collector, "parentbased_always_on").await;
        let ada = world.player("Ada").await;
        let balance = || GetBalanceRequest { user_id: ada.id };
        let unsampled = calling(balance(), &format!("00-{TRACE_ID}-{SPAN_ID}-00"));
        there.tokens.clone().get_balance(unsampled).await.unwrap();
        let listen = server.address.to_string();
        let health = Heist::new(&["healthcheck"]).env("HEIST_LISTEN", listen);
        assert_eq!(health.ended().await.code, Some(0));
        // A call without a decision by the caller; its traceparent is malformed.
        let undecided = calling(balance(), "00-nonsense");
        there.tokens.clone().get_balance(undecided).await.unwrap();
        assert_eq!(server.stopped_by("TERM").await.code, Some(0));

        let mut names = collector.names();
        names.sort();
        assert_eq!(
            names,
            ["heist.v1.TokenService/GetBalance", "tokens.accounts"]
        );
        assert_ne!(hex(&collector.spans()[0].trace_id), TRACE_ID);
    });
}

#[test]
fn a_sampler_that_samples_nothing_sends_nothing() {
    World::run(async |world| {
        let collector = Collector::default();
        let (server, there) = traced(world, &collector, "always_off").await;
        let ada = world.player("Ada").await;
        there.get_balance(ada.id).await.unwrap();
        assert_eq!(server.stopped_by("TERM").await.code, Some(0));
        assert_eq!(collector.names(), [""; 0]);
    });
}

#[test]
fn an_unreachable_collector_affects_no_call() {
    World::run(async |world| {
        let server = Heist::serve()
            .env("DATABASE_URL", &world.database_url)
            .env("HEIST_AUTH", "none")
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
            .serving()
            .await;
        let there = world.through(connect(server.address).await);
        let ada = world.player("Ada").tokens(1).await.seen_by(&there);
        let ben = world.player("Ben").points(1000).await;
        ada.robs(&ben).await.unwrap();
        assert_eq!(server.stopped_by("TERM").await.code, Some(0));
    });
}
