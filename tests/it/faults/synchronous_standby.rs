//! Commits that wait for a synchronous standby. What is answered survives a failover, also when the
//! waiting session is ended and the answer is looked up.

use std::time::Duration;

use heist::{
    engine::Limits,
    pb::ExecuteHeistRequest,
    server::Server,
    settings::{RateLimits, Settings},
};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::task::JoinHandle;
use tonic::Request;

use crate::harness::{
    Answer, PATIENCE, World, cluster::Cluster, new_request_id, options, runtime, until,
};

/// Plays `body` against a server on a primary that waits for its standby with each commit.
fn with_standby(body: impl AsyncFnOnce(&World, &mut Cluster)) {
    runtime().block_on(async {
        let mut cluster = Cluster::start(&[("synchronous_standby_names", "*")]).await;
        let url = cluster.primary.url("postgres");
        let settings = Settings {
            rates: RateLimits::NONE,
            ..Settings::default()
        };
        let server = Server::start(options(&url, settings.clone(), Limits::default()))
            .await
            .unwrap();
        let pool = PgPoolOptions::new().connect(&url).await.unwrap();
        let world = World::new(pool, &url, settings, server.address()).await;
        body(&world, &mut cluster).await;
        server.stop(PATIENCE).await;
        cluster.stop().await;
    });
}

/// Waits for a session that has waited for the standby for so long, and that is not `other`.
async fn waiting_session(world: &World, other: Option<i32>, at_least: Duration) -> i32 {
    until("a commit waits for the standby", async || {
        sqlx::query_scalar(
            "SELECT pid FROM pg_stat_activity
            WHERE
                wait_event = 'SyncRep' AND pid IS DISTINCT FROM $1
                AND clock_timestamp() - query_start >= make_interval(secs => $2)
            LIMIT 1",
        )
        .bind(other)
        .bind(at_least.as_secs_f64())
        .fetch_optional(&world.pool)
        .await
        .unwrap()
    })
    .await
}

async fn call(world: &World, function: &str, session: i32) {
    world
        .execute(&format!("SELECT {function}({session})"))
        .await;
}

async fn count_heists(pool: &PgPool) -> i64 {
    sqlx::query_scalar(r#"SELECT count(*) FROM "Heist""#)
        .fetch_one(pool)
        .await
        .unwrap()
}

/// The standby comes back, and the call is answered. Then the standby takes over, and has the heist.
async fn is_answered_and_kept<T>(
    world: &World,
    cluster: &Cluster,
    robbing: JoinHandle<Answer<T>>,
    heists: i64,
) -> T {
    assert!(!robbing.is_finished(), "answered before the standby has it");
    assert_eq!(world.count_heists().await, heists, "it is committed here");
    cluster.signal_replica("CONT");
    let answer = match robbing.await.unwrap() {
        Ok(answer) => answer,
        Err(status) => panic!("{status}"),
    };
    let standby = cluster.fails_over().await;
    assert_eq!(count_heists(&standby).await, heists);
    standby.close().await;
    answer
}

#[test]
fn a_looked_up_answer_waits_for_the_standby() {
    with_standby(async |world, cluster| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        cluster.signal_replica("STOP");
        let robbing = tokio::spawn(ada.robs(&ben));
        let first = waiting_session(world, None, Duration::ZERO).await;
        call(world, "pg_terminate_backend", first).await;
        let second = waiting_session(world, Some(first), Duration::ZERO).await;
        call(world, "pg_terminate_backend", second).await;
        waiting_session(world, Some(second), Duration::ZERO).await;
        let answer = is_answered_and_kept(world, cluster, robbing, 1).await;
        assert!(!answer.replayed);
    });
}

#[test]
fn a_commit_whose_wait_is_cancelled_is_confirmed_by_another_one() {
    with_standby(async |world, cluster| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        cluster.signal_replica("STOP");
        let robbing = tokio::spawn(ada.robs(&ben));
        let session = waiting_session(world, None, Duration::from_millis(1200)).await;
        call(world, "pg_cancel_backend", session).await;
        until("the same session confirms the commit", async || {
            let confirms: bool = sqlx::query_scalar(
                "SELECT wait_event = 'SyncRep' AND query LIKE '%pg_logical_emit_message%'
                FROM pg_stat_activity WHERE pid = $1",
            )
            .bind(session)
            .fetch_one(&world.pool)
            .await
            .unwrap();
            confirms.then_some(())
        })
        .await;
        let answer = is_answered_and_kept(world, cluster, robbing, 1).await;
        assert!(!answer.replayed);
    });
}

#[test]
fn a_replay_for_deleted_players_waits_for_the_standby() {
    with_standby(async |world, cluster| {
        let ada = world.player("Ada").tokens(1).await;
        let ben = world.player("Ben").points(1000).await;
        let request_id = new_request_id();
        ada.robs_with_id(&request_id, &ben).await.unwrap();
        ada.leaves().await;
        ben.leaves().await;
        cluster.signal_replica("STOP");
        let robbing = tokio::spawn(ada.robs_with_id(&request_id, &ben));
        waiting_session(world, None, Duration::ZERO).await;
        let answer = is_answered_and_kept(world, cluster, robbing, 1).await;
        assert!(answer.replayed);
    });
}

#[test]
fn a_heist_that_a_failover_loses_was_not_answered() {
    with_standby(async |world, cluster| {
        let robbers = world.crowd("Robber", 2).tokens(1).await;
        let rich = world.player("Rich").points(1000).await;
        robbers[0].robs(&rich).await.unwrap();
        cluster.stop_replica().await;

        let mut request = Request::new(ExecuteHeistRequest {
            attacker_id: robbers[1].id,
            victim_id: rich.id,
            request_id: new_request_id(),
        });
        request.set_timeout(Duration::from_secs(3));
        let mut client = world.heists.clone();
        let robbing = tokio::spawn(async move { client.execute_heist(request).await });
        let session = waiting_session(world, None, Duration::ZERO).await;
        call(world, "pg_terminate_backend", session).await;
        waiting_session(world, Some(session), Duration::ZERO).await;
        let status = robbing.await.unwrap().unwrap_err();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded, "{status}");
        assert_eq!(world.count_heists().await, 2, "it is committed here");

        cluster.start_replica_alone().await;
        let standby = cluster.look().await;
        assert_eq!(count_heists(&standby).await, 1);
        standby.close().await;
    });
}
