//! Verification of bearer tokens, and the replacement of keys while the server runs.

use std::fs;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use heist::{
    auth::{Grant, KeyFile, MAX_TOKEN_BYTES, SigningKey},
    pb,
};
use prost::Message as _;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use serde_json::{Value, json};
use tonic::{Code::Unauthenticated, Request, Status, transport::Channel};

use crate::harness::{
    PATIENCE, Refusal, World, connect,
    identity::{
        AUDIENCE, Folder, ISSUER, Issuer, bearer, call_as, hs256, jwt, new_secret, now,
        swap_symlink, unsigned, with,
    },
    until,
    wire::{Method, call_with},
};

const RSA_PRIVATE: &str = include_str!("fixtures/rsa_private.pem");
const RSA_PUBLIC: &str = include_str!("fixtures/rsa_public.pem");
const RSA_1024_PUBLIC: &str = include_str!("fixtures/rsa_1024_public.pem");

/// Any call at all: an empty board.
async fn knock(channel: &Channel, token: &str) -> Result<(), Status> {
    let method = Method::named("/heist.v1.HeistService/GetLeaderboard");
    (call_as(channel, Some(token), &method, vec![]).await).map(drop)
}

async fn knock_with(channel: &Channel, authorization: &[&str]) -> Result<(), Status> {
    let mut request = Request::new(vec![]);
    for value in authorization {
        let value = value.parse().expect("a header");
        request.metadata_mut().append("authorization", value);
    }
    let method = Method::named("/heist.v1.HeistService/GetLeaderboard");
    call_with(channel, &method, request).await.map(drop)
}

#[track_caller]
fn is_refused(outcome: Result<(), Status>, why: &str) {
    let refusal = Refusal::from(outcome.expect_err(why));
    let refusal = refusal.is(Unauthenticated, "UNAUTHENTICATED");
    assert!(
        refusal.message().contains(why),
        "{}, not {why}",
        refusal.message()
    );
}

/// What a private key signs for a service that may read.
fn signed(private_key: &str) -> String {
    let key = SigningKey::private(private_key.as_bytes()).unwrap();
    key.sign(&Grant {
        subject: "web".to_owned(),
        scope: Some("heist.read".to_owned()),
        issuer: ISSUER.to_owned(),
        audience: AUDIENCE.to_owned(),
        expires_in: std::time::Duration::from_mins(5),
    })
    .unwrap()
}

#[test]
fn a_token_must_be_signed_current_and_for_this_audience() {
    World::run(async |world| {
        let issuer = Issuer::new();
        let (server, channel) = world.guarded(issuer.options()).await;
        let claims = |changes: Value| {
            let mut claims = with(&json!({"scope": "heist.read"}));
            let object = claims.as_object_mut().unwrap();
            for (name, value) in changes.as_object().unwrap() {
                object.insert(name.clone(), value.clone());
            }
            object.retain(|_, value| !value.is_null());
            claims
        };
        let now = now();
        for good in [
            json!({}),
            json!({"nbf": now}),
            json!({"exp": now - 10}),
            json!({"nbf": now + 10}),
            json!({"exp": 4_102_444_800_u64}),
            json!({"aud": ["another", AUDIENCE]}),
            json!({"sub": "42", "scope": null}),
            json!({"scope": ["heist.read"]}),
        ] {
            let token = issuer.token(&claims(good.clone()));
            let outcome = knock(&channel, &token).await;
            assert!(outcome.is_ok(), "{good}: {outcome:?}");
        }
        let not_valid = "not valid.";
        for (bad, why) in [
            (json!({"exp": now - 40}), "expired"),
            (json!({"exp": 0}), "expired"),
            (json!({"exp": null}), not_valid),
            (json!({"exp": "never"}), not_valid),
            (json!({"exp": -1}), not_valid),
            (json!({"exp": 1e300}), not_valid),
            (json!({"exp": [now + 600]}), not_valid),
            (json!({"nbf": now + 60}), "not valid yet"),
            (json!({"nbf": "soon"}), not_valid),
            (json!({"aud": "another"}), "another audience"),
            (json!({"aud": ["another"]}), "another audience"),
            (json!({"aud": []}), "another audience"),
            (json!({"aud": null}), not_valid),
            (json!({"iss": "https://evil.example.com"}), "another issuer"),
            (json!({"iss": null}), not_valid),
            (json!({"iss": [ISSUER]}), not_valid),
            (json!({"sub": null}), not_valid),
            (json!({"sub": 42}), not_valid),
            (json!({"sub": ""}), not_valid),
            (json!({"sub": "0"}), not_valid),
            (json!({"sub": "042", "scope": null}), not_valid),
            (json!({"sub": "-42", "scope": null}), not_valid),
            (json!({"sub": "2147483648", "scope": null}), not_valid),
            (json!({"sub": "web\nservice"}), not_valid),
            (json!({"sub": "42"}), "either a player's or has scopes"),
        ] {
            let token = issuer.token(&claims(bad.clone()));
            is_refused(knock(&channel, &token).await, why);
        }
        server.stop(PATIENCE).await;
    });
}

#[test]
fn malformed_tokens_are_refused() {
    World::run(async |world| {
        let issuer = Issuer::new();
        let (server, channel) = world.guarded(issuer.options()).await;
        let good = issuer.service("heist.read");
        let hs256_header = json!({"alg": "HS256"});
        let claims = with(&json!({"scope": "heist.read"}));
        let (head, signature) = good.rsplit_once('.').unwrap();
        let mut turned = URL_SAFE_NO_PAD.decode(signature).unwrap();
        turned[0] ^= 1;
        let secret = fs::read(issuer.secret_file()).unwrap();
        let unsigned_by = |alg: &str| unsigned(&json!({ "alg": alg }), &claims);
        for bad in [
            String::new(),
            ".".to_owned(),
            "..".to_owned(),
            "a.b.c".to_owned(),
            head.to_owned(),
            format!("{head}."),
            format!("{good}.x"),
            format!("{good}A"),
            format!("{head}.{}", URL_SAFE_NO_PAD.encode(turned)),
            format!(
                "{}.{signature}",
                unsigned(&hs256_header, &with(&json!({"sub": "admin"})))
            ),
            format!("{}.", unsigned_by("none")),
            format!("{}.{signature}", unsigned_by("none")),
            format!("{}.", unsigned_by("None")),
            format!("{}.{signature}", unsigned_by("HS512")),
            format!("{}.{signature}", unsigned_by("RS256")),
            format!("{}.{signature}", unsigned_by("")),
            hs256(&hs256_header, &claims, new_secret().as_bytes()),
            hs256(&hs256_header, &claims, b""),
            hs256(
                &json!({"alg": "HS256", "crit": ["b64"], "b64": false}),
                &claims,
                &secret,
            ),
            hs256(&hs256_header, &json!("claims"), &secret),
        ] {
            let outcome = knock(&channel, &bad).await;
            assert!(outcome.is_err(), "{bad} counted");
            is_refused(outcome, "");
        }
        // A good one of the longest size, and one that is a little longer.
        let padded = |bytes: usize| {
            let claims = with(&json!({"scope": "heist.read", "padding": "x".repeat(bytes)}));
            hs256(&hs256_header, &claims, &secret)
        };
        let fitting = padded(MAX_TOKEN_BYTES * 3 / 4 - 300);
        assert!(fitting.len() <= MAX_TOKEN_BYTES);
        knock(&channel, &fitting).await.unwrap();
        let too_long = padded(MAX_TOKEN_BYTES * 3 / 4);
        assert!(too_long.len() > MAX_TOKEN_BYTES);
        is_refused(knock(&channel, &too_long).await, "not valid");

        let good = format!("Bearer {good}");
        knock_with(&channel, &[&good]).await.unwrap();
        knock_with(&channel, &[&good.replace("Bearer", "bearer")])
            .await
            .unwrap();
        for headers in [
            &["Bearer"][..],
            &["Basic d2ViOnNlY3JldA=="],
            &[good.trim_start_matches("Bearer ")],
            &[&good.replace("Bearer ", "Bearer")],
            &[&good, &good],
            &["", &good],
        ] {
            is_refused(
                knock_with(&channel, headers).await,
                "must be one bearer token",
            );
        }
        is_refused(
            knock_with(&channel, &[]).await,
            "A bearer token is required",
        );
        server.stop(PATIENCE).await;
    });
}

#[test]
fn each_key_verifies_only_its_algorithm() {
    World::run(async |world| {
        let folder = Folder::new();
        let ed25519 = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let p256 = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let keys = [
            ("RS256", RSA_PRIVATE.to_owned(), RSA_PUBLIC.to_owned()),
            ("ES256", p256.serialize_pem(), p256.public_key_pem()),
            ("EdDSA", ed25519.serialize_pem(), ed25519.public_key_pem()),
        ];
        let claims = with(&json!({"scope": "heist.read"}));
        for (name, _, public) in &keys {
            let file = folder.file(name, public);
            let (server, channel) = world.guarded(jwt(KeyFile::Public(file.into()))).await;
            for (other, private, _) in &keys {
                let outcome = knock(&channel, &signed(private)).await;
                if name == other {
                    outcome.unwrap();
                } else {
                    is_refused(outcome, "not valid");
                }
            }
            // What is public taken for a secret: as it is in the file, and in other forms.
            let der = pem::parse(public).unwrap().into_contents();
            for secret in [public.as_bytes(), public.trim().as_bytes(), &der, b""] {
                for alg in ["HS256", *name] {
                    let token = hs256(&json!({ "alg": alg }), &claims, secret);
                    is_refused(knock(&channel, &token).await, "not valid");
                }
            }
            // A key in the token itself is not used.
            let header = json!({"alg": "HS256", "jwk": {"kty": "oct", "k": "c2VjcmV0"}});
            let token = hs256(&header, &claims, b"secret");
            is_refused(knock(&channel, &token).await, "not valid");
            server.stop(PATIENCE).await;
        }
        let all: String = keys.iter().map(|(_, _, public)| public.as_str()).collect();
        let file = folder.file("all", all);
        let (server, channel) = world.guarded(jwt(KeyFile::Public(file.into()))).await;
        for (_, private, _) in &keys {
            knock(&channel, &signed(private)).await.unwrap();
        }
        server.stop(PATIENCE).await;
    });
}

/// An Ed25519 key as a JSON Web Key.
fn ed25519_jwk(key: &KeyPair, kid: &str) -> Value {
    let x = URL_SAFE_NO_PAD.encode(key.public_key_raw());
    json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "use": "sig", "alg": "EdDSA", "x": x})
}

#[test]
fn keys_of_a_set_are_chosen_by_kid() {
    World::run(async |world| {
        let folder = Folder::new();
        let old = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let new = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let p256 = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let point = p256.public_key_raw();
        let set = json!({"keys": [
            ed25519_jwk(&old, "old"),
            ed25519_jwk(&new, "new"),
            {"kty": "EC", "crv": "P-256", "kid": "p256", "x": URL_SAFE_NO_PAD.encode(&point[1..33]),
                "y": URL_SAFE_NO_PAD.encode(&point[33..])},
            {"kty": "RSA", "kid": "for-encryption", "use": "enc", "n": "AQAB", "e": "AQAB"},
            {"kty": "of the future", "kid": "x"},
        ]});
        let file = folder.file("jwks.json", set.to_string());
        let (server, channel) = world.guarded(jwt(KeyFile::Jwks(file.into()))).await;
        for key in [&old, &new, &p256] {
            knock(&channel, &signed(&key.serialize_pem()))
                .await
                .unwrap();
        }
        let named = |kid: &str, key: &KeyPair| {
            let header = json!({"alg": "EdDSA", "kid": kid});
            let message = unsigned(&header, &with(&json!({"scope": "heist.read"})));
            let pkcs8 = key.serialize_der();
            let key = ring::signature::Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8).unwrap();
            let signature = URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes()));
            format!("{message}.{signature}")
        };
        knock(&channel, &named("old", &old)).await.unwrap();
        knock(&channel, &named("new", &new)).await.unwrap();
        for token in [
            named("old", &new),
            named("new", &old),
            named("gone", &old),
            named("p256", &old),
        ] {
            is_refused(knock(&channel, &token).await, "not valid");
        }
        server.stop(PATIENCE).await;
    });
}

#[test]
fn files_without_a_valid_key_stop_the_start() {
    World::run(async |world| {
        let folder = Folder::new();
        let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let ed25519 = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let secret = || KeyFile::Secret(folder.path("keys").into());
        let public = || KeyFile::Public(folder.path("keys").into());
        let jwks = || KeyFile::Jwks(folder.path("keys").into());
        let oct = json!({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}).to_string();
        let many: Vec<Value> = (0..17).map(|_| ed25519_jwk(&ed25519, "many")).collect();
        for (keys, content, complaint) in [
            (secret(), "", "expected 1 to 16 keys"),
            (secret(), "\n \n", "expected 1 to 16 keys"),
            (secret(), "short", "at least 32 bytes"),
            (
                secret(),
                &format!("{}\nshort", new_secret()),
                "at least 32 bytes",
            ),
            (public(), "", "expected 1 to 16 keys"),
            (public(), "-----BEGIN", "expected 1 to 16 keys"),
            (public(), RSA_PRIVATE, "not a PRIVATE KEY"),
            (public(), RSA_1024_PUBLIC, "at least 2048 bits"),
            (public(), &p384.public_key_pem(), "P-256"),
            (jwks(), "", "not a JWK set"),
            (jwks(), "{}", "not a JWK set"),
            (jwks(), r#"{"keys": []}"#, "expected 1 to 16 keys"),
            (jwks(), &oct, "not a secret"),
            (jwks(), &json!({ "keys": many }).to_string(), "not 17"),
        ] {
            folder.file("keys", content);
            let options = heist::server::Options {
                auth: jwt(keys),
                ..world.options()
            };
            let Err(error) = heist::server::Server::start(options).await else {
                panic!("it started with {content:?}");
            };
            let error = error.to_string();
            assert!(error.contains(complaint), "{error}, not {complaint}");
            assert!(error.contains("keys: "), "it names the file: {error}");
        }
    });
}

#[test]
fn keys_are_replaced_without_a_restart() {
    World::run(async |world| {
        let issuer = Issuer::new();
        let (server, channel) = world.guarded(issuer.options()).await;
        let file = issuer.secret_file();
        let old = fs::read_to_string(&file).unwrap();
        let new = new_secret();
        let claims = with(&json!({"scope": "heist.read"}));
        let token = |secret: &str| hs256(&json!({"alg": "HS256"}), &claims, secret.as_bytes());
        knock(&channel, &token(&old)).await.unwrap();
        is_refused(knock(&channel, &token(&new)).await, "not valid");

        // Both count while they overlap.
        fs::write(&file, format!("{new}\n{old}\n")).unwrap();
        until("the new one counts", async || {
            knock(&channel, &token(&new)).await.ok()
        })
        .await;
        knock(&channel, &token(&old)).await.unwrap();

        fs::write(&file, &new).unwrap();
        until("the old one counts no more", async || {
            knock(&channel, &token(&old)).await.err()
        })
        .await;
        knock(&channel, &token(&new)).await.unwrap();
        server.stop(PATIENCE).await;
    });
}

#[test]
fn keys_follow_a_symlink_and_survive_a_bad_file() {
    World::run(async |world| {
        let folder = Folder::new();
        let [first, second] = [new_secret(), new_secret()];
        let link = folder.path("secret");
        swap_symlink(&link, &folder.file("1", &first));
        let (server, channel) = world
            .guarded(jwt(KeyFile::Secret(link.clone().into())))
            .await;
        let claims = with(&json!({"scope": "heist.read"}));
        let token = |secret: &str| hs256(&json!({"alg": "HS256"}), &claims, secret.as_bytes());
        knock(&channel, &token(&first)).await.unwrap();

        // A file that is bad, then one that is not there; only what is good takes effect.
        swap_symlink(&link, &folder.file("bad", "too short"));
        swap_symlink(&link, &folder.path("missing"));
        knock(&channel, &token(&first)).await.unwrap();
        swap_symlink(&link, &folder.file("2", &second));
        until("the second counts", async || {
            knock(&channel, &token(&second)).await.ok()
        })
        .await;
        is_refused(knock(&channel, &token(&first)).await, "not valid");
        server.stop(PATIENCE).await;
    });
}

#[test]
fn streams_end_when_the_token_does() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let issuer = Issuer::new();
        let (server, channel) = world.guarded(issuer.options()).await;
        // They expired 28 s ago, of which 30 are forgiven.
        let expires = now() - 28;
        let player = with(&json!({"sub": ada.id.to_string(), "exp": expires}));
        let service = with(&json!({"scope": "heist.read", "exp": expires}));

        let request = pb::StreamNotificationsRequest {
            user_id: ada.id,
            after_id: 0,
        };
        let mut client =
            pb::notification_service_client::NotificationServiceClient::new(channel.clone());
        let call = client.stream_notifications(bearer(request, &issuer.token(&player)));
        let mut inbox = call.await.unwrap().into_inner();

        let mut client = pb::heist_service_client::HeistServiceClient::new(channel);
        let request = bearer(pb::WatchPointsRequest {}, &issuer.token(&service));
        let mut points = client.watch_points(request).await.unwrap().into_inner();
        assert!(points.message().await.unwrap().unwrap().resync);

        let ended = tokio::time::timeout(PATIENCE, inbox.message())
            .await
            .expect("it ends");
        is_refused(ended.map(drop), "The token has expired.");
        let ended = tokio::time::timeout(PATIENCE, async {
            loop {
                match points.message().await {
                    Ok(Some(message)) => assert!(message.resync),
                    other => return other.map(drop),
                }
            }
        });
        is_refused(ended.await.expect("it ends"), "The token has expired.");
        server.stop(PATIENCE).await;
    });
}

#[test]
fn health_and_reflection_need_no_token() {
    World::run(async |world| {
        let (server, channel) = world.guarded(Issuer::new().options()).await;
        let there = world.through(channel);
        for service in crate::rpc::health_and_reflection::SERVICES {
            assert!(crate::rpc::health_and_reflection::is_serving(&there, service).await);
        }
        let listed = crate::rpc::health_and_reflection::list_services(&there).await;
        assert!(listed.contains(&"heist.v1.HeistService".to_owned()));
        server.stop(PATIENCE).await;
    });
}

#[test]
fn unauthenticated_bodies_are_not_read() {
    World::run(async |world| {
        let (server, _channel) = world.guarded(Issuer::new().options()).await;
        for method in crate::harness::wire::methods_of_the_contract() {
            // The server closes a connection after 256 KiB without an authenticated call.
            let channel = connect(server.address()).await;
            for garbage in [vec![0xff; 20], vec![0; 100_000]] {
                let call = call_as(&channel, None, &method, garbage);
                let refusal = world.refuses(call).await;
                refusal.is(Unauthenticated, "UNAUTHENTICATED");
            }
        }
        let channel = connect(server.address()).await;
        let request = pb::ExecuteHeistRequest::default().encode_to_vec();
        let nothing = Method::named("/heist.v1.HeistService/Nothing");
        let refused = call_as(&channel, None, &nothing, request)
            .await
            .unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unimplemented);
        server.stop(PATIENCE).await;
    });
}
