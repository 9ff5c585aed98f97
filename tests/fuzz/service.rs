//! The services in this process, with an unreachable database: a valid request fails only there.

use std::{sync::Arc, time::Duration};

use heist::{
    auth::{self, Authenticator},
    engine::{Engine, Limits, OnCommit, Workers},
    events::{self, Tasks},
    rpc::{
        Api, PageTokenKey, StreamReads, Traffic, TrafficLimits, TrustedProxies,
        layers::{self, Layered},
    },
    settings::{LiveSettings, RateLimits, Settings},
    store::{
        leaderboard::Ranks,
        pool::{self, DatabaseUrl},
        reads::Reads,
        signals::ListenOptions,
    },
};
use http_body_util::Full;
use prost::bytes::Bytes;
use tokio::{runtime::Runtime, time::timeout};
use tonic::{
    Code, Status,
    body::Body,
    codegen::{Service as _, http},
};

const UNREACHABLE_DATABASE: &str = "postgres://app@127.0.0.1:1/nothing";
/// No answer takes longer than the deadline that the calls set.
const PATIENCE: Duration = Duration::from_secs(5);
/// Many clients take no larger headers, and a status travels in them.
const MOST_HEADER_BYTES: usize = 8 * 1024;

pub struct Service {
    runtime: Runtime,
    services: Layered,
    _tasks: (Workers, Tasks),
}

impl Service {
    pub fn start() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let inside = runtime.enter();
        let database = DatabaseUrl::parse(UNREACHABLE_DATABASE).expect("a URL");
        let connect_options = database.connect_options();
        let pool = pool::connect_lazy(connect_options.clone(), 2);
        let on_commit: OnCommit = Arc::new(|_changes| {});
        let (engine, workers) = Engine::start(pool.clone(), Limits::default(), None, on_commit);
        let listen_options = ListenOptions {
            database: connect_options.clone().into(),
            is_direct: true,
        };
        let (events, tasks) = events::start(pool.clone(), listen_options);
        let settings = Settings {
            rates: RateLimits::NONE,
            ..Settings::default()
        };
        let reads = Reads::on_primary(pool.clone());
        let settings = LiveSettings::fixed(settings);
        let traffic = Arc::new(Traffic::new(TrafficLimits::default()));
        let api = Api {
            engine,
            ranks: Ranks::new(reads.clone()),
            reads,
            pool,
            settings: settings.clone(),
            page_token_key: PageTokenKey::new("a secret"),
            events,
            stream_reads: StreamReads::with_connections(2),
            traffic: Arc::clone(&traffic),
        };
        let authenticator = runtime
            .block_on(Authenticator::open(auth::Options::default()))
            .expect("there are no files to read");
        let services = layers::wrap(
            api.into_routes(),
            authenticator,
            settings,
            &traffic,
            &TrustedProxies::default(),
        );
        drop(inside);
        Self {
            runtime,
            services,
            _tasks: (workers, tasks),
        }
    }

    /// Calls an RPC of the contract; the status of its answer where that is a refusal.
    pub fn call(&self, path: &str, body: Vec<u8>) -> Option<Status> {
        let request = http::Request::post(path)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", "1S")
            .body(Body::new(Full::new(Bytes::from(body))))
            .expect("a request");
        let mut services = self.services.clone();
        let answer =
            (self.runtime).block_on(async { timeout(PATIENCE, services.call(request)).await });
        let answer = answer
            .expect("it is answered in time")
            .expect("services do not fail");
        assert_eq!(answer.status(), 200);
        let header_bytes: usize = (answer.headers().iter())
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        assert!(header_bytes < MOST_HEADER_BYTES, "{header_bytes} bytes");
        let status = Status::from_header_map(answer.headers())?;
        assert!(
            !status.message().starts_with("Internal error"),
            "a defect: {status:?}"
        );
        (status.code() != Code::Ok).then_some(status)
    }
}

/// A message as gRPC frames it.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a small message");
    [&[0], &length.to_be_bytes()[..], message].concat()
}
