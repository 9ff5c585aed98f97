//! How PostgreSQL finds the rows: by index, in a database as large as the real one.
//!
//! A statement is planned in both ways that a prepared statement can be: for the values at
//! hand, and once for all values. Neither may read a large table from end to end, or an index.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sqlx::{AssertSqlSafe, PgConnection};

use crate::harness::{postgres::Database, runtime};

const LOAD: &str = include_str!("load.sql");
const SKEW: &str = include_str!("skew.sql");

/// Statements that have no file of their own are found in the source by how they begin.
const INLINE: [(&str, &str); 1] = [("players/mod.rs", "SELECT EXISTS (SELECT FROM \"User\"")];

/// Statements that are meant to read everything.
const READ_EVERYTHING: [&str; 5] = [
    "check/books.sql",
    "check/point_events.sql",
    // Of its index, in which there is only what is queued or parked.
    "emails/queue_counts.sql",
    "leaderboard/distribution.sql",
    // Of each index only the last entry: the plan has a scan without a condition below a LIMIT.
    "schema/sequences.sql",
];

/// The largest batch of orders, and the most players in one request, the viewer included.
const LARGEST_BATCH: i32 = 128;
const LARGEST_REQUEST: i32 = 201;
/// A page of the largest size, and a row more.
const LARGEST_PAGE: i32 = 201;

/// The values of a statement's parameters, as SQL, in every way that matters for its plan.
#[expect(clippy::too_many_lines, reason = "one arm for each statement")]
fn parameters(statement: &str) -> Vec<String> {
    let some_players = [1, 2, 51, LARGEST_REQUEST].map(players);
    let batches = [1, 2, 16, LARGEST_BATCH];
    let positions = ["9223372036854775807", "700000"];
    match statement {
        "players/mod.rs" | "notifications/unread_count.sql" | "heists/stats.sql" => {
            vec!["42".to_owned(), "2000000".to_owned()]
        }
        "leaderboard/standing.sql" => vec!["42, 1000".to_owned()],
        "players/lock.sql" | "tokens/accounts.sql" => some_players.to_vec(),
        "players/snapshot.sql" => (some_players.iter())
            .flat_map(|players| [0, 10, 1000].map(|robberies| format!("{players}, {robberies}")))
            .collect(),
        "notifications/page.sql" => (["true", "false"].iter())
            .flat_map(|unread| {
                let older = positions.map(|id| format!("42, {unread}, {id}, 101, false"));
                let newer = ["0", "700000"].map(|id| format!("42, {unread}, {id}, 100, true"));
                [older, newer].concat()
            })
            .collect(),
        "notifications/newer.sql" => [1, 5000]
            .map(|count| {
                let known = array((0..count).map(|_| 700_000), "bigint");
                format!("{}, {known}", players(count))
            })
            .to_vec(),
        "notifications/mark_read.sql" | "notifications/unread_after_mark.sql" => vec![
            "42, '{1600042}', 0".to_owned(),
            format!(
                "42, {}, 0",
                array((0..500).map(|it| 1_600_042 + it * 100_000), "bigint")
            ),
            "42, '{}', 9223372036854775807".to_owned(),
        ],
        "heists/find.sql" => {
            let ids = [1, 101].map(|count| array((0..count).map(|it| 300_000 + it * 7), "bigint"));
            let request_ids = batches.map(uuids);
            let by_id = ids.map(|ids| format!("{ids}, '{{}}'"));
            let by_request_id = request_ids.map(|ids| format!("'{{}}', {ids}"));
            by_id.into_iter().chain(by_request_id).collect()
        }
        "heists/page_ids.sql" => [("true", "true"), ("true", "false"), ("false", "true")]
            .iter()
            .flat_map(|(attacker, victim)| {
                positions.map(|id| format!("42, {id}, 101, {attacker}, {victim}"))
            })
            .collect(),
        "heists/load_facts.sql" => (batches.iter())
            .map(|count| {
                let (ids, players) = (uuids(*count), players(*count));
                format!("{count}, {ids}, {players}, {players}, 10")
            })
            .collect(),
        "heists/save.sql" => batches.iter().map(|count| save_heists(*count)).collect(),
        "awards/load_facts.sql" => (batches.iter())
            .map(|count| format!("{count}, {}", players(*count)))
            .collect(),
        "awards/save.sql" => batches.iter().map(|count| save_awards(*count)).collect(),
        "adjustments/find.sql" => batches.iter().map(|count| uuids(*count)).collect(),
        "adjustments/load_facts.sql" => vec!["1".to_owned()],
        "adjustments/save.sql" => batches
            .iter()
            .map(|count| save_adjustments(*count))
            .collect(),
        "effects/reread.sql" => (batches.iter())
            .map(|count| {
                let (players, rows) = (players(*count), row_positions(*count));
                format!("{players}, {players}, {rows}, {rows}, {rows}, {rows}, {rows}")
            })
            .collect(),
        "tokens/statement.sql" => positions.map(|id| format!("42, {id}, 101, 1")).to_vec(),
        "leaderboard/page.sql" => ["2147483647, 2147483647", "4990, 50", "2500, 50", "3, 50"]
            .iter()
            .flat_map(|behind| [2, 51, LARGEST_PAGE].map(|rows| format!("{rows}, {behind}")))
            .collect(),
        "archive/heists_page.sql" | "archive/notifications_page.sql" => {
            ["0", "300000"].map(|id| format!("{id}, 1000")).to_vec()
        }
        "archive/hold_players.sql" => [1, 1000].map(players).to_vec(),
        "archive/remove_heists.sql" | "archive/remove_notifications.sql" => {
            [1, 500].map(filed_lines).to_vec()
        }
        "emails/turn.sql" => vec!["'sendgrid'".to_owned()],
        "emails/claim.sql" => [
            "1, 60, false, false, now(), now(), 86400, 93600",
            "8, 60, false, true, now(), now(), 86400, 93600",
            "8, 60, true, true, now(), now(), 86400, 93600",
        ]
        .map(str::to_owned)
        .to_vec(),
        "emails/due.sql" | "schema/sequences.sql" => vec![String::new()],
        "emails/reschedule.sql" => vec!["100".to_owned()],
        "emails/set_aside.sql" => [1, 200].map(set_emails_aside).to_vec(),
        "preferences/find.sql" => vec!["42".to_owned()],
        "preferences/save.sql" => vec!["42, 'DIGEST'".to_owned()],
        "emails/settle.sql" => (batches.iter())
            .map(|count| settle_emails(*count))
            .collect(),
        "emails/expire.sql" => vec!["86400".to_owned()],
        "emails/list.sql" => ["NULL", "42"]
            .map(|player| format!("'{{FAILED,UNKNOWN}}', {player}, 100"))
            .to_vec(),
        "emails/requeue_or_drop.sql" => ["NULL, NULL", "42, NULL", "42, '{1600042}'"]
            .map(|which| format!("'{{FAILED,UNKNOWN}}', 'QUEUED', {which}"))
            .to_vec(),
        other => panic!("{other} is new: say with which parameters it is called"),
    }
}

fn array(elements: impl Iterator<Item = i32>, kind: &str) -> String {
    let elements: Vec<String> = elements.map(|element| element.to_string()).collect();
    format!("'{{{}}}'::{kind}[]", elements.join(","))
}

/// So many players from all over the table.
fn players(count: i32) -> String {
    array((0..count).map(|it| 1 + it * 7919 % 100_000), "integer")
}

/// The `ctid`s of so many rows.
fn row_positions(count: i32) -> String {
    let positions: Vec<String> = (0..count).map(|it| format!("\"({it},1)\"")).collect();
    format!("'{{{}}}'::text[]", positions.join(","))
}

fn uuids(count: i32) -> String {
    let ids: Vec<String> = (0..count)
        .map(|it| format!("{:032x}", u128::MAX / 1000 * u128::from(it.unsigned_abs())))
        .collect();
    format!("'{{{}}}'::uuid[]", ids.join(","))
}

fn texts(count: i32) -> String {
    let texts = vec!["x"; usize::try_from(count).unwrap()];
    format!("'{{{}}}'::text[]", texts.join(","))
}

/// So many lines of a file of heists or notifications.
fn filed_lines(count: i32) -> String {
    let lines = (0..count).map(|it| {
        let request_id = format!("{it:032x}");
        format!(
            r#"{{"id": {}, "userId": {}, "requestId": "{request_id}", "type": "HEIST_VICTIM"}}"#,
            300_000 + it,
            1 + it
        )
    });
    let lines: Vec<String> = lines.map(|line| format!("'{line}'")).collect();
    format!("ARRAY[{}]::text[]", lines.join(","))
}

fn save_heists(count: i32) -> String {
    let numbers = array((0..count).map(|it| 50 + it), "integer");
    let ids = array((0..count).map(|it| 2_000_000 + it), "bigint");
    let victims = array((0..count).map(|it| 2 + it * 6007 % 100_000), "integer");
    let nulls = vec!["NULL"; usize::try_from(count).unwrap()].join(",");
    let (players, uuids, texts) = (players(count), uuids(count), texts(count));
    format!(
        "now(), {ids}, {players}, {victims}, {numbers}, {numbers}, {numbers}, {numbers}, {uuids}, \
         '{{{nulls}}}'::text[], {texts}, {texts}, '{{{nulls}}}'::timestamptz[], now(), NULL"
    )
}

fn save_awards(count: i32) -> String {
    let ids = array((0..count).map(|it| 2_000_000 + it), "bigint");
    let (players, texts) = (players(count), texts(count));
    format!("now(), {ids}, {players}, {players}, {texts}, {players}, 1, now(), NULL")
}

fn set_emails_aside(count: i32) -> String {
    let ids = array((0..count).map(|it| 1_600_042 + it * 100_000), "bigint");
    let (players, texts) = (players(count), texts(count));
    let all = |value| vec![value; usize::try_from(count).unwrap()].join(",");
    let (times, states) = (all("2026-11-23"), all("QUEUED"));
    format!(
        "{players}, {ids}, '{{{times}}}'::timestamptz[], '{{{states}}}'::text[], \
         '{{{times}}}'::timestamptz[], {texts}, 93600"
    )
}

fn settle_emails(count: i32) -> String {
    let ids = array((0..count).map(|it| 1_600_042 + it * 100_000), "bigint");
    let delays = array(0..count, "double precision");
    let (players, texts) = (players(count), texts(count));
    let all = |value| vec![value; usize::try_from(count).unwrap()].join(",");
    let (times, states) = (all("2026-11-23"), all("SENT"));
    format!(
        "{players}, {ids}, '{{{times}}}'::timestamptz[], '{{{states}}}'::text[], {delays}, {texts}"
    )
}

fn save_adjustments(count: i32) -> String {
    let ids = array((0..count).map(|it| 2_000_000 + it), "bigint");
    let (players, texts, uuids) = (players(count), texts(count), uuids(count));
    format!(
        "now(), {players}, {players}, {players}, {players}, {ids}, {players}, {players}, {players}, \
         {texts}, {texts}, {uuids}"
    )
}

/// Every statement of the store, by the file it is in.
fn statements() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let mut statements = Vec::new();
    for folder in entries(&root).iter().filter(|path| path.is_dir()) {
        for file in entries(folder) {
            let name = file.strip_prefix(&root).unwrap().to_str().unwrap();
            let is_sql = file.extension().is_some_and(|extension| extension == "sql");
            if is_sql && !READ_EVERYTHING.contains(&name) {
                statements.push((name.to_owned(), fs::read_to_string(&file).unwrap()));
            }
        }
    }
    for (name, beginning) in INLINE {
        let source = fs::read_to_string(root.join(name)).unwrap();
        let start = source.find(beginning).unwrap();
        let length = source[start..].find("\"#").unwrap();
        statements.push((name.to_owned(), source[start..start + length].to_owned()));
    }
    statements.sort_unstable();
    statements
}

async fn run(connection: &mut PgConnection, statements: &str) {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
        .execute(connection)
        .await
        .unwrap();
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    (fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect()
}

struct Plan {
    /// In which mode, and for which parameters.
    how: String,
    text: String,
}

async fn plans(
    connection: &mut PgConnection,
    name: &str,
    statement: &str,
) -> impl Iterator<Item = Plan> + use<> {
    let mut plans = Vec::new();
    run(connection, &format!("PREPARE statement AS {statement}")).await;
    for mode in ["force_custom_plan", "force_generic_plan"] {
        run(connection, &format!("SET plan_cache_mode = {mode}")).await;
        for parameters in parameters(name) {
            let arguments = match parameters.as_str() {
                "" => String::new(),
                some => format!("({some})"),
            };
            let explain = format!("EXPLAIN (COSTS OFF) EXECUTE statement{arguments}");
            let lines: Vec<String> = sqlx::query_scalar(AssertSqlSafe(explain))
                .persistent(false)
                .fetch_all(&mut *connection)
                .await
                .unwrap();
            plans.push(Plan {
                how: format!("{mode} of ({parameters})"),
                text: lines.join("\n"),
            });
        }
    }
    run(connection, "DEALLOCATE statement").await;
    plans.into_iter()
}

/// Places where a plan scans the rows of all players backwards to find the newest of one player.
fn searched_backwards(plan: &str) -> Vec<&str> {
    let lines: Vec<&str> = plan.lines().map(str::trim).collect();
    (lines.windows(3))
        .filter(|window| window[0].contains("Scan Backward"))
        .flat_map(|window| &window[1..])
        .filter(|line| line.starts_with("Filter:") && line.contains("Id\" ="))
        .copied()
        .collect()
}

/// What a plan reads from end to end.
fn read_whole(plan: &str) -> Vec<&str> {
    let large = [
        r#""User""#,
        r#""Heist""#,
        r#""HeistNotification""#,
        r#""HeistToken""#,
        r#""HeistTokenAward""#,
        r#""HeistTokenAdjustment""#,
        r#""UserPointEvent""#,
    ];
    let lines: Vec<&str> = plan.lines().map(str::trim).collect();
    let mut whole = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let of_a_large_table = (line.split_whitespace()).any(|word| large.contains(&word));
        let by_index = line.contains("Index Scan") || line.contains("Index Only Scan");
        let has_condition = lines
            .get(number + 1)
            .is_some_and(|next| next.starts_with("Index Cond"));
        if line.contains("Seq Scan") && of_a_large_table || by_index && !has_condition {
            whole.push(*line);
        }
    }
    whole
}

#[test]
fn no_statement_reads_a_large_table_from_end_to_end() {
    runtime().block_on(async {
        let database = Database::migrated().await;
        let pool = database.connect().await;
        let mut connection = pool.acquire().await.unwrap();
        run(&mut connection, LOAD).await;
        let mut bad = Vec::new();
        // First with indexes alone, then with what VACUUM knows: which pages an index speaks for.
        for maintenance in ["ANALYZE", "VACUUM (ANALYZE)"] {
            run(&mut connection, maintenance).await;
            for (name, statement) in statements() {
                let plans = plans(&mut connection, &name, &statement).await;
                let plans = plans.filter(|plan| !read_whole(&plan.text).is_empty());
                bad.extend(plans.map(|plan| {
                    let how = plan.how.get(..200).unwrap_or(&plan.how);
                    format!("{name} after {maintenance}, {how}:\n{}", plan.text)
                }));
            }
        }
        assert!(bad.is_empty(), "{}", bad.join("\n\n"));

        // Then where one pair of players has done nearly everything so far.
        run(&mut connection, SKEW).await;
        for (name, statement) in statements() {
            let plans = plans(&mut connection, &name, &statement).await;
            let plans = plans.filter(|plan| !searched_backwards(&plan.text).is_empty());
            bad.extend(plans.map(|plan| {
                let how = plan.how.get(..200).unwrap_or(&plan.how);
                format!("{name}, skewed, {how}:\n{}", plan.text)
            }));
        }
        assert!(bad.is_empty(), "{}", bad.join("\n\n"));
        drop(connection);
        pool.close().await;
        database.discard().await;
    });
}
