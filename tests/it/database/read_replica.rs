//! `DATABASE_READ_URL`: reads go to a real streaming replica, and never see less than what was
//! answered before.

use std::time::{Duration, Instant};

use heist::{
    pb,
    server::{self, Server},
    settings::{RateLimits, Settings},
    store::pool::DatabaseUrl,
};
use sqlx::postgres::PgPoolOptions;

use crate::harness::{PATIENCE, Player, World, cluster::Cluster, options, runtime, until};

/// A primary, its replica, and a server that reads from the replica.
struct Stage {
    world: World,
    cluster: Cluster,
}

impl Stage {
    fn run(body: impl AsyncFnOnce(&mut Self)) {
        runtime().block_on(async {
            let cluster = Cluster::start(&[]).await;
            let replica = cluster.replica.as_ref().unwrap().url("postgres");
            let (server, world) = serve(&cluster.primary.url("postgres"), &replica).await;
            let mut stage = Self { world, cluster };
            body(&mut stage).await;

            server.stop(PATIENCE).await;
            stage.world.pool.close().await;
            stage.cluster.stop().await;
        });
    }

    /// When the replica was last asked for balances, where it ever was.
    async fn last_asked(&self) -> Option<time::OffsetDateTime> {
        let pool = self.cluster.look().await;
        let asked = sqlx::query_scalar(
            "SELECT max(query_start) FROM pg_stat_activity
            WHERE application_name = 'heist' AND query LIKE '%never had a token has no row%'
                AND pid <> pg_backend_pid()",
        )
        .fetch_one(&pool)
        .await
        .unwrap();
        pool.close().await;
        asked
    }

    /// One with tokens and one to rob, once the replica is read.
    async fn players(&self) -> (Player, Player) {
        let ada = self.world.player("Ada").tokens(50).await;
        let rich = self.world.player("Rich").points(1_000_000).await;
        self.is_read(&ada).await;
        (ada, rich)
    }

    /// Waits until a player's balance is read from the replica.
    async fn is_read(&self, player: &Player) {
        let before = self.last_asked().await;
        until("the replica is read", async || {
            self.world.get_balance(player.id).await.unwrap();
            (self.last_asked().await > before).then_some(())
        })
        .await;
    }
}

async fn serve(url: &str, replica: &str) -> (Server, World) {
    let mut settings = Settings {
        rates: RateLimits::NONE,
        ..Settings::default()
    };
    let rules = std::sync::Arc::make_mut(&mut settings.rules);
    (rules.cooldown, rules.protection) = (Duration::ZERO, None);
    let options = server::Options {
        read_database: Some(DatabaseUrl::parse(replica).unwrap()),
        ..options(url, settings.clone(), heist::engine::Limits::default())
    };
    let server = Server::start(options).await.unwrap();
    let pool = PgPoolOptions::new().connect(url).await.unwrap();
    let world = World::new(pool, url, settings, server.address()).await;
    (server, world)
}

/// Everything that a player sees of themselves is as the heist left it.
async fn sees_the_heist(world: &World, ada: &Player, heists: i32) {
    let balance = world.get_balance(ada.id).await.unwrap();
    assert_eq!(balance.total_spent, heists);
    assert_eq!(world.get_unread_count(ada.id).await.unwrap(), heists);
    let board = pb::GetLeaderboardRequest {
        viewer_id: ada.id,
        ..Default::default()
    };
    let board = world
        .heists
        .clone()
        .get_leaderboard(board)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(board.viewer.unwrap().monthly_points, ada.points().await);
    let stats = pb::GetHeistStatsRequest { user_id: ada.id };
    let stats = world
        .heists
        .clone()
        .get_heist_stats(stats)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(stats.heists_as_attacker, i64::from(heists));
}

/// So many times.
async fn robs_and_sees_it(stage: &Stage, robber: &Player, victim: &Player, times: i32) {
    for heists in 1..=times {
        robber.robs(victim).await.unwrap();
        sees_the_heist(&stage.world, robber, heists).await;
    }
}

#[test]
fn reads_on_the_replica_see_answered_writes() {
    Stage::run(async |stage| {
        let (ada, rich) = stage.players().await;
        robs_and_sees_it(stage, &ada, &rich, 30).await;
        stage.is_read(&ada).await;
    });
}

#[test]
fn a_replica_that_lags_is_not_read_until_it_has_caught_up() {
    Stage::run(async |stage| {
        let (ada, rich) = stage.players().await;
        stage
            .cluster
            .on_replica("SELECT pg_wal_replay_pause()")
            .await;
        robs_and_sees_it(stage, &ada, &rich, 20).await;
        let before = stage.last_asked().await;
        let begun = Instant::now();
        for _ in 0..100 {
            stage.world.get_balance(ada.id).await.unwrap();
        }
        // Had each of them waited for the replica, it would be five seconds.
        assert!(
            begun.elapsed() < Duration::from_secs(2),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!(stage.last_asked().await, before);
        stage
            .cluster
            .on_replica("SELECT pg_wal_replay_resume()")
            .await;
        stage.is_read(&ada).await;
        sees_the_heist(&stage.world, &ada, 20).await;
    });
}

#[test]
fn a_frozen_replica_delays_reads_and_fails_none() {
    Stage::run(async |stage| {
        let (ada, rich) = stage.players().await;
        stage.cluster.signal_replica("STOP");
        let begun = Instant::now();
        robs_and_sees_it(stage, &ada, &rich, 20).await;
        // Eighty reads, of which the first learn that it does not answer.
        assert!(
            begun.elapsed() < Duration::from_secs(3),
            "{:?}",
            begun.elapsed()
        );
        stage.cluster.signal_replica("CONT");
        stage.is_read(&ada).await;
        sees_the_heist(&stage.world, &ada, 20).await;
    });
}

#[test]
fn a_dead_replica_fails_no_read_and_is_used_again_when_it_is_back() {
    Stage::run(async |stage| {
        let (ada, rich) = stage.players().await;
        let world = stage.world.clone();
        let reader = ada.clone();
        let stopped = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let seen = std::sync::Arc::clone(&stopped);
        let reading = tokio::spawn(async move {
            let mut answers = 0;
            while !seen.load(std::sync::atomic::Ordering::Relaxed) {
                world.get_balance(reader.id).await.unwrap();
                answers += 1;
            }
            answers
        });
        stage.cluster.stop_replica().await;
        robs_and_sees_it(stage, &ada, &rich, 5).await;
        stopped.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(reading.await.unwrap() > 0);

        stage.cluster.start_replica().await;
        stage.is_read(&ada).await;
        sees_the_heist(&stage.world, &ada, 5).await;
    });
}

#[test]
fn a_read_url_of_a_primary_is_not_used() {
    Stage::run(async |stage| {
        let ada = stage.world.player("Ada").tokens(5).await;
        let rich = stage.world.player("Rich").points(1000).await;
        stage.is_read(&ada).await;
        // Promoted, it goes its own way.
        stage.cluster.on_replica("SELECT pg_promote()").await;
        ada.robs(&rich).await.unwrap();
        let before = stage.last_asked().await;
        sees_the_heist(&stage.world, &ada, 1).await;
        stage
            .cluster
            .on_replica(r#"UPDATE "HeistToken" SET "totalSpent" = 3, "balance" = 2"#)
            .await;
        sees_the_heist(&stage.world, &ada, 1).await;
        assert_eq!(stage.last_asked().await, before);

        // And another cluster is another cluster, however far its log reaches.
        let elsewhere = crate::harness::postgres::Database::migrated().await;
        let (server, world) = serve(&stage.world.database_url, &elsewhere.url).await;
        let ada = world.get_balance(ada.id).await.unwrap();
        assert_eq!(ada.total_spent, 1);
        server.stop(PATIENCE).await;
        world.pool.close().await;
        elsewhere.discard().await;
    });
}
