//! `NotificationService.StreamNotifications`: oldest first, none skipped when sessions end.

use std::{sync::Arc, time::Duration};

use heist::{
    domain::{award::AwardOrder, ids::UserId},
    engine::{Engine, Limits, OnCommit},
    pb::{NotificationType, notification::Details},
};
use tokio::time::Instant;
use tonic::{
    Code::{NotFound, Unavailable},
    transport::Endpoint,
};

use crate::harness::{PATIENCE, Player, Refusal, World, all_at_once, streams::Inbox, until};

/// Friends join with the player's code, all at once.
async fn tell(world: &World, player: &Player, times: usize) {
    let friends = world.crowd("Friend", times).await;
    let awards = (friends.iter()).map(|friend| player.earns_a_token_for(friend));
    for answer in all_at_once(awards).await {
        answer.unwrap();
    }
}

#[test]
fn a_stream_begins_after_a_known_notification_oldest_first_and_goes_on() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        tell(world, &ada, 250).await;
        let all = world.notification_ids(ada.id, 0).await;
        for known in [0, 9, 149, 248, 249] {
            let mut inbox = (world.stream_notifications(ada.id, all[known]).await).unwrap();
            let rest = &all[known + 1..];
            assert_eq!(inbox.ids(rest.len()).await, rest);
        }

        let mut inbox = (world.stream_notifications(ada.id, all[0]).await).unwrap();
        tell(world, &ada, 5).await;
        let all = world.notification_ids(ada.id, 0).await;
        assert_eq!(inbox.ids(254).await, all[1..]);
    });
}

#[test]
fn a_stream_after_nothing_has_only_what_is_new() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        // There is none yet.
        let mut early = ada.listens(world).await;
        tell(world, &ada, 3).await;
        let mut late = ada.listens(world).await;
        tell(world, &ada, 1).await;
        let all = world.notification_ids(ada.id, 0).await;
        assert_eq!(early.ids(4).await, all);
        assert_eq!(late.next_id().await, all[3]);
    });
}

#[test]
fn both_players_stream_the_heist_at_once() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        let (mut to_ada, mut to_ben) = (ada.listens(world).await, ben.listens(world).await);
        let heist = ada.robs(&ben).await.unwrap().heist.unwrap();

        let told = to_ada.next().await.unwrap();
        assert_eq!(told.r#type(), NotificationType::HeistSuccess);
        assert_eq!(told.message, "You stole 50 points from Ben.");
        let told = to_ben.next().await.unwrap();
        assert_eq!(told, ben.notifications().await[0]);
        let Some(Details::HeistVictim(details)) = told.details else {
            panic!("{told:?}")
        };
        assert_eq!(details.heist_id, heist.id);
        assert_eq!(details.points_lost, 50);
        assert!(!told.read);
    });
}

#[test]
fn a_heist_on_one_server_reaches_the_streams_of_another() {
    World::run(async |world| {
        let (replica, there) = world.replica().await;
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).tokens(1).await;
        let (mut to_ada, mut to_ben) = (ada.listens(world).await, ben.listens(&there).await);

        ada.robs(&ben).await.unwrap();
        assert_eq!(to_ben.next().await.unwrap(), ben.notifications().await[0]);
        ben.seen_by(&there).robs(&ada).await.unwrap();
        assert_eq!(to_ada.ids(2).await, world.notification_ids(ada.id, 0).await);

        tell(&there, &ada, 1).await;
        let told = to_ada.next().await.unwrap();
        assert_eq!(told.r#type(), NotificationType::TokenEarned);
        replica.stop(PATIENCE).await;
    });
}

#[test]
fn a_notification_without_a_signal_is_delivered_late() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let mut inbox = ada.listens(world).await;
        // An engine that sends no signals.
        let no_listener: OnCommit = Arc::new(|_| ());
        let (engine, workers) =
            Engine::start(world.engine_pool(4), Limits::default(), None, no_listener);
        for friend in world.crowd("Friend", 3).await {
            let order = AwardOrder {
                referrer: UserId::new(ada.id).unwrap(),
                referred: UserId::new(friend.id).unwrap(),
                referred_name: None,
            };
            let awarded = engine.award_token(order, Instant::now() + PATIENCE).await;
            awarded.unwrap();
            let all = world.notification_ids(ada.id, 0).await;
            assert_eq!(inbox.next_id().await, *all.last().unwrap());
        }
        drop(engine);
        workers.finish().await;
    });
}

/// Reads a player's stream through one server and another, gives it up at random points, opens it
/// again after the last notification that it had, and checks that it gets each, once and in
/// order. Returns when it has `count`.
async fn reads_with_breaks(worlds: [World; 2], user_id: i32, count: usize) -> Vec<i64> {
    let mut seen: Vec<i64> = Vec::new();
    let mut turn = 0;
    while seen.len() < count {
        // 1 is before the first: ids are never reused, and it is not this player's.
        let cursor = seen.last().copied().unwrap_or(1);
        turn += 1;
        let opened = worlds[turn % 2].stream_notifications(user_id, cursor).await;
        let mut inbox = match opened {
            Ok(inbox) => inbox,
            Err(status) => {
                Refusal::from(status).is(Unavailable, "DATABASE_UNAVAILABLE");
                continue;
            }
        };
        let give_up_after = rand::random_range(1..20).min(count - seen.len());
        for _ in 0..give_up_after {
            let id = inbox.next_id().await;
            assert!(seen.last().is_none_or(|last| *last < id), "out of order");
            seen.push(id);
        }
    }
    seen
}

/// Ten players rob each other and earn tokens through two servers while their streams are read.
/// `something_happens` runs repeatedly meanwhile.
fn nothing_is_lost_while(something_happens: &impl AsyncFn(&World)) {
    const ROUNDS: usize = 15;
    let setup = World::setup().rules(|rules| {
        rules.cooldown = Duration::ZERO;
        rules.protection = None;
    });
    setup.run(async |world| {
        let (replica, there) = world.replica().await;
        let worlds = [world.clone(), there];
        tell(world, &world.player("Bystander").await, 1).await;
        let players = world.crowd("Player", 10).points(10_000).tokens(20).await;

        // Each is told of ROUNDS heists of theirs, ROUNDS on them, and ROUNDS tokens.
        let readers = (players.iter())
            .map(|player| reads_with_breaks(worlds.clone(), player.id, 3 * ROUNDS))
            .map(tokio::spawn);
        let readers: Vec<_> = readers.collect();
        let doers = (0..players.len()).map(|index| {
            let (attacker, victim) = (players[index].clone(), players[(index + 1) % 10].clone());
            let worlds = worlds.clone();
            async move {
                for round in 0..ROUNDS {
                    let attacker = attacker.seen_by(&worlds[round % 2]);
                    let id = crate::harness::new_request_id();
                    while let Err(status) = attacker.robs_with_id(&id, &victim).await {
                        Refusal::from(status).is(Unavailable, "DATABASE_UNAVAILABLE");
                    }
                    let friend = worlds[0].player("Friend").await;
                    while let Err(status) = attacker.earns_a_token_for(&friend).await {
                        Refusal::from(status).is(Unavailable, "DATABASE_UNAVAILABLE");
                    }
                }
            }
        });
        let doers: Vec<_> = doers.map(tokio::spawn).collect();
        while doers.iter().any(|doer| !doer.is_finished()) {
            something_happens(world).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for doer in doers {
            doer.await.unwrap();
        }
        for (player, reader) in players.iter().zip(readers) {
            let seen = reader.await.unwrap();
            assert_eq!(seen, world.notification_ids(player.id, 0).await);
        }
        replica.stop(PATIENCE).await;
    });
}

#[test]
fn no_notification_is_skipped_under_load_and_reconnects() {
    nothing_is_lost_while(&async |_| ());
}

#[test]
fn no_notification_is_skipped_while_listening_sessions_end() {
    nothing_is_lost_while(&async |world| {
        world.end_sessions("LISTEN%").await;
    });
}

#[test]
fn no_notification_is_skipped_while_notifying_sessions_end() {
    nothing_is_lost_while(&async |world| {
        world.end_sessions("SELECT pg_notify%").await;
    });
}

#[test]
fn no_notification_is_skipped_while_all_sessions_end_repeatedly() {
    nothing_is_lost_while(&async |world| {
        world.end_sessions("%").await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    });
}

#[test]
fn an_open_stream_outlives_the_sessions_of_the_database() {
    World::run(async |world| {
        let (replica, there) = world.replica().await;
        let ada = world.player("Ada").await;
        let (mut here_too, mut inbox) = (ada.listens(world).await, ada.listens(&there).await);
        for sessions in ["LISTEN%", "SELECT pg_notify%", "%"] {
            until("there is such a session", async || {
                (world.end_sessions(sessions).await > 0).then_some(())
            })
            .await;
            let friend = world.player("Friend").await;
            while let Err(status) = ada.earns_a_token_for(&friend).await {
                Refusal::from(status).is(Unavailable, "DATABASE_UNAVAILABLE");
            }
            let newest = world.notification_ids(ada.id, 0).await.pop().unwrap();
            assert_eq!(inbox.next_id().await, newest);
            assert_eq!(here_too.next_id().await, newest);
        }
        replica.stop(PATIENCE).await;
    });
}

#[test]
fn a_paused_reader_delays_no_other_reader_and_misses_nothing() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        // What HTTP/2 promises to every reader, and no more.
        let narrow = Endpoint::from_shared(format!("http://{}", world.address))
            .unwrap()
            .initial_stream_window_size(65_535)
            .initial_connection_window_size(65_535)
            .connect()
            .await
            .unwrap();
        let mut pausing = ada.listens(&world.through(narrow)).await;
        let mut reading = ada.listens(world).await;
        let long_name = "Ü".repeat(200);
        let friends = world.crowd(&long_name, 400).await;
        let awards = (friends.iter()).map(|friend| ada.earns_a_token_for(friend));
        for answer in all_at_once(awards).await {
            answer.unwrap();
        }
        let all = world.notification_ids(ada.id, 0).await;
        assert_eq!(reading.ids(400).await, all);
        assert_eq!(pausing.ids(400).await, all);
    });
}

#[test]
fn a_shutdown_ends_streams_at_once_with_a_reason() {
    World::run(async |world| {
        let (replica, there) = world.replica().await;
        let players = world.crowd("Player", 20).await;
        let mut inboxes: Vec<Inbox> = Vec::new();
        for player in &players {
            inboxes.push(player.listens(&there).await);
        }
        let mut watcher = there.watch_points().await;
        watcher.resync().await;

        let stopping = Instant::now();
        replica.stop(PATIENCE).await;
        assert!(stopping.elapsed() < PATIENCE / 2, "it waited for streams");
        for inbox in inboxes {
            Refusal::from(inbox.end().await).is(Unavailable, "SHUTTING_DOWN");
        }
        Refusal::from(watcher.end().await).is(Unavailable, "SHUTTING_DOWN");

        // The cursor is good on another server.
        tell(world, &players[0], 2).await;
        let all = world.notification_ids(players[0].id, 0).await;
        let mut inbox = (world.stream_notifications(players[0].id, all[0]).await).unwrap();
        assert_eq!(inbox.next_id().await, all[1]);
    });
}

#[test]
fn the_stream_of_a_player_who_is_deleted_falls_silent() {
    World::run(async |world| {
        let (replica, there) = world.replica().await;
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        let (to_ada, mut to_ben) = (ada.listens(&there).await, ben.listens(&there).await);
        ada.leaves().await;
        tell(&there, &ben, 1).await;
        to_ben.next().await.unwrap();
        // Nothing but the end of the server is told.
        replica.stop(PATIENCE).await;
        Refusal::from(to_ada.end().await).is(Unavailable, "SHUTTING_DOWN");
    });
}

#[test]
fn an_unknown_player_has_no_stream() {
    World::run(async |world| {
        for user_id in [1_000_000, i32::MAX] {
            let call = world.stream_notifications(user_id, 0);
            let status = call.await.err().expect("there is no such player");
            Refusal::from(status).is(NotFound, "USER_NOT_FOUND");
        }
    });
}

#[test]
fn malformed_requests_are_refused_by_field() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        for (user_id, after_id, fields) in [
            (0, 0, &["user_id"][..]),
            (-1, 0, &["user_id"]),
            (ada.id, -1, &["after_id"]),
            (ada.id, i64::MIN, &["after_id"]),
            (i32::MIN, -1, &["user_id", "after_id"]),
        ] {
            let call = world.stream_notifications(user_id, after_id);
            let status = call.await.err().expect("a field is wrong");
            Refusal::from(status).names(fields);
        }
        // Nothing comes after the last id there can be, and nothing is wrong with it.
        (world.stream_notifications(ada.id, i64::MAX).await).unwrap();
    });
}
