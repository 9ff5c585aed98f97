//! The check of the books after every test.
//!
//! It first runs `heist check`. Then it checks what needs the points at the start of the test, and
//! what would cost too much on a production database. Each query looks for rows that contradict
//! each other and must find none. A deleted player's points, accounts and notifications are gone;
//! the rows that refer to them must still fit.

use heist::store::check;
use sqlx::PgPool;

use super::until;

const QUERIES: [(&str, &str); 6] = [
    (
        "points are neither made nor lost",
        r#"
        SELECT concat_ws(' ', sum(start."points"), 'became', sum(player."monthlyPoints"))
        FROM test.start
        LEFT JOIN "User" AS player ON player."id" = start."userId"
        HAVING
            count(player."id") = count(*)
            AND sum(start."points") <> sum(player."monthlyPoints")
        "#,
    ),
    (
        "a player's points are what they began with and their point events",
        r#"
        SELECT concat_ws(' ', player."id", 'has', player."monthlyPoints")
        FROM "User" AS player
        INNER JOIN test.start ON start."userId" = player."id"
        WHERE player."monthlyPoints" <> start."points" + (
            SELECT COALESCE(sum(event."points"), 0)
            FROM "UserPointEvent" AS event
            WHERE event."userId" = player."id"
        )
        "#,
    ),
    (
        "each heist finds the points that the one before left, and the last leaves today's",
        r#"
        WITH side AS (
            SELECT "id", "attackerId" AS user_id, "attackerPointsBefore" AS before, "attackerPointsAfter" AS after
            FROM "Heist" WHERE "attackerId" IS NOT NULL
            UNION ALL
            SELECT "id", "victimId", "victimPointsBefore", "victimPointsAfter"
            FROM "Heist" WHERE "victimId" IS NOT NULL
        ),
        chain AS (
            SELECT
                side.*,
                lag(side.after, 1, start."points") OVER (PARTITION BY user_id ORDER BY side."id") AS expected,
                lead(side."id") OVER (PARTITION BY user_id ORDER BY side."id") IS NULL AS is_last
            FROM side
            INNER JOIN test.start ON start."userId" = side.user_id
        )
        SELECT concat_ws(' ', 'heist', chain."id", 'player', chain.user_id, 'found', chain.before, 'not', chain.expected, 'left', chain.after)
        FROM chain
        INNER JOIN "User" AS player ON player."id" = chain.user_id
        LEFT JOIN "HeistArchiveTotal" AS archived ON archived."userId" = player."id"
        WHERE
            (chain.before <> chain.expected AND archived."userId" IS NULL)
            OR (chain.is_last AND chain.after <> player."monthlyPoints")
        "#,
    ),
    (
        "each heist has its two point events, and there are no others",
        r#"
        WITH expected AS (
            SELECT user_id, points, type_name, count(*) AS times
            FROM (
                SELECT "attackerId", "pointsStolen", 'HEIST_GAIN' FROM "Heist"
                UNION ALL
                SELECT "victimId", -"pointsStolen", 'HEIST_LOSS' FROM "Heist"
            ) AS side (user_id, points, type_name)
            WHERE user_id IS NOT NULL
            GROUP BY user_id, points, type_name
        ),
        found AS (
            SELECT event."userId" AS user_id, event."points" AS points, type."name" AS type_name, count(*) AS times
            FROM "UserPointEvent" AS event
            INNER JOIN "PointEventTypeMaster" AS type ON type."id" = event."pointEventTypeId"
            GROUP BY 1, 2, 3
        )
        SELECT concat_ws(' ', user_id, points, type_name, 'expected', expected.times, 'found', found.times)
        FROM expected
        FULL JOIN found USING (user_id, points, type_name)
        LEFT JOIN "HeistArchiveTotal" AS archived ON archived."userId" = user_id
        WHERE
            COALESCE(expected.times, 0) > COALESCE(found.times, 0)
            OR (expected.times IS DISTINCT FROM found.times AND archived."userId" IS NULL)
        "#,
    ),
    (
        "a notification names the other player of the heist or the award it tells of",
        r#"
        SELECT concat_ws(' ', 'player', note."userId", 'notification', note."id", 'names', note."otherUserId")
        FROM "HeistNotification" AS note
        LEFT JOIN "Heist" AS heist ON heist."id" = note."ledgerId"
        LEFT JOIN "HeistTokenAward" AS award ON award."id" = note."ledgerId"
        WHERE note."otherUserId" <> CASE note."type"
            WHEN 'HEIST_SUCCESS' THEN heist."victimId"
            WHEN 'HEIST_VICTIM' THEN heist."attackerId"
            WHEN 'TOKEN_EARNED' THEN award."referredId"
        END
        "#,
    ),
    (
        "the ids of a player's notifications grow in the order of what they tell",
        r#"
        WITH told AS (
            SELECT
                note."userId", note."id", note."ledgerId",
                lag(note."ledgerId") OVER (PARTITION BY note."userId" ORDER BY note."id") AS before
            FROM "HeistNotification" AS note
        )
        SELECT concat_ws(' ', 'player', told."userId", 'notification', told."id")
        FROM told
        WHERE told."ledgerId" <= told.before
        "#,
    ),
];

/// The expected findings of `heist check` about players that a test gave negative points.
const BEGUN_BELOW_ZERO: &str = r#"
    SELECT format('player %s has %s points', player."id", player."monthlyPoints")
    FROM "User" AS player
    INNER JOIN test.start ON start."userId" = player."id"
    WHERE start."points" < 0 AND player."monthlyPoints" >= start."points""#;

/// Sessions of a server that has stopped: PostgreSQL needs a moment to end the last ones. Those
/// that PgBouncer keeps do nothing.
const SESSIONS: &str = "
    SELECT count(*)
    FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'heist'
        AND NOT ($1 AND state = 'idle')";

/// Fails with everything that does not add up.
pub async fn check(pool: &PgPool, through_pgbouncer: bool) {
    until("the server's last session has ended", async || {
        let sessions: i64 = sqlx::query_scalar(SESSIONS)
            .bind(through_pgbouncer)
            .fetch_one(pool)
            .await
            .unwrap();
        (sessions == 0).then_some(())
    })
    .await;
    let begun_below_zero: Vec<String> = sqlx::query_scalar(BEGUN_BELOW_ZERO)
        .fetch_all(pool)
        .await
        .unwrap();
    let mut contradictions = check::books(pool).await.unwrap().first;
    contradictions.retain(|finding| !begun_below_zero.contains(finding));
    for (what_holds, query) in QUERIES {
        let found: Vec<String> = sqlx::query_scalar(query).fetch_all(pool).await.unwrap();
        if !found.is_empty() {
            contradictions.push(format!("{what_holds}, but: {}", found.join("; ")));
        }
    }
    assert!(
        contradictions.is_empty(),
        "the books are wrong:\n{}",
        contradictions.join("\n")
    );
}
