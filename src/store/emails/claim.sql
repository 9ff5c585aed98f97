-- Claims up to $1 due notifications, oldest first. If $2 is true, all due notifications of each
-- player are claimed together. Claims expire after $3 seconds. Retries end $4 seconds after the
-- first due time.
WITH due AS (
    SELECT
        note."userId",
        note."id"
    FROM "HeistNotification" AS note
    WHERE note."emailState" = 'QUEUED' AND note."emailAt" <= now()
    ORDER BY note."emailAt", note."userId", note."id"
    LIMIT $1
    -- Rows that MarkNotificationsRead holds are left for the next poll.
    FOR UPDATE SKIP LOCKED
),

wanted AS (
    SELECT
        due."userId",
        due."id"
    FROM due
    WHERE NOT $2::boolean
    UNION ALL
    SELECT
        note."userId",
        note."id"
    FROM (
        SELECT DISTINCT due."userId"
        FROM due
        WHERE $2::boolean
    ) AS player
    CROSS JOIN LATERAL (
        SELECT
            rest."userId",
            rest."id"
        FROM "HeistNotification" AS rest
        WHERE
            rest."userId" = player."userId"
            AND rest."emailState" = 'QUEUED'
            AND rest."emailAt" <= now()
        -- Waits for locks: a row that is left out would cause a second digest on the same day.
        FOR UPDATE
    ) AS note
),

claimed AS (
    UPDATE "HeistNotification" AS note
    SET
        "emailState" = 'SENDING',
        "emailAt" = now() + make_interval(secs => $3),
        "emailUntil" = COALESCE(note."emailUntil", note."emailAt" + make_interval(secs => $4)),
        "emailAttempts" = COALESCE(note."emailAttempts", 0) + 1
    FROM wanted
    WHERE note."userId" = wanted."userId" AND note."id" = wanted."id"
    RETURNING
        note."userId",
        note."id",
        note."type",
        note."read",
        note."ledgerId",
        note."otherUserId",
        note."points",
        note."after",
        note."protectionEndsAt",
        note."createdAt",
        note."emailAt",
        note."emailAttempts",
        note."emailTrace"
)

SELECT
    claimed."userId" AS "user_id!",
    player."name" AS "user_name!",
    player."email" AS "email?",
    claimed."emailAt" AS "claim_ends_at!",
    claimed."emailAttempts" AS "attempts!",
    claimed."emailTrace" AS "trace_parent?",
    claimed."id" AS "id!",
    claimed."type" AS "notification_type!: NotificationType",
    claimed."read" AS "read!",
    claimed."ledgerId" AS "ledger_id!",
    claimed."otherUserId" AS "other_user_id!",
    COALESCE(award."referredName", other."name") AS "other_name?",
    claimed."points" AS "points!",
    claimed."after" AS "after!",
    claimed."protectionEndsAt" AS "protection_ends_at?",
    claimed."createdAt" AS "created_at!"
FROM claimed
INNER JOIN "User" AS player ON player."id" = claimed."userId"
LEFT JOIN "User" AS other ON other."id" = claimed."otherUserId"
LEFT JOIN "HeistTokenAward" AS award
    ON award."id" = claimed."ledgerId" AND claimed."type" = 'TOKEN_EARNED'
ORDER BY claimed."userId", claimed."id"
