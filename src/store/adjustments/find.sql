-- The adjustments with one of the request ids $1.
SELECT
    adjustment."id" AS "id!",
    adjustment."userId" AS "user_id!",
    adjustment."delta" AS "delta!",
    adjustment."balanceAfter" AS "balance_after!",
    adjustment."actor" AS "actor!",
    adjustment."reason" AS "reason!",
    adjustment."requestId" AS "request_id!",
    adjustment."createdAt" AS "created_at!"
FROM "HeistTokenAdjustment" AS adjustment
WHERE adjustment."requestId" = ANY($1)
