//! Invalid settings of keys and certificates, and `heist token`.

use std::fs;

use heist::pb;
use prost::Message as _;
use tonic::Code::PermissionDenied;

use crate::harness::{
    Refusal, World, connect,
    identity::{Folder, call_as, new_secret},
    process::{Ended, Heist},
    runtime,
    wire::Method,
};

/// A port without a listener. Each of these starts must fail before it connects.
const UNREACHABLE_DATABASE: &str = "postgres://app@127.0.0.1:1/app";

async fn serve(settings: &[(&str, &str)]) -> Ended {
    let mut heist = Heist::serve().env("DATABASE_URL", UNREACHABLE_DATABASE);
    for (name, value) in settings {
        heist = heist.env(name, value);
    }
    heist.ended().await
}

#[test]
fn contradicting_security_settings_stop_the_start_with_one_line() {
    const NONE: (&str, &str) = ("HEIST_AUTH", "none");
    const JWT: (&str, &str) = ("HEIST_AUTH", "jwt");
    const SECRET: (&str, &str) = ("HEIST_JWT_SECRET_FILE", "/nothing/secret");
    const PUBLIC: (&str, &str) = ("HEIST_JWT_PUBLIC_KEY_FILE", "/nothing/key");
    const JWKS: (&str, &str) = ("HEIST_JWKS_FILE", "/nothing/jwks");
    const ISSUER: (&str, &str) = ("HEIST_JWT_ISSUER", "issuer");
    const AUDIENCE: (&str, &str) = ("HEIST_JWT_AUDIENCE", "heist");
    const CERT: (&str, &str) = ("HEIST_TLS_CERT_FILE", "/nothing/crt");
    const KEY: (&str, &str) = ("HEIST_TLS_KEY_FILE", "/nothing/key");
    const CA: (&str, &str) = ("HEIST_TLS_CLIENT_CA_FILE", "/nothing/ca");
    const SCOPES: (&str, &str) = ("HEIST_TLS_CLIENT_SCOPES", "web=heist.read");
    runtime().block_on(async {
        for (settings, complaint) in [
            (&[][..], "HEIST_AUTH is not set"),
            (&[SECRET], "HEIST_AUTH is not set"),
            (
                &[NONE, SECRET],
                "HEIST_JWT_SECRET_FILE needs HEIST_AUTH=jwt",
            ),
            (
                &[NONE, PUBLIC],
                "HEIST_JWT_PUBLIC_KEY_FILE needs HEIST_AUTH=jwt",
            ),
            (&[NONE, JWKS], "HEIST_JWKS_FILE needs HEIST_AUTH=jwt"),
            (&[NONE, ISSUER], "HEIST_JWT_ISSUER needs HEIST_AUTH=jwt"),
            (&[NONE, AUDIENCE], "HEIST_JWT_AUDIENCE needs HEIST_AUTH=jwt"),
            (
                &[NONE, CERT, KEY, CA, SCOPES],
                "HEIST_TLS_CLIENT_SCOPES needs HEIST_AUTH=jwt",
            ),
            (
                &[JWT, ISSUER, AUDIENCE],
                "needs exactly one of HEIST_JWT_SECRET_FILE",
            ),
            (
                &[JWT, ISSUER, AUDIENCE, SECRET, JWKS],
                "needs exactly one of",
            ),
            (&[JWT, SECRET, AUDIENCE], "needs HEIST_JWT_ISSUER"),
            (&[JWT, SECRET, ISSUER], "needs HEIST_JWT_AUDIENCE"),
            (
                &[JWT, SECRET, ISSUER, AUDIENCE, SCOPES],
                "needs HEIST_TLS_CLIENT_CA_FILE",
            ),
            (
                &[NONE, CERT],
                "HEIST_TLS_CERT_FILE needs HEIST_TLS_KEY_FILE",
            ),
            (&[NONE, KEY], "HEIST_TLS_KEY_FILE needs HEIST_TLS_CERT_FILE"),
            (
                &[NONE, CA],
                "HEIST_TLS_CLIENT_CA_FILE needs HEIST_TLS_CERT_FILE",
            ),
            (
                &[JWT, SECRET, ISSUER, AUDIENCE],
                "HEIST_JWT_SECRET_FILE=/nothing/secret: cannot read it",
            ),
            (
                &[NONE, CERT, KEY],
                "HEIST_TLS_CERT_FILE=/nothing/crt: cannot read it",
            ),
        ] {
            let ended = serve(settings).await;
            assert_eq!(ended.code, Some(3), "{settings:?}: {ended:?}");
            assert!(
                ended.complaint().contains(complaint),
                "{settings:?}: {ended:?}"
            );
        }
    });
}

#[test]
fn a_token_of_the_command_is_one_that_the_server_takes() {
    World::run(async |world| {
        world.player("Ada").await;
        let folder = Folder::new();
        let secret = folder.file("secret", new_secret());
        let with_keys = |heist: Heist| {
            heist
                .env("HEIST_JWT_SECRET_FILE", &secret)
                .env("HEIST_JWT_ISSUER", "heist-dev")
                .env("HEIST_JWT_AUDIENCE", "heist")
        };
        let token = async |arguments: &[&str]| {
            let arguments = [&["token"], arguments].concat();
            let ended = with_keys(Heist::new(&arguments)).ended().await;
            assert_eq!(
                (ended.code, ended.stderr.as_str()),
                (Some(0), ""),
                "{ended:?}"
            );
            ended.stdout.trim().to_owned()
        };
        let server = with_keys(Heist::serve())
            .env("DATABASE_URL", &world.database_url)
            .env("HEIST_AUTH", "jwt")
            .serving()
            .await;
        let channel = connect(server.address).await;
        let method = Method::named("/heist.v1.TokenService/GetBalance");
        let asked = pb::GetBalanceRequest { user_id: 1 }.encode_to_vec();
        let call = async |token: &str| call_as(&channel, Some(token), &method, asked.clone()).await;
        let scope = "token.read heist.read";
        call(&token(&["--subject", "web", "--scope", scope]).await)
            .await
            .unwrap();
        call(&token(&["--subject", "1", "--expires-in", "10s"]).await)
            .await
            .unwrap();
        let other = token(&["--subject", "2"]).await;
        let refused = call(&other).await.unwrap_err();
        Refusal::from(refused).is(PermissionDenied, "PERMISSION_DENIED");
        assert!(!server.has_said("no authentication"));
        assert_eq!(server.stopped_by("TERM").await.code, Some(0));
        assert!(!fs::read_to_string(&secret).unwrap().is_empty());
    });
}

#[test]
fn a_token_that_every_server_would_refuse_is_not_signed() {
    runtime().block_on(async {
        let folder = Folder::new();
        let secret = folder.file("secret", new_secret());
        for (arguments, complaint) in [
            (&["--subject", "042"][..], "neither a player's id"),
            (&["--subject", ""], "neither a player's id"),
            (
                &["--subject", "1", "--scope", "heist.read"],
                "a player's token has scopes",
            ),
            (
                &["--subject", "web", "--scope", "heist.reed"],
                "there is no scope \"heist.reed\"",
            ),
            (
                &["--subject", "web", "--private-key-file", "/nothing"],
                "/nothing",
            ),
        ] {
            let arguments = [&["token"], arguments].concat();
            let ended = Heist::new(&arguments)
                .env("HEIST_JWT_SECRET_FILE", &secret)
                .env("HEIST_JWT_ISSUER", "heist-dev")
                .env("HEIST_JWT_AUDIENCE", "heist")
                .ended()
                .await;
            assert_eq!((ended.code, ended.stdout.as_str()), (Some(3), ""));
            assert!(ended.complaint().contains(complaint), "{ended:?}");
        }
    });
}
