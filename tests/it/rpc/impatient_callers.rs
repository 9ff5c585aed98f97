//! Callers that cancel, and calls whose deadline passes or has passed.

use std::time::Duration;

use heist::pb;
use rand::RngExt as _;
use tonic::{Code, Request};

use crate::harness::{PATIENCE, World, all_at_once, new_request_id};

fn heist(attacker_id: i32, victim_id: i32, timeout: &str) -> Request<pb::ExecuteHeistRequest> {
    let mut request = Request::new(pb::ExecuteHeistRequest {
        attacker_id,
        victim_id,
        request_id: String::new(),
    });
    let timeout = timeout.parse().unwrap();
    request.metadata_mut().insert("grpc-timeout", timeout);
    request
}

/// A world without cooldown and protection, so that each call could be a heist.
fn lawless() -> crate::harness::Setup {
    World::setup().rules(|rules| {
        rules.cooldown = Duration::ZERO;
        rules.protection = None;
    })
}

#[test]
fn cancelled_calls_leave_correct_books() {
    lawless().run(async |world| {
        let players = world.crowd("Player", 6).points(10_000).tokens(100).await;
        let friends = world.crowd("Friend", 100).await;
        let calls = (0..200).map(|round| {
            let attacker = &players[round % 6];
            let heist = attacker.robs(&players[(round + 1 + round / 6 % 5) % 6]);
            let award = attacker.earns_a_token_for(&friends[round / 2]);
            async move {
                let patience = Duration::from_micros(rand::rng().random_range(0..8000));
                if round % 2 == 0 {
                    let _ = tokio::time::timeout(patience, heist).await;
                } else {
                    let _ = tokio::time::timeout(patience, award).await;
                }
            }
        });
        all_at_once(calls).await;
        // Later calls succeed.
        for answer in all_at_once(players.iter().skip(1).map(|it| it.robs(&players[0]))).await {
            answer.unwrap();
        }
    });
}

#[test]
fn broken_connections_leave_correct_books() {
    lawless().run(async |world| {
        let players = world.crowd("Player", 2).points(100_000).tokens(200).await;
        for round in 0..25 {
            let broken = world.through(crate::harness::connect(world.address).await);
            let calls: Vec<_> = (0..4)
                .map(|_| tokio::spawn(players[0].seen_by(&broken).robs(&players[1])))
                .collect();
            drop(broken);
            if round % 2 == 0 {
                tokio::task::yield_now().await;
            } else {
                let _ = players[1].points().await;
            }
            for call in calls {
                call.abort();
            }
        }
        players[1].robs(&players[0]).await.unwrap();
    });
}

#[test]
fn callers_with_milliseconds_get_an_answer_or_deadline_exceeded() {
    lawless().run(async |world| {
        let ada = world.player("Ada").points(10_000).tokens(100).await;
        let ben = world.player("Ben").points(10_000).await;
        let timeouts = ["1n", "500u", "1m", "2m", "3m", "5m"].into_iter().cycle();
        let calls = timeouts.take(120).map(|timeout| {
            let mut client = world.heists.clone();
            let request = heist(ada.id, ben.id, timeout);
            async move { client.execute_heist(request).await }
        });
        for answer in all_at_once(calls).await {
            if let Err(status) = answer {
                // The client's own time-out has a source. A status of the server has none.
                let is_of_the_server = std::error::Error::source(&status).is_none();
                let is_in_time = status.code() == Code::DeadlineExceeded;
                assert!(is_in_time || !is_of_the_server, "{status:?}");
            }
        }
        ada.robs(&ben).await.unwrap();
    });
}

#[test]
fn a_call_without_time_is_not_executed() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        let mut client = world.heists.clone();
        let call = client.execute_heist(heist(ada.id, ben.id, "0n"));
        let refusal = world.refuses(call).await;
        assert!(matches!(
            refusal.code(),
            Code::DeadlineExceeded | Code::Cancelled
        ));
    });
}

#[test]
fn a_call_that_timed_out_on_a_locked_victim_can_be_repeated() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        let request_id = new_request_id();
        let transaction = ben.locked().await;

        let mut request = heist(ada.id, ben.id, "200m");
        request.get_mut().request_id.clone_from(&request_id);
        let late = world
            .heists
            .clone()
            .execute_heist(request)
            .await
            .unwrap_err();
        assert!(
            matches!(late.code(), Code::DeadlineExceeded | Code::Cancelled),
            "{late:?}"
        );
        transaction.rollback().await;

        // Perhaps it has happened meanwhile; it happens once either way.
        let answer = ada.robs_with_id(&request_id, &ben).await.unwrap();
        assert_eq!(answer.heist.unwrap().points_stolen, 50);
        assert_eq!(world.count_heists().await, 1);
    });
}

#[test]
fn a_malformed_deadline_counts_as_none() {
    lawless().run(async |world| {
        let ada = world.player("Ada").tokens(10).await;
        let ben = world.player("Ben").points(1000).await;
        for timeout in ["", "S", "-1S", "1", "1x", "999999999S", "1 S", "99999999H"] {
            let request = heist(ada.id, ben.id, timeout);
            world.heists.clone().execute_heist(request).await.unwrap();
        }
    });
}

#[test]
fn a_full_queue_is_refused_at_once_and_safe_to_repeat() {
    let setup = lawless().limits(|limits| {
        limits.queue = 4;
        limits.batch = 1;
        limits.workers = 1;
    });
    setup.run(async |world| {
        let ada = world.player("Ada").points(10_000).tokens(100).await;
        let ben = world.player("Ben").points(10_000).await;
        let answers = all_at_once((0..60).map(|_| ada.robs(&ben))).await;
        let mut refused = 0;
        for status in answers.into_iter().filter_map(Result::err) {
            refused += 1;
            let refusal = crate::harness::Refusal::from(status);
            let refusal = refusal.is(Code::Unavailable, "OVERLOADED");
            assert!(!refusal.wait().is_zero());
        }
        assert_eq!(world.count_heists().await, 60 - refused);
        ada.robs(&ben).await.unwrap();
    });
}

#[test]
fn a_player_locked_by_the_application_is_waited_for() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        let mut transaction = world.application().await;
        transaction.sets_points(&ben, 500).await;

        let call = tokio::spawn(ada.robs(&ben));
        world.a_session_waits_for_a_lock().await;
        transaction.commit().await;

        // It steals from what the application left, not from what it saw before.
        let heist = call.await.unwrap().unwrap().heist.unwrap();
        assert_eq!((heist.victim_points_before, heist.points_stolen), (500, 25));
    });
}

#[test]
fn a_call_in_progress_is_answered_when_the_server_stops() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        let (server, there) = world.replica().await;
        let transaction = ben.locked().await;
        let call = tokio::spawn(ada.seen_by(&there).robs(&ben));
        world.a_session_waits_for_a_lock().await;

        let stop = tokio::spawn(server.stop(PATIENCE));
        tokio::task::yield_now().await;
        transaction.rollback().await;

        call.await.unwrap().unwrap();
        stop.await.unwrap();
    });
}
