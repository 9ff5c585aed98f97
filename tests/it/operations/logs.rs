//! The log: one JSON object for each event, with the id of its request.

use heist::pb::{AdjustBalanceRequest, CheckEligibilityRequest, ExecuteHeistRequest};
use serde_json::Value;
use tonic::{Code, Request};
use uuid::Uuid;

use crate::harness::{
    World, connect,
    mail::{Behaviour, Provider, mailing},
    new_request_id,
    process::{Heist, Serving},
};

/// A server with a captured log, and the world through it.
async fn logging(world: &World, filter: &str) -> (Serving, World) {
    let server = Heist::serve()
        .env("DATABASE_URL", &world.database_url)
        .env("HEIST_AUTH", "none")
        .env("RUST_LOG", filter)
        .serving()
        .await;
    let there = world.through(connect(server.address).await);
    (server, there)
}

fn request_id(event: &Value) -> &str {
    event["requestId"].as_str().expect("a request has an id")
}

/// Fields that every line has, in the form that the review shows.
#[track_caller]
fn is_a_line(event: &Value, level: &str) {
    assert_eq!(event["level"], level, "{event}");
    let timestamp = event["timestamp"].as_str().expect("a time");
    assert!(timestamp.ends_with('Z') && timestamp.contains('T'));
    assert!(!request_id(event).is_empty());
}

#[test]
fn each_kind_of_event_has_its_level_and_its_fields() {
    World::run(async |world| {
        let (server, there) = logging(world, "heist=debug").await;
        let ada = world.player("Ada").tokens(1).await.seen_by(&there);
        let ben = world.player("Ben").points(1000).await;
        let new = world.player("New").await;

        ada.robs(&ben).await.unwrap();
        let heist = server.event("HEIST_SUCCESS").await;
        is_a_line(&heist, "INFO");
        assert_eq!(heist["attackerId"], ada.id);
        assert_eq!(heist["victimId"], ben.id);
        assert_eq!(heist["pointsStolen"], 50);
        assert_eq!(heist["ipAddress"], "127.0.0.1");
        assert!(heist["duration_ms"].as_f64().unwrap() > 0.0);
        let decided = server.event("HEIST_DECIDED").await;
        is_a_line(&decided, "DEBUG");
        assert_eq!(decided["outcome"], "EXECUTED");
        assert_eq!(request_id(&decided), request_id(&heist));

        ada.robs(&ben).await.unwrap_err();
        let refused = server.event("HEIST_REFUSED").await;
        is_a_line(&refused, "WARN");
        assert_eq!(refused["reason"], "INSUFFICIENT_TOKENS");
        assert_ne!(request_id(&refused), request_id(&heist));

        ada.earns_a_token_for(&new).await.unwrap();
        let awarded = server.event("TOKEN_AWARDED").await;
        is_a_line(&awarded, "INFO");
        assert_eq!(awarded["referrerId"], ada.id);
        is_a_line(&server.event("AWARD_DECIDED").await, "DEBUG");

        let adjustment = AdjustBalanceRequest {
            user_id: ada.id,
            delta: -9,
            reason: "too many".to_owned(),
            request_id: new_request_id(),
        };
        let key = adjustment.request_id.clone();
        there.adjust_balance(adjustment).await.unwrap_err();
        let refused = server.event("ADJUSTMENT_REFUSED").await;
        is_a_line(&refused, "WARN");
        assert_eq!(refused["idempotencyKey"], key);
        is_a_line(&server.event("ADJUSTMENT_DECIDED").await, "DEBUG");

        there.eligibility(ada.id, ben.id).await;
        let checked = server.event("ELIGIBILITY_CHECKED").await;
        is_a_line(&checked, "DEBUG");
        assert_eq!(checked["reason"], "COOLDOWN_ACTIVE");

        let malformed = CheckEligibilityRequest::default();
        there.check_eligibility(malformed).await.unwrap_err();
        let refused = server.event("CALL_REFUSED").await;
        is_a_line(&refused, "WARN");
        assert_eq!(refused["method"], "heist.v1.HeistService/CheckEligibility");
        assert_eq!(refused["reason"], "INVALID_REQUEST");

        // The attempts above had their own lines.
        assert_eq!(server.events("CALL_REFUSED").len(), 1);
        assert_eq!(server.events("HEIST_SUCCESS").len(), 1);
        assert_eq!(server.events("HEIST_REFUSED").len(), 1);
    });
}

#[test]
fn a_rollback_is_logged_with_the_request_id() {
    World::run(async |world| {
        let (server, there) = logging(world, "info").await;
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        // Something that no rule foresees.
        let forbid = r#"ALTER TABLE "Heist" ADD CONSTRAINT no_more CHECK (false) NOT VALID"#;
        world.execute(forbid).await;
        let mut request = Request::new(ExecuteHeistRequest {
            attacker_id: ada.id,
            victim_id: ben.id,
            request_id: String::new(),
        });
        (request.metadata_mut()).insert("x-request-id", "signup-7".parse().unwrap());
        let status = there
            .heists
            .clone()
            .execute_heist(request)
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::Internal);
        assert_eq!(status.message(), "Internal error signup-7.");
        assert_eq!(status.metadata().get("x-request-id").unwrap(), "signup-7");

        let error = server.event("TRANSACTION_ROLLED_BACK").await;
        is_a_line(&error, "ERROR");
        assert_eq!(request_id(&error), "signup-7");
        assert_eq!(error["cause"], "statement");
        assert_eq!(error["retrying"], false);
        assert!(error["error"].as_str().unwrap().contains("no_more"));
        assert_eq!(server.events("TRANSACTION_ROLLED_BACK").len(), 1);
    });
}

#[test]
fn a_lock_time_out_is_logged_as_a_retried_rollback() {
    World::run(async |world| {
        let (server, there) = logging(world, "info").await;
        let ada = world.player("Ada").tokens(1).await.seen_by(&there);
        let ben = world.player("Ben").points(1000).await;
        let transaction = ben.locked().await;
        let call = tokio::spawn(ada.robs(&ben));
        let error = server.event("TRANSACTION_ROLLED_BACK").await;
        assert_eq!(error["level"], "ERROR");
        assert_eq!(error["cause"], "contention");
        assert_eq!(error["retrying"], true);
        transaction.rollback().await;
        call.await.unwrap().unwrap();
    });
}

#[test]
fn a_lost_connection_is_logged_as_database_unavailable() {
    World::run(async |world| {
        let (server, there) = logging(world, "info").await;
        let ada = world.player("Ada").tokens(1).await.seen_by(&there);
        let ben = world.player("Ben").points(1000).await;
        let transaction = ben.locked().await;
        let call = tokio::spawn(ada.robs(&ben));
        world.a_session_waits_for_a_lock().await;
        world.lock_waiters_are_terminated().await;
        let error = server.event("DATABASE_UNAVAILABLE").await;
        is_a_line(&error, "ERROR");
        assert_eq!(error["cause"], "unavailable");
        assert_eq!(error["retrying"], true);
        transaction.rollback().await;
        call.await.unwrap().unwrap();
    });
}

#[test]
fn outcomes_of_emails_are_logged() {
    World::run(async |world| {
        let provider = Provider::start().await;
        let server = mailing(world, &provider.url).serving().await;
        let there = world.through(connect(server.address).await);
        let ada = world
            .player("Ada")
            .email("ada@example.com")
            .await
            .seen_by(&there);
        for (event, level, outcome, reason) in [
            ("EMAIL_PARKED", "ERROR", "failed", "HTTP 400"),
            ("EMAIL_DONE", "INFO", "sent", ""),
            ("EMAIL_DELAYED", "WARN", "retried", "HTTP 408"),
        ] {
            provider.does(match outcome {
                "failed" => Behaviour::Answer("400 Bad Request", ""),
                "sent" => Behaviour::Accept,
                _ => Behaviour::Answer("408 Request Timeout", ""),
            });
            let new = world.player(event).await;
            ada.earns_a_token_for(&new).await.unwrap();
            let told = server.event(event).await;
            assert_eq!(told["level"], level, "{told}");
            assert_eq!(told["email.outcome"], outcome, "{told}");
            assert_eq!(told["email.attempts"], 1, "{told}");
            let because = told["email.reason"].as_str().unwrap_or_default();
            assert!(because.starts_with(reason), "{told}");
            assert!(told["duration_ms"].is_u64(), "{told}");
        }
    });
}

#[test]
fn a_flood_of_bad_requests_is_counted_and_not_logged() {
    World::run(async |world| {
        let (server, there) = logging(world, "info").await;
        for _ in 0..300 {
            let malformed = CheckEligibilityRequest::default();
            there.check_eligibility(malformed).await.unwrap_err();
        }
        server.event("CALL_REFUSED").await;
        let lines = server.events("CALL_REFUSED").len();
        assert!(lines < 150, "{lines} lines");
    });
}

#[test]
fn an_answer_says_the_id_of_its_request() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let balance = async |id: Option<&str>| {
            let mut request = Request::new(heist::pb::GetBalanceRequest { user_id: ada.id });
            if let Some(id) = id {
                (request.metadata_mut()).insert("x-request-id", id.parse().unwrap());
            }
            let answer = world.tokens.clone().get_balance(request).await.unwrap();
            let id = answer.metadata().get("x-request-id").expect("an id");
            id.to_str().unwrap().to_owned()
        };
        assert_eq!(balance(Some("web-1/7")).await, "web-1/7");
        assert!(Uuid::try_parse(&balance(None).await).is_ok());
        for forged in ["two words", "\"quoted\"", &"x".repeat(129)] {
            let id = balance(Some(forged)).await;
            assert!(Uuid::try_parse(&id).is_ok(), "{forged}: {id}");
        }
    });
}

#[test]
fn caller_input_cannot_forge_a_log_line() {
    World::run(async |world| {
        let (server, there) = logging(world, "info").await;
        let ada = world.player("Ada").await;
        let ben = world.player("Ben").await;
        let request = ExecuteHeistRequest {
            attacker_id: ada.id,
            victim_id: ben.id,
            request_id: "x\"}\n{\"event\":\"HEIST_SUCCESS\"}".to_owned(),
        };
        let mut caller = there.heists.clone();
        caller.execute_heist(request).await.unwrap_err();
        let refused = server.event("HEIST_REFUSED").await;
        assert!(refused["idempotencyKey"].is_null());
        assert!(server.events("HEIST_SUCCESS").is_empty());
    });
}
