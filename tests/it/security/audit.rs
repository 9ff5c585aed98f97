//! The audit: one line for each attempt to rob, award or adjust, with its outcome.

use std::time::Duration;

use heist::pb;
use prost::Message as _;
use serde_json::Value;
use tonic::transport::Channel;
use uuid::Uuid;

use crate::harness::{
    World, connect,
    identity::{AUDIENCE, ISSUER, Issuer, call_as},
    process::{Heist, Serving},
    until,
    wire::Method,
};

/// A server that knows the issuer's tokens.
fn guarded(world: &World, issuer: &Issuer) -> Heist {
    Heist::serve()
        .env("DATABASE_URL", &world.database_url)
        .env("HEIST_AUTH", "jwt")
        .env("HEIST_JWT_SECRET_FILE", issuer.secret_file())
        .env("HEIST_JWT_ISSUER", ISSUER)
        .env("HEIST_JWT_AUDIENCE", AUDIENCE)
}

/// The lines of the audit, once there are so many.
async fn audit(server: &Serving, count: usize) -> Vec<Value> {
    until("everything is in the audit", async || {
        let lines: Vec<Value> = (server.said().lines())
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(|line: &Value| line["target"] == "heist::audit")
            .collect();
        (lines.len() >= count).then_some(lines)
    })
    .await
}

async fn rob(channel: &Channel, token: Option<&str>, asked: &pb::ExecuteHeistRequest) {
    let method = Method::named("/heist.v1.HeistService/ExecuteHeist");
    let _ = call_as(channel, token, &method, asked.encode_to_vec()).await;
}

#[test]
fn every_attempt_is_one_audit_line() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        let issuer = Issuer::new();
        let server = guarded(world, &issuer).serving().await;
        let channel = connect(server.address).await;
        let request_id = Uuid::now_v7().to_string();
        let asked = pb::ExecuteHeistRequest {
            attacker_id: ada.id,
            victim_id: ben.id,
            request_id: request_id.clone(),
        };
        let (adas, bens) = (issuer.player(ada.id), issuer.player(ben.id));
        rob(&channel, Some(&adas), &asked).await;
        rob(&channel, Some(&adas), &asked).await;
        rob(&channel, Some(&bens), &asked).await;
        rob(&channel, None, &asked).await;
        rob(&channel, Some(&issuer.service("heist.read")), &asked).await;
        let method = Method::named("/heist.v1.HeistService/ExecuteHeist");
        let garbage = call_as(&channel, Some(&adas), &method, vec![0xff; 9]);
        garbage.await.unwrap_err();
        let adjust = pb::AdjustBalanceRequest {
            user_id: ada.id,
            delta: 3,
            reason: "asked for by ada@example.com\u{2028} today".to_owned(),
            request_id: request_id.clone(),
        };
        let method = Method::named("/heist.v1.TokenService/AdjustBalance");
        let support = issuer.service("token.adjust token.award");
        let call = call_as(&channel, Some(&support), &method, adjust.encode_to_vec());
        call.await.unwrap();
        let award = pb::AwardTokenRequest {
            referrer_id: ada.id,
            referred_id: ada.id,
            referred_name: "ada@example.com".to_owned(),
        };
        let method = Method::named("/heist.v1.TokenService/AwardToken");
        let call = call_as(&channel, Some(&support), &method, award.encode_to_vec());
        call.await.unwrap_err();

        let lines = audit(&server, 8).await;
        let told: Vec<(&str, &str, &str)> = (lines.iter())
            .map(|line| {
                let text = |name: &str| line[name].as_str().unwrap_or_default();
                (text("event"), text("caller"), text("reason"))
            })
            .collect();
        assert_eq!(
            told,
            [
                ("HEIST_SUCCESS", "player 1", ""),
                ("HEIST_SUCCESS", "player 1", ""),
                ("HEIST_REFUSED", "player 2", "PERMISSION_DENIED"),
                ("HEIST_REFUSED", "", "UNAUTHENTICATED"),
                ("HEIST_REFUSED", "service support", "PERMISSION_DENIED"),
                ("HEIST_REFUSED", "player 1", "INVALID_REQUEST"),
                ("BALANCE_ADJUSTED", "service support", ""),
                ("AWARD_REFUSED", "service support", "SELF_REFERRAL"),
            ]
        );
        let first = &lines[0];
        assert_eq!(first["attackerId"], ada.id);
        assert_eq!(first["victimId"], ben.id);
        assert_eq!(first["pointsStolen"], 50);
        assert_eq!(first["replayed"], false);
        assert_eq!(first["idempotencyKey"], request_id.as_str());
        assert_eq!(first["ipAddress"], "127.0.0.1");
        assert!(first["duration_ms"].as_f64().unwrap() > 0.0);
        assert_eq!(lines[1]["replayed"], true);
        assert_eq!(
            lines[2]["attackerId"], ada.id,
            "the player that the award was for"
        );
        assert_eq!(lines[6]["delta"], 3);
        assert_eq!(lines[6]["why"], "asked for by [e-mail] today");

        let ended = server.stopped_by("TERM").await;
        for secret in [
            "example.com\\",
            "ada@",
            &adas,
            &support,
            adas.rsplit('.').next().unwrap(),
        ] {
            assert!(!ended.stderr.contains(secret), "{secret}: {ended:?}");
        }
    });
}

#[test]
fn a_cancelled_call_is_in_the_audit() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        let issuer = Issuer::new();
        let server = guarded(world, &issuer).serving().await;
        let channel = connect(server.address).await;
        let transaction = ben.locked().await;
        let asked = pb::ExecuteHeistRequest {
            attacker_id: ada.id,
            victim_id: ben.id,
            request_id: String::new(),
        };
        let token = issuer.player(ada.id);
        let call = tokio::spawn(async move { rob(&channel, Some(&token), &asked).await });
        world.a_session_waits_for_a_lock().await;
        call.abort();
        let lines = audit(&server, 1).await;
        assert_eq!(lines[0]["event"], "HEIST_ABANDONED");
        assert_eq!(lines[0]["victimId"], ben.id);
        transaction.rollback().await;
        assert_eq!(server.stopped_by("TERM").await.code, Some(0));
    });
}

#[test]
fn player_names_cannot_forge_log_lines() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let issuer = Issuer::new();
        let forged =
            "x\n{\"event\":\"HEIST_SUCCESS\"}\r\n2026-01-01T00:00:00Z  INFO forged\u{1b}[2K";
        for format in ["json", "text"] {
            let server = guarded(world, &issuer);
            let server = server.env("HEIST_LOG_FORMAT", format).serving().await;
            let channel = connect(server.address).await;
            let method = Method::named("/heist.v1.TokenService/AdjustBalance");
            let adjust = pb::AdjustBalanceRequest {
                user_id: ada.id,
                delta: 1,
                reason: forged.to_owned(),
                request_id: forged.to_owned(),
            };
            let support = issuer.service("token.adjust");
            let call = call_as(&channel, Some(&support), &method, adjust.encode_to_vec());
            call.await.unwrap_err();
            let ended = server.stopped_by("TERM").await;
            let audit: Vec<&str> = (ended.stderr.lines())
                .filter(|line| line.contains("ADJUSTMENT_REFUSED"))
                .collect();
            assert_eq!(audit.len(), 1, "{format}: {ended:?}");
            assert!(audit[0].contains("heist::audit"), "{audit:?}");
            assert!(
                audit[0].contains("forged"),
                "the reason is in it: {audit:?}"
            );
            for line in ended.stderr.lines() {
                assert!(!line.starts_with("{\"event\""), "{format}: {line}");
                assert!(!line.starts_with("2026-01-01"), "{format}: {line}");
                assert!(!line.contains('\u{1b}'), "{format}: {line}");
            }
        }
    });
}

#[test]
fn a_heist_whose_deadline_passes_during_its_commit_is_unknown_and_not_refused() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        world.execute(SLOW_COMMIT).await;
        let server = Heist::serve()
            .env("DATABASE_URL", &world.database_url)
            .env("HEIST_AUTH", "none")
            .serving()
            .await;
        let channel = connect(server.address).await;
        let mut client = pb::heist_service_client::HeistServiceClient::new(channel);
        let mut request = tonic::Request::new(pb::ExecuteHeistRequest {
            attacker_id: ada.id,
            victim_id: ben.id,
            request_id: String::new(),
        });
        request.set_timeout(Duration::from_millis(500));
        client.execute_heist(request).await.unwrap_err();
        let line = server.event("HEIST_UNKNOWN").await;
        assert_eq!(
            (&line["level"], &line["attackerId"]),
            (&"ERROR".into(), &ada.id.into())
        );
        assert_eq!(server.events("HEIST_REFUSED").len(), 0);
        until("the heist is committed", async || {
            (ben.points().await == 950).then_some(())
        })
        .await;
        assert_eq!(server.stopped_by("TERM").await.code, Some(0));
        world.execute("DROP FUNCTION slow_commit CASCADE").await;
    });
}

/// A trigger of the application that runs at the commit of a heist.
const SLOW_COMMIT: &str = r#"
    CREATE FUNCTION slow_commit() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep(1.5); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON "Heist" DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION slow_commit()"#;
