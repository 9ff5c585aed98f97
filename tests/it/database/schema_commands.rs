//! `heist check --schema`, `heist migrate up --dry-run` and `heist migrate sql`.

use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};

use crate::harness::{
    postgres::Database,
    process::{Ended, Heist},
    runtime, snapshot,
};

async fn heist(database: &Database, arguments: &[&str]) -> Ended {
    Heist::new(arguments)
        .env("DATABASE_URL", &database.url)
        .ended()
        .await
}

/// Every relation, column, constraint, index, trigger, type and function of the schema.
async fn catalogue(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar(
        r"
        SELECT concat_ws(' ', 'relation', relname, relkind) FROM pg_class
        WHERE relnamespace = 'public'::regnamespace
        UNION ALL
        SELECT concat_ws(' ', 'column', attrelid::regclass, attname, format_type(atttypid, atttypmod), attnotnull)
        FROM pg_attribute INNER JOIN pg_class ON pg_class.oid = attrelid
        WHERE relnamespace = 'public'::regnamespace AND attnum > 0 AND NOT attisdropped
        UNION ALL
        SELECT concat_ws(' ', 'constraint', conrelid::regclass, conname, pg_get_constraintdef(oid))
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace
        UNION ALL
        SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = 'public'
        UNION ALL
        SELECT 'trigger ' || pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL
        SELECT concat_ws(' ', 'type', enumtypid::regtype, enumlabel) FROM pg_enum
        UNION ALL
        SELECT 'function ' || pg_get_functiondef(oid) FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace
        ORDER BY 1",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

#[test]
fn check_schema_prints_each_problem_without_a_server_or_migrations() {
    runtime().block_on(async {
        let database = Database::of_the_application().await;
        let pool = database.connect().await;
        let fits = heist(&database, &["check", "--schema"]).await;
        assert_eq!(fits.code, Some(0), "{fits:?}");
        assert_eq!(fits.stdout.trim(), "The service can work with this schema.");

        sqlx::raw_sql(
            r#"
            ALTER TABLE "User" ALTER COLUMN "monthlyPoints" TYPE bigint;
            ALTER TABLE "UserPointEvent" ADD COLUMN "season" integer NOT NULL;
            CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
            CREATE TRIGGER noted BEFORE UPDATE ON "User" FOR EACH ROW EXECUTE FUNCTION noted()"#,
        )
        .execute(&pool)
        .await
        .unwrap();
        let unfit = heist(&database, &["check", "--schema"]).await;
        assert_eq!(unfit.code, Some(1), "{unfit:?}");
        let json = heist(&database, &["check", "--schema", "--json"]).await;
        assert_eq!(json.code, Some(1), "{json:?}");
        let json: Value = serde_json::from_str(&json.stdout).unwrap();
        assert_eq!(json["ok"], false);
        let findings = json["findings"].as_array().unwrap();
        for words in [
            ["monthlyPoints", "cure: "],
            ["season", "cure: "],
            ["noted", "trigger"],
        ] {
            let has = |line: &str| words.iter().all(|word| line.contains(word));
            assert!(unfit.stdout.lines().any(has), "{words:?}: {unfit:?}");
            assert!(
                (findings.iter()).any(|line| has(line.as_str().unwrap())),
                "{words:?}: {findings:?}"
            );
        }
        pool.close().await;
        database.discard().await;
    });
}

#[test]
fn a_dry_run_lists_what_is_missing_and_changes_nothing() {
    runtime().block_on(async {
        let database = Database::of_the_application().await;
        let pool = database.connect().await;
        let before = (catalogue(&pool).await, snapshot(&pool).await);
        let planned = heist(&database, &["migrate", "up", "--dry-run"]).await;
        assert_eq!(planned.code, Some(0), "{planned:?}");
        let lines: Vec<&str> = planned.stdout.lines().collect();
        assert!(lines.len() >= 11, "{planned:?}");
        assert!(
            (lines.iter()).all(|line| line.starts_with("would apply  2026")),
            "{planned:?}"
        );
        assert_eq!((catalogue(&pool).await, snapshot(&pool).await), before);

        heist(&database, &["migrate", "up"]).await;
        let planned = heist(&database, &["migrate", "up", "--dry-run"]).await;
        assert_eq!(
            (planned.code, planned.stdout.as_str()),
            (Some(0), ""),
            "{planned:?}"
        );
        pool.close().await;
        database.discard().await;
    });
}

#[test]
fn the_printed_sql_makes_and_removes_what_the_migrations_do() {
    runtime().block_on(async {
        let (by_hand, migrated) = (
            Database::of_the_application().await,
            Database::of_the_application().await,
        );
        let (hand, other) = (by_hand.connect().await, migrated.connect().await);
        let before = catalogue(&hand).await;
        let up = Heist::new(&["migrate", "sql", "--up"]).ended().await;
        let down = Heist::new(&["migrate", "sql", "--down"]).ended().await;
        assert_eq!((up.code, down.code), (Some(0), Some(0)));
        heist(&migrated, &["migrate", "up"]).await;

        let run = async |script: String| {
            sqlx::raw_sql(AssertSqlSafe(script))
                .execute(&hand)
                .await
                .unwrap();
        };
        run(up.stdout).await;
        // The list of what was applied is the command's own.
        let mut expected = catalogue(&other).await;
        expected.retain(|line| !line.contains("_heist_migrations"));
        assert_eq!(catalogue(&hand).await, expected);
        run(down.stdout).await;
        assert_eq!(catalogue(&hand).await, before);
        hand.close().await;
        other.close().await;
        by_hand.discard().await;
        migrated.discard().await;
    });
}

#[test]
fn sql_needs_one_direction() {
    runtime().block_on(async {
        for arguments in [
            vec!["migrate", "sql"],
            vec!["migrate", "sql", "--up", "--down"],
        ] {
            let refused = Heist::new(&arguments).ended().await;
            assert_eq!(refused.code, Some(2), "{refused:?}");
        }
    });
}
