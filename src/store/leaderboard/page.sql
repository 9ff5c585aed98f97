-- A page of the board in its order, beginning after the player with $2 points and the id $3. Among
-- players with equal points the higher id comes first, because the index has this order.
SELECT
    player."id" AS "user_id!",
    left(COALESCE(player."name", 'Player ' || player."id"), 200) AS "name!",
    player."monthlyPoints" AS "monthly_points!",
    COALESCE(token."balance", 0) AS "token_balance!"
FROM "User" AS player
LEFT JOIN "HeistToken" AS token ON token."userId" = player."id"
WHERE (player."monthlyPoints", player."id") < ($2, $3)
ORDER BY player."monthlyPoints" DESC, player."id" DESC
LIMIT $1
