//! Servers that grant few sessions, and databases with other encodings than UTF8.

use heist::{
    domain::rules::Rules,
    engine::Limits,
    server::Server,
    settings::Settings,
    store::{pool::DatabaseUrl, schema},
};
use sqlx::{AssertSqlSafe, Connection as _};

use crate::harness::{
    PATIENCE, World, connect, options, postgres::Database, process::Heist, runtime, until,
};

/// The pool wants 10 connections and the service 2 more, for signals and readiness.
#[test]
fn a_role_with_three_sessions_serves_a_crowd() {
    let setup = World::setup().rules(|rules: &mut Rules| rules.protection = None);
    setup.run(async |world| {
        let role = format!("limited_{}", rand::random::<u32>());
        world
            .execute(&format!(
                "CREATE ROLE {role} LOGIN CONNECTION LIMIT 3; GRANT ALL ON ALL TABLES IN SCHEMA public TO {role};
                GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}"
            ))
            .await;
        let url = world.own_url().replace("postgres@", &format!("{role}@"));
        let mut options = world.options();
        options.database = DatabaseUrl::parse(&url).unwrap();
        options.direct_database = None;
        let server = Server::start(options).await.unwrap();
        let there = world.through(connect(server.address()).await);
        let rich = world.player("Rich").points(1_000_000).await;
        let crowd = world.crowd("Robber", 60).points(100).tokens(1).await;
        let heists: Vec<_> = (crowd.iter())
            .map(|robber| tokio::spawn(robber.seen_by(&there).robs(&rich)))
            .collect();
        for heist in heists {
            heist.await.unwrap().unwrap();
        }
        until("it is ready", async || {
            crate::rpc::health_and_reflection::is_serving(&there, "")
                .await
                .then_some(())
        })
        .await;
        server.stop(PATIENCE).await;
        world
            .execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
            .await;
    });
}

#[test]
fn a_migration_names_the_rights_that_its_role_lacks() {
    runtime().block_on(async {
        let database = Database::of_the_application().await;
        let pool = database.connect().await;
        let role = format!("stranger_{}", rand::random::<u32>());
        let execute = async |script: &str| {
            sqlx::raw_sql(AssertSqlSafe(script.to_owned()))
                .execute(&pool)
                .await
                .unwrap();
        };
        execute(&format!("CREATE ROLE {role} LOGIN")).await;
        let url = (database.own_url()).replace("postgres@", &format!("{role}@"));
        let refusal = async || {
            let url = DatabaseUrl::parse(&url).unwrap();
            let refused = schema::migrate(url.connect_options()).await.unwrap_err();
            refused.to_string()
        };
        let reads = format!(r#"GRANT SELECT ON "PointEventTypeMaster" TO {role}"#);
        let lines = refusal().await;
        assert!(lines.contains(&format!("cure: {reads}")), "{lines}");
        assert!(
            (lines.lines()).all(|line| line.contains("cure: ")),
            "{lines}"
        );

        // All that `heist serve` needs of the application's tables.
        execute(&format!(
            r#"GRANT ALL ON "User", "UserPointEvent" TO {role}; {reads};
            GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}"#
        ))
        .await;
        let lines = refusal().await;
        for words in [
            r#"does not own "User"; cure: run `heist migrate` as postgres"#.to_owned(),
            format!("cure: GRANT CREATE ON SCHEMA public TO {role}"),
            format!(r#"cure: GRANT INSERT ON "PointEventTypeMaster" TO {role}"#),
        ] {
            assert!(lines.contains(&words), "{words}: {lines}");
        }
        execute(&format!(
            r#"GRANT CREATE ON SCHEMA public TO {role};
            GRANT INSERT ON "PointEventTypeMaster" TO {role}; GRANT postgres TO {role}"#
        ))
        .await;
        let url = DatabaseUrl::parse(&url).unwrap();
        schema::migrate(url.connect_options()).await.unwrap();
        execute(&format!(
            "REASSIGN OWNED BY {role} TO postgres; DROP OWNED BY {role}; DROP ROLE {role}"
        ))
        .await;
        pool.close().await;
        database.discard().await;
    });
}

#[test]
fn databases_with_other_encodings_are_refused_with_a_cure() {
    runtime().block_on(async {
        for encoding in ["SQL_ASCII", "LATIN1"] {
            let database = Database::of_the_application().await;
            let own = database.own_url().to_owned();
            let name = format!("odd_{}", encoding.to_lowercase());
            let url = url_of(&own, &name);
            let mut server = sqlx::PgConnection::connect(&own).await.unwrap();
            let create = format!(
                "CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
            );
            sqlx::query(AssertSqlSafe(create))
                .execute(&mut server)
                .await
                .unwrap();
            let mut application = sqlx::PgConnection::connect(&url).await.unwrap();
            sqlx::raw_sql(heist::demo::APPLICATION_SCHEMA)
                .execute(&mut application)
                .await
                .unwrap();
            application.close().await.unwrap();

            let parsed = DatabaseUrl::parse(&url).unwrap();
            let migrated = schema::migrate(parsed.connect_options()).await;
            let started = Server::start(options(&url, Settings::default(), Limits::default()));
            for refusal in [
                migrated.unwrap_err().to_string(),
                started.await.err().unwrap().to_string(),
            ] {
                let line = refusal
                    .lines()
                    .find(|line| line.contains(encoding))
                    .unwrap();
                assert!(line.contains("cure: "), "{line}");
            }
            let checked = Heist::new(&["check", "--schema"])
                .env("DATABASE_URL", &url)
                .ended()
                .await;
            assert_eq!(checked.code, Some(1), "{checked:?}");
            assert!(checked.stdout.contains(encoding), "{checked:?}");

            let drop = format!("DROP DATABASE {name} WITH (FORCE)");
            sqlx::query(AssertSqlSafe(drop))
                .execute(&mut server)
                .await
                .unwrap();
            server.close().await.unwrap();
            database.discard().await;
        }
    });
}

/// The URL of another database of the same server.
fn url_of(url: &str, database: &str) -> String {
    let mut url = url::Url::parse(url).unwrap();
    url.set_path(database);
    url.into()
}
