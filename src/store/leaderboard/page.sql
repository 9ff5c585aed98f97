-- A page of the board, best first, of those who stand behind the player with $2 points and
-- the id $3. Among equals the higher id stands first: the index gives this order for free.
SELECT
    player."id" AS "user_id!",
    player."name" AS "name!",
    player."monthlyPoints" AS "monthly_points!",
    COALESCE(token."balance", 0) AS "token_balance!"
FROM "User" AS player
LEFT JOIN "HeistToken" AS token ON token."userId" = player."id"
WHERE (player."monthlyPoints", player."id") < ($2, $3)
ORDER BY player."monthlyPoints" DESC, player."id" DESC
LIMIT $1
