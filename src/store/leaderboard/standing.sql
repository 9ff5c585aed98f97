-- A player's row of the board, and the number of players with more points, counted up to $2. The
-- limit bounds the cost for players at the lower end. Because of its order, the count reads the
-- index from the top, whatever share of the players the planner expects to have more points.
SELECT
    left(COALESCE(player."name", 'Player ' || player."id"), 200) AS "name!",
    player."monthlyPoints" AS "monthly_points!",
    COALESCE(token."balance", 0) AS "token_balance!",
    (
        SELECT count(*)
        FROM (
            SELECT 1
            FROM "User" AS better
            WHERE better."monthlyPoints" > player."monthlyPoints"
            ORDER BY better."monthlyPoints" DESC
            LIMIT $2
        ) AS counted
    ) AS "above!"
FROM "User" AS player
LEFT JOIN "HeistToken" AS token ON token."userId" = player."id"
WHERE player."id" = $1
