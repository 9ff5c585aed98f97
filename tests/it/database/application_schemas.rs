//! The application's schema as Prisma, `TypeORM`, Rails and hand-written SQL make it. Each either works,
//! with a clean heist and clean books, or is refused by `heist migrate up` with one line that names
//! the table, the column and the cure. None makes a server that starts and fails.

use heist::{
    engine::Limits,
    server::Server,
    settings::Settings,
    store::{check, schema},
};
use sqlx::AssertSqlSafe;

use crate::harness::{
    PATIENCE, connect, options,
    postgres::Database,
    runtime, snapshot,
    wire::{self, Method},
};

enum Expected {
    Works,
    /// The line has all of these words.
    Refused(&'static [&'static str]),
}

use Expected::{Refused, Works};

const PLAYERS: &str = r#"
    INSERT INTO "User" ("name", "monthlyPoints") VALUES ('Ada', 1200), ('Ben', 1000)"#;

/// What differs from the ordinary schema, and the result.
const SCHEMAS: [(&str, &str, Expected); 34] = [
    ("the ordinary schema", "SELECT 1", Works),
    (
        "an optional name with a NULL",
        r#"ALTER TABLE "User" ALTER COLUMN "name" DROP NOT NULL; UPDATE "User" SET "name" = NULL"#,
        Works,
    ),
    (
        "a name of 5 MB",
        r#"UPDATE "User" SET "name" = repeat('x', 5000000)"#,
        Works,
    ),
    (
        "point events with @default(cuid()) or uuid() as text",
        r#"ALTER TABLE "UserPointEvent" ALTER COLUMN "id" DROP DEFAULT, ALTER COLUMN "id" TYPE text"#,
        Works,
    ),
    (
        "point events with @default(uuid()) @db.Uuid",
        r#"ALTER TABLE "UserPointEvent" DROP COLUMN "id"; ALTER TABLE "UserPointEvent" ADD COLUMN "id" uuid PRIMARY KEY"#,
        Works,
    ),
    (
        "point events with @updatedAt",
        r#"ALTER TABLE "UserPointEvent" ADD COLUMN "updatedAt" timestamp(3) NOT NULL"#,
        Works,
    ),
    (
        "a time stamp with time zone as well",
        r#"ALTER TABLE "UserPointEvent" ADD COLUMN "changed" timestamptz NOT NULL"#,
        Works,
    ),
    (
        "cuid ids and @updatedAt and optional names",
        r#"ALTER TABLE "UserPointEvent" ALTER COLUMN "id" DROP DEFAULT, ALTER COLUMN "id" TYPE text,
            ADD COLUMN "updatedAt" timestamp(3) NOT NULL;
        ALTER TABLE "User" ALTER COLUMN "name" DROP NOT NULL; UPDATE "User" SET "name" = NULL"#,
        Works,
    ),
    (
        "a short id that holds no UUID",
        r#"ALTER TABLE "UserPointEvent" ALTER COLUMN "id" DROP DEFAULT, ALTER COLUMN "id" TYPE varchar(25)"#,
        Refused(&["UserPointEvent", "\"id\"", "SET DEFAULT"]),
    ),
    (
        "an integer id that the application counts",
        r#"ALTER TABLE "UserPointEvent" ALTER COLUMN "id" DROP DEFAULT"#,
        Refused(&["UserPointEvent", "\"id\"", "SET DEFAULT"]),
    ),
    (
        "another mandatory column",
        r#"ALTER TABLE "UserPointEvent" ADD COLUMN "season" integer NOT NULL"#,
        Refused(&["UserPointEvent", "\"season\"", "SET DEFAULT"]),
    ),
    (
        "another mandatory column with a default",
        r#"ALTER TABLE "UserPointEvent" ADD COLUMN "season" integer NOT NULL DEFAULT 1"#,
        Works,
    ),
    (
        "an identity column, as TypeORM makes it",
        r#"ALTER TABLE "UserPointEvent" DROP COLUMN "id";
        ALTER TABLE "UserPointEvent" ADD COLUMN "id" integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY"#,
        Works,
    ),
    (
        "64-bit ids of point events, as Rails makes them",
        r#"ALTER TABLE "UserPointEvent" ALTER COLUMN "id" TYPE bigint, ALTER COLUMN "userId" TYPE bigint,
            ALTER COLUMN "points" TYPE bigint"#,
        Works,
    ),
    (
        "times with time zone",
        r#"ALTER TABLE "UserPointEvent" ALTER COLUMN "createdAt" TYPE timestamptz(6)"#,
        Works,
    ),
    (
        "a time without a default",
        r#"ALTER TABLE "UserPointEvent" ALTER COLUMN "createdAt" DROP DEFAULT"#,
        Works,
    ),
    (
        "a date instead of a time",
        r#"ALTER TABLE "UserPointEvent" ALTER COLUMN "createdAt" TYPE date"#,
        Refused(&["UserPointEvent", "createdAt", "timestamp"]),
    ),
    (
        "descriptions of 25 characters",
        r#"ALTER TABLE "UserPointEvent" ALTER COLUMN "description" TYPE varchar(25)"#,
        Works,
    ),
    (
        "descriptions of 10 characters",
        r#"ALTER TABLE "UserPointEvent" ALTER COLUMN "description" TYPE varchar(10)"#,
        Refused(&[
            "UserPointEvent",
            "description",
            "varchar(10)",
            "20 characters",
        ]),
    ),
    (
        "varchar(255) everywhere",
        r#"ALTER TABLE "User" ALTER COLUMN "name" TYPE varchar(255), ALTER COLUMN "email" TYPE varchar(255);
        ALTER TABLE "PointEventTypeMaster" ALTER COLUMN "name" TYPE varchar(255), ALTER COLUMN "description" TYPE varchar(255);
        ALTER TABLE "UserPointEvent" ALTER COLUMN "description" TYPE varchar(255)"#,
        Works,
    ),
    (
        "short descriptions of event types",
        r#"ALTER TABLE "PointEventTypeMaster" ALTER COLUMN "description" TYPE varchar(30)"#,
        Refused(&["PointEventTypeMaster", "description", "HEIST_GAIN"]),
    ),
    (
        "decimal points of players",
        r#"ALTER TABLE "User" ALTER COLUMN "monthlyPoints" TYPE numeric(10, 2)"#,
        Refused(&["User", "monthlyPoints", "numeric", "integer"]),
    ),
    (
        "decimal points of events",
        r#"ALTER TABLE "UserPointEvent" ALTER COLUMN "points" TYPE numeric(10, 2)"#,
        Refused(&["UserPointEvent", "points", "numeric", "integer"]),
    ),
    (
        "64-bit points",
        r#"ALTER TABLE "User" ALTER COLUMN "monthlyPoints" TYPE bigint"#,
        Refused(&["User", "monthlyPoints", "int8", "64-bit"]),
    ),
    (
        "points that may be NULL",
        r#"ALTER TABLE "User" ALTER COLUMN "monthlyPoints" DROP NOT NULL"#,
        Refused(&["User", "monthlyPoints", "SET NOT NULL"]),
    ),
    (
        "UUID ids of players",
        r#"DROP TABLE "UserPointEvent"; ALTER TABLE "User" DROP CONSTRAINT "User_referredByUserId_fkey";
        ALTER TABLE "User" ALTER COLUMN "id" DROP DEFAULT, ALTER COLUMN "id" TYPE uuid USING gen_random_uuid();
        CREATE TABLE "UserPointEvent" ("id" serial PRIMARY KEY, "userId" uuid, "points" integer, "pointEventTypeId" integer, "description" text, "createdAt" timestamp)"#,
        Refused(&["\"User\".\"id\" is uuid", "not supported"]),
    ),
    (
        "64-bit ids of players",
        r#"ALTER TABLE "User" ALTER COLUMN "id" TYPE bigint"#,
        Refused(&["\"User\".\"id\" is int8", "not supported"]),
    ),
    (
        "players without a primary key",
        r#"ALTER TABLE "UserPointEvent" DROP CONSTRAINT "UserPointEvent_userId_fkey";
        ALTER TABLE "User" DROP CONSTRAINT "User_referredByUserId_fkey"; ALTER TABLE "User" DROP CONSTRAINT "User_pkey""#,
        Refused(&["User", "ADD PRIMARY KEY"]),
    ),
    (
        "names of event types that are not unique",
        r#"DROP INDEX "PointEventTypeMaster_name_key""#,
        Works,
    ),
    (
        "an event type twice",
        r#"DROP INDEX "PointEventTypeMaster_name_key";
        INSERT INTO "PointEventTypeMaster" ("name", "description") VALUES ('HEIST_GAIN', 'a'), ('HEIST_GAIN', 'b')"#,
        Refused(&["PointEventTypeMaster", "2 rows", "HEIST_GAIN"]),
    ),
    (
        "event types without a sequence",
        r#"ALTER TABLE "PointEventTypeMaster" ALTER COLUMN "id" DROP DEFAULT; DROP SEQUENCE "PointEventTypeMaster_id_seq""#,
        Refused(&["PointEventTypeMaster", "\"id\"", "sequence"]),
    ),
    (
        "event types with @updatedAt",
        r#"ALTER TABLE "PointEventTypeMaster" ADD COLUMN "updatedAt" timestamp(3) NOT NULL"#,
        Refused(&["PointEventTypeMaster", "updatedAt", "HEIST_GAIN"]),
    ),
    (
        "an enum of event types",
        r#"CREATE TYPE kind AS ENUM ('QUIZ'); ALTER TABLE "PointEventTypeMaster" ALTER COLUMN "name" TYPE kind USING 'QUIZ'"#,
        Refused(&["PointEventTypeMaster", "\"name\" is kind", "text"]),
    ),
    (
        "a rule on points",
        r#"CREATE RULE noted AS ON UPDATE TO "User" DO ALSO NOTIFY points"#,
        Refused(&["User", "rule", "noted"]),
    ),
];

/// A database whose application has this schema and two players.
async fn application(change: &str) -> Database {
    let database = Database::of_the_application().await;
    let pool = database.connect().await;
    for script in [PLAYERS, change] {
        sqlx::raw_sql(AssertSqlSafe(script.to_owned()))
            .execute(&pool)
            .await
            .unwrap_or_else(|error| panic!("{change}: {error}"));
    }
    pool.close().await;
    database
}

/// A token, a heist and the pages that show both players. Their ids are 1 and 2.
async fn plays(database: &Database, what: &str) {
    let options = options(&database.url, Settings::default(), Limits::default());
    let server = (Server::start(options).await).unwrap_or_else(|error| panic!("{what}: {error}"));
    let channel = connect(server.address()).await;
    for (path, message) in [
        // Both messages have the two players as their first fields.
        ("/heist.v1.TokenService/AwardToken", vec![0x08, 1, 0x10, 2]),
        (
            "/heist.v1.HeistService/ExecuteHeist",
            vec![0x08, 1, 0x10, 2],
        ),
        ("/heist.v1.HeistService/GetLeaderboard", vec![]),
        ("/heist.v1.HeistService/ListHeists", vec![0x08, 1]),
        (
            "/heist.v1.NotificationService/ListNotifications",
            vec![0x08, 1],
        ),
    ] {
        let answer = wire::call(&channel, &Method::named(path), message).await;
        assert!(answer.is_ok(), "{what}: {path}: {:?}", answer.err());
    }
    drop(channel);
    server.stop(PATIENCE).await;
}

#[test]
fn each_schema_works_or_is_refused_with_its_cure() {
    runtime().block_on(async {
        for (what, change, expected) in &SCHEMAS {
            let database = application(change).await;
            let options = database.connect_options();
            let migrated = schema::migrate(&options).await;
            match expected {
                Works => {
                    migrated.unwrap_or_else(|error| panic!("{what}: {error}"));
                    plays(&database, what).await;
                    let pool = database.connect().await;
                    let wrong = check::books(&pool).await.unwrap().first;
                    assert!(wrong.is_empty(), "{what}: {wrong:?}");
                    let events: i64 =
                        sqlx::query_scalar(r#"SELECT count(*) FROM "UserPointEvent""#)
                            .fetch_one(&pool)
                            .await
                            .unwrap();
                    assert_eq!(events, 2, "{what}");
                    pool.close().await;
                }
                Refused(words) => {
                    let refusal = migrated.expect_err(what).to_string();
                    assert!(
                        (refusal.lines()).any(|line| words.iter().all(|word| line.contains(word))),
                        "{what}: {refusal}"
                    );
                    assert!(refusal.contains("cure: "), "{what}: {refusal}");
                }
            }
            database.discard().await;
        }
    });
}

#[test]
fn a_schema_other_than_public_is_used_where_the_url_names_it() {
    runtime().block_on(async {
        let database = Database::of_the_application().await;
        let pool = database.connect().await;
        sqlx::raw_sql(
            r#"ALTER SCHEMA public RENAME TO "Game 1"; CREATE SCHEMA public;
            INSERT INTO "Game 1"."User" ("name", "monthlyPoints") VALUES ('Ada', 1200), ('Ben', 1000)"#,
        )
        .execute(&pool)
        .await
        .unwrap();
        pool.close().await;
        let database = database.with_parameter("schema=Game%201");
        schema::migrate(&database.connect_options()).await.unwrap();
        plays(&database, "another schema").await;
        let pool = database.connect().await;
        let elsewhere: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace",
        )
        .fetch_one(&pool)
        .await
        .unwrap();
        assert_eq!(elsewhere, 0);
        pool.close().await;
        database.discard().await;
    });
}

#[test]
fn sequences_behind_their_rows_stop_the_start_and_migrate_up_repairs_them() {
    runtime().block_on(async {
        let database = application("SELECT 1").await;
        let connect_options = database.connect_options();
        schema::migrate(&connect_options).await.unwrap();
        plays(&database, "before").await;
        let pool = database.connect().await;
        sqlx::raw_sql(
            r#"ALTER SEQUENCE "HeistLedger_id_seq" RESTART;
            ALTER SEQUENCE "HeistNotification_id_seq" RESTART"#,
        )
        .execute(&pool)
        .await
        .unwrap();
        let start = options(&database.url, Settings::default(), Limits::default());
        let refusal = Server::start(start).await.err().unwrap().to_string();
        for name in ["HeistLedger_id_seq", "HeistNotification_id_seq"] {
            assert!(refusal.contains(name), "{refusal}");
            assert!(
                (check::books(&pool).await.unwrap().first.iter()).any(|line| line.contains(name))
            );
        }
        let before = snapshot(&pool).await;
        schema::migrate(&connect_options).await.unwrap();
        assert_eq!(snapshot(&pool).await, before);
        assert_eq!(
            check::books(&pool).await.unwrap().first,
            Vec::<String>::new()
        );

        sqlx::raw_sql(r#"ALTER SEQUENCE "UserPointEvent_id_seq" RESTART"#)
            .execute(&pool)
            .await
            .unwrap();
        let error = schema::check(&connect_options)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("setval('public.\"UserPointEvent_id_seq\"', 2)"),
            "{error}"
        );
        pool.close().await;
        database.discard().await;
    });
}

#[test]
fn role_settings_do_not_stop_migrations_and_checks() {
    runtime().block_on(async {
        let database = application("SELECT 1").await;
        let pool = database.connect().await;
        sqlx::raw_sql(
            "DO $$ BEGIN
                EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database());
                EXECUTE format('ALTER DATABASE %I SET statement_timeout = 100', current_database());
            END $$;
            INSERT INTO \"User\" (\"name\", \"monthlyPoints\")
            SELECT 'Player', number FROM generate_series(1, 300000) AS number",
        )
        .execute(&pool)
        .await
        .unwrap();
        pool.close().await;
        schema::migrate(&database.connect_options()).await.unwrap();
        schema::check(&database.connect_options()).await.unwrap();
        database.discard().await;
    });
}
