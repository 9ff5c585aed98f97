//! SIGTERM, step by step.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tonic::Code::Unavailable;

use crate::harness::{Refusal, World, connect, process::Heist, until};
use crate::rpc::health_and_reflection::is_serving;

fn server(world: &World) -> Heist {
    Heist::serve()
        .env("DATABASE_URL", &world.database_url)
        .env("HEIST_AUTH", "none")
}

#[test]
fn a_shutdown_is_not_ready_then_refuses_then_drains_then_exits_with_zero() {
    World::run(async |world| {
        let server = server(world)
            .env("HEIST_SHUTDOWN_DELAY", "2s")
            .serving()
            .await;
        let there = world.through(connect(server.address).await);
        let ada = world.player("Ada").tokens(1).await.seen_by(&there);
        let ben = world.player("Ben").points(1000).await.seen_by(&there);
        let inbox = ben.listens(&there).await;
        let watcher = there.watch_points().await;
        let application = ben.locked().await;
        let in_progress = tokio::spawn(ada.robs(&ben));
        world.a_session_waits_for_a_lock().await;

        let told = Instant::now();
        server.signal("TERM").await;
        until("it is not ready", async || {
            (!is_serving(&there, "").await).then_some(())
        })
        .await;
        // Load balancers may still send calls, on new connections as well.
        let latecomer = there.through(connect(server.address).await);
        latecomer.get_balance(ada.id).await.unwrap();
        assert!(is_serving(&latecomer, "liveness").await);

        for end in [inbox.end().await, watcher.end().await] {
            Refusal::from(end).is(Unavailable, "SHUTTING_DOWN");
        }
        assert!(told.elapsed() >= Duration::from_secs(2));
        until("it accepts no connections", async || {
            TcpStream::connect(server.address)
                .await
                .is_err()
                .then_some(())
        })
        .await;
        assert!(!in_progress.is_finished());
        application.rollback().await;
        in_progress
            .await
            .unwrap()
            .expect("what has begun completes");
        let ended = server.ended().await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
    });
}

#[test]
fn calls_beyond_the_grace_period_are_cut_off() {
    World::run(async |world| {
        let server = server(world)
            .env("HEIST_SHUTDOWN_GRACE", "1s")
            .serving()
            .await;
        let there = world.through(connect(server.address).await);
        let ada = world.player("Ada").tokens(1).await.seen_by(&there);
        let ben = world.player("Ben").points(1000).await;
        let application = ben.locked().await;
        let in_progress = tokio::spawn(ada.robs(&ben));
        world.a_session_waits_for_a_lock().await;

        let told = Instant::now();
        let ended = server.stopped_by("TERM").await;
        let took = told.elapsed();
        assert!(took >= Duration::from_secs(1), "{took:?}");
        // A call may take ten seconds: it was not waited for.
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(
            ended.stderr.contains("outlast the grace period"),
            "{ended:?}"
        );
        in_progress.await.unwrap().unwrap_err();
        application.rollback().await;
        assert_eq!(ben.points().await, 1000);
    });
}
