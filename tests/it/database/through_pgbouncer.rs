//! What differs where PgBouncer in transaction mode is between the service and the database: a
//! session is ours for one transaction. `scripts/test-pgbouncer` runs these, and all the others so.

use heist::server::{Options, Server};
use sqlx::{Connection as _, PgConnection, PgPool};

use crate::harness::{PATIENCE, World, all_at_once, connect};

/// What PgBouncer itself sets in a session for the client that gets it.
const OF_THE_CLIENT: [&str; 5] = [
    "application_name",
    "client_encoding",
    "DateStyle",
    "standard_conforming_strings",
    "TimeZone",
];

async fn sessions_of_pgbouncer(pool: &PgPool) -> usize {
    let sessions: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'heist'
            AND query NOT LIKE 'LISTEN%'",
    )
    .fetch_one(pool)
    .await
    .unwrap();
    usize::try_from(sessions).unwrap()
}

#[test]
#[ignore = "needs PgBouncer: scripts/test-pgbouncer"]
fn nothing_stays_behind_in_a_session_for_whoever_has_it_next() {
    World::run(async |world| {
        let (replica, there) = world.unaided_replica().await;
        let mut watcher = there.watch_points().await;
        let robbers = world.crowd("Robber", 20).tokens(1).await;
        let victims = world.crowd("Victim", 20).points(1000).await;
        let mut inbox = victims[0].listens(&there).await;
        let heists = robbers.iter().zip(&victims).map(|(robber, victim)| {
            let (robber, victim) = (robber.clone(), victim.clone());
            async move { robber.robs(&victim).await }
        });
        for answer in all_at_once(heists).await {
            answer.unwrap();
        }
        all_at_once((0..40).map(|_| there.get_balance(robbers[0].id))).await;
        inbox.next().await.unwrap();
        watcher.resync().await;
        replica.stop(PATIENCE).await;

        let sessions = sessions_of_pgbouncer(&world.pool).await;
        assert!(sessions > 1, "{sessions}");
        let options = world.options();
        let mut connections = Vec::new();
        for _ in 0..sessions {
            let connection = PgConnection::connect_with(options.database.connect_options());
            connections.push(connection.await.unwrap());
        }
        // All at the same time, so that each has another session.
        let mut transactions = Vec::new();
        for connection in &mut connections {
            transactions.push(connection.begin().await.unwrap());
        }
        for transaction in &mut transactions {
            let left: Vec<String> = sqlx::query_scalar(
                "SELECT name FROM pg_settings WHERE source = 'session' AND name <> ALL ($1)
                UNION ALL SELECT pg_listening_channels()",
            )
            .bind(OF_THE_CLIENT.as_slice())
            .fetch_all(&mut **transaction)
            .await
            .unwrap();
            assert!(left.is_empty(), "{left:?}");
        }
    });
}

#[test]
#[ignore = "needs PgBouncer: scripts/test-pgbouncer"]
fn a_server_that_cannot_listen_still_tells_of_every_heist() {
    World::run(async |world| {
        let (replica, there) = world.unaided_replica().await;
        let ben = world.player("Ben").points(100_000).await;
        let mut inbox = ben.listens(&there).await;
        let mut watcher = there.watch_points().await;
        // It begins by telling to load.
        watcher.resync().await;
        for robber in world.crowd("Robber", 3).tokens(1).await {
            robber.robs(&ben).await.unwrap();
        }
        let all = world.notification_ids(ben.id, 0).await;
        assert_eq!(inbox.ids(3).await, all);
        watcher.resync().await;
        replica.stop(PATIENCE).await;
    });
}

impl World {
    /// Another server, which does not know how to get past PgBouncer.
    async fn unaided_replica(&self) -> (Server, Self) {
        assert!(self.direct_url.is_some(), "HEIST_TEST_PGBOUNCER is not set");
        let options = Options {
            direct_database: None,
            ..self.options()
        };
        let server = Server::start(options).await.unwrap();
        let there = self.through(connect(server.address()).await);
        (server, there)
    }
}
