//! The audit after every test: whatever happened, these hold.
//!
//! Each query looks for rows that contradict each other and has to find none. Players who have
//! been deleted take their points, accounts and notifications with them; what they leave in the
//! rows of others still has to fit.

use sqlx::PgPool;

use super::until;

const QUERIES: [(&str, &str); 10] = [
    (
        "nobody has fewer than zero points who did not begin with fewer",
        r#"
        SELECT concat_ws(' ', player."id", player."monthlyPoints")
        FROM "User" AS player
        INNER JOIN test.start ON start."userId" = player."id"
        WHERE player."monthlyPoints" < least(0, start."points")
        "#,
    ),
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
        WHERE chain.before <> chain.expected OR (chain.is_last AND chain.after <> player."monthlyPoints")
        "#,
    ),
    (
        "earned and spent tokens are what referrals, heists and adjustments say, and the balance their difference",
        r#"
        SELECT concat_ws(' ', player."id", token."balance", token."totalEarned", token."totalSpent")
        FROM "User" AS player
        LEFT JOIN "HeistToken" AS token ON token."userId" = player."id"
        CROSS JOIN LATERAL (
            SELECT
                (SELECT count(*) FROM "HeistTokenAward" WHERE "referrerId" = player."id")
                + (SELECT COALESCE(sum("delta"), 0) FROM "HeistTokenAdjustment" WHERE "userId" = player."id" AND "delta" > 0) AS earned,
                (SELECT count(*) FROM "Heist" WHERE "attackerId" = player."id")
                - (SELECT COALESCE(sum("delta"), 0) FROM "HeistTokenAdjustment" WHERE "userId" = player."id" AND "delta" < 0) AS spent
        ) AS ledger
        WHERE
            COALESCE(token."totalEarned", 0) <> ledger.earned
            OR COALESCE(token."totalSpent", 0) <> ledger.spent
            OR COALESCE(token."balance", 0) <> ledger.earned - ledger.spent
            OR token."balance" < 0
        "#,
    ),
    (
        "every entry of a player's token statement says the balance after it",
        r#"
        WITH entry AS (
            SELECT "id", "referrerId" AS user_id, 1 AS delta, "balanceAfter" AS after FROM "HeistTokenAward"
            UNION ALL
            SELECT "id", "attackerId", -1, "attackerTokensAfter" FROM "Heist"
            UNION ALL
            SELECT "id", "userId", "delta", "balanceAfter" FROM "HeistTokenAdjustment"
        ),
        statement AS (
            SELECT entry.*, sum(delta) OVER (PARTITION BY user_id ORDER BY "id") AS expected
            FROM entry
            WHERE user_id IS NOT NULL
        )
        SELECT concat_ws(' ', 'entry', "id", 'player', user_id, 'says', after, 'not', expected)
        FROM statement
        WHERE after <> expected
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
        WHERE expected.times IS DISTINCT FROM found.times
        "#,
    ),
    (
        "each heist has its two notifications with the right numbers, and there are no others",
        r#"
        WITH expected AS (
            SELECT heist."id" AS ledger_id, heist."attackerId" AS user_id, 'HEIST_SUCCESS' AS type_name,
                heist."victimId" AS other_id, heist."pointsStolen" AS points, heist."attackerPointsAfter" AS after
            FROM "Heist" AS heist WHERE heist."attackerId" IS NOT NULL
            UNION ALL
            SELECT heist."id", heist."victimId", 'HEIST_VICTIM', heist."attackerId", heist."pointsStolen", heist."victimPointsAfter"
            FROM "Heist" AS heist WHERE heist."victimId" IS NOT NULL
        ),
        found AS (
            SELECT "ledgerId" AS ledger_id, "userId" AS user_id, "type"::text AS type_name,
                "otherUserId" AS other_id, "points" AS points, "after" AS after, count(*) AS times
            FROM "HeistNotification"
            WHERE "type" IN ('HEIST_SUCCESS', 'HEIST_VICTIM')
            GROUP BY 1, 2, 3, 4, 5, 6
        )
        SELECT concat_ws(' ', 'heist', ledger_id, 'player', user_id, type_name, 'found', found.times)
        FROM expected
        FULL JOIN found USING (ledger_id, user_id, type_name)
        WHERE
            found.times IS DISTINCT FROM 1
            OR expected.points IS DISTINCT FROM found.points
            OR expected.after IS DISTINCT FROM found.after
            OR expected.other_id <> found.other_id
        "#,
    ),
    (
        "each referral that earned a token has one notification, and there are no others",
        r#"
        WITH found AS (
            SELECT "ledgerId" AS id, "userId" AS user_id, min("after") AS after, count(*) AS times
            FROM "HeistNotification"
            WHERE "type" = 'TOKEN_EARNED'
            GROUP BY 1, 2
        )
        SELECT concat_ws(' ', 'award', id, 'found', found.times)
        FROM (SELECT "id" AS id, "referrerId" AS user_id, "balanceAfter" FROM "HeistTokenAward" WHERE "referrerId" IS NOT NULL) AS award
        FULL JOIN found USING (id, user_id)
        WHERE found.times IS DISTINCT FROM 1 OR award."balanceAfter" IS DISTINCT FROM found.after
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

/// Sessions of a server that has stopped: PostgreSQL needs a moment to end the last ones.
const SESSIONS: &str = "
    SELECT count(*)
    FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'heist'";

/// Fails with everything that does not add up.
pub async fn check(pool: &PgPool) {
    until("the server's last session has ended", async || {
        let sessions: i64 = sqlx::query_scalar(SESSIONS).fetch_one(pool).await.unwrap();
        (sessions == 0).then_some(())
    })
    .await;
    let mut contradictions = Vec::new();
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
