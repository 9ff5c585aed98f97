//! The player's address behind proxies and services: who may tell it, and where it is recorded.

use heist::pb;
use prost::Message as _;
use serde_json::Value;
use tonic::{Request, transport::Channel};

use crate::harness::{
    Player, World, connect,
    identity::{AUDIENCE, ISSUER, Issuer, bearer},
    process::{Heist, Serving},
    until,
    wire::{self, Method},
};

const FORWARDING: &str = "heist.execute address.forward";

/// A server that knows the issuer's tokens, and trusts these proxies.
async fn behind(world: &World, issuer: &Issuer, proxies: &str) -> (Serving, Channel) {
    let server = Heist::serve()
        .env("DATABASE_URL", &world.database_url)
        .env("HEIST_AUTH", "jwt")
        .env("HEIST_JWT_SECRET_FILE", issuer.secret_file())
        .env("HEIST_JWT_ISSUER", ISSUER)
        .env("HEIST_JWT_AUDIENCE", AUDIENCE)
        .env("HEIST_TRUSTED_PROXIES", proxies)
        .serving()
        .await;
    let channel = connect(server.address).await;
    (server, channel)
}

async fn rob(
    channel: &Channel,
    token: Option<&str>,
    (attacker, victim): (&Player, &Player),
    forwarded: &[&'static str],
) {
    let message = pb::ExecuteHeistRequest {
        attacker_id: attacker.id,
        victim_id: victim.id,
        request_id: String::new(),
    };
    let mut request = match token {
        Some(token) => bearer(message.encode_to_vec(), token),
        None => Request::new(message.encode_to_vec()),
    };
    for value in forwarded {
        let value = value.parse().unwrap();
        request.metadata_mut().append("x-forwarded-for", value);
    }
    let method = Method::named("/heist.v1.HeistService/ExecuteHeist");
    let _ = wire::call_with(channel, &method, request).await;
}

/// The audit's client and proxy, once there are so many lines.
async fn audited(server: &Serving, count: usize) -> Vec<(String, String)> {
    until("the attempts are in the audit", async || {
        let lines: Vec<Value> = (server.said().lines())
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(|line: &Value| line["target"] == "heist::audit")
            .collect();
        (lines.len() >= count).then(|| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            (lines.iter())
                .map(|line| (text(&line["ipAddress"]), text(&line["proxyAddress"])))
                .collect()
        })
    })
    .await
}

#[test]
fn a_service_that_may_forward_tells_the_players_address() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        let issuer = Issuer::new();
        let (server, channel) = behind(world, &issuer, "").await;
        let service = issuer.service(FORWARDING);
        // The player sent the first entry to the service.
        let headers = ["198.51.100.1", "192.0.2.9, [2001:db8::7]:50123"];
        rob(&channel, Some(&service), (&ada, &ben), &headers).await;
        assert_eq!(
            world.address_of_the_heist().await.as_deref(),
            Some("2001:db8::7")
        );
        let line = &audited(&server, 1).await[0];
        assert_eq!(line, &("2001:db8::7".to_owned(), "127.0.0.1".to_owned()));
        assert_eq!(server.stopped_by("TERM").await.code, Some(0));
    });
}

#[test]
fn nobody_elses_forwarded_address_is_recorded() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(3).await;
        let ben = world.player("Ben").points(1000).await;
        let issuer = Issuer::new();
        let (server, channel) = behind(world, &issuer, "10.0.0.0/8, ::1").await;
        let player = issuer.player(ada.id);
        let service = issuer.service("heist.execute");
        let strange = issuer.service(FORWARDING) + "x";
        for token in [Some(&player), Some(&service), Some(&strange), None] {
            let token = token.map(String::as_str);
            rob(&channel, token, (&ada, &ben), &["192.0.2.7"]).await;
        }
        let ended = server.stopped_by("TERM").await;
        assert!(!ended.stderr.contains("192.0.2.7"), "{ended:?}");
        assert!(!ended.stderr.contains("proxyAddress\":\""), "{ended:?}");
        assert_eq!(
            world.address_of_the_heist().await.as_deref(),
            Some("127.0.0.1")
        );
    });
}

#[test]
fn a_trusted_proxy_tells_the_address_of_every_caller() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        let issuer = Issuer::new();
        let (server, channel) = behind(world, &issuer, "127.0.0.0/8, 10.0.0.0/8").await;
        let player = issuer.player(ada.id);
        let hops = ["198.51.100.1, 192.0.2.7:443, 10.1.1.1"];
        rob(&channel, Some(&player), (&ada, &ben), &hops).await;
        assert_eq!(
            world.address_of_the_heist().await.as_deref(),
            Some("192.0.2.7")
        );
        // Calls without a token are told apart by the address, too.
        for address in ["192.0.2.8", "192.0.2.8", "192.0.2.9", "unknown"] {
            rob(&channel, None, (&ada, &ben), &[address]).await;
        }
        let proxy = || "127.0.0.1".to_owned();
        assert_eq!(
            audited(&server, 4).await,
            [
                ("192.0.2.7".to_owned(), proxy()),
                ("192.0.2.8".to_owned(), proxy()),
                ("192.0.2.9".to_owned(), proxy()),
                (proxy(), String::new()),
            ]
        );
        assert_eq!(server.stopped_by("TERM").await.code, Some(0));
    });
}

#[test]
fn an_ipv4_caller_of_a_dual_stack_port_has_an_ipv4_address() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        let server = Heist::serve()
            .env("DATABASE_URL", &world.database_url)
            .env("HEIST_AUTH", "none")
            .env("HEIST_LISTEN", "[::]:0")
            .env("HEIST_TRUSTED_PROXIES", "127.0.0.1")
            .serving()
            .await;
        let address = format!("127.0.0.1:{}", server.address.port());
        let channel = connect(address).await;
        rob(&channel, None, (&ada, &ben), &["192.0.2.7"]).await;
        assert_eq!(
            world.address_of_the_heist().await.as_deref(),
            Some("192.0.2.7")
        );
        let line = &audited(&server, 1).await[0];
        assert_eq!(line, &("192.0.2.7".to_owned(), "127.0.0.1".to_owned()));
        assert_eq!(server.stopped_by("TERM").await.code, Some(0));
    });
}
