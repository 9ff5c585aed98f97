//! The application changes its rows while the service runs: the end of the month, and ids that it gives
//! to a second player.

use std::sync::atomic::{AtomicBool, Ordering};

use heist::{
    engine::Limits,
    pb,
    server::Server,
    settings::{RateLimits, Settings},
    store::check,
};
use tonic::Code;

use crate::harness::{PATIENCE, World, all_at_once, options, postgres::Database, runtime, until};

/// The statements of `docs/integration.md`.
const RESET: &str = r#"
    BEGIN;
    SELECT "id" FROM "User" ORDER BY "id" FOR NO KEY UPDATE;
    UPDATE "User" SET "monthlyPoints" = 0 WHERE "monthlyPoints" <> 0;
    COMMIT;"#;

#[test]
fn points_are_reset_under_load_and_the_books_stay_in_order() {
    assert!(
        include_str!("../../../docs/integration.md").contains("ORDER BY \"id\" FOR NO KEY UPDATE"),
        "the documentation shows other statements"
    );
    runtime().block_on(async {
        let database = Database::migrated().await;
        let mut settings = Settings {
            rates: RateLimits::NONE,
            ..Settings::default()
        };
        let rules = std::sync::Arc::make_mut(&mut settings.rules);
        rules.cooldown = std::time::Duration::ZERO;
        rules.protection = None;
        let options = options(&database.url, settings.clone(), Limits::default());
        let server = Server::start(options).await.unwrap();
        let pool = database.connect().await;
        let world = World::new(pool, &database.url, settings, server.address()).await;
        let players = world.crowd("Player", 20).points(1000).tokens(10_000).await;

        let is_over = AtomicBool::new(false);
        let robbing = async {
            let mut executed = 0;
            let mut turn = 0;
            while !is_over.load(Ordering::Relaxed) {
                turn += 1;
                let calls = (0..8).map(|caller| {
                    let attacker = (turn * 7 + caller) % players.len();
                    let victim =
                        (attacker + 1 + (turn + caller) % (players.len() - 1)) % players.len();
                    players[attacker].robs(&players[victim])
                });
                for answer in all_at_once(calls).await {
                    match answer {
                        Ok(_) => executed += 1,
                        Err(status) => assert!(
                            matches!(status.code(), Code::FailedPrecondition | Code::Aborted),
                            "{status:?}"
                        ),
                    }
                }
            }
            executed
        };
        let resetting = async {
            for _ in 0..10 {
                let before = world.count_heists().await;
                until("heists go on", async || {
                    (world.count_heists().await > before + 5).then_some(())
                })
                .await;
                sqlx::raw_sql(RESET).execute(&world.pool).await.unwrap();
                // The points of the new month.
                sqlx::raw_sql(
                    r#"BEGIN; SELECT "id" FROM "User" ORDER BY "id" FOR NO KEY UPDATE;
                    UPDATE "User" SET "monthlyPoints" = 500; COMMIT"#,
                )
                .execute(&world.pool)
                .await
                .unwrap();
            }
            is_over.store(true, Ordering::Relaxed);
        };
        let (executed, ()) = tokio::join!(robbing, resetting);

        assert!(executed > 0);
        server.stop(PATIENCE).await;
        assert_eq!(
            check::books(&world.pool).await.unwrap().first,
            Vec::<String>::new()
        );
        world.pool.close().await;
        database.discard().await;
    });
}

#[test]
fn a_player_with_the_id_of_a_deleted_one_begins_with_nothing_and_is_named_nowhere() {
    World::run(async |world| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).tokens(2).await;
        let friend = world.player("Friend").await;
        ada.robs(&ben).await.unwrap();
        ben.earns_a_token_for(&friend).await.unwrap();
        for id in [ada.id, friend.id] {
            sqlx::query(r#"DELETE FROM "User" WHERE "id" = $1"#)
                .bind(id)
                .execute(&world.pool)
                .await
                .unwrap();
            sqlx::query(r#"INSERT INTO "User" ("id", "name") VALUES ($1, 'Newcomer')"#)
                .bind(id)
                .execute(&world.pool)
                .await
                .unwrap();
        }

        for told in ben.notifications().await {
            assert!(!told.message.contains("Newcomer"), "{told:?}");
            assert!(told.message.contains("[deleted player]"), "{told:?}");
        }
        assert_eq!(ada.notifications().await, Vec::new());
        assert_eq!(ada.tokens().await.earned, 0);
        let request = pb::ListHeistsRequest {
            user_id: ada.id,
            ..Default::default()
        };
        let listed = world.heists.clone().list_heists(request).await.unwrap();
        assert_eq!(listed.into_inner().heists, Vec::new());
        sqlx::query(r#"UPDATE test.start SET "points" = 0 WHERE "userId" = $1"#)
            .bind(ada.id)
            .execute(&world.pool)
            .await
            .unwrap();
        // The new players are none of the audit's.
        sqlx::query(r#"DELETE FROM "User" WHERE "name" = 'Newcomer'"#)
            .execute(&world.pool)
            .await
            .unwrap();
    });
}
