-- Up to $4 of a player's notifications, newest first: the oldest ones with an id above $3 if $5 is
-- true, otherwise the newest ones with an id below $3. Names are the current ones.
WITH note AS (
    (
        SELECT
            older."id",
            older."type",
            older."read",
            older."ledgerId",
            older."otherUserId",
            older."points",
            older."after",
            older."protectionEndsAt",
            older."createdAt"
        FROM "HeistNotification" AS older
        WHERE
            NOT $5::boolean
            AND older."userId" = $1
            AND older."id" < $3
            AND (NOT $2::boolean OR NOT older."read")
        ORDER BY older."id" DESC
        LIMIT $4
    )
    UNION ALL
    (
        SELECT
            newer."id",
            newer."type",
            newer."read",
            newer."ledgerId",
            newer."otherUserId",
            newer."points",
            newer."after",
            newer."protectionEndsAt",
            newer."createdAt"
        FROM "HeistNotification" AS newer
        WHERE
            $5::boolean
            AND newer."userId" = $1
            AND newer."id" > $3
            AND (NOT $2::boolean OR NOT newer."read")
        ORDER BY newer."id"
        LIMIT $4
    )
)

SELECT
    note."id" AS "id!",
    note."type" AS "notification_type!: NotificationType",
    note."read" AS "read!",
    note."ledgerId" AS "ledger_id!",
    note."otherUserId" AS "other_user_id!",
    left(COALESCE(award."referredName", other."name", 'Player ' || other."id"), 200) AS "other_name?",
    note."points" AS "points!",
    note."after" AS "after!",
    note."protectionEndsAt" AS "protection_ends_at?",
    note."createdAt" AS "created_at!"
FROM note
LEFT JOIN "User" AS other ON other."id" = note."otherUserId"
LEFT JOIN "HeistTokenAward" AS award
    ON award."id" = note."ledgerId" AND note."type" = 'TOKEN_EARNED'
ORDER BY note."id" DESC
