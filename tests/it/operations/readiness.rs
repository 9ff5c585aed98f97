//! Whether to send calls here, as load balancers and Kubernetes ask it.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, UnixStream},
    time::timeout,
};
use tonic::Streaming;
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus::{self, NotServing, Serving},
    health_client::HealthClient,
};

use crate::harness::{PATIENCE, World, connect, http, process::Heist, until};
use crate::rpc::health_and_reflection::{SERVICES, is_serving};

/// An open `Watch` of one service's health.
struct Watch(Streaming<HealthCheckResponse>);

impl Watch {
    async fn of(world: &World, service: &str) -> Self {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let mut client = HealthClient::new(world.channel.clone());
        Self(client.watch(request).await.unwrap().into_inner())
    }

    async fn becomes(&mut self, expected: ServingStatus) {
        let message = timeout(PATIENCE, self.0.message())
            .await
            .expect("the status changes");
        assert_eq!(message.unwrap().unwrap().status(), expected);
    }
}

/// Changes this world's database from outside of it.
async fn administer(world: &World, script: &str) {
    let here: PgConnectOptions = world.own_url().parse().unwrap();
    let name = here.get_database().unwrap().to_owned();
    let mut postgres = PgConnection::connect_with(&here.database("postgres"))
        .await
        .unwrap();
    for statement in script.replace("THIS", &name).split(';') {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
            .execute(&mut postgres)
            .await
            .unwrap();
    }
    postgres.close().await.unwrap();
}

/// Ends all sessions but the test's: PgBouncer may hold one that no client has used yet.
const END_SESSIONS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = 'THIS' AND application_name <> 'test'";

/// Faults of a database: name, statement that causes it, statement that ends it.
const AFFLICTIONS: [(&str, &str, &str); 1] = [(
    "it accepts no connections",
    "ALTER DATABASE THIS ALLOW_CONNECTIONS false",
    "ALTER DATABASE THIS ALLOW_CONNECTIONS true",
)];

#[test]
fn readiness_follows_the_database_and_liveness_does_not() {
    World::run(async |world| {
        let mut watches = Vec::new();
        for service in SERVICES {
            let mut watch = Watch::of(world, service).await;
            watch.becomes(Serving).await;
            watches.push(watch);
        }
        let mut alive = Watch::of(world, "liveness").await;
        alive.becomes(Serving).await;
        for (affliction, harm, cure) in AFFLICTIONS {
            eprintln!("{affliction}");
            for (change, expected) in [(harm, NotServing), (cure, Serving)] {
                administer(world, change).await;
                administer(world, END_SESSIONS).await;
                all_become(&mut watches, expected).await;
                assert!(is_serving(world, "liveness").await);
            }
        }
        // Liveness has not changed meanwhile.
        assert!(
            timeout(Duration::from_millis(1), alive.0.message())
                .await
                .is_err()
        );
    });
}

#[test]
fn http_probes_tell_the_same() {
    World::run(async |world| {
        let server = Heist::serve()
            .env("DATABASE_URL", &world.database_url)
            .env("HEIST_AUTH", "none")
            .env("HEIST_METRICS_LISTEN", "127.0.0.1:0")
            .serving()
            .await;
        let address = server.metrics_address.unwrap();
        let status = async |path| http::get(address, path).await.0;
        let (_, harm, cure) = AFFLICTIONS[0];
        for (change, expected) in [(harm, "503"), (cure, "200")] {
            administer(world, change).await;
            administer(world, END_SESSIONS).await;
            until("the probe tells it", async || {
                status("/readyz").await.contains(expected).then_some(())
            })
            .await;
            assert!(status("/livez").await.contains("200"));
        }
        assert_eq!(server.stopped_by("TERM").await.code, Some(0));
    });
}

#[test]
fn a_schema_that_no_longer_fits_ends_readiness_until_it_is_cured() {
    World::run(async |world| {
        let mut watch = Watch::of(world, "").await;
        watch.becomes(Serving).await;
        let rename = |from: &str, to: &str| {
            let statement = format!(
                r#"UPDATE "PointEventTypeMaster" SET "name" = '{to}' WHERE "name" = '{from}'"#
            );
            sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&world.pool)
        };
        rename("HEIST_GAIN", "gain").await.unwrap();
        watch.becomes(NotServing).await;
        rename("gain", "HEIST_GAIN").await.unwrap();
        watch.becomes(Serving).await;
    });
}

async fn all_become(watches: &mut [Watch], expected: ServingStatus) {
    for watch in watches {
        watch.becomes(expected).await;
    }
}

#[test]
fn a_server_with_a_reverted_schema_is_not_ready() {
    World::run(async |world| {
        let mut watch = Watch::of(world, "").await;
        watch.becomes(Serving).await;
        let forget = r#"
            CREATE TABLE test.newest AS
                SELECT * FROM "_heist_migrations" ORDER BY "version" DESC LIMIT 1;
            DELETE FROM "_heist_migrations"
                WHERE "version" = (SELECT "version" FROM test.newest)"#;
        world.execute(forget).await;
        watch.becomes(NotServing).await;
        let remember = r#"INSERT INTO "_heist_migrations" SELECT * FROM test.newest"#;
        world.execute(remember).await;
        watch.becomes(Serving).await;
    });
}

/// Passes on what comes to a port to the world's PostgreSQL.
async fn pass_on(listener: TcpListener, world: &World) {
    let database: PgConnectOptions = world.own_url().parse().unwrap();
    let socket = database.get_socket().unwrap().join(".s.PGSQL.5432");
    while let Ok((mut there, _)) = listener.accept().await {
        let mut here = UnixStream::connect(&socket).await.unwrap();
        tokio::spawn(async move { copy_bidirectional(&mut there, &mut here).await });
    }
}

#[test]
fn a_server_waits_for_an_unreachable_database_and_then_serves() {
    World::run(async |world| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap();
        drop(listener);
        let database: PgConnectOptions = world.own_url().parse().unwrap();
        let url = format!(
            "postgres://{}@{port}/{}",
            database.get_username(),
            database.get_database().unwrap()
        );
        let server = Heist::serve()
            .env("DATABASE_URL", url)
            .env("HEIST_AUTH", "none")
            .spawn();
        server.says("waiting for the database").await;
        let listener = TcpListener::bind(port).await.unwrap();
        let served = async {
            let server = server.serving().await;
            let there = world.through(connect(server.address).await);
            assert!(is_serving(&there, "").await);
            server.stopped_by("TERM").await
        };
        let ended = tokio::select! {
            ended = served => ended,
            () = pass_on(listener, world) => unreachable!("it listens"),
        };
        assert_eq!(ended.code, Some(0), "{ended:?}");
    });
}
