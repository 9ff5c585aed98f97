//! `schema::migrate` and `schema::revert`, over an application with players and history.

use std::thread::{self, JoinHandle};

use heist::{
    engine::Limits,
    server::Server,
    settings::Settings,
    store::schema::{self, RevertTo, SchemaError},
};
use sha2::{Digest as _, Sha384};
use sqlx::{Connection as _, PgConnection, PgPool, postgres::PgConnectOptions};
use tokio::process::Command;

use crate::harness::{
    connect, options,
    postgres::Database,
    runtime, snapshot, until,
    wire::{self, Method},
};

/// What a version after this one may add while this one serves: a table, columns, an index.
pub const MIGRATION_OF_THE_NEXT_VERSION: &str = r#"
SET LOCAL lock_timeout = '2s';
CREATE TABLE "HeistNews" (
    "heistId" bigint PRIMARY KEY REFERENCES "Heist" ("id"), "text" text NOT NULL
);
ALTER TABLE "Heist" ADD COLUMN "weather" text;
ALTER TABLE "HeistToken" ADD COLUMN "nickname" text NOT NULL DEFAULT '';
CREATE INDEX ON "HeistNotification" ("createdAt");
INSERT INTO "_heist_migrations" ("version", "description", "success", "checksum", "execution_time")
VALUES (29991231000000, 'of the next version', true, '\x00', 1)"#;

/// What an application has before we come: gaps in the sequences, history, an old debt.
const APPLICATION_ROWS: &str = r#"
INSERT INTO "User" ("name", "email", "monthlyPoints", "referredByUserId") VALUES
    ('Ada', 'ada@example.com', 1200, NULL),
    ('Ben', NULL, 1000, 1),
    ('Debtor', 'debtor@example.com', -30, NULL);
SELECT nextval('"User_id_seq"'), nextval('"UserPointEvent_id_seq"'), nextval('"PointEventTypeMaster_id_seq"');
INSERT INTO "PointEventTypeMaster" ("name", "description") VALUES ('QUIZ_COMPLETED', 'Completed a quiz');
INSERT INTO "UserPointEvent" ("userId", "points", "pointEventTypeId", "description")
SELECT "id", "monthlyPoints", (SELECT "id" FROM "PointEventTypeMaster"), 'before' FROM "User";
"#;

/// An application's database, and what it was before the migrations.
struct Application {
    database: Database,
    pool: PgPool,
    connect_options: PgConnectOptions,
}

impl Application {
    /// Plays `body` on an application's database with the rows of `script`.
    fn run(script: &'static str, body: impl AsyncFnOnce(&Self)) {
        runtime().block_on(async {
            let database = Database::of_the_application().await;
            let pool = database.connect().await;
            sqlx::raw_sql(script).execute(&pool).await.unwrap();
            let connect_options = database.connect_options();
            let application = Self {
                database,
                pool,
                connect_options,
            };
            body(&application).await;
            application.pool.close().await;
            application.database.discard().await;
        });
    }

    async fn migrate(&self) {
        schema::migrate(&self.connect_options).await.unwrap();
    }

    /// As another process does it, at the same time.
    fn migrate_elsewhere(&self) -> JoinHandle<Result<(), SchemaError>> {
        let connect_options = self.connect_options.clone();
        thread::spawn(move || runtime().block_on(schema::migrate(&connect_options)))
    }

    async fn revert(&self, to: RevertTo) {
        schema::revert(&self.connect_options, to).await.unwrap();
    }

    async fn applied(&self) -> usize {
        let steps = schema::steps(&self.connect_options).await.unwrap();
        let applied = steps.iter().filter(|step| step.applied).count();
        assert!(
            steps.iter().take(applied).all(|step| step.applied),
            "applied from the first on"
        );
        applied
    }

    async fn execute(&self, script: &'static str) {
        sqlx::raw_sql(script).execute(&self.pool).await.unwrap();
    }

    /// Why a server does not start on this database.
    async fn refusal(&self) -> String {
        let options = options(&self.database.url, Settings::default(), Limits::default());
        match Server::start(options).await {
            Ok(_) => panic!("it started"),
            Err(error) => error.to_string(),
        }
    }

    /// Lets the service award a token and execute a heist.
    async fn play(&self) {
        let options = options(&self.database.url, Settings::default(), Limits::default());
        let server = Server::start(options).await.unwrap();
        let channel = connect(server.address()).await;
        for path in [
            "/heist.v1.TokenService/AwardToken",
            "/heist.v1.HeistService/ExecuteHeist",
        ] {
            // Both messages have the two players as their first fields.
            let ada_and_ben = vec![0x08, 1, 0x10, 2];
            wire::call(&channel, &Method::named(path), ada_and_ben)
                .await
                .unwrap();
        }
        drop(channel);
        server.stop(crate::harness::PATIENCE).await;
    }

    /// Everything in the database, as `pg_dump` says it where there is one, and as the
    /// catalogue does.
    async fn dump(&self) -> Vec<String> {
        let mut dump = self.catalogue().await;
        for (table, rows) in snapshot(&self.pool).await {
            dump.push(table);
            dump.extend(rows);
        }
        dump.extend(self.pg_dump().await);
        dump
    }

    async fn pg_dump(&self) -> Vec<String> {
        let beside_the_server: String =
            sqlx::query_scalar("SELECT setting FROM pg_config WHERE name = 'BINDIR'")
                .fetch_one(&self.pool)
                .await
                .unwrap();
        for program in [format!("{beside_the_server}/pg_dump"), "pg_dump".to_owned()] {
            let Ok(output) = Command::new(program)
                .arg(self.database.own_url())
                .output()
                .await
            else {
                continue;
            };
            let said = String::from_utf8_lossy(&output.stderr);
            if said.contains("server version mismatch") {
                continue;
            }
            assert!(output.status.success(), "{said}");
            let dump = String::from_utf8(output.stdout).unwrap();
            // These two lines hold a random word.
            return (dump.lines())
                .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"))
                .map(str::to_owned)
                .collect();
        }
        Vec::new()
    }

    async fn catalogue(&self) -> Vec<String> {
        sqlx::query_scalar(
            r"
            SELECT entry FROM (
                SELECT concat_ws(' ', 'relation', relname, relkind, relnatts, relchecks, relhastriggers)
                FROM pg_class WHERE relnamespace = 'public'::regnamespace
                UNION ALL
                SELECT concat_ws(' ', 'column', attrelid::regclass, attnum, attname, format_type(atttypid, atttypmod), attnotnull,
                    (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = attrelid AND adnum = attnum))
                FROM pg_attribute INNER JOIN pg_class ON pg_class.oid = attrelid
                WHERE relnamespace = 'public'::regnamespace AND attnum > 0
                UNION ALL
                SELECT concat_ws(' ', 'constraint', conrelid::regclass, conname, convalidated, pg_get_constraintdef(oid))
                FROM pg_constraint WHERE connamespace = 'public'::regnamespace
                UNION ALL
                SELECT concat_ws(' ', 'index', indexdef) FROM pg_indexes WHERE schemaname = 'public'
                UNION ALL
                SELECT concat_ws(' ', 'function', proname) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
                UNION ALL
                SELECT concat_ws(' ', 'type', typname) FROM pg_type WHERE typnamespace = 'public'::regnamespace
                UNION ALL
                SELECT concat_ws(' ', 'trigger', tgrelid::regclass, pg_get_triggerdef(oid)) FROM pg_trigger WHERE NOT tgisinternal
                UNION ALL
                SELECT concat_ws(' ', 'sequence', schemaname, sequencename, last_value, increment_by) FROM pg_sequences
            ) AS catalogue (entry)
            ORDER BY entry
            ",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }

    async fn sessions_that_wait_for_a_lock(&self) -> i64 {
        sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )
        .fetch_one(&self.pool)
        .await
        .unwrap()
    }
}

#[track_caller]
fn assert_same(before: &[String], after: &[String]) {
    let only_in = |these: &[String], those: &[String]| -> Vec<String> {
        these
            .iter()
            .filter(|line| !those.contains(line))
            .cloned()
            .collect()
    };
    assert!(
        before == after,
        "gone: {:#?}\nnew: {:#?}",
        only_in(before, after),
        only_in(after, before)
    );
}

#[test]
fn a_full_revert_restores_the_application_exactly() {
    Application::run(APPLICATION_ROWS, async |application| {
        let before = application.dump().await;
        for _ in 0..2 {
            application.migrate().await;
            assert_ne!(application.dump().await, before);
            application.revert(RevertTo::Empty).await;
            assert_same(&before, &application.dump().await);
        }
    });
}

#[test]
fn a_full_revert_restores_an_empty_application() {
    Application::run("", async |application| {
        let before = application.dump().await;
        application.migrate().await;
        application.revert(RevertTo::Empty).await;
        assert_same(&before, &application.dump().await);
    });
}

#[test]
fn migrations_go_down_and_up_over_existing_data() {
    Application::run(APPLICATION_ROWS, async |application| {
        application.migrate().await;
        application.play().await;
        let steps = application.applied().await;
        assert!(steps >= 6);
        for left in (0..steps).rev() {
            application.revert(RevertTo::Previous).await;
            assert_eq!(application.applied().await, left);
        }
        // What the service did to the application's rows stays: points, and the events that
        // explain them, with their types.
        let points: Vec<i32> =
            sqlx::query_scalar(r#"SELECT "monthlyPoints" FROM "User" ORDER BY "id""#)
                .fetch_all(&application.pool)
                .await
                .unwrap();
        assert_eq!(points, [1250, 950, -30]);
        let explained: Vec<String> = sqlx::query_scalar(
            r#"SELECT type."name" FROM "UserPointEvent" AS event
            INNER JOIN "PointEventTypeMaster" AS type ON type."id" = event."pointEventTypeId"
            ORDER BY event."id" DESC LIMIT 2"#,
        )
        .fetch_all(&application.pool)
        .await
        .unwrap();
        assert_eq!(explained.len(), 2);
        assert!(explained.iter().all(|name| name.starts_with("HEIST_")));

        application.migrate().await;
        assert_eq!(application.applied().await, steps);
        application.play().await;
    });
}

#[test]
fn a_revert_stops_where_it_is_told_to() {
    Application::run(APPLICATION_ROWS, async |application| {
        application.migrate().await;
        let steps = schema::steps(&application.connect_options).await.unwrap();
        application
            .revert(RevertTo::Version(steps[1].version))
            .await;
        assert_eq!(application.applied().await, 2);

        let unknown = schema::revert(&application.connect_options, RevertTo::Version(7)).await;
        assert_eq!(
            unknown.unwrap_err().to_string(),
            "no migration has the version 7"
        );
        assert_eq!(application.applied().await, 2);
    });
}

#[test]
fn point_event_types_that_the_application_has_already_are_used_and_kept() {
    const WITH_TYPES: &str = r#"
    INSERT INTO "User" ("name", "monthlyPoints") VALUES ('Ada', 1200), ('Ben', 1000);
    INSERT INTO "PointEventTypeMaster" ("name", "description") VALUES ('HEIST_GAIN', 'of the application');"#;
    Application::run(WITH_TYPES, async |application| {
        let before = application.dump().await;
        application.migrate().await;
        let types: Vec<(String, String)> = sqlx::query_as(
            r#"SELECT "name", "description" FROM "PointEventTypeMaster" ORDER BY "id""#,
        )
        .fetch_all(&application.pool)
        .await
        .unwrap();
        assert_eq!(types.len(), 2);
        assert_eq!(
            types[0],
            ("HEIST_GAIN".to_owned(), "of the application".to_owned())
        );
        assert_eq!(types[1].0, "HEIST_LOSS");
        application.revert(RevertTo::Empty).await;
        assert_same(&before, &application.dump().await);

        application.migrate().await;
        application.play().await;
    });
}

#[test]
fn a_type_that_the_application_added_since_keeps_its_place_after_a_revert() {
    Application::run(APPLICATION_ROWS, async |application| {
        application.migrate().await;
        application
            .execute(r#"INSERT INTO "PointEventTypeMaster" ("name", "description") VALUES ('NEW', 'later')"#)
            .await;
        application.revert(RevertTo::Empty).await;
        // Their next id is not one that they have used already.
        application
            .execute(r#"INSERT INTO "PointEventTypeMaster" ("name", "description") VALUES ('NEWER', 'later')"#)
            .await;
        let names: Vec<String> =
            sqlx::query_scalar(r#"SELECT "name" FROM "PointEventTypeMaster" ORDER BY "id""#)
                .fetch_all(&application.pool)
                .await
                .unwrap();
        assert_eq!(names, ["QUIZ_COMPLETED", "NEW", "NEWER"]);
    });
}

#[test]
fn five_parallel_migrations_apply_each_once() {
    Application::run(APPLICATION_ROWS, async |application| {
        let replicas: Vec<_> = (0..5).map(|_| application.migrate_elsewhere()).collect();
        for replica in replicas {
            replica.join().unwrap().unwrap();
        }
        // A pooler's sessions live on, with all locks that were not given back.
        let locks = r"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database =
            (SELECT oid FROM pg_database WHERE datname = current_database())";
        until("all locks are released", async || {
            let locks: i64 =
                (sqlx::query_scalar(locks).fetch_one(&application.pool).await).unwrap();
            (locks == 0).then_some(())
        })
        .await;
        application.play().await;
    });
}

#[test]
fn old_negative_points_are_kept_and_new_ones_refused() {
    Application::run(APPLICATION_ROWS, async |application| {
        application.migrate().await;
        let result = sqlx::query(r#"UPDATE "User" SET "monthlyPoints" = -1 WHERE "name" = 'Ada'"#)
            .execute(&application.pool)
            .await;
        assert!(
            result
                .unwrap_err()
                .to_string()
                .contains("User_monthlyPoints_check")
        );
        application
            .execute(r#"UPDATE "User" SET "monthlyPoints" = 5 WHERE "name" = 'Debtor'"#)
            .await;
    });
}

#[test]
fn a_migration_waits_out_a_lock_of_the_application() {
    Application::run(APPLICATION_ROWS, async |application| {
        let mut busy = PgConnection::connect(application.database.own_url())
            .await
            .unwrap();
        let mut transaction = busy.begin().await.unwrap();
        sqlx::query(r#"UPDATE "User" SET "name" = 'Adele' WHERE "id" = 1"#)
            .execute(&mut *transaction)
            .await
            .unwrap();

        let migration = application.migrate_elsewhere();
        // It waits, lets the application go first, and comes back.
        for (what, waits) in [("waits", 1), ("gives way", 0), ("waits again", 1)] {
            until(what, async || {
                (application.sessions_that_wait_for_a_lock().await == waits).then_some(())
            })
            .await;
        }
        assert!(!migration.is_finished());
        transaction.commit().await.unwrap();
        migration.join().unwrap().unwrap();
        application.play().await;
    });
}

#[test]
fn a_server_refuses_an_old_schema_with_advice() {
    Application::run(APPLICATION_ROWS, async |application| {
        let refusal = application.refusal().await;
        assert!(refusal.contains("run `heist migrate up`"), "{refusal}");
        application.migrate().await;
        let mut applied = application.applied().await;
        while applied > 0 {
            application.revert(RevertTo::Previous).await;
            applied -= 1;
            let steps = schema::steps(&application.connect_options).await.unwrap();
            let missing = &steps[applied];
            let expected = format!(
                "the database schema is old: migration {} ({}) is not applied; run `heist migrate up`",
                missing.version, missing.description
            );
            assert_eq!(application.refusal().await, expected);
        }
    });
}

#[test]
fn a_server_and_a_migration_refuse_an_application_without_a_table_or_column() {
    for (damage, complaint) in [
        (
            r#"DROP TABLE "UserPointEvent""#,
            r#"the application's table "UserPointEvent" is missing from the database"#,
        ),
        (
            r#"ALTER TABLE "User" DROP COLUMN "monthlyPoints" CASCADE"#,
            r#"the application's table "User" has no column "monthlyPoints""#,
        ),
        (
            r#"ALTER TABLE "User" RENAME COLUMN "referredByUserId" TO "referredbyuserid""#,
            r#"the application's table "User" has no column "referredByUserId""#,
        ),
        (
            r#"ALTER TABLE "PointEventTypeMaster" DROP COLUMN "description""#,
            r#"the application's table "PointEventTypeMaster" has no column "description""#,
        ),
    ] {
        Application::run(APPLICATION_ROWS, async |application| {
            application.execute(damage).await;
            let error = schema::migrate(&application.connect_options)
                .await
                .unwrap_err();
            assert!(error.to_string().contains(complaint), "{error}");
        });
        Application::run(APPLICATION_ROWS, async |application| {
            application.migrate().await;
            application.execute(damage).await;
            let refusal = application.refusal().await;
            assert!(refusal.contains(complaint), "{refusal}");
        });
    }
}

#[test]
fn a_newer_schema_than_the_programs_is_fine() {
    Application::run(APPLICATION_ROWS, async |application| {
        application.migrate().await;
        application.execute(MIGRATION_OF_THE_NEXT_VERSION).await;
        application.migrate().await;
        application.play().await;
    });
}

/// The migrations of version 0.1.0, and the beginning of the SHA-384 of each. sqlx compares the
/// checksums with those in the database, so a released text must never change, not even a comment.
const RELEASED: [(&str, &str); 10] = [
    ("20261123000001", "7a36d18f346151df"),
    ("20261123000002", "0ddd3059ad1e5692"),
    ("20261123000003", "51cb311b2ca73895"),
    ("20261123000004", "bff6c2658e3eb95c"),
    ("20261123000005", "9404fb512a6f2dab"),
    ("20261123000006", "c2bab331700d2c17"),
    ("20261123000007", "3caaaab142507c01"),
    ("20261123000008", "9c310b54cc78c759"),
    ("20261123000010", "5a239f0f1f56a0a1"),
    ("20261123000011", "71c650666d036905"),
];

#[test]
fn the_texts_of_released_migrations_never_change() {
    for (version, checksum) in RELEASED {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
        let file = (std::fs::read_dir(folder).unwrap())
            .map(|entry| entry.unwrap().path())
            .find(|path| {
                let name = path.file_name().unwrap().to_str().unwrap();
                name.starts_with(version) && name.ends_with(".up.sql")
            })
            .unwrap();
        let digest = Sha384::digest(std::fs::read(&file).unwrap());
        let found: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(
            found.starts_with(checksum),
            "{} has changed",
            file.display()
        );
    }
}
