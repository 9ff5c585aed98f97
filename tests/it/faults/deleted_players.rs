//! The application deletes an account: which rows stay, and what they may still contain.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use heist::pb::{self, notification::Details};
use tonic::{
    Code::{AlreadyExists, NotFound},
    Status,
};

use crate::{
    harness::{Player, Refusal, World, new_request_id, until},
    rpc::tokens::list_token_events::explains_the_balance,
};

#[test]
fn the_victim_of_a_deleted_robber_still_reads_of_the_heist() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        let heist = ada.robs(&ben).await.unwrap().heist.unwrap();
        ada.leaves().await;

        let told = ben.notifications().await.remove(0);

        assert_eq!(
            told.message,
            "[deleted player] stole 50 of your monthly points."
        );
        let Some(Details::HeistVictim(details)) = told.details else {
            panic!("{told:?}");
        };
        assert_eq!(
            (details.heist_id, details.attacker_name.as_str()),
            (heist.id, "")
        );
        assert_eq!((details.points_lost, details.points_after), (50, 950));
        assert_eq!(world.get_unread_count(ben.id).await.unwrap(), 1);
    });
}

#[test]
fn the_robber_of_a_deleted_victim_still_reads_of_the_heist() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        ada.robs(&ben).await.unwrap();
        ben.leaves().await;
        let told = ada.notifications().await.remove(0);
        assert_eq!(told.message, "You stole 50 points from [deleted player].");
    });
}

#[test]
fn the_address_of_a_deleted_robber_is_erased_and_the_heist_kept() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        ada.robs(&ben).await.unwrap();
        ada.leaves().await;
        let row: (Option<i32>, Option<i32>, Option<String>, i32) = sqlx::query_as(
            r#"SELECT "attackerId", "victimId", "ipAddress"::text, "pointsStolen" FROM "Heist""#,
        )
        .fetch_one(&world.pool)
        .await
        .unwrap();
        assert_eq!(row, (None, Some(ben.id), None, 50));
    });
}

#[test]
fn the_address_of_a_robber_outlives_their_victim() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        ada.robs(&ben).await.unwrap();
        ben.leaves().await;
        let address: Option<String> = world.address_of_the_heist().await;
        assert_eq!(address.as_deref(), Some("127.0.0.1"));
    });
}

#[test]
fn a_deleted_player_leaves_no_name_anywhere() {
    World::run(async |world| {
        let referrer = world.player("Ada").await;
        let leaver = world.player("Zaphod").points(1000).tokens(1).await;
        let rich = world.player("Rich").points(1000).await;
        let named = pb::AwardTokenRequest {
            referrer_id: referrer.id,
            referred_id: leaver.id,
            referred_name: "Zaphod B.".to_owned(),
        };
        world.award_token(named).await.unwrap();
        leaver.robs(&rich).await.unwrap();
        referrer.robs(&leaver).await.unwrap();
        leaver.leaves().await;

        for (table, rows) in crate::harness::snapshot(&world.pool).await {
            // Point events are the application's; their descriptions are as the review has them.
            if table != "UserPointEvent" {
                let rows = rows.join("\n");
                assert!(!rows.contains("Zaphod"), "in {table}: {rows}");
            }
        }
        let told = referrer.notifications().await;
        let message = "[deleted player] joined with your code. You earned a heist token.";
        assert_eq!(told[1].message, message);
    });
}

#[test]
fn deleting_a_player_deletes_tokens_and_notifications() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(2).await;
        let ben = world.player("Ben").points(1000).await;
        ada.robs(&ben).await.unwrap();
        ada.leaves().await;
        let refusal = world.refuses(world.get_balance(ada.id)).await;
        refusal.is(NotFound, "USER_NOT_FOUND");
        let left: i64 = sqlx::query_scalar(
            r#"SELECT (SELECT count(*) FROM "HeistToken" WHERE "userId" = $1)
                + (SELECT count(*) FROM "HeistNotification" WHERE "userId" = $1)
                + (SELECT count(*) FROM "HeistTokenAdjustment" WHERE "userId" = $1)"#,
        )
        .bind(ada.id)
        .fetch_one(&world.pool)
        .await
        .unwrap();
        assert_eq!(left, 0);
    });
}

#[test]
fn a_heist_on_a_deleted_victim_is_replayed_without_the_name() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(2).await;
        let ben = world.player("Ben").points(1000).await;
        let carl = world.player("Carl").points(1000).await;
        let id = new_request_id();
        let first = ada.robs_with_id(&id, &ben).await.unwrap();
        ben.leaves().await;

        let again = ada.robs_with_id(&id, &ben).await.unwrap();

        let expected = pb::ExecuteHeistResponse {
            heist: Some(pb::Heist {
                victim_id: 0,
                victim_name: String::new(),
                ..first.heist.unwrap()
            }),
            replayed: true,
            ..first
        };
        assert_eq!(again, expected);
        // The attacker is still known, so the id is still theirs.
        let refusal = world.refuses(carl.robs_with_id(&id, &ben)).await;
        refusal.is(AlreadyExists, "REQUEST_ID_REUSED");
    });
}

#[test]
fn a_heist_whose_players_were_both_deleted_is_replayed_without_them() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(2).await;
        let ben = world.player("Ben").points(1000).await;
        let id = new_request_id();
        let first = ada.robs_with_id(&id, &ben).await.unwrap();
        ada.leaves().await;
        ben.leaves().await;

        let again = ada.robs_with_id(&id, &ben).await.unwrap();

        let expected = pb::ExecuteHeistResponse {
            heist: Some(pb::Heist {
                attacker_id: 0,
                attacker_name: String::new(),
                victim_id: 0,
                victim_name: String::new(),
                ..first.heist.unwrap()
            }),
            replayed: true,
            ..first
        };
        assert_eq!(again, expected);
        // Without the request id it is a new heist.
        let refusal = world.refuses(ada.robs(&ben)).await;
        refusal.is(NotFound, "ATTACKER_NOT_FOUND");
    });
}

#[test]
fn a_new_heist_on_a_deleted_victim_is_not_found() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(2).await;
        let ben = world.player("Ben").points(1000).await;
        ben.leaves().await;
        let refusal = world.refuses(ada.robs(&ben)).await;
        refusal.is(NotFound, "TARGET_NOT_FOUND");
    });
}

#[test]
fn a_token_of_a_deleted_referrer_is_not_earned_again() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let other = world.player("Other").await;
        let ben = world.player("Ben").referred_by(&ada).await;
        ada.earns_a_token_for(&ben).await.unwrap();
        ada.leaves().await;
        let refusal = world.refuses(other.earns_a_token_for(&ben)).await;
        refusal.is(AlreadyExists, "REFERRAL_ALREADY_AWARDED");
    });
}

#[test]
fn a_token_outlives_the_player_who_earned_it_by_signing_up() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let ben = world.player("Ben").await;
        let rich = world.player("Rich").points(1000).await;
        ada.earns_a_token_for(&ben).await.unwrap();
        ben.leaves().await;
        ada.robs(&rich).await.unwrap();
    });
}

#[test]
fn players_deleted_during_a_burst_of_heists_affect_no_other_player() {
    let setup = World::setup().rules(|rules| rules.protection = None);
    setup.run(async |world| {
        let robbers = world.crowd("Robber", 40).points(100).tokens(1).await;
        let victims = world.crowd("Victim", 4).points(100_000).await;
        let heists: Vec<_> = (robbers.iter().enumerate())
            .map(|(index, robber)| tokio::spawn(robber.robs(&victims[index % 4])))
            .collect();
        for leaver in [&victims[0], &robbers[5], &robbers[30]] {
            leaver.leaves().await;
        }
        for (index, heist) in heists.into_iter().enumerate() {
            match heist.await.unwrap() {
                Ok(_) => {}
                Err(status) => {
                    assert_eq!(status.code(), NotFound, "{status:?}");
                    assert!(index % 4 == 0 || index == 5 || index == 30);
                }
            }
        }
    });
}

/// Deletes Ada while a read that has begun waits for this table.
async fn deleted_before_reading<T: Send + 'static>(
    world: &World,
    table: &str,
    ada: &Player,
    read: impl Future<Output = Result<T, Status>> + Send + 'static,
) -> Result<T, Status> {
    let mut transaction = world.application().await;
    let lock = format!(r#"LOCK TABLE "{table}" IN ACCESS EXCLUSIVE MODE"#);
    transaction.execute(&lock).await;
    let reading = tokio::spawn(read);
    world.a_session_waits_for_a_lock().await;
    transaction.deletes(ada).await;
    transaction.commit().await;
    reading.await.unwrap()
}

#[test]
fn a_player_deleted_during_a_read_is_not_found() {
    World::run(async |world| {
        let ben = world.player("Ben").points(1000).await;
        for rpc in ["stats", "heists", "statement", "notifications"] {
            let ada = world.player("Ada").tokens(1).await;
            ada.robs(&ben).await.unwrap();
            let user_id = ada.id;
            let there = world.clone();
            let table = if rpc == "notifications" {
                "HeistNotification"
            } else {
                "Heist"
            };
            let refused = deleted_before_reading(world, table, &ada, async move {
                match rpc {
                    "stats" => {
                        let request = pb::GetHeistStatsRequest { user_id };
                        there.get_heist_stats(request).await.map(drop)
                    }
                    "heists" => {
                        let request = pb::ListHeistsRequest {
                            user_id,
                            ..Default::default()
                        };
                        there.list_heists(request).await.map(drop)
                    }
                    "statement" => {
                        let request = pb::ListTokenEventsRequest {
                            user_id,
                            ..Default::default()
                        };
                        there.list_token_events(request).await.map(drop)
                    }
                    _ => {
                        let request = pb::ListNotificationsRequest {
                            user_id,
                            ..Default::default()
                        };
                        there.list_notifications(request).await.map(drop)
                    }
                }
            })
            .await
            .expect_err(rpc);
            Refusal::from(refused).is(NotFound, "USER_NOT_FOUND");
        }
    });
}

#[test]
fn a_player_deleted_during_an_award_is_not_found() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let ben = world.player("Ben").await;
        let mut transaction = world.application().await;
        transaction.deletes(&ben).await;
        let award = tokio::spawn(ada.earns_a_token_for(&ben));
        world.a_session_waits_for_a_lock().await;
        transaction.commit().await;
        let refused = award.await.unwrap().unwrap_err();
        Refusal::from(refused).is(NotFound, "USER_NOT_FOUND");
    });
}

#[test]
fn a_player_deleted_during_a_choice_of_preferences_is_not_found() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let mut transaction = world.application().await;
        transaction.deletes(&ada).await;
        let choice = tokio::spawn(world.update_preferences(ada.id, pb::EmailPreference::Never));
        world.a_session_waits_for_a_lock().await;
        transaction.commit().await;
        let refused = choice.await.unwrap().unwrap_err();
        Refusal::from(refused).is(NotFound, "USER_NOT_FOUND");
    });
}

/// Everything that can happen to players happens to them while they are deleted.
#[test]
fn players_deleted_under_load_leave_correct_books() {
    let setup = World::setup().rules(|rules| {
        rules.protection = None;
        rules.cooldown = Duration::ZERO;
    });
    setup.run(async |world| {
        let stayers = world.crowd("Stayer", 8).points(100_000).tokens(500).await;
        let leavers = world.crowd("Leaver", 12).points(100_000).tokens(500).await;
        let all_players = [stayers.as_slice(), &leavers].concat();
        let is_over = Arc::new(AtomicBool::new(false));
        let callers = (0..all_players.len()).map(|caller| {
            let (all_players, is_over) = (all_players.clone(), Arc::clone(&is_over));
            let world = world.clone();
            tokio::spawn(async move {
                let mut answered = 0;
                for turn in 1.. {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let robber = &all_players[caller];
                    let victim = &all_players[(caller + turn) % all_players.len()];
                    if robber.id == victim.id {
                        continue;
                    }
                    let award = world.award_token(pb::AwardTokenRequest {
                        referrer_id: robber.id,
                        referred_id: victim.id,
                        referred_name: String::new(),
                    });
                    let read = world.mark_notifications_read(pb::MarkNotificationsReadRequest {
                        user_id: victim.id,
                        up_to_id: i64::MAX,
                        ..Default::default()
                    });
                    for answer in [
                        robber.robs(victim).await.map(drop),
                        award.await.map(drop),
                        read.await.map(drop),
                    ] {
                        match answer {
                            Ok(()) => answered += 1,
                            // A player was deleted, or the award was already made.
                            Err(status) => {
                                assert!(
                                    [NotFound, AlreadyExists].contains(&status.code()),
                                    "{status:?}"
                                );
                            }
                        }
                    }
                }
                answered
            })
        });
        let callers: Vec<_> = callers.collect();
        let heists = || async { world.count_heists().await };
        for leaver in &leavers {
            // Each is deleted under load, after at least 20 more heists.
            let before = heists().await;
            until("heists go on", async || {
                (heists().await > before + 20).then_some(())
            })
            .await;
            let begun = Instant::now();
            leaver.leaves().await;
            assert!(
                begun.elapsed() < Duration::from_secs(5),
                "held up by heists"
            );
        }
        let before = heists().await;
        until("heists go on", async || {
            (heists().await > before + 20).then_some(())
        })
        .await;
        is_over.store(true, Ordering::Relaxed);
        for caller in callers {
            assert!(caller.await.unwrap() > 0);
        }

        for stayer in &stayers {
            explains_the_balance(world, stayer).await;
        }
        for leaver in &leavers {
            let refusal = world.refuses(world.get_balance(leaver.id)).await;
            refusal.is(NotFound, "USER_NOT_FOUND");
        }
        // The rows that stay do not name them, and the other side of each heist is intact.
        let traces: i64 = sqlx::query_scalar(
            r#"SELECT count(*) FROM "Heist"
            WHERE "attackerId" = ANY($1) OR "victimId" = ANY($1)
                OR ("attackerId" IS NULL AND "ipAddress" IS NOT NULL)"#,
        )
        .bind(leavers.iter().map(|leaver| leaver.id).collect::<Vec<i32>>())
        .fetch_one(&world.pool)
        .await
        .unwrap();
        assert_eq!(traces, 0);
    });
}
