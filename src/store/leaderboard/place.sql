SELECT
    player."name" AS "name!",
    player."monthlyPoints" AS "monthly_points!",
    COALESCE(token."balance", 0) AS "token_balance!",
    (
        SELECT count(*)
        FROM "User" AS better
        WHERE better."monthlyPoints" > player."monthlyPoints"
    ) AS "above!"
FROM "User" AS player
LEFT JOIN "HeistToken" AS token ON token."userId" = player."id"
WHERE player."id" = $1
