//! Hostile callers on separate connections, while well-behaved callers play.

use std::{net::SocketAddr, time::Duration};

use heist::pb::{WatchPointsRequest, heist_service_client::HeistServiceClient};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::harness::{World, connect, process::Heist};

/// In a quiet test an answer takes some milliseconds.
const WHILE_FLOODED: Duration = Duration::from_secs(20);
const MOST_MEMORY_KIB: u64 = 250 * 1024;

/// Runs `flood` against a server while other callers play, and checks their latency and its memory.
async fn others_play_on<F>(world: &World, flood: impl Fn(SocketAddr) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let server = Heist::serve()
        .env("DATABASE_URL", &world.database_url)
        .env("HEIST_AUTH", "none")
        .env("HEIST_COOLDOWN", "0s")
        .env("HEIST_PROTECTION_WINDOW", "0s")
        .env("HEIST_CONNECTION_LIMIT", "300")
        .env("HEIST_STREAM_LIMIT", "500")
        .serving()
        .await;
    let there = world.through(connect(server.address).await);
    let ada = world.player("Ada").tokens(100).await.seen_by(&there);
    let ben = world.player("Ben").points(10_000).await;
    let mut floods = JoinSet::new();
    for _ in 0..2 {
        floods.spawn(flood(server.address));
    }
    let mut slowest = Duration::ZERO;
    for _ in 0..50 {
        let asked = Instant::now();
        let heist = timeout(WHILE_FLOODED, ada.robs(&ben)).await;
        heist.expect("others are answered in time").unwrap();
        there.get_balance(ada.id).await.unwrap();
        slowest = slowest.max(asked.elapsed());
    }
    assert!(slowest < WHILE_FLOODED, "{slowest:?}");
    assert!(!floods.is_empty());
    if let Some(memory) = server.memory_kib().await {
        assert!(memory < MOST_MEMORY_KIB, "{memory} KiB");
    }
    floods.shutdown().await;
    drop((ada, there));
    assert_eq!(server.stopped_by("TERM").await.code, Some(0));
}

#[test]
fn silent_and_garbage_connections() {
    World::run(async |world| {
        others_play_on(world, async |address| {
            let mut open = Vec::new();
            for bytes in [
                &b""[..],
                b"PRI * HTTP/2.0\r\n",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
            ]
            .into_iter()
            .cycle()
            {
                let Ok(mut connection) = TcpStream::connect(address).await else {
                    continue;
                };
                let _ = connection.write_all(bytes).await;
                open.push(connection);
                if open.len() > 50 {
                    open.remove(0);
                }
            }
        })
        .await;
    });
}

#[test]
fn streams_without_end() {
    World::run(async |world| {
        others_play_on(world, async |address| {
            let client = HeistServiceClient::new(connect(address).await);
            let mut open = JoinSet::new();
            loop {
                while open.len() >= 1000 {
                    open.join_next().await;
                }
                let mut client = client.clone();
                open.spawn(async move {
                    // It is refused, or stays and is never read.
                    let Ok(unread) = client.watch_points(WatchPointsRequest {}).await else {
                        return;
                    };
                    std::future::pending::<()>().await;
                    drop(unread);
                });
                tokio::task::yield_now().await;
            }
        })
        .await;
    });
}

#[test]
fn calls_reset_at_once() {
    World::run(async |world| {
        others_play_on(world, async |address| {
            loop {
                // The server hangs up on it, and it comes back.
                let _ = reset_calls(address).await;
            }
        })
        .await;
    });
}

/// Makes calls and takes them back, for as long as the connection lasts.
async fn reset_calls(address: SocketAddr) -> anyhow::Result<()> {
    let io = TcpStream::connect(address).await?;
    let (mut client, connection) = h2::client::handshake(io).await?;
    let connection = tokio::spawn(connection);
    loop {
        client = client.ready().await?;
        let request =
            http::Request::post(format!("http://{address}/heist.v1.TokenService/GetBalance"))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(())
                .expect("a request");
        let (answer, mut message) = client.send_request(request, false)?;
        message.send_reset(h2::Reason::CANCEL);
        drop(answer);
        if connection.is_finished() {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
}

#[test]
fn calls_without_a_request_body() {
    World::run(async |world| {
        others_play_on(world, async |address| {
            let Ok(io) = TcpStream::connect(address).await else {
                return;
            };
            let Ok((mut client, connection)) = h2::client::handshake(io).await else {
                return;
            };
            tokio::spawn(connection);
            let mut half = Vec::new();
            while half.len() < 2000 {
                let Ok(ready) = client.ready().await else {
                    break;
                };
                client = ready;
                let path = format!("http://{address}/heist.v1.TokenService/GetBalance");
                let request = http::Request::post(path)
                    .header("content-type", "application/grpc")
                    .body(())
                    .expect("a request");
                half.push(client.send_request(request, false));
            }
            std::future::pending::<()>().await;
        })
        .await;
    });
}
