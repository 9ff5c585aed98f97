//! The log of callers without a token: one line for each reason and address, however many calls.

use std::net::{IpAddr, Ipv4Addr};

use heist::pb;
use hyper_util::rt::TokioIo;
use prost::Message as _;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
};
use tonic::{
    codegen::{BoxFuture, Service},
    transport::{Channel, Endpoint, Uri},
};

use crate::harness::{
    World, connect,
    identity::{AUDIENCE, Folder, ISSUER, Issuer, call_as},
    pki::{Authority, SERVER_NAME},
    process::{Heist, Serving},
    wire::Method,
};

const CALLS: usize = 2000;
const FIRST: Ipv4Addr = Ipv4Addr::LOCALHOST;
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn guarded(world: &World, issuer: &Issuer) -> Heist {
    Heist::serve()
        .env("DATABASE_URL", &world.database_url)
        .env("HEIST_AUTH", "jwt")
        .env("HEIST_JWT_SECRET_FILE", issuer.secret_file())
        .env("HEIST_JWT_ISSUER", ISSUER)
        .env("HEIST_JWT_AUDIENCE", AUDIENCE)
}

/// Connects from this address.
#[derive(Clone)]
struct From(Ipv4Addr);

impl From {
    async fn connect(&self, server: std::net::SocketAddr) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((IpAddr::from(self.0), 0).into())?;
        let stream = socket.connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn channel(&self, server: &Serving) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
        endpoint.connect_with_connector(self.clone()).await.unwrap()
    }
}

impl Service<Uri> for From {
    type Response = TokioIo<TcpStream>;
    type Error = std::io::Error;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, server: Uri) -> Self::Future {
        let from = self.clone();
        let server = server.authority().unwrap().as_str().parse().unwrap();
        Box::pin(async move { Ok(TokioIo::new(from.connect(server).await?)) })
    }
}

#[test]
fn many_calls_of_strangers_are_a_few_lines_and_every_authenticated_attempt_is_one() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let ben = world.player("Ben").await;
        let issuer = Issuer::new();
        let server = guarded(world, &issuer).serving().await;
        let heist = Method::named("/heist.v1.HeistService/ExecuteHeist");
        let balance = Method::named("/heist.v1.TokenService/GetBalance");
        let attempt = pb::ExecuteHeistRequest {
            attacker_id: ada.id,
            victim_id: ben.id,
            request_id: String::new(),
        };
        let token = issuer.player(ada.id);
        let known = From(FIRST).channel(&server).await;
        let attempts = 50;
        for address in [FIRST, SECOND] {
            let mut stranger = From(address).channel(&server).await;
            for round in 0..CALLS {
                // The server closes a connection after 256 refusals.
                if round % 250 == 0 {
                    stranger = From(address).channel(&server).await;
                }
                let method = if round % 2 == 0 { &heist } else { &balance };
                let refused = call_as(&stranger, None, method, Vec::new()).await;
                let refused = refused.unwrap_err();
                assert_eq!(
                    refused.code(),
                    tonic::Code::Unauthenticated,
                    "{round}: {refused:?}"
                );
                if round < attempts / 2 {
                    let refused = call_as(&known, Some(&token), &heist, attempt.encode_to_vec());
                    refused.await.unwrap_err();
                }
            }
        }
        let ended = server.stopped_by("TERM").await;
        // The whole run takes less than a minute.
        assert!(ended.stderr.len() < 1024 * 1024, "{}", ended.stderr.len());
        let lines = |parts: &[&str]| {
            (ended.stderr.lines())
                .filter(|line| parts.iter().all(|part| line.contains(part)))
                .count()
        };
        assert_eq!(lines(&["HEIST_REFUSED", "INSUFFICIENT_TOKENS"]), attempts);
        for address in ["\"127.0.0.1\"", "\"127.0.0.2\""] {
            for event in ["HEIST_REFUSED", "CALL_REFUSED"] {
                assert_eq!(
                    lines(&[event, "UNAUTHENTICATED", address]),
                    1,
                    "{event} {address}"
                );
            }
        }
    });
}

#[test]
fn many_failed_handshakes_are_one_line_per_reason_and_address() {
    World::run(async |world| {
        let issuer = Issuer::new();
        let authority = Authority::new();
        let folder = Folder::new();
        let identity = authority.issue(&[SERVER_NAME]);
        let server = guarded(world, &issuer)
            .env(
                "HEIST_TLS_CERT_FILE",
                folder.file("crt", &identity.certificate),
            )
            .env("HEIST_TLS_KEY_FILE", folder.file("key", &identity.key))
            .serving()
            .await;
        for address in [FIRST, SECOND] {
            for _ in 0..100 {
                let mut stream = From(address).connect(server.address).await.unwrap();
                // The server closes the connection, perhaps before it has read everything.
                let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await;
                let mut answer = Vec::new();
                let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await;
            }
        }
        let ended = server.stopped_by("TERM").await;
        let failures: Vec<&str> = (ended.stderr.lines())
            .filter(|line| line.contains("HANDSHAKE_FAILED"))
            .collect();
        assert_eq!(failures.len(), 2, "{failures:#?}");
        assert!(failures[0].contains("127.0.0.1") && failures[1].contains("127.0.0.2"));
    });
}

#[test]
fn requests_that_are_not_grpc_have_no_line() {
    World::run(async |world| {
        let issuer = Issuer::new();
        let server = guarded(world, &issuer).serving().await;
        let lines = server.said().lines().count();
        for _ in 0..100 {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            let _ = stream
                .write_all(b"GET / HTTP/1.1\r\nhost: heist\r\n\r\n")
                .await;
            let mut answer = Vec::new();
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await;
        }
        // The port still serves.
        drop(connect(server.address).await);
        assert_eq!(server.said().lines().count(), lines);
        assert_eq!(server.stopped_by("TERM").await.code, Some(0));
    });
}
