//! TLS with real clients: server certificates, client certificates, and their replacement.

use std::time::{Duration, Instant};

use heist::{
    auth::{self, ClientScopes},
    pb,
    server::{Options, Server, TlsOptions},
};
use prost::Message as _;
use rustls::{
    ProtocolVersion,
    version::{TLS12, TLS13},
};
use tokio::{io::AsyncReadExt as _, net::TcpStream};
use tonic::{
    Code::{PermissionDenied, Unauthenticated},
    Status,
    transport::Channel,
};

use crate::harness::{
    PATIENCE, Refusal, World, connect,
    identity::{Folder, Issuer, call_as},
    pki::{Authority, Client, SERVER_NAME},
    process::Heist,
    until,
    wire::Method,
};

impl World {
    async fn with_tls(&self, tls: TlsOptions, auth: auth::Options) -> Server {
        let options = Options {
            auth,
            tls: Some(tls),
            ..self.options()
        };
        Server::start(options).await.expect("the server starts")
    }
}

/// The files of a server with a certificate of this authority.
fn server_files(authority: &Authority, folder: &Folder) -> TlsOptions {
    let (certificate, key) = authority.issue(&[SERVER_NAME]).files(folder);
    TlsOptions {
        certificate: certificate.into(),
        key: key.into(),
        client_ca: None,
    }
}

fn with_client_ca(authority: &Authority, folder: &Folder) -> TlsOptions {
    TlsOptions {
        client_ca: Some(folder.file("ca.crt", &authority.root).into()),
        ..server_files(authority, folder)
    }
}

async fn read_board(channel: &Channel, token: Option<&str>) -> Result<(), Status> {
    let method = Method::named("/heist.v1.HeistService/GetLeaderboard");
    (call_as(channel, token, &method, vec![]).await).map(drop)
}

async fn award(channel: &Channel, token: Option<&str>) -> Result<(), Status> {
    let method = Method::named("/heist.v1.TokenService/AwardToken");
    let message = pb::AwardTokenRequest {
        referrer_id: 1,
        referred_id: 2,
        ..pb::AwardTokenRequest::default()
    };
    (call_as(channel, token, &method, message.encode_to_vec()).await).map(drop)
}

#[test]
fn a_tls_server_refuses_plain_text() {
    World::run(async |world| {
        let (authority, folder) = (Authority::new(), Folder::new());
        let tls = server_files(&authority, &folder);
        let server = world.with_tls(tls, auth::Options::default()).await;
        let client = authority.client(None);
        let channel = client.connect(server.address()).await.unwrap();
        read_board(&channel, None).await.unwrap();

        let stranger = Authority::new().client(None);
        stranger.connect(server.address()).await.unwrap_err();
        let plain = connect(server.address()).await;
        read_board(&plain, None).await.unwrap_err();
        let mut other_protocol = authority.client(None);
        other_protocol.0.alpn_protocols = vec![b"http/1.1".to_vec()];
        other_protocol.connect(server.address()).await.unwrap_err();
        read_board(&channel, None).await.unwrap();
        server.stop(PATIENCE).await;
    });
}

#[test]
fn a_handshake_that_never_ends_keeps_nobody_waiting_and_is_given_up() {
    World::run(async |world| {
        let (authority, folder) = (Authority::new(), Folder::new());
        let tls = server_files(&authority, &folder);
        let server = world.with_tls(tls, auth::Options::default()).await;
        let mut silent = Vec::new();
        for _ in 0..50 {
            silent.push(TcpStream::connect(server.address()).await.unwrap());
        }
        let channel = authority
            .client(None)
            .connect(server.address())
            .await
            .unwrap();
        read_board(&channel, None).await.unwrap();
        for mut stream in silent {
            let mut byte = [0];
            let hung_up = tokio::time::timeout(PATIENCE, stream.read(&mut byte));
            assert!(matches!(
                hung_up.await.expect("it is given up"),
                Ok(0) | Err(_)
            ));
        }
        server.stop(PATIENCE).await;
    });
}

#[test]
fn tls_is_of_version_1_2_or_1_3() {
    World::run(async |world| {
        let (authority, folder) = (Authority::new(), Folder::new());
        let tls = server_files(&authority, &folder);
        let server = world.with_tls(tls, auth::Options::default()).await;
        let connector =
            tokio_rustls::TlsConnector::from(std::sync::Arc::new(authority.client(None).0));
        let stream = TcpStream::connect(server.address()).await.unwrap();
        let name = SERVER_NAME.try_into().unwrap();
        let stream = connector.connect(name, stream).await.unwrap();
        let (_, session) = stream.get_ref();
        assert_eq!(session.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
        drop(stream);
        server.stop(PATIENCE).await;
    });
}

#[test]
fn certificates_are_replaced_without_dropping_connections() {
    World::run(async |world| {
        let (old, new, folder) = (Authority::new(), Authority::new(), Folder::new());
        let tls = server_files(&old, &folder);
        let server = world.with_tls(tls, auth::Options::default()).await;
        let address = server.address();
        let before = old.client(None).connect(address).await.unwrap();
        read_board(&before, None).await.unwrap();

        // The key of another certificate: the old pair stays.
        let next = new.issue(&[SERVER_NAME]);
        folder.file("tls.crt", &next.certificate);
        read_board(&before, None).await.unwrap();
        folder.file("tls.key", &next.key);
        let after = until("the new certificate is shown", async || {
            new.client(None).connect(address).await.ok()
        })
        .await;
        read_board(&after, None).await.unwrap();
        old.client(None).connect(address).await.unwrap_err();
        read_board(&before, None).await.unwrap();
        server.stop(PATIENCE).await;
    });
}

#[test]
fn a_client_certificate_identifies_a_service() {
    World::run(async |world| {
        world.player("Ada").await;
        world.player("Ben").await;
        let (authority, folder, issuer) = (Authority::new(), Folder::new(), Issuer::new());
        let mut auth = issuer.options();
        auth.certificate_needed = true;
        auth.jwt.as_mut().unwrap().client_scopes = ClientScopes::parse(
            "auth.internal=token.award; spiffe://prod/web=heist.read heist.execute",
        )
        .unwrap();
        let server = world
            .with_tls(with_client_ca(&authority, &folder), auth)
            .await;
        let address = server.address();
        let channel = async |names: &[&str]| {
            let identity = authority.issue(names);
            let client = authority.client(Some(&identity));
            client.connect(address).await.unwrap()
        };
        let is_refused = |outcome: Result<(), Status>, code| {
            let refusal = Refusal::from(outcome.unwrap_err());
            let reason = if code == Unauthenticated {
                "UNAUTHENTICATED"
            } else {
                "PERMISSION_DENIED"
            };
            refusal.is(code, reason);
        };

        let web = channel(&["spiffe://prod/web"]).await;
        read_board(&web, None).await.unwrap();
        is_refused(award(&web, None).await, PermissionDenied);
        // A token that comes along decides, in both directions.
        award(&web, Some(&issuer.service("token.award")))
            .await
            .unwrap();
        is_refused(
            read_board(&web, Some(&issuer.service(""))).await,
            PermissionDenied,
        );
        is_refused(read_board(&web, Some("no token")).await, Unauthenticated);
        let auth = channel(&["auth.internal"]).await;
        award(&auth, None).await.unwrap();
        is_refused(read_board(&auth, None).await, PermissionDenied);

        let unlisted = channel(&["other.internal"]).await;
        is_refused(read_board(&unlisted, None).await, Unauthenticated);
        read_board(&unlisted, Some(&issuer.player(1)))
            .await
            .unwrap();

        // Without a certificate, only health checks work.
        let without_certificate = authority.client(None).connect(address).await.unwrap();
        is_refused(
            read_board(&without_certificate, Some(&issuer.service("heist.read"))).await,
            Unauthenticated,
        );
        let there = world.through(without_certificate);
        assert!(crate::rpc::health_and_reflection::is_serving(&there, "").await);

        // A certificate of another authority is refused, although it has the right name.
        let forged = Authority::new().issue(&["auth.internal"]);
        let forger = authority.client(Some(&forged)).connect(address).await;
        if let Ok(forger) = forger {
            award(&forger, None).await.unwrap_err();
        }
        server.stop(PATIENCE).await;
    });
}

#[test]
fn a_client_authority_alone_asks_for_its_certificates() {
    World::run(async |world| {
        let (authority, folder) = (Authority::new(), Folder::new());
        let auth = auth::Options {
            jwt: None,
            certificate_needed: true,
        };
        let server = world
            .with_tls(with_client_ca(&authority, &folder), auth)
            .await;
        let identity = authority.issue(&["any.internal"]);
        let client = authority.client(Some(&identity));
        let channel = client.connect(server.address()).await.unwrap();
        read_board(&channel, None).await.unwrap();
        let without_certificate = authority
            .client(None)
            .connect(server.address())
            .await
            .unwrap();
        let refused = read_board(&without_certificate, None).await.unwrap_err();
        Refusal::from(refused).is(Unauthenticated, "UNAUTHENTICATED");
        server.stop(PATIENCE).await;
    });
}

#[test]
fn a_withdrawn_client_authority_ends_the_connections_that_it_has_verified() {
    World::run(async |world| {
        let (old, new, folder) = (Authority::new(), Authority::new(), Folder::new());
        let auth = auth::Options {
            jwt: None,
            certificate_needed: true,
        };
        let server = world.with_tls(with_client_ca(&old, &folder), auth).await;
        let identity = old.issue(&["any.internal"]);
        let channel = (old.client(Some(&identity)).connect(server.address()).await).unwrap();
        read_board(&channel, None).await.unwrap();
        let begun = Instant::now();
        folder.file("ca.crt", &new.root);
        until("the connection ends", async || {
            read_board(&channel, None).await.is_err().then_some(())
        })
        .await;
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{:?}",
            begun.elapsed()
        );
        let again = old.client(Some(&identity)).connect(server.address()).await;
        let is_accepted = match again {
            Ok(channel) => read_board(&channel, None).await.is_ok(),
            Err(_) => false,
        };
        assert!(!is_accepted);
        server.stop(PATIENCE).await;
    });
}

#[test]
fn an_expired_client_certificate_ends_its_connections_and_is_not_resumed() {
    World::run(async |world| {
        let (authority, folder) = (Authority::new(), Folder::new());
        let auth = auth::Options {
            jwt: None,
            certificate_needed: true,
        };
        let server = world
            .with_tls(with_client_ca(&authority, &folder), auth)
            .await;
        for version in [&TLS12, &TLS13] {
            let identity = authority.issue_for(&["any.internal"], Duration::from_secs(3));
            let client = authority.client_with(Some(&identity), version);
            // Both use one cache of sessions.
            let again = Client(client.0.clone());
            let channel = client.connect(server.address()).await.unwrap();
            read_board(&channel, None).await.unwrap();
            until(
                "the connection ends, and no session is resumed",
                async || {
                    let again = Client(again.0.clone()).connect(server.address()).await;
                    let resumed = match again {
                        Ok(channel) => read_board(&channel, None).await.is_ok(),
                        Err(_) => false,
                    };
                    let stands = read_board(&channel, None).await.is_ok();
                    (!resumed && !stands).then_some(())
                },
            )
            .await;
        }
        server.stop(PATIENCE).await;
    });
}

#[test]
fn the_address_of_a_robber_is_kept_with_tls_as_well() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        let (authority, folder) = (Authority::new(), Folder::new());
        let tls = server_files(&authority, &folder);
        let server = world.with_tls(tls, auth::Options::default()).await;
        let channel = authority
            .client(None)
            .connect(server.address())
            .await
            .unwrap();
        ada.seen_by(&world.through(channel))
            .robs(&ben)
            .await
            .unwrap();
        let address = world.address_of_the_heist().await;
        assert_eq!(address.as_deref(), Some("127.0.0.1"));
        server.stop(PATIENCE).await;
    });
}

#[test]
fn healthcheck_uses_tls_for_a_tls_server() {
    World::run(async |world| {
        let (authority, folder) = (Authority::new(), Folder::new());
        let tls = with_client_ca(&authority, &folder);
        let certificate = folder.path("tls.crt");
        let server = world.with_tls(tls, auth::Options::default()).await;
        let healthcheck =
            || Heist::new(&["healthcheck"]).env("HEIST_LISTEN", server.address().to_string());
        let ended = healthcheck()
            .env("HEIST_TLS_CERT_FILE", certificate)
            .ended()
            .await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "SERVING\n"));
        let ended = healthcheck().ended().await;
        assert_eq!(ended.code, Some(1));
        ended.complaint();
        server.stop(PATIENCE).await;
    });
}
