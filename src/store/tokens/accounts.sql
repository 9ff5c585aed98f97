-- A player who never had a token has no row in "HeistToken". The account is then empty.
SELECT
    player."id" AS "user_id!",
    COALESCE(token."balance", 0) AS "balance!",
    COALESCE(token."totalEarned", 0) AS "total_earned!",
    COALESCE(token."totalSpent", 0) AS "total_spent!",
    token."lastEarnedAt" AS "last_earned_at?",
    token."lastSpentAt" AS "last_spent_at?"
FROM "User" AS player
LEFT JOIN "HeistToken" AS token ON token."userId" = player."id"
WHERE player."id" = ANY($1)
