//! Keys of an identity provider, found by discovery.

use serde_json::json;
use tonic::{Code::Unauthenticated, Status, transport::Channel};

use crate::harness::{
    PATIENCE, Refusal, World,
    identity::{Folder, call_as, jwt},
    identity_provider::{IdentityProvider, SigningKey},
    until,
    wire::Method,
};

async fn read_board(channel: &Channel, token: &str) -> Result<(), Status> {
    let method = Method::named("/heist.v1.HeistService/GetLeaderboard");
    (call_as(channel, Some(token), &method, vec![]).await).map(drop)
}

async fn is_refused(channel: &Channel, token: &str) {
    let refusal = Refusal::from(read_board(channel, token).await.unwrap_err());
    refusal.is(Unauthenticated, "UNAUTHENTICATED");
}

#[test]
fn callers_do_not_notice_a_rotation_and_the_last_keys_survive_the_provider() {
    World::run(async |world| {
        let provider = IdentityProvider::start().await;
        let (old, new) = (SigningKey::new("old"), SigningKey::new("new"));
        provider.publishes(vec![old.jwk()]);
        let (server, channel) = world.guarded(provider.options()).await;
        let (old_token, new_token) = (old.token(&provider.url), new.token(&provider.url));
        read_board(&channel, &old_token).await.unwrap();

        provider.publishes(vec![old.jwk(), new.jwk()]);
        read_board(&channel, &new_token).await.unwrap();
        assert_eq!(provider.fetches(), 2);
        read_board(&channel, &old_token).await.unwrap();

        provider.is_away(true);
        is_refused(&channel, &SigningKey::new("other").token(&provider.url)).await;
        read_board(&channel, &new_token).await.unwrap();
        server.stop(PATIENCE).await;
    });
}

#[test]
fn tokens_with_unknown_keys_cause_few_fetches() {
    World::run(async |world| {
        let provider = IdentityProvider::start().await;
        provider.publishes(vec![SigningKey::new("known").jwk()]);
        let (server, channel) = world.guarded(provider.options()).await;
        for _ in 0..50 {
            is_refused(&channel, &SigningKey::new("unknown").token(&provider.url)).await;
        }
        assert!(provider.fetches() <= 6, "{}", provider.fetches());
        server.stop(PATIENCE).await;
    });
}

#[test]
fn the_start_does_not_wait_for_a_provider_that_is_away() {
    World::run(async |world| {
        let provider = IdentityProvider::start().await;
        let key = SigningKey::new("key");
        provider.publishes(vec![key.jwk()]);
        provider.is_away(true);
        let (server, channel) = world.guarded(provider.options()).await;
        let token = key.token(&provider.url);
        is_refused(&channel, &token).await;

        provider.is_away(false);
        until("the keys arrive", async || {
            read_board(&channel, &token).await.ok()
        })
        .await;
        server.stop(PATIENCE).await;
    });
}

#[test]
fn unusable_keys_of_a_set_are_ignored() {
    World::run(async |world| {
        let folder = Folder::new();
        let key = SigningKey::new("good");
        let signs_only = SigningKey::new("signs");
        let mut signing_key = signs_only.jwk();
        signing_key["key_ops"] = json!(["sign"]);
        let modulus = "sXchDaQebHnPiGvyDOAT4saGEUetSyo9MKLOoWFsueri23bOdgWp4Dy1Wl";
        let set = json!({"keys": [
            {"kty": "OKP", "crv": "Ed25519", "kid": 7, "x": key.jwk()["x"]},
            {"kty": "RSA", "kid": "short", "n": modulus, "e": "AQAB"},
            {"kty": "EC", "crv": "P-521", "kid": "curve", "x": "AA", "y": "AA"},
            {"kty": "AKP", "kid": "kind", "alg": "ML-DSA-44", "pub": "AA"},
            {"kty": "OKP", "crv": "Ed25519", "kid": "damaged", "x": "!"},
            {"kty": "oct", "kid": "secret", "k": "c2VjcmV0"},
            "no object",
            signing_key,
            key.jwk(),
        ]});
        let file = folder.file("jwks.json", set.to_string());
        let keys = heist::auth::KeyFile::Jwks(file.into());
        let (server, channel) = world.guarded(jwt(keys)).await;
        let issuer = crate::harness::identity::ISSUER;
        read_board(&channel, &key.token(issuer)).await.unwrap();
        is_refused(&channel, &signs_only.token(issuer)).await;
        server.stop(PATIENCE).await;
    });
}
