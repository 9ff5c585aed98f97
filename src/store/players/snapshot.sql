-- The facts about players that the rules use, and the time. If none of the players exists, the
-- result is one row without a player. The last heists on each player are read as an index range, as
-- in ../heists/load_facts.sql.
SELECT
    clock.now AS "now!",
    player."id" AS "id?",
    left(COALESCE(player."name", 'Player ' || player."id"), 200) AS "name?",
    player."monthlyPoints" AS "monthly_points?",
    COALESCE(token."balance", 0) AS "tokens!",
    token."lastSpentAt" AS "last_heist_at?",
    ARRAY(
        SELECT latest."createdAt"
        FROM (
            SELECT
                heist."id",
                heist."createdAt"
            FROM "Heist" AS heist
            WHERE
                heist."victimId" >= player."id"
                AND (heist."victimId", heist."id") <= (player."id", 9223372036854775807)
            ORDER BY heist."victimId" DESC, heist."id" DESC
            LIMIT $2::bigint
        ) AS latest
        ORDER BY latest."id"
    ) AS "robbed_at!"
FROM (SELECT statement_timestamp() AS now) AS clock
LEFT JOIN "User" AS player ON player."id" = ANY($1)
LEFT JOIN "HeistToken" AS token ON token."userId" = player."id"
