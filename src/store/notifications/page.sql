-- One page, newest first, of those with an id below $3. Names are looked up as they are today.
SELECT
    note."id" AS "id!",
    note."type" AS "notification_type!: NotificationType",
    note."read" AS "read!",
    note."ledgerId" AS "ledger_id!",
    note."otherUserId" AS "other_user_id!",
    COALESCE(award."referredName", other."name") AS "other_name?",
    note."points" AS "points!",
    note."after" AS "after!",
    note."protectionEndsAt" AS "protection_ends_at?",
    note."createdAt" AS "created_at!"
FROM "HeistNotification" AS note
LEFT JOIN "User" AS other ON other."id" = note."otherUserId"
LEFT JOIN "HeistTokenAward" AS award
    ON award."id" = note."ledgerId" AND note."type" = 'TOKEN_EARNED'
WHERE
    note."userId" = $1
    AND note."id" < $3
    AND (NOT $2::boolean OR NOT note."read")
ORDER BY note."id" DESC
LIMIT $4
