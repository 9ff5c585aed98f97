//! Attacks on memory and places, by callers without a token or with one player's token.
//!
//! Each attack runs beside a service that reads balances, health probes on new connections, and
//! scrapes of the metrics. The process must stay below 256 MiB and give the memory back, the probes
//! and scrapes must succeed, and the service's calls must stay fast.
//!
//! `scripts/attack` runs the suite on a release build for longer, and prints the figures.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use h2::client::{ResponseFuture, SendRequest};
use heist::pb::BatchGetBalancesRequest;
use prost::bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::transport::Channel;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::harness::{
    PATIENCE, World, connect,
    identity::{AUDIENCE, ISSUER, Issuer, bearer},
    process::{Heist, Serving},
    until,
};

const MAX_MEMORY_KIB: u64 = 256 * 1024;
/// The memory that may remain after an attack, beyond that before it.
const MAX_REMAINING_KIB: u64 = 64 * 1024;
/// The bar for the 99th percentile of a well-behaved caller in a release build on a quiet machine.
const MAX_P99: Duration = Duration::from_millis(250);

/// Probes and scrapes during an attack at least, and the service's calls between two of them.
const MIN_PROBES: usize = 3;
const CALLS_PER_PROBE: usize = 5;

const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const BALANCE: &str = "/heist.v1.TokenService/GetBalance";
const BOARD: &str = "/heist.v1.HeistService/GetLeaderboard";

/// The seconds of an attack, and whether the figures are of a release build on a quiet machine.
fn setting() -> (Duration, bool) {
    let seconds = std::env::var("HEIST_ATTACK_SECONDS").ok();
    let seconds = seconds.map(|seconds| seconds.parse().expect("a number of seconds"));
    (Duration::from_secs(seconds.unwrap_or(2)), seconds.is_some())
}

/// What an attacker has.
#[derive(Clone)]
struct Target {
    address: SocketAddr,
    metrics: SocketAddr,
    /// The token of one player.
    token: String,
}

/// Runs an attack and measures what it costs.
fn attacked<F>(name: &str, attack: impl FnOnce(Target) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    World::run(async |world| measure(world, name, attack).await);
}

async fn measure<F>(world: &World, name: &str, attack: impl FnOnce(Target) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let (time, is_measured) = setting();
    let ada = world.player("Ada").await;
    let issuer = Issuer::new();
    let server = Heist::serve()
        .env("DATABASE_URL", &world.database_url)
        .env("HEIST_AUTH", "jwt")
        .env("HEIST_JWT_SECRET_FILE", issuer.secret_file())
        .env("HEIST_JWT_ISSUER", ISSUER)
        .env("HEIST_JWT_AUDIENCE", AUDIENCE)
        .env("HEIST_METRICS_LISTEN", "127.0.0.1:0")
        // The defaults, which the harness switches off.
        .env("HEIST_RATE_LIMIT_PER_MINUTE", "10")
        .env("HEIST_READ_RATE_LIMIT_PER_MINUTE", "60")
        .serving()
        .await;
    let target = Target {
        address: server.address,
        metrics: server.metrics_address.expect("it has metrics"),
        token: issuer.player(ada.id),
    };
    let channel = connect(server.address).await;
    let token = issuer.service("token.read");
    read_balance(&channel, &token, ada.id).await;
    let before = server.memory_kib().await.unwrap_or(0);

    let attack = tokio::spawn(attack(target.clone()));
    let end = Instant::now() + time;
    let mut memory = before;
    let mut calls = Vec::new();
    let mut probes = 0;
    while Instant::now() < end || probes < MIN_PROBES {
        let begun = Instant::now();
        read_balance(&channel, &token, ada.id).await;
        calls.push(begun.elapsed());
        if calls.len() % CALLS_PER_PROBE == 0 {
            memory = memory.max(server.memory_kib().await.unwrap_or(0));
            probe(target.address).await;
            scrape(target.metrics).await;
            probes += 1;
        }
        sleep(Duration::from_millis(2)).await;
    }
    memory = memory.max(server.memory_kib().await.unwrap_or(0));
    attack.abort();
    let after = given_back(&server, before).await;
    calls.sort();
    let p99 = calls[calls.len() * 99 / 100];
    println!(
        "| {name} | {} MiB | {} MiB | {} MiB | {:.1} ms | {probes} of {probes} |",
        before / 1024,
        memory / 1024,
        after / 1024,
        p99.as_secs_f64() * 1000.0,
    );
    assert!(memory < MAX_MEMORY_KIB, "{memory} KiB");
    assert!(!is_measured || p99 < MAX_P99, "{p99:?}");
    assert_eq!(server.stopped_by("TERM").await.code, Some(0));
}

async fn read_balance(channel: &Channel, token: &str, user_id: i32) {
    let mut client = heist::pb::token_service_client::TokenServiceClient::new(channel.clone());
    let request = BatchGetBalancesRequest {
        user_ids: vec![user_id],
    };
    let request = bearer(request, token);
    let answer = timeout(PATIENCE, client.batch_get_balances(request)).await;
    answer.expect("in time").expect("a balance");
}

/// As Kubernetes probes: on a new connection.
async fn probe(address: SocketAddr) {
    let probed = timeout(PATIENCE, async {
        let mut client = HealthClient::new(connect(address).await);
        client.check(HealthCheckRequest::default()).await
    });
    let answer = probed.await.expect("probes are answered in time");
    assert_eq!(answer.expect("probes succeed").into_inner().status, 1);
}

/// As Prometheus scrapes on a new connection.
async fn scrape(address: SocketAddr) {
    let scraped = timeout(PATIENCE, async {
        let mut connection = TcpStream::connect(address).await?;
        let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        connection.write_all(request).await?;
        let mut text = String::new();
        connection.read_to_string(&mut text).await?;
        std::io::Result::Ok(text)
    });
    let text = scraped
        .await
        .expect("scrapes are answered in time")
        .unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
}

/// Waits until the server has given the memory back, and returns what it has then.
async fn given_back(server: &Serving, before: u64) -> u64 {
    let waited = async || {
        let memory = server.memory_kib().await.unwrap_or(0);
        (memory < before + MAX_REMAINING_KIB).then_some(memory)
    };
    until("the memory is given back", waited).await
}

/// A connection that speaks HTTP/2 and answers pings.
async fn open(address: SocketAddr, window: u32) -> Option<SendRequest<Bytes>> {
    let io = TcpStream::connect(address).await.ok()?;
    let (client, connection) = (h2::client::Builder::new())
        .initial_window_size(window)
        .handshake(io)
        .await
        .ok()?;
    tokio::spawn(connection);
    Some(client)
}

const OPEN_WINDOW: u32 = 65_535;

/// A call with these bytes of a request that does not end.
async fn begin(
    client: &mut SendRequest<Bytes>,
    path: &str,
    headers: &[(&str, &str)],
    bytes: Vec<u8>,
    is_all: bool,
) -> Option<(ResponseFuture, h2::SendStream<Bytes>)> {
    let mut ready = client.clone().ready().await.ok()?;
    let mut request = http::Request::post(format!("http://heist{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (answer, mut body) = ready.send_request(request.body(()).ok()?, false).ok()?;
    body.send_data(bytes.into(), is_all).ok()?;
    Some((answer, body))
}

/// A message that announces `length` bytes, of which `sent` come.
fn message(length: u32, sent: usize) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.resize(5 + sent, b'x');
    bytes
}

/// The number of calls of an attack. A debug build on a busy machine is attacked with fewer, so that
/// the attack ends in the time of a test.
fn calls(full: usize) -> usize {
    let (_, is_measured) = setting();
    if is_measured { full } else { full / 4 }
}

/// Keeps calls open on some connections.
async fn hold(
    target: &Target,
    connections: usize,
    calls: usize,
    path: &str,
    headers: &[(&str, &str)],
    bytes: &[u8],
) {
    let mut held = Vec::new();
    for _ in 0..connections {
        let Some(mut client) = open(target.address, OPEN_WINDOW).await else {
            continue;
        };
        for _ in 0..calls {
            let begun = begin(&mut client, path, headers, bytes.to_vec(), false);
            match timeout(Duration::from_secs(5), begun).await {
                Ok(Some(call)) => held.push(call),
                _ => break,
            }
        }
    }
    std::future::pending::<()>().await;
}

#[test]
fn health_checks_with_large_requests() {
    attacked(
        "health checks of 4 MiB, no token",
        async |target: Target| {
            hold(&target, 1, 300, CHECK, &[], &message(4_000_000, 200_000)).await;
        },
    );
}

#[test]
fn health_checks_that_do_not_end() {
    attacked(
        "health checks without an end, no token",
        async |target: Target| {
            hold(&target, 20, calls(1000), CHECK, &[], &message(1000, 900)).await;
        },
    );
}

#[test]
fn health_streams() {
    attacked("health streams, no token", async |target: Target| {
        hold(&target, 20, calls(1000), WATCH, &[], &message(0, 0)).await;
    });
}

#[test]
fn reflection_with_large_requests() {
    attacked("reflection of 4 MiB, no token", async |target: Target| {
        hold(
            &target,
            5,
            300,
            REFLECTION,
            &[],
            &message(4_000_000, 200_000),
        )
        .await;
    });
}

#[test]
fn large_headers_without_a_token() {
    attacked("headers of 15 KiB, no token", async |target: Target| {
        let large = "x".repeat(15_000);
        hold(
            &target,
            10,
            calls(1000),
            CHECK,
            &[("x-large", &large)],
            &message(1000, 0),
        )
        .await;
    });
}

#[test]
fn idle_connections() {
    attacked(
        "1,000 connections that call nothing",
        async |target: Target| {
            let mut idle = Vec::new();
            loop {
                idle.push(open(target.address, OPEN_WINDOW).await);
                if idle.len() > 1000 {
                    idle.remove(0);
                }
            }
        },
    );
}

#[test]
fn silent_connections() {
    attacked("connections that say nothing", async |target: Target| {
        let mut silent = Vec::new();
        loop {
            silent.push(TcpStream::connect(target.address).await);
            if silent.len() > 1000 {
                drop(silent.remove(0));
            }
        }
    });
}

#[test]
fn silent_scrapers() {
    attacked(
        "silent connections to the metrics",
        async |target: Target| {
            let mut silent = Vec::new();
            loop {
                silent.push(TcpStream::connect(target.metrics).await);
                if silent.len() > 200 {
                    drop(silent.remove(0));
                }
                sleep(Duration::from_millis(1)).await;
            }
        },
    );
}

#[test]
fn requests_that_do_not_end() {
    attacked(
        "9,999 requests of 64 KiB, one player",
        async |target: Target| {
            let token = format!("Bearer {}", target.token);
            let headers = [("authorization", token.as_str())];
            hold(
                &target,
                3,
                calls(3333),
                BALANCE,
                &headers,
                &message(65_536, 60_000),
            )
            .await;
        },
    );
}

#[test]
fn large_headers_with_a_token() {
    attacked(
        "9,999 calls with headers of 14 KiB, one player",
        async |target: Target| {
            let token = format!("Bearer {}", target.token);
            let large = "x".repeat(14_000);
            let headers = [("authorization", token.as_str()), ("x-large", &large)];
            hold(&target, 3, calls(3333), BALANCE, &headers, &message(10, 0)).await;
        },
    );
}

#[test]
fn announced_messages() {
    attacked(
        "9,999 announced messages, one player",
        async |target: Target| {
            let token = format!("Bearer {}", target.token);
            let headers = [("authorization", token.as_str())];
            hold(
                &target,
                3,
                calls(3333),
                BALANCE,
                &headers,
                &message(65_536, 0),
            )
            .await;
        },
    );
}

#[test]
fn unread_answers() {
    attacked(
        "boards that are not read, one player",
        async |target: Target| {
            let token = format!("Bearer {}", target.token);
            let headers = [("authorization", token.as_str())];
            let mut held = Vec::new();
            for _ in 0..3 {
                let Some(mut client) = open(target.address, 0).await else {
                    return;
                };
                for _ in 0..calls(4000) {
                    // A page of 200 entries.
                    let bytes = vec![0, 0, 0, 0, 3, 0x10, 0xc8, 0x01];
                    match begin(&mut client, BOARD, &headers, bytes, true).await {
                        Some(call) => held.push(call),
                        None => break,
                    }
                }
            }
            std::future::pending::<()>().await;
        },
    );
}

#[test]
fn calls_without_a_token() {
    attacked("calls without a token", async |target: Target| {
        let mut callers = JoinSet::new();
        for _ in 0..4 {
            let target = target.clone();
            callers.spawn(async move {
                let Some(mut client) = open(target.address, OPEN_WINDOW).await else {
                    return;
                };
                loop {
                    let path = "/heist.v1.HeistService/ExecuteHeist";
                    match begin(&mut client, path, &[], message(0, 0), true).await {
                        Some((answer, _)) => drop(answer.await),
                        None => return,
                    }
                }
            });
        }
        callers.join_all().await;
    });
}
