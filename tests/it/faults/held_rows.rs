//! Other transactions hold rows of players, or change the tables.

use std::time::{Duration, Instant};

use sqlx::{Connection as _, Executor as _};
use tonic::Code;

use crate::harness::{Refusal, Setup, World, all_at_once};

fn lawless() -> Setup {
    World::setup().rules(|rules| {
        rules.cooldown = Duration::ZERO;
        rules.protection = None;
    })
}

#[test]
fn players_whose_rows_are_held_delay_only_the_heists_that_name_them() {
    lawless().run(async |world| {
        let held = world.crowd("Held", 8).points(10_000).tokens(10).await;
        let others = world.crowd("Other", 8).points(10_000).tokens(100).await;
        let rob_each_other = async || {
            let begun = Instant::now();
            for index in 0..40 {
                let victim = &others[(index + 1) % 8];
                others[index % 8].robs(victim).await.unwrap();
            }
            begun.elapsed()
        };
        let control = rob_each_other().await;
        let mut application = world.session().await;
        let mut transaction = application.begin().await.unwrap();
        let ids: Vec<i32> = held.iter().map(|player| player.id).collect();
        sqlx::query(r#"SELECT FROM "User" WHERE "id" = ANY($1) FOR UPDATE"#)
            .bind(&ids)
            .execute(&mut *transaction)
            .await
            .unwrap();
        let on_held = (0..24).map(|index| others[index % 8].robs(&held[index % 8]));
        let on_held = tokio::spawn(all_at_once(on_held.collect::<Vec<_>>()));
        world.a_session_waits_for_a_lock().await;

        let took = rob_each_other().await;
        assert!(
            took < 4 * control + Duration::from_secs(1),
            "{took:?}, not {control:?}"
        );
        assert!(!on_held.is_finished());
        assert!(world.get_balance(held[0].id).await.is_ok());

        transaction.rollback().await.unwrap();
        for answer in on_held.await.unwrap() {
            answer.unwrap();
        }
    });
}

#[test]
fn a_caller_on_a_player_who_is_held_for_too_long_is_told_contention() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        let mut application = world.session().await;
        let mut transaction = application.begin().await.unwrap();
        sqlx::query(r#"SELECT FROM "User" WHERE "id" = $1 FOR UPDATE"#)
            .bind(ben.id)
            .execute(&mut *transaction)
            .await
            .unwrap();
        let mut request = tonic::Request::new(heist::pb::ExecuteHeistRequest {
            attacker_id: ada.id,
            victim_id: ben.id,
            request_id: String::new(),
        });
        request.set_timeout(Duration::from_secs(1));
        let refused = world.heists.clone().execute_heist(request).await;
        Refusal::from(refused.unwrap_err()).is(Code::Aborted, "CONTENTION");
        transaction.rollback().await.unwrap();
        // What was told to be in conflict is not executed later.
        ada.robs(&ben).await.unwrap();
        assert_eq!(world.count_heists().await, 1);
    });
}

/// In any order, under load: the application's transaction is never the one that PostgreSQL ends.
#[test]
fn bulk_updates_of_the_application_never_lose_against_heists() {
    lawless().run(async |world| {
        let players = world
            .crowd("Player", 24)
            .points(100_000)
            .tokens(10_000)
            .await;
        let callers = (0..12_usize).map(|index| {
            let players = players.clone();
            tokio::spawn(async move {
                for step in 1..20 {
                    let (attacker, victim) = (index, (index + step) % 24);
                    if attacker != victim {
                        let _ = players[attacker].robs(&players[victim]).await;
                    }
                }
            })
        });
        let callers: Vec<_> = callers.collect();
        let mut application = world.session().await;
        for order in ["ASC", "DESC"].into_iter().cycle().take(20) {
            let update = format!(
                r#"WITH ordered AS (
                    SELECT "id" FROM "User" ORDER BY "id" {order} FOR UPDATE
                )
                UPDATE "User" AS player SET "name" = player."name"
                FROM ordered WHERE ordered."id" = player."id""#
            );
            application
                .execute(sqlx::AssertSqlSafe(update))
                .await
                .unwrap();
        }
        for caller in callers {
            caller.await.unwrap();
        }
    });
}

#[test]
fn a_column_that_gets_another_type_is_read_and_written_again_at_once() {
    lawless().run(async |world| {
        let ada = world.player("Ada").tokens(10).await;
        let ben = world.player("Ben").points(1000).await;
        ada.robs(&ben).await.unwrap();
        let heists = world
            .get_heist_stats(heist::pb::GetHeistStatsRequest { user_id: ada.id })
            .await;
        heists.unwrap();
        (world.pool)
            .execute(r#"ALTER TABLE "User" ALTER COLUMN "name" TYPE varchar(200)"#)
            .await
            .unwrap();
        ada.robs(&ben).await.unwrap();
        world.get_balance(ada.id).await.unwrap();
        let board = heist::pb::GetLeaderboardRequest::default();
        world.get_leaderboard(board).await.unwrap();
    });
}

#[test]
fn marking_notifications_of_a_player_who_is_held_leaves_connections_to_the_others() {
    World::run(async |world| {
        let ada = world.player("Ada").await;
        let mut application = world.session().await;
        let mut transaction = application.begin().await.unwrap();
        sqlx::query(r#"SELECT FROM "User" WHERE "id" = $1 FOR UPDATE"#)
            .bind(ada.id)
            .execute(&mut *transaction)
            .await
            .unwrap();
        let request = || heist::pb::MarkNotificationsReadRequest {
            user_id: ada.id,
            notification_ids: Vec::new(),
            up_to_id: i64::MAX,
        };
        let marking = (0..60).map(|_| world.mark_notifications_read(request()));
        let marking = tokio::spawn(all_at_once(marking.collect::<Vec<_>>()));
        for _ in 0..20 {
            let begun = Instant::now();
            world.get_balance(ada.id).await.unwrap();
            assert!(begun.elapsed() < Duration::from_secs(1));
        }
        transaction.rollback().await.unwrap();
        for answer in marking.await.unwrap() {
            answer.unwrap();
        }
    });
}
