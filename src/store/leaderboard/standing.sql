-- A player's standing, and how many have more points, counted up to $2: beyond, counting would
-- cost more the lower the player stands. From the top down, so that it is read from the index
-- whatever share of the table seems to have more points.
SELECT
    player."name" AS "name!",
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
